"""Warp: the garment photo onto the body."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from tryon.errors import SampleError
from tryon.models.bundle import load_bundle, place
from tryon.models.device import autocast, pick_device
from tryon.models.gmm import Gmm, apply_grid
from tryon.models.tensors import (
    CONDITION_READS,
    condition,
    images_to_tensor,
    masks_to_tensor,
    tensor_to_alpha,
    tensor_to_images,
)
from tryon.models.tps import tps_grid
from tryon.sample import Row
from tryon.stages.base import Stage


class Warp(Stage):
    """Predicts the warp at the network's size and samples the garment once, at its own size."""

    name = "warp"
    reads = CONDITION_READS
    adds = ("warped_garment", "warped_mask")

    def __init__(self, bundle: str) -> None:
        """Loads the warp network of a bundle (URI).

        Raises:
            BundleError: no such bundle, or it has no warp network.
        """
        network, self._size = load_bundle(bundle).network("warp")
        self._device = pick_device()
        self._network = place(network, self._device)

    @torch.inference_mode()
    def run(self, batch: Mapping[str, list[Any]], num: int) -> Sequence[Row | SampleError]:
        inputs = {name: value.to(self._device) for name, value in condition(batch, self._size).items()}
        assert isinstance(self._network, Gmm)
        with autocast(self._device):
            sources = self._network(inputs)
        return [self._warp_one(batch, i, sources[i : i + 1].float()) for i in range(num)]

    def _warp_one(self, batch: Mapping[str, list[Any]], i: int, sources_1k2: torch.Tensor) -> Row:
        size = batch["agnostic"][i].shape[:2]
        garment = images_to_tensor([batch["garment"][i]], size).to(self._device)
        mask = masks_to_tensor([batch["garment_mask"][i]], size).to(self._device)
        warped, warped_mask, _ = apply_grid(garment, mask, tps_grid(sources_1k2, *size))
        return {"warped_garment": tensor_to_images(warped)[0], "warped_mask": tensor_to_alpha(warped_mask)[0]}
