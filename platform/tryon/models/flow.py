"""Appearance-flow warping: two feature pyramids, flow and parse predicted together from coarse to fine.

After the condition generator of HR-VITON (Lee et al. 2022, arXiv 2206.14180): each level's flow sees the parse's
features and each level's parse sees the garment warped so far; where the warped mask is empty no garment is predicted
(misalignment), and where the parse predicts body or other clothes the warped mask is cut (occlusion). Three departures:
the flow is a correction of the anchor that `gmm` starts from too, so that an untrained network is already a plausible
warp; both pyramids see positions; and the parse has the four classes that decide about the warp, the same for tops,
trousers and dresses.

Shape legend: b batch, h, w network size. The finest level, where the flow ends, is h / (2 * stem), w / (2 * stem).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from tryon.config import Config
from tryon.models.contract import WARP_CONDITION, example_condition
from tryon.models.flow_layers import FusionStep, Pyramid, enlarge_grid, resize_to
from tryon.models.gmm import anchor_sources, apply_grid
from tryon.models.layers import ConvNormAct, ResidualBlock, SelfAttention2d, identity_grid
from tryon.models.tensors import LIMBS, REGIONS
from tryon.models.tps import tps_grid

PARSE_CLASSES = ("background", "garment", "arms", "other")  # "other": the rest of the body and what else is worn
GARMENT_CLASS = PARSE_CLASSES.index("garment")
OCCLUDERS = (PARSE_CLASSES.index("arms"), PARSE_CLASSES.index("other"))
MULTIPLE = 16  # of height and width
MIN_COVER = 1e-2  # the garment's probability is at most this share of what it would be where no garment was warped to
CHANNELS = {"garment": 3, "garment_mask": 1, "agnostic_mask": 1, "limbs": len(LIMBS), "regions": len(REGIONS)}


class FlowConfig(Config):
    """Size of the network. The default trains on a CPU; `LARGE` has the paper's widths."""

    width: int = Field(24, ge=4, le=256, description="channels of the finest level; doubled twice, then kept")
    levels: int = Field(3, ge=2, le=6, description="levels of the pyramids, each half the size of the one before")
    fused: int = Field(
        48, ge=8, le=512, multiple_of=4, description="channels in which garment, person and parse are joined"
    )
    stem: int = Field(4, ge=1, le=4, description="inputs are reduced by this factor, by means, before the pyramids")


# The published generator's pyramids (96 to 384 channels, five levels). It joins them in 384 channels with one
# convolution to the flow, 47.4 M parameters; in 244 channels with two it is 47.2 M here.
LARGE = FlowConfig(width=96, levels=5, fused=244, stem=1)


class FlowPrediction(NamedTuple):
    """What the network predicts.

    Attributes:
        grids: sampling positions of each level, coarse first: float32 (b, 2, h_i, w_i), x then y in [-1, 1].
        parse: logits (b, 4, h / stem, w / stem) of `PARSE_CLASSES`, garment only where the warped mask lies.
    """

    grids: tuple[Tensor, ...]
    parse: Tensor


class Flow(nn.Module):
    """Appearance-flow warp of a garment onto a person."""

    config_class = FlowConfig
    role = "warp"
    garment_channels = CHANNELS["garment"] + CHANNELS["garment_mask"] + 2  # and each pixel's own position
    # and the position that the anchor gives each pixel
    person_channels = CHANNELS["agnostic_mask"] + CHANNELS["limbs"] + CHANNELS["regions"] + 2

    def __init__(self, config: FlowConfig) -> None:
        super().__init__()
        self.config = config
        fused = config.fused
        widths = [config.width * min(2**i, 4) for i in range(config.levels)]
        self.garment_pyramid = Pyramid(self.garment_channels, widths, fused)
        self.person_pyramid = Pyramid(self.person_channels, widths, fused)
        # Where a garment part goes depends on the whole garment and the whole body; convolutions see a part of each.
        self.first = nn.Sequential(ResidualBlock(2 * fused, fused), SelfAttention2d(fused))
        self.steps = nn.ModuleList(FusionStep(fused) for _ in widths)
        seen = fused + self.person_channels + CHANNELS["garment"] + CHANNELS["garment_mask"]
        half = max(fused // 2, 8)
        self.head = nn.Sequential(ConvNormAct(seen, half), nn.Conv2d(half, len(PARSE_CLASSES), 3, padding=1))

    def forward(self, condition: dict[str, Tensor]) -> FlowPrediction:
        """Predicts flow and parse.

        Args:
            condition: of `tryon.models.tensors.condition`; used: garment, garment_mask, agnostic_mask, limbs,
                regions, pose. Height and width multiples of 16.

        Raises:
            ValueError: of `check_inputs`.
        """
        check_inputs(condition)
        garment, person, shown = self._inputs(condition)
        levels = list(zip(self.garment_pyramid(garment), self.person_pyramid(person), strict=True))
        x = self.first(torch.cat(levels[0], dim=1))
        change = torch.zeros_like(levels[0][1][:, :2], dtype=torch.float32)
        grids: list[Tensor] = []
        for step, (f_garment, f_person) in zip(self.steps, levels, strict=True):
            anchor = _anchor(condition, f_person)
            x, change = resize_to(x, f_person), resize_to(change, f_person)
            more, x = step(f_garment, f_person, x, anchor + change)
            change = change + more
            grids.append(anchor + change)
        return FlowPrediction(tuple(grids), self._parse(x, person, shown, grids[-1]))

    def example_inputs(self, batch: int, height: int, width: int) -> dict[str, Tensor]:
        """See `tryon.models.contract.Runnable`."""
        return example_condition(WARP_CONDITION, batch, height, width)

    def infer(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """`warp` on named tensors: warped_garment, warped_mask, grid."""
        return dict(zip(("warped_garment", "warped_mask", "grid"), self.warp(inputs), strict=True))

    def _inputs(self, condition: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Inputs of the garment's and the person's pyramid at the stem's size; garment and mask without positions."""
        mask = condition["garment_mask"]
        shown = F.avg_pool2d(torch.cat([condition["garment"] * mask, mask], dim=1), self.config.stem)
        person = torch.cat([condition[name] for name in ("agnostic_mask", "limbs", "regions")], dim=1)
        person = F.avg_pool2d(person, self.config.stem)
        place = identity_grid(*shown.shape[-2:]).to(shown).permute(2, 0, 1).expand(shown.shape[0], -1, -1, -1)
        return torch.cat([shown, place], dim=1), torch.cat([person, _anchor(condition, person)], dim=1), shown

    def _parse(self, x: Tensor, person: Tensor, shown: Tensor, grid_b2hw: Tensor) -> Tensor:
        """Logits at the stem's size; the garment's are lowered where the warped mask does not lie."""
        grid = enlarge_grid(grid_b2hw, (person.shape[-2], person.shape[-1]))
        warped, cover, _ = apply_grid(shown[:, :3], shown[:, 3:], grid)
        logits = self.head(torch.cat([resize_to(x.float(), person), person, warped, cover], dim=1)).float()
        lowered = logits[:, GARMENT_CLASS : GARMENT_CLASS + 1] + torch.log(cover.clamp(MIN_COVER, 1.0))
        return torch.cat([logits[:, :GARMENT_CLASS], lowered, logits[:, GARMENT_CLASS + 1 :]], dim=1)

    def field(self, condition: dict[str, Tensor]) -> Tensor:
        """The warp as one tensor, a row a sample: for `at`.

        Returns:
            float32 (b, 3, h / stem, w / stem): sampling position x, y, and the share of the garment nothing hides.
        """
        prediction = self(condition)
        visible = visible_share(prediction.parse)
        grid = enlarge_grid(prediction.grids[-1], (visible.shape[-2], visible.shape[-1]))
        return torch.cat([grid.permute(0, 3, 1, 2), visible], dim=1)

    @staticmethod
    def at(field_b3hw: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """A warp at any size: the flow is enlarged, not the garment, which is sampled once.

        Returns:
            Sampling grid (b, height, width, 2); share of the warped mask to keep (b, 1, height, width).
        """
        visible = F.interpolate(field_b3hw[:, 2:].float(), size=size, mode="bilinear", align_corners=False)
        return enlarge_grid(field_b3hw[:, :2], size), visible

    def warp(self, condition: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Predicts and applies the warp at the network size.

        Returns:
            Warped garment (b, 3, h, w), warped mask without what is hidden (b, 1, h, w), sampling grid (b, h, w, 2).
        """
        h, w = condition["garment"].shape[-2:]
        grid, visible = self.at(self.field(condition), (h, w))
        warped, mask, _ = apply_grid(condition["garment"], condition["garment_mask"], grid)
        return warped, mask * visible, grid


def visible_share(parse_logits: Tensor) -> Tensor:
    """Probability (b, 1, h, w) that neither body nor other clothes lie before the garment."""
    return 1 - parse_logits.float().softmax(1)[:, list(OCCLUDERS)].sum(1, keepdim=True)


def _anchor(condition: dict[str, Tensor], like: Tensor) -> Tensor:
    """The anchor's sampling positions (b, 2, h, w) at another tensor's size; affine, so exact with 3 x 3 points."""
    grid = tps_grid(anchor_sources(condition, 3), like.shape[-2], like.shape[-1])
    return grid.permute(0, 3, 1, 2)


def check_inputs(condition: dict[str, Tensor]) -> None:
    """Checks what the network is given; skipped on meta tensors and while it is exported or compiled.

    Raises:
        ValueError: wrong channel count, sizes that differ or are no multiples of 16, values that are not finite, a
            garment mask that is empty or everywhere 1; the message names the input and, where it is one, the row.
    """
    if condition["garment"].is_meta or torch.compiler.is_compiling() or torch.onnx.is_in_onnx_export():
        return
    size = condition["garment"].shape[-2:]
    if size[0] % MULTIPLE or size[1] % MULTIPLE or min(size) < 2 * MULTIPLE:
        text = f"inputs are {size[0]}x{size[1]}: height and width must be multiples of {MULTIPLE}, from 32 on"
        raise ValueError(text)
    for name, channels in CHANNELS.items():
        value = condition[name]
        if value.shape[1:] != (channels, *size):
            shape = "x".join(map(str, value.shape[1:]))
            raise ValueError(f"{name} is {shape}: the network takes {channels}x{size[0]}x{size[1]}")
        if not torch.isfinite(value).all():
            raise ValueError(f"{name} holds values that are not finite (NaN or infinity)")
    mask = condition["garment_mask"].flatten(1)
    for row, (low, high) in enumerate(zip(mask.amin(1).tolist(), mask.amax(1).tolist(), strict=True)):
        if high <= 0.5:
            raise ValueError(f"garment_mask of row {row} is empty: there is no garment to warp")
        if low >= 0.5:
            raise ValueError(f"garment_mask of row {row} is 1 everywhere: the garment's outline is not known")
