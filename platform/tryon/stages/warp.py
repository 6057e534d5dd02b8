"""Warp: the garment photo onto the body."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from tryon.errors import SampleError
from tryon.models.device import autocast
from tryon.models.gmm import Gmm, apply_grid
from tryon.models.tensors import (
    CONDITION_READS,
    tensor_to_alpha,
    tensor_to_images,
)
from tryon.models.tps import tps_grid
from tryon.sample import Row
from tryon.stages.network import NetworkStage


class Warp(NetworkStage):
    """Predicts the warp at the network's size and samples the garment once, at its own size."""

    name = "warp"
    role = "warp"
    reads = CONDITION_READS
    adds = ("warped_garment", "warped_mask")

    @torch.inference_mode()
    def run(self, batch: Mapping[str, list[Any]], num: int) -> Sequence[Row | SampleError]:
        inputs = self._condition(batch)
        assert isinstance(self._network, Gmm)
        with autocast(self._device):
            sources = self._network(inputs)
        return [self._warp_one(batch, i, sources[i : i + 1].float()) for i in range(num)]

    def _warp_one(self, batch: Mapping[str, list[Any]], i: int, sources_1k2: torch.Tensor) -> Row:
        size = batch["agnostic"][i].shape[:2]
        garment = self._images([batch["garment"][i]], size)
        mask = self._masks([batch["garment_mask"][i]], size)
        warped, warped_mask, _ = apply_grid(garment, mask, tps_grid(sources_1k2, *size))
        return {"warped_garment": tensor_to_images(warped)[0], "warped_mask": tensor_to_alpha(warped_mask)[0]}
