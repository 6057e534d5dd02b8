"""Appearance-flow warping: two feature pyramids, flow and parse predicted together from coarse to fine.

After the condition generator of HR-VITON (Lee et al. 2022, arXiv 2206.14180): each level's flow sees the parse's
features and each level's parse sees the garment warped so far; where the warped mask is empty no garment is predicted
(misalignment), and where the parse predicts body or other clothes the warped mask is cut (occlusion). Departures: the
flow corrects a coarse thin-plate warp, itself a correction of the anchor that `gmm` starts from too, so that an
untrained network is already a plausible warp; of the garment its shape alone is seen, not its looks, so that what is
learnt on drawings holds on photos; the person is seen in the frames of the limbs; at the coarse levels all cells are
compared with all; and the parse has the four classes that decide about the warp, the same for all garments.

Shape legend: b batch, h, w network size. The pyramids' finest level is h / (2 * stem), w / (2 * stem); the flow ends at
h / stem, w / stem.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from tryon.config import Config
from tryon.models.checks import check_condition
from tryon.models.contract import WARP_CONDITION, example_condition
from tryon.models.flow_layers import FLOW_SCALE, FusionStep, Placement, Pyramid, enlarge_grid, flow_head, resize_to
from tryon.models.gmm import anchor_sources, apply_grid, mask_box
from tryon.models.layers import ConvNormAct, ResidualBlock, SelfAttention2d, identity_grid, sample_image
from tryon.models.mirror import mirrored, mirrored_field
from tryon.models.network import Network
from tryon.models.tensors import LIMBS, REGIONS, limb_frames
from tryon.models.tps import tps_grid
from tryon.sample import CATEGORIES, NUM_JOINTS

PARSE_CLASSES = ("background", "garment", "arms", "other")  # "other": the rest of the body and what else is worn
GARMENT_CLASS = PARSE_CLASSES.index("garment")
OCCLUDERS = (PARSE_CLASSES.index("arms"), PARSE_CLASSES.index("other"))
PLACEMENT_GRID = 5
MATCHED_LEVELS = 2  # coarse ones, in which all cells are compared with all
MULTIPLE = 16  # of height and width
MIN_COVER = 1e-2  # the garment's probability is at most this share of what it would be where no garment was warped to
CHANNELS = {"garment": 3, "garment_mask": 1, "agnostic_mask": 1, "limbs": len(LIMBS), "regions": len(REGIONS)}
VECTORS = {"pose": (NUM_JOINTS, 3), "category": (len(CATEGORIES),)}


OUTLINE_CHANNELS = sum(CHANNELS[name] for name in ("agnostic_mask", "limbs", "regions"))  # the person's first ones


class FlowConfig(Config):
    """Size of the network. The default trains on a CPU; `LARGE` has the paper's widths."""

    width: int = Field(24, ge=4, le=256, description="channels of the finest level; doubled twice, then kept")
    levels: int = Field(3, ge=2, le=6, description="levels of the pyramids, each half the size of the one before")
    fused: int = Field(
        48, ge=8, le=512, multiple_of=4, description="channels in which garment, person and parse are joined"
    )
    stem: int = Field(4, ge=1, le=4, description="inputs are reduced by this factor, by means, before the pyramids")
    mirror: bool = Field(
        False, description="a warp is the mean of two, one of them seen in a mirror: twice the time, 5 % nearer"
    )


# The published generator's pyramids (96 to 384 channels, five levels) and its 47.4 M parameters. It joins the two in
# 384 channels with one convolution to the flow.
LARGE = FlowConfig(width=96, levels=5, fused=296, stem=1)


class FlowPrediction(NamedTuple):
    """What the network predicts.

    Attributes:
        grids: sampling positions, float32 (b, 2, h_i, w_i), x then y in [-1, 1]: of the placement at the coarsest
            level's size, then of each level, coarse first, the last at h / stem, w / stem.
        parse: logits (b, 4, h / stem, w / stem) of `PARSE_CLASSES`, garment only where the warped mask lies.
    """

    grids: tuple[Tensor, ...]
    parse: Tensor


class Flow(Network):
    """Appearance-flow warp of a garment onto a person."""

    config_class = FlowConfig
    role = "warp"
    checked_masks = ("garment_mask",)
    garment_channels = CHANNELS["garment_mask"] + 4  # and each pixel's place in the photo and in the garment's box
    # and the position that the anchor gives each pixel
    person_channels = OUTLINE_CHANNELS + 2 * len(LIMBS) + 3 + 2

    def __init__(self, config: FlowConfig) -> None:
        super().__init__()
        self.config = config
        fused = config.fused
        widths = [config.width * min(2**i, 4) for i in range(config.levels)]
        self.garment_pyramid = Pyramid(self.garment_channels, widths, fused)
        self.person_pyramid = Pyramid(self.person_channels, widths, fused)
        self.placement = Placement(fused, PLACEMENT_GRID)
        self.first = nn.Sequential(ResidualBlock(2 * fused, fused), SelfAttention2d(fused))
        self.steps = nn.ModuleList(FusionStep(fused, match=i < MATCHED_LEVELS) for i in range(config.levels))
        half = max(fused // 2, 8)
        # At this size edges that lie before one another are told apart: at 256x192 a flow that ends at half of it is
        # 1.3 px off for its coarseness alone, one that ends here 0.5 px.
        self.narrow = nn.Conv2d(fused, half, 1)
        seen = half + self.person_channels + CHANNELS["garment_mask"]
        self.finest = nn.Sequential(ConvNormAct(seen, half), ConvNormAct(half, half))
        self.finest_flow = flow_head(half)
        self.head = nn.Conv2d(half, len(PARSE_CLASSES), 3, padding=1)

    def forward(self, condition: dict[str, Tensor]) -> FlowPrediction:
        """Predicts flow and parse.

        Args:
            condition: of `tryon.models.tensors.condition`; used: garment, garment_mask, agnostic_mask, limbs,
                regions, pose. Height and width multiples of 16.

        Raises:
            ValueError: of `check_condition`.
        """
        check_condition(
            condition, CHANNELS, vectors=VECTORS, multiple=MULTIPLE, least=2 * MULTIPLE, masks=self.checked_masks
        )
        anchor = anchor_sources(condition, PLACEMENT_GRID)
        garment, person, shown = self._inputs(condition, anchor)
        levels = list(zip(self.garment_pyramid(garment), self.person_pyramid(person), strict=True))
        x = self.first(torch.cat(levels[0], dim=1))
        sources = anchor + self.placement(*levels[0])
        change = torch.zeros_like(levels[0][1][:, :2], dtype=torch.float32)
        grids: list[Tensor] = []
        for step, (f_garment, f_person) in zip(self.steps, levels, strict=True):
            base = _placed(sources, f_person)
            if not grids:
                grids.append(base)
            x, change = resize_to(x, f_person), resize_to(change, f_person)
            more, x = step(f_garment, f_person, x, base + change)
            change = change + more
            grids.append(base + change)
        grid, parse = self._finish(x, person, shown, grids[-1])
        return FlowPrediction((*grids, grid), parse)

    def example_inputs(self, batch: int, height: int, width: int) -> dict[str, Tensor]:
        """See `tryon.models.contract.Runnable`."""
        return example_condition(WARP_CONDITION, batch, height, width)

    def infer(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """`warp` on named tensors: warped_garment, warped_mask, grid."""
        return dict(zip(("warped_garment", "warped_mask", "grid"), self.warp(inputs), strict=True))

    def _inputs(self, condition: dict[str, Tensor], anchor: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Inputs of the garment's and the person's pyramid at the stem's size; the garment's mask alone."""
        mask = condition["garment_mask"]
        shown = F.avg_pool2d(mask, self.config.stem)
        person = torch.cat([condition[name] for name in ("agnostic_mask", "limbs", "regions")], dim=1)
        person = F.avg_pool2d(person, self.config.stem)
        frames = limb_frames(condition["pose"], (mask.shape[-2], mask.shape[-1]), self.config.stem)
        category = condition["category"][..., None, None].expand(-1, -1, *person.shape[-2:])
        person = torch.cat([person, frames.to(person), category], dim=1)
        person = torch.cat([person, _placed(anchor, person)], dim=1)
        return torch.cat([shown, _places(mask, shown)], dim=1), person, shown

    def _finish(self, x: Tensor, person: Tensor, shown: Tensor, grid_b2hw: Tensor) -> tuple[Tensor, Tensor]:
        """Flow and parse logits at the stem's size; the garment's are lowered where the warped mask does not lie."""
        grid = enlarge_grid(grid_b2hw, (person.shape[-2], person.shape[-1]))
        cover = sample_image(shown, grid, padding="zeros")
        features = self.finest(torch.cat([resize_to(self.narrow(x).float(), person), person, cover], dim=1))
        grid = grid.permute(0, 3, 1, 2) + FLOW_SCALE * self.finest_flow(features).float()
        cover = sample_image(shown, grid.permute(0, 2, 3, 1), padding="zeros")
        logits = self.head(features).float()
        lowered = logits[:, GARMENT_CLASS : GARMENT_CLASS + 1] + torch.log(cover.clamp(MIN_COVER, 1.0))
        return grid, torch.cat([logits[:, :GARMENT_CLASS], lowered, logits[:, GARMENT_CLASS + 1 :]], dim=1)

    def field(self, condition: dict[str, Tensor]) -> Tensor:
        """The warp as one tensor, a row a sample: for `at`.

        Returns:
            float32 (b, 3, h / stem, w / stem): sampling position x, y, and the share of the garment nothing hides.
        """
        field = self._field(condition)
        if not self.config.mirror:
            return field
        return (field + mirrored_field(self._field(mirrored(condition)))) / 2

    def _field(self, condition: dict[str, Tensor]) -> Tensor:
        prediction = self(condition)
        return torch.cat([prediction.grids[-1], visible_share(prediction.parse)], dim=1)

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


def _places(mask_b1hw: Tensor, like: Tensor) -> Tensor:
    """Each pixel's place in the photo, in [-1, 1], and in the garment's box: from its top's middle, in box heights."""
    h, w = mask_b1hw.shape[-2:]
    top, height, _, centre = mask_box(mask_b1hw)
    photo = identity_grid(*like.shape[-2:]).to(like).permute(2, 0, 1).expand(like.shape[0], -1, -1, -1)
    px = (photo + 1) * like.new_tensor([w / 2, h / 2])[:, None, None]
    box = (px - torch.stack([centre, top], dim=1)[..., None, None]) / height[:, None, None, None]
    return torch.cat([photo, box], dim=1)


def _placed(sources_bk2: Tensor, like: Tensor) -> Tensor:
    """Sampling positions (b, 2, h, w) of a TPS at another tensor's size."""
    return tps_grid(sources_bk2, like.shape[-2], like.shape[-1]).permute(0, 3, 1, 2)
