"""Parts of the extraction network: the anchor it starts from, and the flow that un-warps the worn garment.

Shape legend: b batch, c channels, h, w size of a map in px. "Frame": the garment photo as the anchor lays it out.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tryon.models.flow_layers import FLOW_SCALE, enlarge_grid, resize_to, sample_features
from tryon.models.layers import ConvNormAct, ResidualBlock, SelfAttention2d, identity_grid

# Of the garment in its photo, over the simulator's: tops, trousers, skirts and dresses differ by 10 %.
CENTRE = (0.0, 0.016)  # x, y in [-1, 1]
SPREAD = 0.168  # geometric mean of both standard deviations, in heights of the photo
MIN_SPREAD = 0.01
LATTICE = (8, 6)
HIDDEN = 128  # of what the lattice is worked out in


def anchor_of(worn_mask: Tensor) -> Tensor:
    """The similarity that brings the worn garment's middle and spread to those of garments in their photos.

    Middle and spread are of all the mask's pixels; its box hangs on the tip of a sleeve (errors are 15 % larger).

    Args:
        worn_mask: (b, 1, h, w) in [0, 1].

    Returns:
        float32 (b, 3): scale, shift x, shift y. Position p of the photo in [-1, 1] shows what the person photo shows
        at scale * p + shift.
    """
    h, w = worn_mask.shape[-2:]
    mask = worn_mask[:, 0].float()
    # By rows and columns: a sum of all pixels in one go is off by 1e-5 in some runtimes, which a stripe would show.
    x, spread_x = _moments(mask.mean(1))
    y, spread_y = _moments(mask.mean(2))
    middle = torch.stack([x, y], dim=1)
    spread = (spread_x * spread_y * (w / (4 * h))).sqrt()
    scale = spread.clamp_min(MIN_SPREAD) / SPREAD
    return torch.cat([scale[:, None], middle - scale[:, None] * middle.new_tensor(CENTRE)], dim=1)


def _moments(weights_bn: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (b,) of places from -1 to 1 by weights (b, n)."""
    n = weights_bn.shape[1]
    place = (torch.arange(n, device=weights_bn.device).float() + 0.5) * (2 / n) - 1
    weights = weights_bn / weights_bn.sum(1, keepdim=True).clamp_min(1e-6)
    middle = (weights * place).sum(1)
    variance = (weights * (place - middle[:, None]).square()).sum(1)
    return middle, variance.clamp_min(1e-8).sqrt()


def through_anchor(grid_bhw2: Tensor, anchor_b3: Tensor) -> Tensor:
    """Positions in the frame to positions in the person photo, both (b, h, w, 2) in [-1, 1]."""
    scale, shift = anchor_b3[:, None, None, :1], anchor_b3[:, None, None, 1:]
    return scale * grid_bhw2 + shift


def joints_in_frame(pose_bk3: Tensor, anchor_b3: Tensor, size: tuple[int, int]) -> Tensor:
    """Where the anchor's frame shows the joints: x and y in [-2, 2] and 1 for those that are seen, else 0.

    Args:
        pose_bk3: keypoints px at `size` with confidence.
        anchor_b3: of `anchor_of`.
        size: (h, w).

    Returns:
        float32 (b, 75).
    """
    seen = (pose_bk3[..., 2:] > 0).float()
    position = pose_bk3[..., :2] / pose_bk3.new_tensor([size[1] / 2, size[0] / 2]) - 1
    position = (position - anchor_b3[:, None, 1:]) / anchor_b3[:, None, :1]
    return torch.cat([position.clamp(-2, 2) * seen, seen], dim=2).flatten(1)


class Lattice(nn.Module):
    """A coarse flow from the whole: what a part of the garment looks like says less of its place than the body does.

    Where a sleeve's point is seen is nearly linear in where elbow and wrist are, so the joints have a short way too.
    """

    def __init__(self, channels: int, told: int) -> None:
        super().__init__()
        self.seen = nn.Sequential(nn.Linear(channels * LATTICE[0] * LATTICE[1] + told, HIDDEN), nn.SiLU())
        self.out = nn.Linear(HIDDEN + told, 2 * LATTICE[0] * LATTICE[1])
        nn.init.normal_(self.out.weight, std=1e-2)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        """Coarse features (b, channels, h, w) and what is told of the whole (b, told) to (b, 2, 8, 6), float32."""
        told = told.to(x.dtype)
        seen = self.seen(torch.cat([_to_lattice(x).flatten(1), told], dim=1))
        out: Tensor = self.out(torch.cat([seen, told], dim=1)).float()
        return out.view(-1, 2, *LATTICE)


def _to_lattice(x: Tensor) -> Tensor:
    """Means over blocks where these are whole, else bilinear: ONNX knows no adaptive mean."""
    rows, columns = int(x.shape[-2]), int(x.shape[-1])
    if rows % LATTICE[0] or columns % LATTICE[1]:
        return F.interpolate(x, size=LATTICE, mode="bilinear", align_corners=False)
    return F.avg_pool2d(x, (rows // LATTICE[0], columns // LATTICE[1]))


class Unwarp(nn.Module):
    """Where in the frame each pixel of the garment photo is seen, from coarse to fine.

    Args:
        widths: channels of the features, the coarsest first.
        side: channels of maps that are joined to the features of each level.
        told: length of what is told of the whole.
        fused: channels in which they are joined.
    """

    def __init__(self, widths: Sequence[int], side: int, told: int, fused: int) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(nn.Conv2d(width + side, fused, 1) for width in widths)
        self.first = nn.Sequential(ResidualBlock(fused + 2, fused), SelfAttention2d(fused))
        self.lattice = Lattice(fused, told)
        self.updates = nn.ModuleList(ResidualBlock(2 * fused + 4, fused) for _ in widths)
        half = max(fused // 2, 8)
        self.corrections = nn.ModuleList(
            nn.Sequential(ConvNormAct(fused, half), nn.Conv2d(half, 2, 3, padding=1)) for _ in widths
        )
        for layers in self.corrections:
            last = list(layers.children())[-1]
            assert isinstance(last, nn.Conv2d)
            assert last.bias is not None
            nn.init.normal_(last.weight, std=1e-2)
            nn.init.zeros_(last.bias)

    def forward(self, features: Sequence[Tensor], side: Tensor, told: Tensor) -> list[Tensor]:
        """The flow at each level.

        Args:
            features: in the frame (b, widths[i], h_i, w_i), the coarsest first.
            side: (b, side, h, w) in the frame, of any size.
            told: (b, told).

        Returns:
            Sampling positions in the frame, float32 (b, 2, h_i, w_i), x then y.
        """
        joined = [
            lateral(torch.cat([f, resize_to(side, f).to(f.dtype)], dim=1))
            for lateral, f in zip(self.laterals, features, strict=True)
        ]
        x = self.first(torch.cat([joined[0], places(joined[0]).to(joined[0].dtype)], dim=1))
        coarse = FLOW_SCALE * self.lattice(x, told)
        change = torch.zeros_like(x[:, :2], dtype=torch.float32)
        grids: list[Tensor] = []
        for f, update, correction in zip(joined, self.updates, self.corrections, strict=True):
            x, change, here = resize_to(x, f), resize_to(change, f), places(f)
            start = here + enlarge_grid(coarse, (f.shape[-2], f.shape[-1])).permute(0, 3, 1, 2)
            seen = sample_features(f, start + change).to(x.dtype)
            x = update(torch.cat([x, seen, here.to(x.dtype), (start + change).to(x.dtype)], dim=1))
            change = change + FLOW_SCALE * correction(x).float()
            grids.append(start + change)
        return grids


def places(like: Tensor) -> Tensor:
    """Each pixel's own position, float32 (b, 2, h, w), x then y in [-1, 1]."""
    grid = identity_grid(like.shape[-2], like.shape[-1]).to(like.device)
    return grid.permute(2, 0, 1).expand(like.shape[0], -1, -1, -1)
