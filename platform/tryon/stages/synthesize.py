"""Synthesize: agnostic person and warped garment to the try-on image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F

from tryon.errors import SampleError
from tryon.models.device import autocast
from tryon.models.tensors import (
    CONDITION_READS,
    tensor_to_alpha,
    tensor_to_images,
)
from tryon.models.tom import compose
from tryon.sample import Row
from tryon.stages.network import NetworkStage


class Synthesize(NetworkStage):
    """Renders at the network's size, composes with the garment at the image's own size."""

    name = "synthesize"
    role = "synthesis"
    reads = (*CONDITION_READS, "warped_garment", "warped_mask")
    adds = ("tryon", "composition_mask")

    @torch.inference_mode()
    def run(self, batch: Mapping[str, list[Any]], num: int) -> Sequence[Row | SampleError]:
        inputs = self._condition(batch)
        warped = self._images(batch["warped_garment"])
        warped_mask = self._masks(batch["warped_mask"], top=255.0)
        with autocast(self._device):
            out = self._network(inputs, warped, warped_mask)
        # Where the warp covers, the share of it that shows; so that the full-size mask keeps the warp's own edge.
        share = out["composition_mask"] / warped_mask.clamp_min(1e-3)
        return [self._compose_one(batch, i, out["rendering"][i : i + 1], share[i : i + 1]) for i in range(num)]

    def _compose_one(self, batch: Mapping[str, list[Any]], i: int, rendering: torch.Tensor, share: torch.Tensor) -> Row:
        size = batch["agnostic"][i].shape[:2]
        warped = self._images([batch["warped_garment"][i]], size)
        warped_mask = self._masks([batch["warped_mask"][i]], size, top=255.0)
        full = {
            "agnostic": self._images([batch["agnostic"][i]], size),
            "agnostic_mask": self._masks([batch["agnostic_mask"][i]], size),
        }
        mask = (grow(share.float(), size).clamp(0, 1) * warped_mask).clamp(0, 1)
        tryon = compose(full, warped, mask, grow(rendering.float(), size))
        return {"tryon": tensor_to_images(tryon)[0], "composition_mask": tensor_to_alpha(mask)[0]}


def grow(image_bchw: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Bilinear resize of a tensor to (h, w)."""
    if image_bchw.shape[-2:] == torch.Size(size):
        return image_bchw
    return F.interpolate(image_bchw, size=size, mode="bilinear", align_corners=False)
