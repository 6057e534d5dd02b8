"""PatchGAN: a discriminator that judges patches and sees what the image was made from.

After Isola et al. 2017 (arXiv 1611.07004). Convolutions of 4 px: some that halve the size, one that does not, and one
to a score a patch. The paper's are normed by batches of one image; these by image, which keeps a batch's samples apart.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from tryon.config import Config
from tryon.models.checks import check_input, check_size
from tryon.models.network import Network

MAX_WIDENING = 8  # of the width, as in the paper


class PatchGanConfig(Config):
    """Size of the discriminator. The default trains on a CPU."""

    condition_channels: int = Field(3, ge=1, le=64, description="of what the image was made from")
    image_channels: int = Field(3, ge=1, le=64, description="of the image that is judged")
    width: int = Field(16, ge=4, le=256, description="channels after the first convolution; doubled up to 8 times it")
    num_halvings: int = Field(3, ge=1, le=5, description="convolutions of stride 2; 3 judge patches of 70 px")


LARGE = PatchGanConfig(width=64)  # the paper's 70x70 discriminator: C64-C128-C256-C512, 2.77 M parameters


class PatchGan(Network):
    """Scores each patch of an image for being real, given its condition."""

    config_class = PatchGanConfig

    def __init__(self, config: PatchGanConfig) -> None:
        super().__init__()
        self.config = config
        widths = [config.width * min(2**i, MAX_WIDENING) for i in range(config.num_halvings + 1)]
        layers: list[nn.Module] = [_conv(config.condition_channels + config.image_channels, widths[0], 2), _act()]
        for i in range(1, len(widths)):
            stride = 2 if i < config.num_halvings else 1
            norm = nn.InstanceNorm2d(widths[i], affine=True)
            layers += [_conv(widths[i - 1], widths[i], stride, bias=False), norm, _act()]
        self.layers = nn.Sequential(*layers, _conv(widths[-1], 1, 1))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.02)  # as in the paper

    @property
    def min_side(self) -> int:
        """Px a side that leave at least 2 x 2 values to be normalised and one score."""
        return int(4 * 2**self.config.num_halvings)

    def forward(self, condition: Tensor, image: Tensor) -> Tensor:
        """Judges.

        Args:
            condition: (b, condition_channels, h, w) in [-1, 1].
            image: (b, image_channels, h, w) in [-1, 1], where the condition shows what it was made from.

        Returns:
            Scores without a sigmoid, float32 (b, 1, h', w'); high: taken for real. With 3 halvings h' is h / 8 - 2.

        Raises:
            ValueError: another number of channels, another size, too small, NaN or infinity.
        """
        check_input(condition, self.config.condition_channels, "condition")
        check_input(image, self.config.image_channels, "image")
        if condition.shape[-2:] != image.shape[-2:]:
            text = f"condition is {tuple(condition.shape[-2:])} px, image is {tuple(image.shape[-2:])}"
            raise ValueError(f"{text}: they must have one size")
        check_size(image.shape[-2], image.shape[-1], 1, self.min_side)
        scores: Tensor = self.layers(torch.cat([condition, image], dim=1)).float()
        return scores

    def example_inputs(self, batch: int, height: int, width: int) -> dict[str, Tensor]:
        """See `tryon.models.contract.Runnable`."""
        generator = torch.Generator().manual_seed(0)
        channels = {"condition": self.config.condition_channels, "image": self.config.image_channels}
        return {name: torch.rand(batch, n, height, width, generator=generator) * 2 - 1 for name, n in channels.items()}

    def infer(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """`forward` on named tensors: scores."""
        return {"scores": self(inputs["condition"], inputs["image"])}


def _conv(in_channels: int, out_channels: int, stride: int, *, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 4, stride, 1, bias=bias)


def _act() -> nn.LeakyReLU:
    return nn.LeakyReLU(0.2, inplace=True)
