"""SCHP, self-correction for human parsing (Li et al. 2020, arXiv 1910.09777): its network, the context-embedding
parser with an edge branch (CE2P), in plain PyTorch.

Parameter names, shapes and the function are those of the published ATR and LIP checkpoints, so those load strictly.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from tryon.config import Config
from tryon.models.resnet import ActivatedBatchNorm, DilatedResNet101, Features
from tryon.models.state_dict import load_strictly, read_state

POOL_SIZES = (1, 2, 3, 6)
CLASSES_KEY = "fushion.3.weight"  # spelt as in the published checkpoints


class SchpConfig(Config):
    """Size of the network."""

    num_classes: int = Field(18, ge=2, le=256, description="labels: 18 of ATR, 20 of LIP")


class PyramidPooling(nn.Module):
    """Context at four scales (PSPNet, Zhao et al. 2017): pooled, embedded and enlarged, in front of the features."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(size), *_embed(in_channels, channels)) for size in POOL_SIZES
        )
        total = in_channels + len(POOL_SIZES) * channels
        self.bottleneck = nn.Sequential(*_embed(total, channels, kernel=3))

    def forward(self, x: Tensor) -> Tensor:
        """(b, in_channels, h, w) to (b, channels, h, w)."""
        priors = [_upsample(stage(x), x) for stage in self.stages]
        out: Tensor = self.bottleneck(torch.cat([*priors, x], dim=1))
        return out


class EdgeBranch(nn.Module):
    """Edges between the labels from the first three layers; its features help the labels."""

    def __init__(self, channels: int = 256) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(*_embed(256, channels))
        self.conv2 = nn.Sequential(*_embed(512, channels))
        self.conv3 = nn.Sequential(*_embed(1024, channels))
        self.conv4 = nn.Conv2d(channels, 2, 3, padding=1)
        self.conv5 = nn.Conv2d(6, 2, 1)

    def forward(self, x: Features) -> tuple[Tensor, Tensor]:
        """Edge logits (b, 2, h/4, w/4) and edge features (b, 3 * channels, h/4, w/4)."""
        embedded = [self.conv1(x.layer1), self.conv2(x.layer2), self.conv3(x.layer3)]
        edges = torch.cat([_upsample(self.conv4(e), x.layer1) for e in embedded], dim=1)
        return self.conv5(edges), torch.cat([_upsample(e, x.layer1) for e in embedded], dim=1)


class Decoder(nn.Module):
    """Labels from the context and the first layer's detail."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(*_embed(512, 256))
        self.conv2 = nn.Sequential(*_embed(256, 48))
        self.conv3 = nn.Sequential(*_embed(304, 256), *_embed(256, 256))
        self.conv4 = nn.Conv2d(256, num_classes, 1)

    def forward(self, context: Tensor, layer1: Tensor) -> tuple[Tensor, Tensor]:
        """Parsing logits (b, num_classes, h/4, w/4) and the features (b, 256, h/4, w/4) behind them."""
        features = self.conv3(torch.cat([_upsample(self.conv1(context), layer1), self.conv2(layer1)], dim=1))
        return self.conv4(features), features


class Schp(DilatedResNet101):
    """Human parsing with an edge branch; the fused logits are the result.

    Attributes:
        config: its size.
    """

    config_class = SchpConfig

    def __init__(self, config: SchpConfig) -> None:
        super().__init__()
        self.config = config
        self.context_encoding = PyramidPooling(2048, 512)
        self.edge = EdgeBranch()
        self.decoder = Decoder(config.num_classes)
        self.fushion = nn.Sequential(*_embed(1024, 256), nn.Dropout2d(0.1), nn.Conv2d(256, config.num_classes, 1))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Parses photos.

        Args:
            x: (b, 3, h, w): channels BGR in [0, 1], less (0.406, 0.456, 0.485), over (0.225, 0.224, 0.229).

        Returns:
            ``fusion``, the result, and ``parsing``, what the decoder says without the edges: logits
            (b, num_classes, h/4, w/4); ``edge``: logits (b, 2, h/4, w/4), 1 on the edge between two labels.
        """
        layers = self.features(x)
        parsing, features = self.decoder(self.context_encoding(layers.layer4), layers.layer1)
        edge, edge_features = self.edge(layers)
        fusion = self.fushion(torch.cat([features, edge_features], dim=1))
        return {"fusion": fusion, "parsing": parsing, "edge": edge}


def load_schp(checkpoint: str | Mapping[str, Tensor]) -> Schp:
    """The network with the weights of a checkpoint, in eval mode, float32, on the CPU.

    Args:
        checkpoint: URI of a checkpoint as published (``.pth``, weights under ``state_dict``, names with or without
            ``module.``) or of a safetensors file; or the state dict itself. The number of classes is the weights' own.

    Raises:
        BundleError: not a checkpoint, or one of another network; the message names the first wrong key.
        StorageError: nothing there, or it cannot be read.
    """
    name = checkpoint if isinstance(checkpoint, str) else "the state dict"
    state = read_state(checkpoint)
    last = state.get(CLASSES_KEY)
    # Of another network's checkpoint it may be anything; `load_strictly` then says so.
    num_classes = len(last) if last is not None and last.ndim == 4 and 2 <= len(last) <= 256 else 18
    with torch.device("meta"):
        network = Schp(SchpConfig(num_classes=num_classes))
    load_strictly(network, state, name, "SCHP")
    return network.eval()


def _embed(in_channels: int, channels: int, kernel: int = 1) -> tuple[nn.Conv2d, ActivatedBatchNorm]:
    convolution = nn.Conv2d(in_channels, channels, kernel, padding=kernel // 2, bias=False)
    return convolution, ActivatedBatchNorm(channels)


def _upsample(x: Tensor, like: Tensor) -> Tensor:
    size = like.shape[-2:]
    return x if x.shape[-2:] == size else F.interpolate(x, size=size, mode="bilinear", align_corners=True)
