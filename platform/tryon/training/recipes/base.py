"""What a recipe is: everything about one training that is not the loop. Pure PyTorch, no Ray."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from tryon.config import Config
from tryon.errors import BundleError
from tryon.models.bundle import Bundle, Role
from tryon.models.registry import build_network
from tryon.models.tensors import GARMENT_LABELS, images_to_tensor, labels_to_mask, masks_to_tensor

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class StepOutput:
    """What one step gives back.

    Attributes:
        loss: scalar to minimise.
        parts: named parts of it, detached, for the log.
    """

    loss: Tensor
    parts: Mapping[str, Tensor] = field(default_factory=dict)


class Recipe(ABC):
    """Fields, network, losses and figures of one training.

    Attributes:
        role: what the network does in a bundle.
        network_name: in the registry of networks.
        reads: fields each sample must have.
        optional: fields that are used where the data set has them.
        needs: roles the starting bundle must have; their networks are used frozen.
    """

    role: ClassVar[Role]
    network_name: ClassVar[str]
    reads: ClassVar[tuple[str, ...]]
    optional: ClassVar[tuple[str, ...]] = ()
    needs: ClassVar[tuple[Role, ...]] = ()
    defaults: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, network_config: Mapping[str, Any], size: tuple[int, int], bundle: Bundle | None) -> None:
        """Builds the network and takes the frozen ones from the bundle.

        Raises:
            BundleError: the bundle lacks a role in `needs`.
        """
        self.size = size
        self.network = build_network(self.network_name, network_config)
        self.network_config: Config = self.network.config  # type: ignore[assignment]
        self.frozen: dict[str, nn.Module] = {}
        for role in self.needs:
            if bundle is None:
                text = f"this recipe builds on a trained {role} network: give --bundle, or train it first"
                raise BundleError(text, code="bundle-missing", field="--bundle")
            self.frozen[role] = bundle.network(role)[0]

    @abstractmethod
    def prepare(self, batch: Mapping[str, Any]) -> Tensors:
        """Columns of a batch (lists of arrays at `size`) to CPU tensors, targets included."""

    @abstractmethod
    def step(self, network: nn.Module, tensors: Tensors) -> StepOutput:
        """Loss of one batch. `network` is `self.network`, perhaps wrapped (DDP)."""

    @abstractmethod
    def evaluate(self, network: nn.Module, tensors: Tensors) -> tuple[Tensors, Tensors]:
        """Predicted and true pictures, (b, 3, h, w) in [-1, 1], and per-sample figures (b,)."""


def worn_garment(batch: Mapping[str, Any], size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The garment on the person, cut out by the parse: the paired truth of a warp.

    Returns:
        Person image (b, 3, h, w) in [-1, 1] and the visible garment's mask (b, 1, h, w).
    """
    person = images_to_tensor(batch["person"], size)
    masks = [
        labels_to_mask([parse], GARMENT_LABELS[category], size)
        for parse, category in zip(batch["parse"], batch["category"], strict=True)
    ]
    return person, torch.cat(masks)


def optional_mask(batch: Mapping[str, Any], name: str, size: tuple[int, int]) -> Tensor | None:
    """A mask column as a tensor, or None where the data set has none."""
    column = batch.get(name)
    return None if column is None or column[0] is None else masks_to_tensor(column, size)


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each image, dB; images in [-1, 1]."""
    mse = ((a - b) / 2).square().flatten(1).mean(1).clamp_min(1e-10)
    return -10 * torch.log10(mse)
