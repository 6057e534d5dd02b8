"""Refine: the structural-correction module restores garment detail from a context image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from tryon.errors import SampleError
from tryon.models.bundle import load_bundle, place
from tryon.models.device import autocast, pick_device
from tryon.models.tensors import images_to_tensor, masks_to_tensor, tensor_to_images
from tryon.sample import Row
from tryon.stages.base import Stage
from tryon.stages.synthesize import grow


class Refine(Stage):
    """Adds the correction found at the network's size to the image at its own size, inside the agnostic mask."""

    name = "refine"
    reads = ("tryon", "warped_garment", "warped_mask", "agnostic_mask")
    adds = ("tryon",)

    def __init__(self, bundle: str) -> None:
        """Loads the refinement network of a bundle (URI).

        Raises:
            BundleError: no such bundle, or it has no refinement network.
        """
        network, self._size = load_bundle(bundle).network("refinement")
        self._device = pick_device()
        self._network = place(network, self._device)

    @torch.inference_mode()
    def run(self, batch: Mapping[str, list[Any]], num: int) -> Sequence[Row | SampleError]:
        image = images_to_tensor(batch["tryon"], self._size).to(self._device)
        context = images_to_tensor(batch["warped_garment"], self._size).to(self._device)
        mask = masks_to_tensor(batch["warped_mask"], self._size, top=255.0).to(self._device)
        with autocast(self._device):
            correction = self._network(torch.cat([context * mask, image], dim=1)).float() - image
        rows: list[Row | SampleError] = []
        for i in range(num):
            size = batch["tryon"][i].shape[:2]
            full = images_to_tensor([batch["tryon"][i]], size).to(self._device)
            region = masks_to_tensor([batch["agnostic_mask"][i]], size).to(self._device)
            rows.append({"tryon": tensor_to_images(full + region * grow(correction[i : i + 1], size))[0]})
        return rows
