"""A ResNet as the way down of a U-Net: `transformers`' backbone with basic blocks (He et al. 2015, arXiv 1512.03385).

Random by default; ImageNet's weights of ResNet-18 or ResNet-34, as published for transformers, can be laid into it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import ResNetBackbone, ResNetConfig

from tryon.errors import BundleError
from tryon.models.checkpoint_layout import TRANSFORMERS
from tryon.models.state_dict import load_strictly, read_state
from tryon.models.vgg import imagenet_norm
from tryon.models.weights import digest, local_folder

Depth = Literal[18, 34]
BLOCKS: Mapping[int, tuple[int, ...]] = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}
PUBLISHED_WIDTH = 64
# A backbone is fed by its owner: it needs no image processor.
BACKBONE = replace(TRANSFORMERS, what="transformers ResNet", needed=("config.json",))
PREFIX = "resnet."  # of a classifier's checkpoint, whose head is left out
HEAD = "classifier."
COUNTER = "num_batches_tracked"  # of batch norms; old checkpoints lack it, and nothing depends on it here
STEM = "embedder.embedder.convolution.weight"


class ResNetEncoder(nn.Module):
    """Features at five sizes, from half the input's to 1/32.

    Args:
        in_channels: of the input; the first three are RGB in [-1, 1].
        depth: 18 or 34.
        width: channels of the first stage, doubled at each that follows; 64 as published.

    Attributes:
        widths: channels of the features, the finest first.
    """

    def __init__(self, in_channels: int, depth: Depth, width: int) -> None:
        super().__init__()
        stages = [width * 2**i for i in range(4)]
        self.widths = (width, *stages)
        config = ResNetConfig(
            num_channels=in_channels, embedding_size=width, hidden_sizes=stages, depths=list(BLOCKS[depth]),
            layer_type="basic",
        )  # fmt: skip
        self.backbone = ResNetBackbone(config)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(b, in_channels, h, w) to (b, widths[i], h / 2^(i + 1), w / 2^(i + 1)), rounded up, the finest first."""
        x = torch.cat([imagenet_norm(x[:, :3]), x[:, 3:]], dim=1)
        stem = self.backbone.embedder
        features = [stem.embedder(x)]
        x = stem.pooler(features[0])
        for stage in self.backbone.encoder.stages:
            x = stage(x)
            features.append(x)
        return features

    def load_published(self, weights: str, sha256: str | None = None) -> None:
        """Lays published weights into the encoder; what it sees beside RGB begins with weights of 0.

        Args:
            weights: folder, ``s3://`` prefix or hub id of a transformers ResNet with this encoder's blocks and width,
                a bare backbone or a classifier; no preprocessor_config.json is needed.
            sha256: of its files (`encoder_digest`); None takes whatever is there.

        Raises:
            StorageError: nothing there.
            BundleError: it cannot be had, is damaged, has changed, or is another network; the message says in what it
                differs.
        """
        folder = local_folder(weights, layout=BACKBONE)
        if sha256 is not None and digest(folder, BACKBONE) != sha256:
            text = f"{weights} is not the checkpoint that this run began with (sha256 differs)"
            raise BundleError(text, code="weights-changed", field="encoder")
        self._check(_read_config(folder, weights), weights)
        state = {key.removeprefix(PREFIX): value for key, value in read_state(_weights_file(folder, weights)).items()}
        state = {key: value for key, value in state.items() if not key.startswith(HEAD)}
        wanted = self.backbone.state_dict()
        state = {**{key: value for key, value in wanted.items() if key.endswith(COUNTER)}, **state}
        if STEM in state and state[STEM].shape[1] == 3:
            more = torch.zeros_like(wanted[STEM][:, 3:])
            state[STEM] = torch.cat([state[STEM], more], dim=1)
        load_strictly(self.backbone, state, weights, f"a ResNet with blocks {tuple(self.backbone.config.depths)}")

    def _check(self, found: Mapping[str, Any], weights: str) -> None:
        """The state dict would tell too, but not in these words."""
        own = self.backbone.config
        for key in ("layer_type", "depths", "hidden_sizes"):
            if found.get(key) != getattr(own, key):
                text = f"{weights} has {key} = {found.get(key)}, the encoder has {getattr(own, key)}"
                hint = "network.depth and network.width choose the encoder's"
                raise BundleError(f"{text}; {hint}", code="weights-mismatch", field="weights")


def encoder_digest(weights: str) -> str:
    """Sha256 of what decides an encoder's weights.

    Raises:
        StorageError: nothing there.
        BundleError: it cannot be had, or is no folder of a ResNet.
    """
    return digest(local_folder(weights, layout=BACKBONE), BACKBONE)


def _read_config(folder: Path, weights: str) -> dict[str, Any]:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise BundleError(f"{weights}: config.json is no JSON", code="weights-corrupt", field="weights") from error
    if not isinstance(config, dict) or config.get("model_type") != "resnet":
        kind = config.get("model_type") if isinstance(config, dict) else None
        text = f"{weights} is no transformers ResNet: its config.json says model_type = {kind!r}"
        raise BundleError(text, code="weights-mismatch", field="weights")
    return config


def _weights_file(folder: Path, weights: str) -> Path:
    names = ("model.safetensors", "pytorch_model.bin")
    found = next((folder / name for name in names if (folder / name).is_file()), None)
    if found is None:
        text = f"{weights} has no weights: it holds neither {' nor '.join(names)}"
        raise BundleError(text, code="weights-incomplete", field="weights")
    return found
