"""ResNet-101 with a deep stem and a dilated last layer, normed by in-place activated batch norm.

The norm follows Rota Bulò et al. 2018 (arXiv 1712.02616) in what it computes, not in how it saves memory, so no
compiled extension is needed. Parameter names are those of the published parsing checkpoints built on it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEAKY_SLOPE = 0.01
BLOCKS = (3, 4, 23, 3)


class ActivatedBatchNorm(nn.Module):
    """Batch norm whose scale is ``|weight| + eps``, and an optional leaky ReLU after it.

    The scale is never negative nor zero: the in-place original inverts it. So a checkpoint's negative weights count
    by their size alone, which an ordinary batch norm would get wrong.

    Args:
        channels: of the input.
        activation: leaky ReLU 0.01 afterwards, or nothing.
        eps: added to the variance and to the scale.
        momentum: of the running statistics.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, *, activation: bool = True, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.activation = activation
        self.eps = eps
        self.momentum = momentum

    def forward(self, x: Tensor) -> Tensor:
        """(b, channels, h, w) to the same shape."""
        scale = self.weight.abs() + self.eps
        normed = F.batch_norm(
            x, self.running_mean, self.running_var, scale, self.bias, self.training, self.momentum, self.eps
        )
        return F.leaky_relu(normed, LEAKY_SLOPE, inplace=True) if self.activation else normed

    def extra_repr(self) -> str:
        """Channels, and what follows the norm."""
        then = f"leaky_relu({LEAKY_SLOPE})" if self.activation else "none"
        return f"{len(self.weight)}, eps={self.eps}, activation={then}"


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions around a shortcut; stride and dilation sit on the 3x3.

    Args:
        in_channels: of the input.
        channels: of the 3x3 convolution; the output has four times as many.
        stride: of the 3x3 convolution and of the shortcut.
        dilation: of the 3x3 convolution.
    """

    expansion = 4

    def __init__(self, in_channels: int, channels: int, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        out = channels * self.expansion
        self.conv1 = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.bn1 = ActivatedBatchNorm(channels, activation=False)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride, padding=dilation, dilation=dilation, bias=False)
        self.bn2 = ActivatedBatchNorm(channels, activation=False)
        self.conv3 = nn.Conv2d(channels, out, 1, bias=False)
        self.bn3 = ActivatedBatchNorm(out, activation=False)
        self.downsample: nn.Sequential | None = None
        if stride != 1 or in_channels != out:
            shortcut = nn.Conv2d(in_channels, out, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, ActivatedBatchNorm(out, activation=False))

    def forward(self, x: Tensor) -> Tensor:
        """(b, in_channels, h, w) to (b, 4 * channels, h / stride, w / stride)."""
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = F.relu(self.bn2(self.conv2(y)), inplace=True)
        y = self.bn3(self.conv3(y))
        y += x if self.downsample is None else self.downsample(x)
        return F.relu(y, inplace=True)


class Features(NamedTuple):
    """What the four layers give, at 1/4, 1/8, 1/16 and 1/16 of the input's size."""

    layer1: Tensor
    layer2: Tensor
    layer3: Tensor
    layer4: Tensor


class DilatedResNet101(nn.Module):
    """The trunk. Networks on top subclass it, because the published names have no prefix for it."""

    def __init__(self) -> None:
        super().__init__()
        for i, (channels_in, channels, stride) in enumerate(((3, 64, 2), (64, 64, 1), (64, 128, 1)), start=1):
            self.add_module(f"conv{i}", nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False))
            self.add_module(f"bn{i}", ActivatedBatchNorm(channels, activation=False))
        self.layer1 = _layer(128, 64, BLOCKS[0])
        self.layer2 = _layer(256, 128, BLOCKS[1], stride=2)
        self.layer3 = _layer(512, 256, BLOCKS[2], stride=2)
        self.layer4 = _layer(1024, 512, BLOCKS[3], dilation=2)

    def features(self, x: Tensor) -> Features:
        """Features of every layer.

        Args:
            x: (b, 3, h, w).

        Returns:
            (b, 256, h/4, w/4), (b, 512, h/8, w/8), (b, 1024, h/16, w/16), (b, 2048, h/16, w/16), sizes rounded up.
        """
        for i in (1, 2, 3):
            x = F.relu(self.get_submodule(f"bn{i}")(self.get_submodule(f"conv{i}")(x)), inplace=True)
        x = F.max_pool2d(x, kernel_size=3, stride=2, padding=1)
        layer1 = self.layer1(x)
        layer2 = self.layer2(layer1)
        layer3 = self.layer3(layer2)
        return Features(layer1, layer2, layer3, self.layer4(layer3))


def _layer(in_channels: int, channels: int, num_blocks: int, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    """The first block changes size and channels, the others keep them; all share the dilation."""
    first = Bottleneck(in_channels, channels, stride, dilation)
    width = channels * Bottleneck.expansion
    return nn.Sequential(first, *(Bottleneck(width, channels, dilation=dilation) for _ in range(num_blocks - 1)))
