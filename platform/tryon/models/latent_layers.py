"""Parts of the latent diffusion U-Net: adaptive residual blocks, attention on garment tokens, positions and times.

Shape legend: b batch, c channels, h, w size of a feature map, n tokens, d width of a token, e width of an embedding.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tryon.models.layers import num_groups

SMALL = 1e-2  # spread of weights that must start near 0, yet let gradients through


class SqueezeExcitation(nn.Module):
    """Weighs each channel by what all positions hold together (Hu et al. 2018, arXiv 1709.01507).

    Args:
        channels: of the input and the output.
        reduction: how many times narrower the hidden layer is.
    """

    def __init__(self, channels: int, reduction: int = 4) -> None:
        super().__init__()
        hidden = max(4, channels // reduction)
        self.gate = nn.Sequential(nn.Linear(channels, hidden), nn.SiLU(), nn.Linear(hidden, channels))

    def forward(self, x: Tensor) -> Tensor:
        """(b, c, h, w) to the same shape; 2 x sigmoid, so that the gate is open to begin with."""
        return x * (2 * torch.sigmoid(self.gate(x.mean(dim=(2, 3)))))[..., None, None]


class AdaptiveResidualBlock(nn.Module):
    """Two 3x3 convolutions, the second norm scaled and shifted by an embedding (adaptive group norm, arXiv 2105.05233).

    Args:
        in_channels: of the input.
        out_channels: of the output.
        embedding: width of the embedding.
    """

    def __init__(self, in_channels: int, out_channels: int, embedding: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(num_groups(in_channels), in_channels)
        self.first = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.adaptive = nn.GroupNorm(num_groups(out_channels), out_channels, affine=False)
        self.modulate = _near_zero(nn.Linear(embedding, 2 * out_channels))
        self.second = _near_zero(nn.Conv2d(out_channels, out_channels, 3, padding=1))
        self.squeeze = SqueezeExcitation(out_channels)
        self.shortcut = nn.Identity() if in_channels == out_channels else nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """(b, in, h, w) and (b, e) to (b, out, h, w)."""
        scale, shift = self.modulate(F.silu(embedding))[..., None, None].chunk(2, dim=1)
        hidden = self.first(F.silu(self.norm(x)))
        hidden = F.silu(self.adaptive(hidden) * (1 + scale) + shift)
        out: Tensor = self.shortcut(x) + self.squeeze(self.second(hidden))
        return out


class TokenAttention(nn.Module):
    """Every position looks at all others, then at the garment's tokens; a feed-forward layer after that.

    Args:
        channels: of the feature map.
        token_width: of a garment token.
        num_heads: of both attentions; divides `channels`.
    """

    def __init__(self, channels: int, token_width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(3))
        self.qkv = nn.Linear(channels, 3 * channels, bias=False)
        self.query = nn.Linear(channels, channels, bias=False)
        self.key_value = nn.Linear(token_width, 2 * channels, bias=False)
        self.mixed = nn.ModuleList(_near_zero(nn.Linear(channels, channels)) for _ in range(2))
        self.feed = nn.Sequential(
            nn.Linear(channels, 2 * channels), nn.GELU(), _near_zero(nn.Linear(2 * channels, channels))
        )

    def forward(self, x: Tensor, tokens: Tensor) -> Tensor:
        """(b, c, h, w) and (b, n, d) to (b, c, h, w)."""
        b, c, h, w = x.shape
        rows = x.flatten(2).transpose(1, 2)
        placed = self.norms[0](rows) + positions(h, w, c, x.device)
        rows = rows + self.mixed[0](self._attend(*self.qkv(placed).chunk(3, dim=-1)))
        placed = self.norms[1](rows) + positions(h, w, c, x.device)
        rows = rows + self.mixed[1](self._attend(self.query(placed), *self.key_value(tokens).chunk(2, dim=-1)))
        rows = rows + self.feed(self.norms[2](rows))
        out: Tensor = rows.transpose(1, 2).reshape(b, c, h, w)
        return out

    def _attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        q, k, v = (x.reshape(*x.shape[:2], self.num_heads, -1).transpose(1, 2) for x in (query, key, value))
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


def positions(height: int, width: int, channels: int, device: torch.device) -> Tensor:
    """Where each position of a map lies, whatever its size: waves over height and width, float32 (1, h * w, channels).

    Args:
        height: of the map.
        width: of the map.
        channels: a multiple of 4; a quarter each for sine and cosine of both axes, from half a wave up.
        device: to make it on.
    """
    frequencies = math.pi * 2 ** torch.linspace(0, 5, channels // 4, device=device)
    ys = (torch.arange(height, device=device) + 0.5)[:, None] / height * frequencies
    xs = (torch.arange(width, device=device) + 0.5)[:, None] / width * frequencies
    rows = torch.cat([ys.sin(), ys.cos()], dim=-1)[:, None].expand(-1, width, -1)
    columns = torch.cat([xs.sin(), xs.cos()], dim=-1)[None].expand(height, -1, -1)
    return torch.cat([rows, columns], dim=-1).reshape(1, height * width, channels)


def time_waves(times: Tensor, channels: int) -> Tensor:
    """Times (b,) of the noise schedule as waves, float32 (b, channels), as diffusers' networks see them."""
    from diffusers.models.embeddings import get_timestep_embedding

    waves: Tensor = get_timestep_embedding(times, channels, flip_sin_to_cos=True, downscale_freq_shift=0)
    return waves


def _near_zero(layer: nn.Conv2d | nn.Linear) -> nn.Conv2d | nn.Linear:
    """What is added to a shortcut is small to begin with."""
    nn.init.normal_(layer.weight, std=SMALL / math.sqrt(layer.weight[0].numel()))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
