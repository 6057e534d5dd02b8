"""Try-on module: renders skin and edges, and decides where the warped garment itself is shown.

After CP-VTON's TOM (Wang et al. 2018, arXiv 1807.07688): a U-Net over agnostic person and warped garment whose output
is a rendering and a composition mask. It works on blocks of pixels (space to depth): garment detail comes through the
composition, not through the network, so the network can be coarse, and 4x4 blocks cost a sixteenth at equal width.

Two additions. The coarse level of the decoder predicts the try-on's parse, which guides the finer level, the
composition mask and the last refinement: what lies where is settled before it is drawn. And boundary refinement blocks
(Peng et al. 2017, arXiv 1703.02719) end both levels of the decoder and the network itself, there on single pixels, so
that edges need not follow the blocks.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from tryon.config import Config
from tryon.models.checks import check_condition
from tryon.models.contract import SYNTHESIS_CONDITION, example_condition
from tryon.models.flow import GARMENT_CLASS, PARSE_CLASSES
from tryon.models.layers import BoundaryRefinement, ConvNormAct, ResidualBlock, SelfAttention2d
from tryon.models.network import Network
from tryon.models.tensors import LIMBS, REGIONS

TRUST = 2.0  # the composition mask starts at sigmoid(2) = 0.88: trust the warp, learn where arms and hair cover it
CHANNELS = {
    "agnostic": 3, "agnostic_mask": 1, "limbs": len(LIMBS), "regions": len(REGIONS), "warped": 3, "warped_mask": 1,
}  # fmt: skip
VECTORS = {"skin": (3,)}
REFINED = 8  # channels of the refinement at full size, where each costs as much time as 16 at the first level


class TomConfig(Config):
    """Size of the try-on module."""

    width: int = Field(48, ge=8, le=512, description="channels of the first level")
    patch: int = Field(4, ge=1, le=8, description="side of the pixel blocks the network works on")
    num_blocks: int = Field(1, ge=1, le=8, description="residual blocks a level on the way down; one on the way up")


LARGE = TomConfig(width=256, num_blocks=2)  # 512 features where the attention is


class Tom(Network):
    """Agnostic person + warped garment to try-on image and composition mask."""

    config_class = TomConfig
    role = "synthesis"
    checked_masks = ("agnostic_mask",)
    detail_channels = 3 + 1 + 3 + 1  # agnostic, its mask, warped garment, its mask: every pixel counts
    coarse_channels = len(LIMBS) + len(REGIONS) + 3  # limbs, regions, skin tone: a mean per block is enough

    def __init__(self, config: TomConfig) -> None:
        super().__init__()
        self.config = config
        w, classes = config.width, len(PARSE_CLASSES)
        fine, coarse, deep = w, 3 * w // 2, 2 * w
        self.stem = ConvNormAct(config.patch**2 * self.detail_channels + self.coarse_channels, w)
        self.encoders = nn.ModuleList(_level(c, c, config.num_blocks) for c in (fine, coarse))
        self.downs = nn.ModuleList(ConvNormAct(a, b, stride=2) for a, b in pairwise((fine, coarse, deep)))
        self.middle = nn.Sequential(_level(deep, deep, config.num_blocks), SelfAttention2d(deep))
        self.coarse = nn.Sequential(ResidualBlock(coarse + deep, coarse), BoundaryRefinement(coarse, coarse // 4))
        self.parse = nn.Conv2d(coarse, classes, 3, padding=1)
        self.fine = nn.Sequential(ResidualBlock(fine + coarse + classes, fine), BoundaryRefinement(fine, fine // 4))
        self.head = nn.Conv2d(fine, 4 * config.patch**2, 3, padding=1)
        self.refine = BoundaryRefinement(4, REFINED, guide=3)

    def forward(self, condition: dict[str, Tensor], warped: Tensor, warped_mask: Tensor) -> dict[str, Tensor]:
        """Synthesises the try-on.

        Args:
            condition: of `tryon.models.tensors.condition`; used: agnostic, agnostic_mask, limbs, regions, skin.
            warped: warped garment (b, 3, h, w) in [-1, 1]; h and w multiples of the patch.
            warped_mask: (b, 1, h, w) in [0, 1].

        Returns:
            rendering (b, 3, h, w) in [-1, 1], composition_mask (b, 1, h, w) in [0, 1], tryon (b, 3, h, w): both
            composed inside the agnostic mask, the agnostic person outside it; parse: logits of `PARSE_CLASSES`
            (b, 4, h / (2 patch), w / (2 patch)).

        Raises:
            ValueError: of `check_condition`.
        """
        given, patch = {**condition, "warped": warped, "warped_mask": warped_mask}, self.config.patch
        check_condition(given, CHANNELS, vectors=VECTORS, multiple=patch, least=4 * patch, masks=self.checked_masks)
        h, w = warped.shape[-2:]
        skin = condition["skin"][..., None, None].expand(-1, -1, h, w)
        region = condition["agnostic_mask"]
        detail = torch.cat([condition["agnostic"], region, warped * warped_mask, warped_mask], dim=1)
        rough = torch.cat([condition["limbs"], condition["regions"], skin], dim=1)
        out, parse = self._unet(torch.cat([F.pixel_unshuffle(detail, patch), F.avg_pool2d(rough, patch)], dim=1))
        odds = F.interpolate(garment_odds(parse), size=(h, w), mode="bilinear", align_corners=False)
        out = self.refine(F.pixel_shuffle(out, patch), torch.cat([region, warped_mask, odds.sigmoid()], dim=1)).float()
        rendering = torch.tanh(out[:, :3] + torch.atanh(skin.clamp(-0.95, 0.95)))
        mask = torch.sigmoid(out[:, 3:] + odds + TRUST) * warped_mask
        tryon = compose(condition, warped, mask, rendering)
        return {"rendering": rendering, "composition_mask": mask, "tryon": tryon, "parse": parse}

    def synthesize(self, condition: dict[str, Tensor], warped: Tensor, warped_mask: Tensor) -> dict[str, Tensor]:
        """See `tryon.models.contract.SynthesisNetwork`."""
        return self(condition, warped, warped_mask)  # type: ignore[no-any-return]

    def example_inputs(self, batch: int, height: int, width: int) -> dict[str, Tensor]:
        """See `tryon.models.contract.Runnable`."""
        return example_condition(SYNTHESIS_CONDITION, batch, height, width)

    def infer(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """`forward` on named tensors: those of the condition, warped and warped_mask."""
        return self(inputs, inputs["warped"], inputs["warped_mask"])  # type: ignore[no-any-return]

    def _unet(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Input blocks to output blocks, and the parse's logits at half their size, float32."""
        x = self.stem(x)
        skips = []
        for encoder, down in zip(self.encoders, self.downs, strict=True):
            x = encoder(x)
            skips.append(x)
            x = down(x)
        x = self.coarse(_join(skips[1], self.middle(x)))
        parse = self.parse(x).float()
        guide = F.interpolate(parse.softmax(1), size=skips[0].shape[-2:], mode="bilinear", align_corners=False)
        x = self.fine(torch.cat([_join(skips[0], x), guide.to(x.dtype)], dim=1))
        return self.head(x), parse


def compose(condition: dict[str, Tensor], warped: Tensor, mask: Tensor, rendering: Tensor) -> Tensor:
    """Warped garment where `mask`, rendering elsewhere; the agnostic person outside the agnostic mask."""
    inside = mask * warped + (1 - mask) * rendering
    region = condition["agnostic_mask"]
    return region * inside + (1 - region) * condition["agnostic"]


def garment_odds(parse_logits: Tensor) -> Tensor:
    """Log odds (b, 1, h, w) of the garment against all other classes; 0 where all classes are alike."""
    others = [i for i in range(len(PARSE_CLASSES)) if i != GARMENT_CLASS]
    against = parse_logits[:, others].logsumexp(1, keepdim=True) - math.log(len(others))
    return parse_logits[:, GARMENT_CLASS : GARMENT_CLASS + 1] - against


def _join(skip: Tensor, x: Tensor) -> Tensor:
    return torch.cat([skip, F.interpolate(x, size=skip.shape[-2:], mode="nearest")], dim=1)


def _level(in_channels: int, out_channels: int, num_blocks: int) -> nn.Sequential:
    blocks = [ResidualBlock(in_channels, out_channels)]
    blocks += [ResidualBlock(out_channels, out_channels) for _ in range(num_blocks - 1)]
    return nn.Sequential(*blocks)
