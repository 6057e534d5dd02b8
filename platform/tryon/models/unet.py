"""Parts of U-shaped networks (Ronneberger et al. 2015, arXiv 1505.04597): scSE attention, a way down, a way up.

The way up takes the features of any encoder, finest first, so that another trunk can stand in for the way down.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tryon.models.layers import ConvNormAct, ResidualBlock


class ScSe(nn.Module):
    """Concurrent spatial and channel squeeze and excitation (Roy et al. 2018, arXiv 1803.02579).

    The sum of both gates, as in the paper; SiLU stands for its ReLU, which dies in narrow layers.

    Args:
        channels: of the input and the output.
        reduction: how many times narrower the channel gate's hidden layer is.
    """

    def __init__(self, channels: int, reduction: int = 2) -> None:
        super().__init__()
        hidden = max(4, channels // reduction)
        self.channel = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, hidden, 1), nn.SiLU(), nn.Conv2d(hidden, channels, 1)
        )
        self.spatial = nn.Conv2d(channels, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(b, c, h, w) to the same shape."""
        return x * (torch.sigmoid(self.channel(x)) + torch.sigmoid(self.spatial(x)))


class UNetEncoder(nn.Module):
    """Residual blocks at each level, a convolution of stride 2 between levels.

    Args:
        in_channels: of the input.
        widths: channels of each level, the finest first.
        num_blocks: residual blocks a level.
    """

    def __init__(self, in_channels: int, widths: Sequence[int], num_blocks: int = 1) -> None:
        super().__init__()
        self.stem = ConvNormAct(in_channels, widths[0])
        self.levels = nn.ModuleList(_blocks(width, width, num_blocks) for width in widths)
        self.downs = nn.ModuleList(ConvNormAct(a, b, stride=2) for a, b in pairwise(widths))

    def forward(self, x: Tensor) -> list[Tensor]:
        """(b, in_channels, h, w) to a feature map a level, each half the size of the one before, rounded up."""
        features = [self.levels[0](self.stem(x))]
        for down, level in zip(self.downs, list(self.levels)[1:], strict=True):
            features.append(level(down(features[-1])))
        return features


class UNetDecoder(nn.Module):
    """From the coarsest features to the finest: enlarge, join the skip, residual blocks, scSE.

    Args:
        widths: channels of the features it is given, the finest first.
        num_blocks: residual blocks a level.
    """

    def __init__(self, widths: Sequence[int], num_blocks: int = 1) -> None:
        super().__init__()
        steps = list(pairwise(widths))[::-1]
        self.levels = nn.ModuleList(
            nn.Sequential(_blocks(fine + coarse, fine, num_blocks), ScSe(fine)) for fine, coarse in steps
        )

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Features, finest first, to (b, widths[0], h, w) at the finest's size."""
        x = features[-1]
        for level, skip in zip(self.levels, reversed(features[:-1]), strict=True):
            x = level(torch.cat([skip, F.interpolate(x, size=skip.shape[-2:], mode="nearest")], dim=1))
        return x


def _blocks(in_channels: int, out_channels: int, num_blocks: int) -> nn.Sequential:
    blocks = [ResidualBlock(in_channels, out_channels)]
    blocks += [ResidualBlock(out_channels, out_channels) for _ in range(num_blocks - 1)]
    return nn.Sequential(*blocks)
