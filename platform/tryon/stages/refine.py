"""Refine: the structural-correction module restores garment detail from a context image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from tryon.errors import SampleError
from tryon.models.device import autocast
from tryon.models.tensors import tensor_to_images
from tryon.sample import Row
from tryon.stages.network import NetworkStage
from tryon.stages.synthesize import grow


class Refine(NetworkStage):
    """Adds the correction found at the network's size to the image at its own size, inside the agnostic mask."""

    name = "refine"
    role = "refinement"
    reads = ("tryon", "warped_garment", "warped_mask", "agnostic_mask")
    adds = ("tryon",)

    @torch.inference_mode()
    def run(self, batch: Mapping[str, list[Any]], num: int) -> Sequence[Row | SampleError]:
        image = self._images(batch["tryon"])
        context = self._images(batch["warped_garment"])
        mask = self._masks(batch["warped_mask"], top=255.0)
        with autocast(self._device):
            correction = self._network(torch.cat([context * mask, image], dim=1)).float() - image
        rows: list[Row | SampleError] = []
        for i in range(num):
            size = batch["tryon"][i].shape[:2]
            full = self._images([batch["tryon"][i]], size)
            region = self._masks([batch["agnostic_mask"][i]], size)
            rows.append({"tryon": tensor_to_images(full + region * grow(correction[i : i + 1], size))[0]})
        return rows
