"""Image reconstruction: a convolutional autoencoder (Hinton and Salakhutdinov 2006) for person or garment photos."""

from __future__ import annotations

from torch import Tensor

from tryon.models.autoencoder_layers import ImageDecoder, ImageEncoder, ReconstructionConfig
from tryon.models.contract import example_image
from tryon.models.network import Network


class AutoencoderConfig(ReconstructionConfig):
    """Size of the autoencoder. The default trains on a CPU."""


LARGE = AutoencoderConfig(width=64, latent_channels=16, num_blocks=2)


class Autoencoder(Network):
    """Image to latent and back to the image, what the latent cannot hold left out."""

    config_class = AutoencoderConfig
    role = "reconstruction"

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = ImageEncoder(config, config.latent_channels)
        self.decoder = ImageDecoder(config)

    def encode(self, image: Tensor) -> Tensor:
        """Images (b, 3, h, w) in [-1, 1] of any size to latents (b, c, h / f, w / f); see `ImageEncoder`."""
        latent: Tensor = self.encoder(image)
        return latent

    def decode(self, latent: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """Latents to images (b, 3, h, w), not cut to [-1, 1]; see `ImageDecoder`."""
        image: Tensor = self.decoder(latent, size)
        return image

    def forward(self, image: Tensor) -> Tensor:
        """Reconstructs images.

        Args:
            image: (b, 3, h, w) in [-1, 1], of any size, odd ones too.

        Returns:
            The same shape, not cut to [-1, 1].

        Raises:
            ValueError: another number of channels, no pixels, NaN or infinity.
        """
        return self.decode(self.encode(image), (image.shape[-2], image.shape[-1]))

    def example_inputs(self, batch: int, height: int, width: int) -> dict[str, Tensor]:
        """See `tryon.models.contract.Runnable`."""
        return {"image": example_image(batch, height, width)}

    def infer(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """`forward` on named tensors: image to reconstruction, in [-1, 1]."""
        return {"reconstruction": self(inputs["image"]).clamp(-1, 1)}
