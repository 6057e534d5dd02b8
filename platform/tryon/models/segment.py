"""Human parsing: a U-Net (Ronneberger et al. 2015, arXiv 1505.04597) from the person photo to the 18 ATR classes."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor, nn

from tryon.config import Config
from tryon.models.checks import check_input
from tryon.models.contract import example_image
from tryon.models.network import Network
from tryon.models.unet import UNetDecoder, UNetEncoder
from tryon.sample import NUM_LABELS


class SegmentConfig(Config):
    """Size of the parsing network."""

    width: int = Field(16, ge=4, le=128, description="channels at full resolution; doubled each level")
    levels: int = Field(5, ge=2, le=6, description="resolutions; each is half the one before")
    num_blocks: int = Field(1, ge=1, le=4, description="residual blocks a level, on the way down and up")


LARGE = SegmentConfig(width=64, num_blocks=2)  # 76.8 M parameters; the default has 2.84 M


class Segment(Network):
    """Person photo to parse logits."""

    config_class = SegmentConfig
    role = "parsing"

    def __init__(self, config: SegmentConfig) -> None:
        super().__init__()
        self.config = config
        widths = [config.width * 2**level for level in range(config.levels)]
        self.encoder = UNetEncoder(3, widths, config.num_blocks)
        self.decoder = UNetDecoder(widths, config.num_blocks)
        self.head = nn.Conv2d(config.width, NUM_LABELS, 1)

    def forward(self, person: Tensor) -> Tensor:
        """Scores every class at every pixel.

        Args:
            person: (b, 3, h, w) in [-1, 1], of any size, odd ones too.

        Returns:
            Logits (b, 18, h, w), channels as in `tryon.sample.Label`.

        Raises:
            ValueError: another number of channels, no pixels, NaN or infinity.
        """
        check_input(person, 3, "person")
        logits: Tensor = self.head(self.decoder(self.encoder(person)))
        return logits

    def example_inputs(self, batch: int, height: int, width: int) -> dict[str, Tensor]:
        """See `tryon.models.contract.Runnable`."""
        return {"person": example_image(batch, height, width)}

    def infer(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """`forward` on named tensors: person to logits."""
        return {"logits": self(inputs["person"])}
