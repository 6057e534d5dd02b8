"""Try-on module: renders skin and edges, and decides where the warped garment itself is shown.

After CP-VTON's TOM (Wang et al. 2018, arXiv 1807.07688): a U-Net over agnostic person and warped garment whose output
is a rendering and a composition mask. It works on blocks of pixels (space to depth): garment detail comes through the
composition, not through the network, so the network can be coarse, and 4x4 blocks cost a sixteenth at equal width.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from tryon.config import Config
from tryon.models.contract import SYNTHESIS_CONDITION, example_condition
from tryon.models.layers import ConvNormAct, ResidualBlock, SelfAttention2d
from tryon.models.tensors import LIMBS, REGIONS


class TomConfig(Config):
    """Size of the try-on module."""

    width: int = Field(48, ge=8, le=512, description="channels of the first level")
    patch: int = Field(4, ge=1, le=8, description="side of the pixel blocks the network works on")
    num_blocks: int = Field(1, ge=1, le=8, description="residual blocks a level")


LARGE = TomConfig(width=256, num_blocks=2)  # 512 features where the attention is; 32.1 M parameters


class Tom(nn.Module):
    """Agnostic person + warped garment to try-on image and composition mask."""

    config_class = TomConfig
    role = "synthesis"
    detail_channels = 3 + 1 + 3 + 1  # agnostic, its mask, warped garment, its mask: every pixel counts
    coarse_channels = len(LIMBS) + len(REGIONS) + 3  # limbs, regions, skin tone: a mean per block is enough

    def __init__(self, config: TomConfig) -> None:
        super().__init__()
        self.config = config
        w = config.width
        widths = (w, 3 * w // 2, 2 * w)
        self.stem = ConvNormAct(config.patch**2 * self.detail_channels + self.coarse_channels, w)
        self.encoders = nn.ModuleList(_level(c, c, config.num_blocks) for c in widths[:-1])
        self.downs = nn.ModuleList(ConvNormAct(a, b, stride=2) for a, b in pairwise(widths))
        self.middle = nn.Sequential(_level(2 * w, 2 * w, config.num_blocks), SelfAttention2d(2 * w))
        self.decoders = nn.ModuleList(
            _level(a + b, a, config.num_blocks) for a, b in zip(widths[-2::-1], widths[:0:-1], strict=True)
        )
        self.head = nn.Conv2d(w, 4 * config.patch**2, 3, padding=1)

    def forward(self, condition: dict[str, Tensor], warped: Tensor, warped_mask: Tensor) -> dict[str, Tensor]:
        """Synthesises the try-on.

        Args:
            condition: of `tryon.models.tensors.condition`; used: agnostic, agnostic_mask, limbs, regions, skin.
            warped: warped garment (b, 3, h, w) in [-1, 1]; h and w multiples of 16.
            warped_mask: (b, 1, h, w) in [0, 1].

        Returns:
            rendering (b, 3, h, w) in [-1, 1], composition_mask (b, 1, h, w) in [0, 1], tryon (b, 3, h, w): both
            composed inside the agnostic mask, the agnostic person outside it.
        """
        h, w = warped.shape[-2:]
        skin = condition["skin"][..., None, None].expand(-1, -1, h, w)
        detail = [condition["agnostic"], condition["agnostic_mask"], warped * warped_mask, warped_mask]
        coarse = torch.cat([condition["limbs"], condition["regions"], skin], dim=1)
        patch = self.config.patch
        blocks = F.pixel_unshuffle(torch.cat(detail, dim=1), patch)
        out = self._unet(torch.cat([blocks, F.avg_pool2d(coarse, patch)], dim=1))
        out = F.pixel_shuffle(out, patch).float()
        rendering = torch.tanh(out[:, :3] + torch.atanh(skin.clamp(-0.95, 0.95)))
        # Starts at sigmoid(2) = 0.88 inside the warped mask: trust the warp, learn where arms and hair cover it.
        mask = torch.sigmoid(out[:, 3:] + 2.0) * warped_mask
        return {"rendering": rendering, "composition_mask": mask, "tryon": compose(condition, warped, mask, rendering)}

    def example_inputs(self, batch: int, height: int, width: int) -> dict[str, Tensor]:
        """See `tryon.models.contract.Runnable`."""
        return example_condition(SYNTHESIS_CONDITION, batch, height, width)

    def infer(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """`forward` on named tensors: those of the condition, warped and warped_mask."""
        return self(inputs, inputs["warped"], inputs["warped_mask"])  # type: ignore[no-any-return]

    def _unet(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        skips = []
        for encoder, down in zip(self.encoders, self.downs, strict=True):
            x = encoder(x)
            skips.append(x)
            x = down(x)
        x = self.middle(x)
        for decoder in self.decoders:
            skip = skips.pop()
            x = decoder(torch.cat([skip, F.interpolate(x, size=skip.shape[-2:], mode="nearest")], dim=1))
        out: Tensor = self.head(x)
        return out


def compose(condition: dict[str, Tensor], warped: Tensor, mask: Tensor, rendering: Tensor) -> Tensor:
    """Warped garment where `mask`, rendering elsewhere; the agnostic person outside the agnostic mask."""
    inside = mask * warped + (1 - mask) * rendering
    region = condition["agnostic_mask"]
    return region * inside + (1 - region) * condition["agnostic"]


def _level(in_channels: int, out_channels: int, num_blocks: int) -> nn.Sequential:
    blocks = [ResidualBlock(in_channels, out_channels)]
    blocks += [ResidualBlock(out_channels, out_channels) for _ in range(num_blocks - 1)]
    return nn.Sequential(*blocks)
