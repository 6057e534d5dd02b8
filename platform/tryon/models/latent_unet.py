"""The denoiser of `latent_diffusion`: garment encoder and U-Net.

Shape legend: b batch, z latent channels, h, w latent size, H, W image size in px, n tokens, d width of a token.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tryon.models.latent_layers import AdaptiveResidualBlock, TokenAttention, positions, time_waves
from tryon.models.layers import ConvNormAct, ResidualBlock, num_groups

GARMENT_PATCH = 4  # px; the garment photo is seen in blocks, as the person is


class GarmentEncoder(nn.Module):
    """Garment photo to tokens, one for each cell, and what to take for them where no garment is told.

    Args:
        width: channels of the first level.
        token_width: of a token; a multiple of 4.
        stride: px from one cell to the next, a power of two from 4 on.
    """

    def __init__(self, width: int, token_width: int, stride: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [ConvNormAct(4 * GARMENT_PATCH**2, width)]
        while stride > GARMENT_PATCH:
            layers.append(ConvNormAct(width, min(2 * width, token_width), stride=2))
            width, stride = min(2 * width, token_width), stride // 2
        self.cells = nn.Sequential(*layers, ResidualBlock(width, width), nn.Conv2d(width, token_width, 1))
        self.norm = nn.LayerNorm(token_width)
        self.unknown = nn.Parameter(torch.randn(token_width) * 0.1)

    def forward(self, garment: Tensor, mask: Tensor, keep: Tensor | None = None) -> Tensor:
        """Encodes garments.

        Args:
            garment: (b, 3, H, W) in [-1, 1].
            mask: (b, 1, H, W) in [0, 1]; outside it the photo is not looked at.
            keep: (b,), 1: the garment's tokens, 0: the same one everywhere; None keeps all.

        Returns:
            (b, n, d).
        """
        cells = self.cells(F.pixel_unshuffle(torch.cat([garment * mask, mask], dim=1), GARMENT_PATCH))
        tokens = self.norm(cells.flatten(2).transpose(1, 2))
        tokens = tokens + positions(cells.shape[-2], cells.shape[-1], tokens.shape[-1], tokens.device)
        if keep is not None:
            tokens = torch.lerp(self.unknown.to(tokens).expand_as(tokens), tokens, keep.to(tokens)[:, None, None])
        return cast("Tensor", tokens)


class LatentUNet(nn.Module):
    """U-Net over latents: adaptive residual blocks with squeeze and excitation, attention on garment tokens.

    Args:
        latent_channels: of the noisy latent and of the prediction.
        widths: channels of each level, the finest first; multiples of `num_heads` and of 4.
        num_blocks: residual blocks a level, on the way down and on the way up.
        attention_from: first level with attention, 0 the finest; the coarsest always has it.
        token_width: of a garment token.
        num_heads: of the attention.
    """

    def __init__(
        self,
        latent_channels: int,
        widths: Sequence[int],
        num_blocks: int,
        attention_from: int,
        token_width: int,
        num_heads: int,
    ) -> None:
        super().__init__()
        self.width = widths[0]
        e = 4 * self.width
        self.time = nn.Sequential(nn.Linear(self.width, e), nn.SiLU(), nn.Linear(e, e))
        self.garment = nn.Linear(token_width, e)
        self.stem = nn.Conv2d(latent_channels, self.width, 3, padding=1)

        def level(in_channels: int, channels: int, index: int) -> _Level:
            heads = num_heads if index >= attention_from or index == len(widths) - 1 else 0
            return _Level(in_channels, channels, num_blocks, e, token_width, heads)

        self.encoders = nn.ModuleList(level(c, c, i) for i, c in enumerate(widths))
        self.downs = nn.ModuleList(nn.Conv2d(a, b, 3, 2, 1) for a, b in pairwise(widths))
        steps = list(enumerate(pairwise(widths)))[::-1]
        self.middle = level(widths[-1], widths[-1], len(widths) - 1)
        self.decoders = nn.ModuleList(level(fine + coarse, fine, i) for i, (fine, coarse) in steps)
        self.head = nn.Sequential(
            nn.GroupNorm(num_groups(self.width), self.width),
            nn.SiLU(),
            nn.Conv2d(self.width, latent_channels, 3, padding=1),
        )

    def forward(self, noisy: Tensor, times: Tensor, guide: Tensor, tokens: Tensor) -> Tensor:
        """One denoising step.

        Args:
            noisy: (b, z, h, w).
            times: of the noise schedule (b,), integer or float.
            guide: what is known at each position (b, width of the first level, h, w).
            tokens: of the garment (b, n, d).

        Returns:
            The prediction (b, z, h, w).
        """
        embedding = self.time(time_waves(times, self.width).to(noisy.dtype)) + self.garment(tokens.mean(1))
        x = self.stem(noisy) + guide
        skips = []
        for i, encoder in enumerate(self.encoders):
            x = encoder(x, embedding, tokens)
            if i < len(self.downs):
                skips.append(x)
                x = self.downs[i](x)
        x = self.middle(x, embedding, tokens)
        for decoder in self.decoders:
            skip = skips.pop()
            x = F.interpolate(x, size=skip.shape[-2:], mode="nearest")
            x = decoder(torch.cat([skip, x], dim=1), embedding, tokens)
        out: Tensor = self.head(x)
        return out


class _Level(nn.Module):
    """Residual blocks of one size, attention after them where there are heads."""

    def __init__(
        self, in_channels: int, channels: int, num_blocks: int, embedding: int, token_width: int, num_heads: int
    ) -> None:
        super().__init__()
        inputs = [in_channels, *[channels] * (num_blocks - 1)]
        self.blocks = nn.ModuleList(AdaptiveResidualBlock(c, channels, embedding) for c in inputs)
        self.attention = TokenAttention(channels, token_width, num_heads) if num_heads else None

    def forward(self, x: Tensor, embedding: Tensor, tokens: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x, embedding)
        return x if self.attention is None else cast("Tensor", self.attention(x, tokens))
