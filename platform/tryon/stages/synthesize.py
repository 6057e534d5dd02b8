"""Synthesize: agnostic person and warped garment to the try-on image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F

from tryon.errors import SampleError
from tryon.models.bundle import load_bundle, place
from tryon.models.device import autocast, pick_device
from tryon.models.tensors import (
    CONDITION_READS,
    condition,
    images_to_tensor,
    masks_to_tensor,
    tensor_to_alpha,
    tensor_to_images,
)
from tryon.models.tom import compose
from tryon.sample import Row
from tryon.stages.base import Stage


class Synthesize(Stage):
    """Renders at the network's size, composes with the garment at the image's own size."""

    name = "synthesize"
    reads = (*CONDITION_READS, "warped_garment", "warped_mask")
    adds = ("tryon", "composition_mask")

    def __init__(self, bundle: str) -> None:
        """Loads the synthesis network of a bundle (URI).

        Raises:
            BundleError: no such bundle, or it has no synthesis network.
        """
        network, self._size = load_bundle(bundle).network("synthesis")
        self._device = pick_device()
        self._network = place(network, self._device)

    @torch.inference_mode()
    def run(self, batch: Mapping[str, list[Any]], num: int) -> Sequence[Row | SampleError]:
        inputs = {name: value.to(self._device) for name, value in condition(batch, self._size).items()}
        warped = images_to_tensor(batch["warped_garment"], self._size).to(self._device)
        warped_mask = masks_to_tensor(batch["warped_mask"], self._size, top=255.0).to(self._device)
        with autocast(self._device):
            out = self._network(inputs, warped, warped_mask)
        # Where the warp covers, the share of it that shows; so that the full-size mask keeps the warp's own edge.
        share = out["composition_mask"] / warped_mask.clamp_min(1e-3)
        return [self._compose_one(batch, i, out["rendering"][i : i + 1], share[i : i + 1]) for i in range(num)]

    def _compose_one(self, batch: Mapping[str, list[Any]], i: int, rendering: torch.Tensor, share: torch.Tensor) -> Row:
        size = batch["agnostic"][i].shape[:2]
        warped = images_to_tensor([batch["warped_garment"][i]], size).to(self._device)
        warped_mask = masks_to_tensor([batch["warped_mask"][i]], size, top=255.0).to(self._device)
        full = {
            "agnostic": images_to_tensor([batch["agnostic"][i]], size).to(self._device),
            "agnostic_mask": masks_to_tensor([batch["agnostic_mask"][i]], size).to(self._device),
        }
        mask = (grow(share.float(), size).clamp(0, 1) * warped_mask).clamp(0, 1)
        tryon = compose(full, warped, mask, grow(rendering.float(), size))
        return {"tryon": tensor_to_images(tryon)[0], "composition_mask": tensor_to_alpha(mask)[0]}


def grow(image_bchw: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Bilinear resize of a tensor to (h, w)."""
    if image_bchw.shape[-2:] == torch.Size(size):
        return image_bchw
    return F.interpolate(image_bchw, size=size, mode="bilinear", align_corners=False)
