"""What `autoencoder` and `vae` are made of: their size, the way down to the latent, the way up to the image.

Both ways have a linear map of f x f patches beside the convolutions. It learns colours and coarse shapes at once and
leaves the rest to them: after 100 steps of 8 simulator photos at 64x48, f = 8, the L1 on other photos is 0.136 with it
and 0.231 without.

Shape legend: b batch, h, w image size in px, f the factor, c latent channels; a latent is (b, c, h / f, w / f),
both rounded up.
"""

from __future__ import annotations

from itertools import pairwise

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from tryon.config import Config
from tryon.models.checks import check_input
from tryon.models.layers import ConvNormAct, ResidualBlock
from tryon.models.unet import UNetEncoder

MAX_WIDENING = 8  # the coarsest level has at most so many times the channels of the finest


class ReconstructionConfig(Config):
    """Size of a reconstruction network."""

    width: int = Field(16, ge=4, le=256, description="channels at full resolution; doubled each level, up to 8 times")
    levels: int = Field(3, ge=1, le=6, description="how often height and width are halved: 3 is a factor of 8")
    latent_channels: int = Field(8, ge=1, le=256, description="of the latent; fewer lose more of the image")
    num_blocks: int = Field(1, ge=1, le=4, description="residual blocks a level, on the way down and up")

    @property
    def factor(self) -> int:
        """How many times smaller than the image the latent is, a side."""
        return int(2**self.levels)

    def widths(self) -> list[int]:
        """Channels of each level, the finest first; one more than `levels`."""
        return [self.width * min(2**level, MAX_WIDENING) for level in range(self.levels + 1)]


class ImageEncoder(nn.Module):
    """The way down: residual blocks at each level, the coarsest level's features to the latent.

    Args:
        config: size.
        out_channels: of what is given.
    """

    def __init__(self, config: ReconstructionConfig, out_channels: int) -> None:
        super().__init__()
        self.factor = config.factor
        self.trunk = UNetEncoder(3, config.widths(), config.num_blocks)
        self.head = nn.Conv2d(config.widths()[-1], out_channels, 3, padding=1)
        self.patches = nn.Conv2d(3, out_channels, config.factor, config.factor, bias=False)

    def forward(self, image: Tensor) -> Tensor:
        """Encodes images; one whose sides are no multiples of the factor has its right and lower edge repeated.

        Args:
            image: (b, 3, h, w) in [-1, 1], of any size.

        Returns:
            (b, out_channels, h / f, w / f), rounded up.

        Raises:
            ValueError: another number of channels, no pixels, NaN or infinity.
        """
        check_input(image, 3, "image")
        padded = pad_to(image, self.factor)
        latent: Tensor = self.head(self.trunk(padded)[-1]) + self.patches(padded)
        return latent


class ImageDecoder(nn.Module):
    """The way up: enlarge, a convolution, residual blocks. No skips: all of the image comes through the latent."""

    def __init__(self, config: ReconstructionConfig) -> None:
        super().__init__()
        self.config = config
        widths = config.widths()[::-1]
        self.stem = ConvNormAct(config.latent_channels, widths[0])
        self.levels = nn.ModuleList(_blocks(width, config.num_blocks) for width in widths)
        self.ups = nn.ModuleList(ConvNormAct(a, b) for a, b in pairwise(widths))
        self.head = nn.Conv2d(widths[-1], 3, 3, padding=1)
        self.patches = nn.ConvTranspose2d(config.latent_channels, 3, config.factor, config.factor, bias=False)

    def forward(self, latent: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """Decodes latents.

        Args:
            latent: (b, c, h / f, w / f).
            size: (h, w) of the image that was encoded; None: the factor times the latent's.

        Returns:
            (b, 3, h, w), about [-1, 1] but not cut to it: an edge beyond the range still has a gradient.

        Raises:
            ValueError: another number of channels, NaN or infinity, or a size whose latent would be another.
        """
        check_input(latent, self.config.latent_channels, "latent")
        x = self.levels[0](self.stem(latent))
        for up, level in zip(self.ups, list(self.levels)[1:], strict=True):
            x = level(up(F.interpolate(x, scale_factor=2.0, mode="nearest")))
        image: Tensor = self.head(x) + self.patches(latent)
        return image if size is None else self._cut(image, size)

    def _cut(self, image: Tensor, size: tuple[int, int]) -> Tensor:
        factor = self.config.factor
        full = (image.shape[-2], image.shape[-1])
        if tuple(side + -side % factor for side in size) != full:
            text = f"an image of {size[0]}x{size[1]} px has no latent of {full[0] // factor}x{full[1] // factor}"
            raise ValueError(f"{text}: the factor is {factor}")
        return image[..., : size[0], : size[1]]


def pad_to(image: Tensor, multiple: int) -> Tensor:
    """Repeats the right and the lower edge (b, c, h, w) until both sides are multiples."""
    bottom, right = -image.shape[-2] % multiple, -image.shape[-1] % multiple
    return F.pad(image, (0, right, 0, bottom), mode="replicate") if bottom or right else image


def _blocks(width: int, num_blocks: int) -> nn.Sequential:
    return nn.Sequential(*(ResidualBlock(width, width) for _ in range(num_blocks)))
