"""Warp: the garment photo onto the body."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, cast

import torch

from tryon.errors import SampleError
from tryon.models.device import autocast
from tryon.models.gmm import apply_grid
from tryon.models.tensors import (
    CONDITION_READS,
    tensor_to_alpha,
    tensor_to_images,
)
from tryon.sample import Row
from tryon.stages.network import NetworkStage


class WarpNetwork(Protocol):
    """What this stage asks of a network: `gmm`, `flow`, or one more."""

    def field(self, condition: dict[str, torch.Tensor]) -> torch.Tensor:
        """The predicted warp, whatever the network predicts, a row a sample."""

    def at(self, field: torch.Tensor, size: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Sampling grid (b, height, width, 2) and the share of the warped mask to keep (b, 1, height, width)."""


class Warp(NetworkStage):
    """Predicts the warp at the network's size and samples the garment once, at its own size."""

    name = "warp"
    role = "warp"
    reads = CONDITION_READS
    adds = ("warped_garment", "warped_mask")

    @torch.inference_mode()
    def run_whole(self, batch: Mapping[str, list[Any]], num: int) -> Sequence[Row | SampleError]:
        inputs = self._condition(batch)
        network = cast("WarpNetwork", self._network)
        with autocast(self._device):
            field = network.field(inputs).float()
        return [self._warp_one(network, batch, i, field[i : i + 1]) for i in range(num)]

    def _warp_one(self, network: WarpNetwork, batch: Mapping[str, list[Any]], i: int, field: torch.Tensor) -> Row:
        size = batch["agnostic"][i].shape[:2]
        garment = self._images([batch["garment"][i]], size)
        mask = self._masks([batch["garment_mask"][i]], size)
        grid, visible = network.at(field, size)
        warped, warped_mask, _ = apply_grid(garment, mask, grid)
        if visible is not None:
            warped_mask = warped_mask * visible
        return {"warped_garment": tensor_to_images(warped)[0], "warped_mask": tensor_to_alpha(warped_mask)[0]}
