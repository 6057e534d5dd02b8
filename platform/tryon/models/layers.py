"""Layers that several networks share."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ConvNormAct(nn.Sequential):
    """3x3 convolution, group norm, SiLU. `stride` 2 halves height and width."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False),
            nn.GroupNorm(num_groups(out_channels), out_channels),
            nn.SiLU(inplace=True),
        )


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut; a 1x1 on the shortcut where the width changes."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(ConvNormAct(in_channels, out_channels), ConvNormAct(out_channels, out_channels))
        self.shortcut = nn.Identity() if in_channels == out_channels else nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(b, in, h, w) to (b, out, h, w)."""
        out: Tensor = self.body(x) + self.shortcut(x)
        return out


class SelfAttention2d(nn.Module):
    """Multi-head self-attention over all positions of a small feature map, with a shortcut."""

    def __init__(self, channels: int, num_heads: int = 4) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm = nn.GroupNorm(num_groups(channels), channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(b, c, h, w) to the same shape."""
        b, c, h, w = x.shape
        q, k, v = (
            self.qkv(self.norm(x)).reshape(b, 3, self.num_heads, c // self.num_heads, h * w).transpose(3, 4).unbind(1)
        )
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(2, 3).reshape(b, c, h, w)
        out: Tensor = x + self.out(mixed)
        return out


class BoundaryRefinement(nn.Module):
    """Two 3x3 convolutions, ReLU between, added to their input (Peng et al. 2017, arXiv 1703.02719).

    Args:
        channels: of the input and the output.
        hidden: channels between the convolutions; the paper has `channels`.
        guide: channels of a guide that the correction sees too; 0: none, as in the paper.
    """

    def __init__(self, channels: int, hidden: int, guide: int = 0) -> None:
        super().__init__()
        self.see = nn.Conv2d(channels + guide, hidden, 3, padding=1)
        self.correct = nn.Conv2d(hidden, channels, 3, padding=1)
        nn.init.normal_(self.correct.weight, std=1e-2)  # a small correction to begin with
        nn.init.zeros_(self.correct.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, guide: Tensor | None = None) -> Tensor:
        """(b, channels, h, w) to the same shape."""
        seen = x if guide is None else torch.cat([x, guide.to(x.dtype)], dim=1)
        out: Tensor = x + self.correct(F.relu(self.see(seen)))
        return out


def num_groups(channels: int) -> int:
    """Largest divisor of the width that is at most 8."""
    return next(g for g in range(min(8, channels), 0, -1) if channels % g == 0)


def identity_grid(height: int, width: int) -> Tensor:
    """Sampling grid (h, w, 2) of pixel centres, x then y, in [-1, 1] (`align_corners=False`)."""
    ys = (torch.arange(height, dtype=torch.float32) + 0.5) * (2.0 / height) - 1.0
    xs = (torch.arange(width, dtype=torch.float32) + 0.5) * (2.0 / width) - 1.0
    return torch.stack([xs.expand(height, width), ys[:, None].expand(height, width)], dim=-1)


def sample_image(image_bchw: Tensor, grid_bhw2: Tensor, padding: str = "border") -> Tensor:
    """Bilinear sampling of an image at a grid in [-1, 1]."""
    return F.grid_sample(image_bchw, grid_bhw2, mode="bilinear", padding_mode=padding, align_corners=False)
