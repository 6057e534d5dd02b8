"""Parts of the appearance-flow network: pyramids, the fusion step, and sampling grids brought to other sizes.

Shape legend: b batch, c channels, h, w size of a pyramid level in px.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tryon.models.layers import ConvNormAct, ResidualBlock, identity_grid, sample_image

# Corrections are a few hundredths of the photo. Unscaled, one step of Adam moves a flow by as much as it has to learn.
FLOW_SCALE = 0.1


class Pyramid(nn.Module):
    """Features at halving sizes, brought to one width and added up from coarse to fine."""

    def __init__(self, in_channels: int, widths: Sequence[int], fused: int) -> None:
        super().__init__()
        channels = (in_channels, *widths)
        self.downs = nn.ModuleList(
            nn.Sequential(ConvNormAct(a, b, stride=2), ResidualBlock(b, b))
            for a, b in zip(channels, widths, strict=False)
        )
        self.laterals = nn.ModuleList(nn.Conv2d(c, fused, 1) for c in widths)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(b, in, h, w) to levels (b, fused, h / 2^i, w / 2^i), rounded up, i from the last to 1: coarse first."""
        features = []
        for down, lateral in zip(self.downs, self.laterals, strict=True):
            x = down(x)
            features.append(lateral(x))
        out = [features.pop()]
        while features:
            finer = features.pop()
            out.append(finer + resize_to(out[-1], finer))
        return out


class FusionStep(nn.Module):
    """One level: the parse's features correct the flow, then the garment warped by it corrects the parse's features."""

    def __init__(self, fused: int) -> None:
        super().__init__()
        self.flow = nn.Sequential(ConvNormAct(3 * fused, fused), nn.Conv2d(fused, 2, 3, padding=1))
        self.parse = ResidualBlock(3 * fused, fused)
        last = self.flow[-1]
        assert isinstance(last, nn.Conv2d)
        assert last.bias is not None
        nn.init.normal_(last.weight, std=1e-2)
        nn.init.zeros_(last.bias)

    def forward(self, garment: Tensor, person: Tensor, parse: Tensor, grid_b2hw: Tensor) -> tuple[Tensor, Tensor]:
        """Corrects flow and parse.

        Args:
            garment: features of the garment photo (b, c, h, w).
            person: features of the person (b, c, h, w).
            parse: features of the predicted parse from the level below (b, c, h, w).
            grid_b2hw: sampling positions so far, x then y in [-1, 1] of the garment photo, float32.

        Returns:
            The flow's correction (b, 2, h, w), float32, and the parse's new features (b, c, h, w).
        """
        warped = sample_features(garment, grid_b2hw)
        change = FLOW_SCALE * self.flow(torch.cat([warped, person, parse], dim=1)).float()
        warped = sample_features(garment, grid_b2hw + change)
        return change, self.parse(torch.cat([warped, person, parse], dim=1))


def sample_features(features: Tensor, grid_b2hw: Tensor) -> Tensor:
    """Samples at a channels-first grid, in float32: bf16 has no room for a position among more than 256 px."""
    return sample_image(features.float(), grid_b2hw.permute(0, 2, 3, 1))


def resize_to(x: Tensor, like: Tensor) -> Tensor:
    """Bilinear resize to the height and width of another tensor."""
    if x.shape[-2:] == like.shape[-2:]:
        return x
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)


def enlarge_grid(grid_b2hw: Tensor, size: tuple[int, int]) -> Tensor:
    """A sampling grid at another size, bilinear; continued in a straight line beyond its outer pixel centres.

    Without the continuation a strip of half a coarse pixel along each edge (8 px at 1024 from 64) shows one garment
    line, stretched; garments reach the lower edge of most half-length photos.

    Args:
        grid_b2hw: (b, 2, h, w), h and w at least 2; an affine grid is reproduced exactly.
        size: (height, width) px.

    Returns:
        float32 (b, height, width, 2), for `sample_image`.
    """
    h, w = grid_b2hw.shape[-2:]
    grid = grid_b2hw.float()
    grid = torch.cat([2 * grid[..., :1, :] - grid[..., 1:2, :], grid, 2 * grid[..., -1:, :] - grid[..., -2:-1, :]], 2)
    grid = torch.cat([2 * grid[..., :1] - grid[..., 1:2], grid, 2 * grid[..., -1:] - grid[..., -2:-1]], 3)
    inner = identity_grid(*size).to(grid.device) * grid.new_tensor([w / (w + 2), h / (h + 2)])
    return sample_image(grid, inner.expand(grid.shape[0], -1, -1, -1)).permute(0, 2, 3, 1)
