"""Geometric matching module: garment and person encoders, correlation, TPS regression.

After CP-VTON's GMM (Wang et al. 2018, arXiv 1807.07688). Two departures: the network sees shape only (masks, limbs,
regions), not looks, so that what it learns on drawings holds on photos; and it regresses offsets from an anchor, the
affine map that lays the garment on the torso, so that an untrained network is already a plausible warp.

Shape legend: b batch, h, w network size, k = grid * grid control points.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from tryon.config import Config
from tryon.models.checks import check_condition
from tryon.models.contract import WARP_CONDITION, example_condition
from tryon.models.layers import ConvNormAct, sample_image
from tryon.models.network import Network
from tryon.models.tensors import LIMBS, REGIONS
from tryon.models.tps import control_points, tps_grid
from tryon.sample import CATEGORIES, NUM_JOINTS, Joint


class GmmConfig(Config):
    """Size of the geometric matching module."""

    width: int = Field(16, ge=4, le=128, description="channels of the first convolution; doubled twice")
    grid: int = Field(5, ge=3, le=9, description="control points a side")


LARGE = GmmConfig(width=120)  # 14.7 M parameters


class Gmm(Network):
    """TPS warp of a garment onto a person."""

    config_class = GmmConfig
    role = "warp"
    checked_masks = ("garment_mask",)
    person_channels = 1 + len(LIMBS) + len(REGIONS)

    def __init__(self, config: GmmConfig) -> None:
        super().__init__()
        self.config = config
        w = config.width
        self.garment_encoder = _encoder(1, w)
        self.person_encoder = _encoder(self.person_channels, w)
        self.reduce = ConvNormAct(8 * w, 4 * w)
        self.match = nn.Sequential(ConvNormAct(4 * w + CORRELATION_CELLS, 4 * w), ConvNormAct(4 * w, 4 * w, 2))
        self.regress = nn.Sequential(
            nn.Linear(4 * w * POOL[0] * POOL[1], 128), nn.SiLU(), nn.Linear(128, 2 * config.grid**2)
        )
        last = self.regress[-1]
        assert isinstance(last, nn.Linear)
        nn.init.normal_(last.weight, std=1e-3)
        nn.init.zeros_(last.bias)

    def forward(self, condition: dict[str, Tensor]) -> Tensor:
        """Predicts where each control point on the person samples the garment photo.

        Args:
            condition: of `tryon.models.tensors.condition`; used: garment_mask, agnostic_mask, limbs, regions, pose,
                category.

        Returns:
            float (b, k, 2): (x, y) in [-1, 1] of the garment photo; for `tps_grid`.

        Raises:
            ValueError: of `check_condition`.
        """
        check_condition(condition, CHANNELS, vectors=VECTORS, least=LEAST, masks=self.checked_masks)
        person = torch.cat([condition["agnostic_mask"], condition["limbs"], condition["regions"]], dim=1)
        f_garment = self.garment_encoder(condition["garment_mask"])
        f_person = self.person_encoder(person)
        joined = self.reduce(torch.cat([f_garment, f_person], dim=1))
        features = self.match(torch.cat([joined, correlate(f_garment, f_person)], dim=1))
        pooled = F.adaptive_avg_pool2d(features, POOL).flatten(1)
        offsets: Tensor = self.regress(pooled).view(-1, self.config.grid**2, 2)  # -1: traced too
        return anchor_sources(condition, self.config.grid) + offsets

    def field(self, condition: dict[str, Tensor]) -> Tensor:
        """The warp as one tensor, a row a sample, for `at`: the control points' sources."""
        return self(condition)  # type: ignore[no-any-return]

    @staticmethod
    def at(field_bk2: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor | None]:
        """A warp at any size.

        Returns:
            Sampling grid (b, height, width, 2); None: the whole warped mask is kept.
        """
        return tps_grid(field_bk2, *size), None

    def warp(self, condition: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Predicts and applies the warp at the network size.

        Returns:
            Warped garment (b, 3, h, w), warped mask (b, 1, h, w), sampling grid (b, h, w, 2).
        """
        h, w = condition["garment"].shape[-2:]
        grid = tps_grid(self(condition), h, w)
        return apply_grid(condition["garment"], condition["garment_mask"], grid)

    def example_inputs(self, batch: int, height: int, width: int) -> dict[str, Tensor]:
        """See `tryon.models.contract.Runnable`."""
        return example_condition(WARP_CONDITION, batch, height, width)

    def infer(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """`warp` on named tensors: warped_garment, warped_mask, grid."""
        return dict(zip(("warped_garment", "warped_mask", "grid"), self.warp(inputs), strict=True))


CHANNELS = {"garment_mask": 1, "agnostic_mask": 1, "limbs": len(LIMBS), "regions": len(REGIONS)}
VECTORS = {"pose": (NUM_JOINTS, 3), "category": (len(CATEGORIES),)}
LEAST = 16  # px a side
POOL = (8, 6)
CORRELATION_SIZE = (16, 12)
CORRELATION_CELLS = CORRELATION_SIZE[0] * CORRELATION_SIZE[1]


def apply_grid(garment: Tensor, mask: Tensor, grid: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Samples garment and mask at a grid; nothing comes from outside the photo."""
    return sample_image(garment, grid), sample_image(mask, grid, padding="zeros"), grid


def _encoder(in_channels: int, width: int) -> nn.Sequential:
    """Four halvings, the first a mean (shapes need no more): (b, in, h, w) to (b, 4 * width, h / 16, w / 16)."""
    channels = (in_channels, width, 2 * width, 4 * width)
    convolutions = [ConvNormAct(a, b, stride=2) for a, b in pairwise(channels)]
    return nn.Sequential(nn.AvgPool2d(2), *convolutions)


def correlate(f_garment: Tensor, f_person: Tensor) -> Tensor:
    """Cosine similarity of every person cell with every garment cell.

    Args:
        f_garment: (b, c, h', w').
        f_person: (b, c, h', w').

    Returns:
        (b, 192, h', w'): channel i is the similarity to garment cell i of a 16 x 12 lattice.
    """
    b, _, h, w = f_person.shape
    cells = F.normalize(F.adaptive_avg_pool2d(f_garment, CORRELATION_SIZE), dim=1).flatten(2)
    return (cells.transpose(1, 2) @ F.normalize(f_person, dim=1).flatten(2)).view(b, -1, h, w)


def anchor_sources(condition: dict[str, Tensor], grid: int) -> Tensor:
    """Control-point sources of the affine map that lays the garment on the body: the network's starting point.

    The box's top goes to the shoulders or the waist. How large the garment is, across and down, follows from its box,
    its trunk's width, the shoulders' width and the torso's length, by powers of each (`ACROSS`, `DOWN`); the torso's
    lean is followed.

    Args:
        condition: garment_mask (b, 1, h, w), pose (b, 25, 3) px at the network size, category (b, 3).
        grid: control points a side.

    Returns:
        float32 (b, k, 2) in [-1, 1] of the garment photo.
    """
    mask, pose = condition["garment_mask"], condition["pose"]
    h, w = mask.shape[-2:]
    torso = torso_frame(pose, (h, w))
    top, height, width, centre = mask_box(mask)
    garment = torch.stack([height, width, trunk_width(mask)], dim=1).log()
    person = torch.stack([torso.length, torso.shoulders], dim=1).log()
    # A sum of products, not a matrix product: autocast would round that to bf16.
    category = condition["category"][..., None]
    rise, across, down = ((category * mask.new_tensor(table)).sum(1) for table in (RISE, ACROSS, DOWN))
    scales = [(t[:, 0] + (t[:, 1:4] * garment).sum(1) - (t[:, 4:] * person).sum(1)).exp() for t in (across, down)]
    return torso.sources(grid, top, centre, (scales[0], scales[1]), rise[:, 0])


# By category (upper, lower, dress), fitted to the simulator's true flows. How far the box's top edge lies above the
# neck, torso lengths; then of garment px a person px, across and down: the logarithm of a factor, and the powers of the
# garment's box height, box width and trunk width, and of 1 / torso length and 1 / shoulder width. What is left of them
# is 13 %, 8 % and 8 % across, 12 %, 5 % and 7 % down.
RISE = ((0.166,), (-0.686,), (0.169,))
ACROSS = (
    (-0.382, 0.484, 0.271, 0.245, 0.119, 0.881),
    (0.258, 0.034, -0.226, 1.192, 0.655, 0.345),
    (-0.236, 0.180, 0.147, 0.673, -0.182, 1.182),
)
DOWN = (
    (-0.228, 0.506, 0.192, 0.302, 0.935, 0.065),
    (0.421, -0.129, -0.267, 1.396, 1.170, -0.170),
    (0.104, 0.101, 0.048, 0.851, 0.926, 0.074),
)
TRUNK_ROWS = (0.3, 0.9)  # of the box's height: where a garment's trunk is at its narrowest
SHOULDERS = 0.72  # torso lengths, where they are not seen


class Torso(NamedTuple):
    """Where the trunk is, in px.

    Attributes:
        neck: (b, 2).
        down: unit vector from neck to hip (b, 2).
        length: from neck to hip (b,).
        shoulders: their distance (b,).
        size: (h, w).
    """

    neck: Tensor
    down: Tensor
    length: Tensor
    shoulders: Tensor
    size: tuple[int, int]

    def sources(self, grid: int, top: Tensor, centre: Tensor, scales: tuple[Tensor, Tensor], rise: Tensor) -> Tensor:
        """Control-point sources (b, k, 2) of an affine map that follows the lean.

        Args:
            grid: control points a side.
            top: row of the garment photo (b,) that lies `rise` above the neck, px.
            centre: column (b,) that lies on the trunk's middle, px.
            scales: garment px a person px (b,), across and down.
            rise: torso lengths (b,).
        """
        size = self.neck.new_tensor([self.size[1] / 2, self.size[0] / 2])
        across = torch.stack([self.down[:, 1], -self.down[:, 0]], dim=1)
        points = (control_points(grid).to(self.neck.device) + 1) * size - self.neck[:, None]
        x = centre[:, None] + (points * across[:, None]).sum(-1) * scales[0][:, None]
        y = top[:, None] + ((points * self.down[:, None]).sum(-1) + (rise * self.length)[:, None]) * scales[1][:, None]
        return torch.stack([x, y], dim=-1) / size - 1


def torso_frame(pose: Tensor, size: tuple[int, int]) -> Torso:
    """The trunk of each pose (b, 25, 3), px at `size` (h, w); that of an average figure where it is not seen."""
    h, w = size
    neck, hip = pose[:, Joint.NECK, :2], pose[:, Joint.MID_HIP, :2]
    seen = (pose[:, Joint.NECK, 2] > 0) & (pose[:, Joint.MID_HIP, 2] > 0)
    neck = torch.where(seen[:, None], neck, neck.new_tensor([w / 2, 0.25 * h]))
    hip = torch.where(seen[:, None], hip, hip.new_tensor([w / 2, 0.75 * h]))
    spine = hip - neck
    length = spine.norm(dim=1).clamp_min(0.1 * h)
    left, right = pose[:, Joint.LEFT_SHOULDER], pose[:, Joint.RIGHT_SHOULDER]
    apart = (left[:, :2] - right[:, :2]).norm(dim=1)
    both = (left[:, 2] > 0) & (right[:, 2] > 0) & seen
    shoulders = torch.where(both, apart, SHOULDERS * length).clamp_min(0.25 * length)
    return Torso(neck, spine / length[:, None], length, shoulders, size)


def trunk_width(mask_b1hw: Tensor) -> Tensor:
    """Width (b,) px of each garment's trunk: the narrowest run of its middle column's pixels, sleeves left aside."""
    mask = (mask_b1hw[:, 0] > 0.5).float()
    h, w = mask.shape[-2:]
    top, height, width, centre = mask_box(mask_b1hw)
    holes = 1 - mask
    before = holes.cumsum(2)  # as far as a column, itself included
    middle = centre.long().clamp(0, w - 1)[:, None, None].expand(-1, h, 1)
    at, own = before.gather(2, middle), holes.gather(2, middle)
    columns = torch.arange(w, device=mask.device)[None, None]
    right = (columns >= middle) & (before - at + own == 0)
    left = (columns < middle) & (at - before + holes == 0)
    runs = (right | left).float().sum(2)
    rows = (torch.arange(h, device=mask.device)[None] - top[:, None]) / height[:, None]
    counted = (rows >= TRUNK_ROWS[0]) & (rows <= TRUNK_ROWS[1]) & (runs > 0)
    narrowest = torch.where(counted, runs, float(2 * w)).amin(1)
    return torch.where(narrowest <= w, narrowest, width)


def mask_box(mask_b1hw: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Top, height, width and horizontal centre of each mask's box, px; the whole frame for an empty one."""
    h, w = mask_b1hw.shape[-2:]
    rows = (mask_b1hw.amax(dim=(1, 3)) > 0.5).float()
    columns = (mask_b1hw.amax(dim=(1, 2)) > 0.5).float()
    empty = rows.sum(1) == 0
    rows = torch.where(empty[:, None], torch.ones_like(rows), rows)
    columns = torch.where(empty[:, None], torch.ones_like(columns), columns)
    top, bottom = rows.argmax(1).float(), h - rows.flip(1).argmax(1).float()
    left, right = columns.argmax(1).float(), w - columns.flip(1).argmax(1).float()
    return top, bottom - top, right - left, (left + right) / 2
