"""NAFNet (Chen et al. 2022, arXiv 2204.04676), in the arrangement of AutoDIR's structural-correction module too.

Parameter names and shapes are those of the published checkpoints (key ``params``), so those load strictly.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from tryon.config import Config
from tryon.models.checks import check_input
from tryon.models.network import Network


class NafNetConfig(Config):
    """Size of the network. The structural-correction module has 6 input channels: context, then the image."""

    in_channels: int = Field(6, ge=3, le=12, description="3, or 6 with a context image in front")
    context: Literal["warped", "garment"] = Field(
        "warped", description="what the context is, for the stage that runs it: warped garment or garment photo"
    )
    width: int = Field(12, ge=4, le=128, description="channels at full resolution; doubled each level")
    encoder_blocks: tuple[int, ...] = Field((1, 1, 1), description="blocks of each level on the way down")
    middle_blocks: int = Field(1, ge=1, le=64, description="blocks at the lowest resolution")
    decoder_blocks: tuple[int, ...] = Field((1, 1, 1), description="blocks of each level on the way up")


GOPRO = NafNetConfig(
    in_channels=3, width=32, encoder_blocks=(1, 1, 1, 28), middle_blocks=1, decoder_blocks=(1, 1, 1, 1)
)  # of the published deblurring checkpoint
LARGE = NafNetConfig(
    in_channels=6, width=64, encoder_blocks=(2, 2, 4, 8), middle_blocks=12, decoder_blocks=(2, 2, 2, 2)
)  # AutoDIR's structural-correction module


class LayerNorm2d(nn.Module):
    """Layer norm over the channels of each pixel."""

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """(b, c, h, w) to the same shape."""
        normed = F.layer_norm(x.permute(0, 2, 3, 1), self.weight.shape, self.weight, self.bias, self.eps)
        return normed.permute(0, 3, 1, 2)


def _gate(x: Tensor) -> Tensor:
    a, b = x.chunk(2, dim=1)
    return a * b


class NafBlock(nn.Module):
    """Depth-wise convolution with gate and channel attention, then a gated pointwise layer; both with shortcuts."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.beta = nn.Parameter(torch.zeros(1, c, 1, 1))
        self.gamma = nn.Parameter(torch.zeros(1, c, 1, 1))
        self.conv1 = nn.Conv2d(c, 2 * c, 1)
        self.conv2 = nn.Conv2d(2 * c, 2 * c, 3, padding=1, groups=2 * c)
        self.conv3 = nn.Conv2d(c, c, 1)
        self.sca = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(c, c, 1))
        self.conv4 = nn.Conv2d(c, 2 * c, 1)
        self.conv5 = nn.Conv2d(c, c, 1)
        self.norm1 = LayerNorm2d(c)
        self.norm2 = LayerNorm2d(c)

    def forward(self, x: Tensor) -> Tensor:
        """(b, c, h, w) to the same shape."""
        y = _gate(self.conv2(self.conv1(self.norm1(x))))
        x = x + self.conv3(y * self.sca(y)) * self.beta
        out: Tensor = x + self.conv5(_gate(self.conv4(self.norm2(x)))) * self.gamma
        return out


class NafNet(Network):
    """U-shaped restoration network; the result is added to the image's own channels."""

    config_class = NafNetConfig
    role = "refinement"

    def __init__(self, config: NafNetConfig) -> None:
        super().__init__()
        if len(config.encoder_blocks) != len(config.decoder_blocks):
            raise ValueError(
                f"encoder_blocks {config.encoder_blocks} and decoder_blocks {config.decoder_blocks} differ in length"
            )
        self.config = config
        widths = [config.width * 2**i for i in range(len(config.encoder_blocks) + 1)]
        self.intro = nn.Conv2d(config.in_channels, config.width, 3, padding=1)
        self.ending = nn.Conv2d(config.width, 3, 3, padding=1)
        for parameter in self.ending.parameters():  # untrained it hands the image on as it is
            nn.init.zeros_(parameter)
        self.encoders = nn.ModuleList(_blocks(c, n) for c, n in zip(widths, config.encoder_blocks, strict=False))
        self.decoders = nn.ModuleList(_blocks(c, n) for c, n in zip(widths[-2::-1], config.decoder_blocks, strict=True))
        self.middle_blks = _blocks(widths[-1], config.middle_blocks)
        self.ups = nn.ModuleList(
            nn.Sequential(nn.Conv2d(c, 2 * c, 1, bias=False), nn.PixelShuffle(2)) for c in widths[:0:-1]
        )
        self.downs = nn.ModuleList(nn.Conv2d(c, 2 * c, 2, 2) for c in widths[:-1])

    def forward(self, x: Tensor) -> Tensor:
        """Restores an image.

        Args:
            x: (b, in_channels, h, w); with 6 channels the context comes first and the image is channels 3..5.

        Returns:
            (b, 3, h, w).

        Raises:
            ValueError: another number of channels, no pixels, NaN or infinity.
        """
        check_input(x, self.config.in_channels, "image")
        h, w = x.shape[-2:]
        multiple = 2 ** len(self.downs)
        padded = F.pad(x, (0, -w % multiple, 0, -h % multiple))
        y = self.intro(padded)
        skips = []
        for encoder, down in zip(self.encoders, self.downs, strict=True):
            y = encoder(y)
            skips.append(y)
            y = down(y)
        y = self.middle_blks(y)
        for up, decoder in zip(self.ups, self.decoders, strict=True):
            y = decoder(up(y) + skips.pop())
        out: Tensor = (self.ending(y) + padded[:, -3:])[..., :h, :w]
        return out

    def example_inputs(self, batch: int, height: int, width: int) -> dict[str, Tensor]:
        """See `tryon.models.contract.Runnable`."""
        generator = torch.Generator().manual_seed(0)
        return {"image": torch.rand(batch, self.config.in_channels, height, width, generator=generator) * 2 - 1}

    def infer(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """`forward` on named tensors: image, with the context's channels in front, to restored."""
        return {"restored": self(inputs["image"])}


def _blocks(channels: int, num: int) -> nn.Sequential:
    blocks: Sequence[nn.Module] = [NafBlock(channels) for _ in range(num)]
    return nn.Sequential(*blocks)
