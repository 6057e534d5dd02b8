"""Parts of the appearance-flow network: pyramids, the fusion step, and sampling grids brought to other sizes.

Shape legend: b batch, c channels, h, w size of a pyramid level in px.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tryon.models.layers import ConvNormAct, ResidualBlock, identity_grid, num_groups, sample_image

# Corrections are a few hundredths of the photo. Unscaled, one step of Adam moves a flow by as much as it has to learn.
FLOW_SCALE = 0.1
OFFSET_GAIN = 4.0
NUM_HEADS = 4
POOL = (8, 6)


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


class Placement(nn.Module):
    """A coarse thin-plate warp from the whole garment and the whole body: what the flow then corrects."""

    def __init__(self, channels: int, grid: int) -> None:
        super().__init__()
        self.grid = grid
        self.join = ConvNormAct(2 * channels, channels)
        self.regress = nn.Sequential(
            nn.Linear(channels * POOL[0] * POOL[1], 128), nn.SiLU(), nn.Linear(128, 2 * grid**2)
        )
        last = self.regress[-1]
        assert isinstance(last, nn.Linear)
        nn.init.normal_(last.weight, std=1e-3)
        nn.init.zeros_(last.bias)

    def forward(self, garment: Tensor, person: Tensor) -> Tensor:
        """Coarse features (b, c, h, w) of both to the control points' offsets (b, grid^2, 2), float32."""
        joined = _to_cells(self.join(torch.cat([garment, person], dim=1)))
        offsets: Tensor = self.regress(joined.flatten(1)).float().view(-1, self.grid**2, 2)
        return offsets


def _to_cells(x: Tensor) -> Tensor:
    """Means over `POOL` cells. Adaptive pooling is the same where sizes divide; elsewhere it cannot be exported."""
    factors = (max(1, x.shape[-2] // POOL[0]), max(1, x.shape[-1] // POOL[1]))
    x = F.avg_pool2d(x, factors) if max(factors) > 1 else x
    return x if x.shape[-2:] == POOL else F.interpolate(x, size=POOL, mode="bilinear", align_corners=False)


class Match(nn.Module):
    """Attention from each person cell to all garment cells: what is there, and where that lies.

    Where a garment part goes depends on the whole garment and the whole body; convolutions see a part of each.
    """

    def __init__(self, channels: int, num_heads: int = NUM_HEADS) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.person_norm = nn.GroupNorm(num_groups(channels), channels)
        self.garment_norm = nn.GroupNorm(num_groups(channels), channels)
        self.query = nn.Conv2d(channels, channels, 1)
        self.key_value = nn.Conv2d(channels, 2 * channels, 1)
        self.out = nn.Conv2d(channels + 2 * num_heads, channels, 1)

    def forward(self, garment: Tensor, person: Tensor, grid_b2hw: Tensor) -> Tensor:
        """Features of the person's cells (b, c, h, w), and of where each head looks relative to a warp so far.

        Args:
            garment: features of the garment photo (b, c, h, w).
            person: features of the person (b, c, h, w).
            grid_b2hw: sampling positions so far, in [-1, 1] of the garment photo.
        """
        b, c, h, w = person.shape
        heads = (b, self.num_heads, c // self.num_heads, h * w)
        query = self.query(self.person_norm(person)).reshape(heads).transpose(2, 3)
        key, value = (x.reshape(heads).transpose(2, 3) for x in self.key_value(self.garment_norm(garment)).chunk(2, 1))
        places = identity_grid(h, w).to(value).view(1, 1, h * w, 2).expand(b, self.num_heads, -1, -1)
        found = F.scaled_dot_product_attention(query, key, torch.cat([value, places], dim=3))
        values, where = torch.split(found, [c // self.num_heads, 2], dim=3)
        offsets = where - grid_b2hw.to(where).reshape(b, 1, 2, h * w).transpose(2, 3)
        joined = torch.cat([values, OFFSET_GAIN * offsets], dim=3).transpose(2, 3).reshape(b, -1, h, w)
        out: Tensor = self.out(joined)
        return out


def flow_head(channels: int) -> nn.Conv2d:
    """Features to a flow's correction, small at first."""
    head = nn.Conv2d(channels, 2, 3, padding=1)
    assert head.bias is not None
    nn.init.normal_(head.weight, std=1e-2)
    nn.init.zeros_(head.bias)
    return head


class FusionStep(nn.Module):
    """One level: the parse's features correct the flow, then the garment warped by it corrects the parse's features."""

    def __init__(self, fused: int, *, match: bool) -> None:
        super().__init__()
        self.match = Match(fused) if match else None
        self.flow = nn.Sequential(
            nn.Conv2d((4 if match else 3) * fused, fused, 1),
            ConvNormAct(fused, fused),
            flow_head(fused),
        )
        self.parse = nn.Sequential(nn.Conv2d(3 * fused, fused, 1), ResidualBlock(fused, fused))

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
        seen = [sample_features(garment, grid_b2hw), person, parse]
        if self.match is not None:
            seen.append(self.match(garment, person, grid_b2hw))
        change = FLOW_SCALE * self.flow(torch.cat(seen, dim=1)).float()
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
    if size[0] % h == 0 and size[1] % w == 0:  # the middle of a larger image that is resized: a third of the time
        down, across = size[0] // h, size[1] // w
        whole = F.interpolate(grid, (size[0] + 2 * down, size[1] + 2 * across), mode="bilinear", align_corners=False)
        return whole[..., down : down + size[0], across : across + size[1]].permute(0, 2, 3, 1)
    inner = identity_grid(*size).to(grid.device) * grid.new_tensor([w / (w + 2), h / (h + 2)])
    return sample_image(grid, inner.expand(grid.shape[0], -1, -1, -1)).permute(0, 2, 3, 1)
