"""Image reconstruction through a distribution: a variational autoencoder (Kingma and Welling 2014, arXiv 1312.6114).

It also makes errors for the structural-correction module: a sample of the latent is another image of the same person,
with details that are a little off.

Shape legend: b batch, h, w image size in px, f the factor, c latent channels; a latent is (b, c, h / f, w / f),
both rounded up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tryon.models.autoencoder_layers import ImageDecoder, ImageEncoder, ReconstructionConfig
from tryon.models.contract import example_image
from tryon.models.network import Network

LOG_VARIANCE_BOUNDS = (-20.0, 10.0)  # exp stays finite in float16 too
FIRST_LOG_VARIANCE = -4.0  # little noise at first, or nothing comes through the latent and its mean learns nothing
Generators = torch.Generator | Sequence[torch.Generator] | None


class VaeConfig(ReconstructionConfig):
    """Size of the variational autoencoder. The default trains on a CPU."""


LARGE = VaeConfig(width=64, latent_channels=16, num_blocks=2)


class VaeOutput(NamedTuple):
    """What one pass gives.

    Attributes:
        reconstruction: (b, 3, h, w), not cut to [-1, 1].
        mean: of the latent (b, c, h / f, w / f).
        log_variance: of the latent, the same shape.
    """

    reconstruction: Tensor
    mean: Tensor
    log_variance: Tensor


class Vae(Network):
    """Image to a normal distribution of latents, a latent of it back to the image."""

    config_class = VaeConfig
    role = "reconstruction"

    def __init__(self, config: VaeConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = ImageEncoder(config, 2 * config.latent_channels)
        self.decoder = ImageDecoder(config)
        assert self.encoder.head.bias is not None
        nn.init.constant_(self.encoder.head.bias[config.latent_channels :], FIRST_LOG_VARIANCE)

    def encode(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """The latent's distribution.

        Args:
            image: (b, 3, h, w) in [-1, 1], of any size, odd ones too.

        Returns:
            Mean and log-variance, float32 (b, c, h / f, w / f) each; every latent value is independent.

        Raises:
            ValueError: another number of channels, no pixels, NaN or infinity.
        """
        mean, log_variance = self.encoder(image).float().chunk(2, dim=1)
        return mean, log_variance.clamp(*LOG_VARIANCE_BOUNDS)

    def decode(self, latent: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """Latents to images (b, 3, h, w), not cut to [-1, 1]; see `ImageDecoder`."""
        image: Tensor = self.decoder(latent, size)
        return image

    def forward(self, image: Tensor) -> VaeOutput:
        """Reconstructs images: from a sample of the latent in training, from its mean in eval mode.

        Args:
            image: as for `encode`.

        Raises:
            ValueError: as `encode`.
        """
        mean, log_variance = self.encode(image)
        latent = sample(mean, log_variance) if self.training else mean
        return VaeOutput(self.decode(latent, (image.shape[-2], image.shape[-1])), mean, log_variance)

    def resample(self, image: Tensor, generator: Generators) -> Tensor:
        """Reconstructs images from a sample of the latent, in any mode.

        Args:
            image: as for `encode`.
            generator: see `sample`.

        Returns:
            (b, 3, h, w), not cut to [-1, 1].

        Raises:
            ValueError: as `encode`, and of `sample`.
        """
        latent = sample(*self.encode(image), generator)
        return self.decode(latent, (image.shape[-2], image.shape[-1]))

    def example_inputs(self, batch: int, height: int, width: int) -> dict[str, Tensor]:
        """See `tryon.models.contract.Runnable`."""
        return {"image": example_image(batch, height, width)}

    def infer(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """From the mean, on named tensors: image to reconstruction, in [-1, 1], mean and log_variance."""
        image = inputs["image"]
        mean, log_variance = self.encode(image)
        reconstruction = self.decode(mean, (image.shape[-2], image.shape[-1])).clamp(-1, 1)
        return {"reconstruction": reconstruction, "mean": mean, "log_variance": log_variance}


def sample(mean: Tensor, log_variance: Tensor, generator: Generators = None) -> Tensor:
    """A latent of the distribution, differentiable in both (the paper's reparameterisation).

    Args:
        mean: (b, ...).
        log_variance: the same shape.
        generator: on the CPU, so that a seed gives the same noise on every device; one a row makes a row's noise
            independent of its neighbours; None: torch's own, on the mean's device.

    Raises:
        ValueError: as many generators as rows are needed.
    """
    return mean + torch.exp(0.5 * log_variance) * _noise(mean, generator)


def kl_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Of each latent value's distribution from the standard normal one, nats: >= 0, the same shape."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance)


def _noise(like: Tensor, generator: Generators) -> Tensor:
    if generator is None:
        return torch.randn_like(like)
    if isinstance(generator, torch.Generator):
        return torch.randn(like.shape, generator=generator, dtype=like.dtype).to(like.device)
    if len(generator) != len(like):
        raise ValueError(f"{len(generator)} generators for {len(like)} rows: one a row is needed")
    rows = [torch.randn(like.shape[1:], generator=one, dtype=like.dtype) for one in generator]
    return torch.stack(rows).to(like.device)
