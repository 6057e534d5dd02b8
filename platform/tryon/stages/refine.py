"""Refine: the structural-correction module restores garment detail from a context image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch

from tryon.errors import BundleError, SampleError
from tryon.models.device import autocast
from tryon.models.tensors import tensor_to_images
from tryon.sample import Row
from tryon.stages.network import NetworkStage
from tryon.stages.synthesize import grow


class Refine(NetworkStage):
    """Adds the correction found at the network's size to the image at its own size, inside the agnostic mask."""

    name = "refine"
    role = "refinement"
    context: ClassVar[str] = "warped"  # what the network was trained to look at
    reads: ClassVar[tuple[str, ...]] = ("tryon", "agnostic_mask", "warped_garment", "warped_mask")
    adds = ("tryon",)

    def __init__(self, bundle: str) -> None:
        """Loads the network.

        Args:
            bundle: URI.

        Raises:
            BundleError: no such bundle, it lacks the network, or its network looks at another context.
        """
        super().__init__(bundle)
        trained = getattr(getattr(self._network, "config", None), "context", self.context)
        if trained != self.context:
            text = f"the refinement network of bundle {bundle} looks at the {trained} context: {self.name} feeds it"
            other = next(cls.name for cls in (Refine, RefineByGarment) if cls.context == trained)
            raise BundleError(f"{text} {self.context}; run the stage {other!r}", code="bundle-stage", field="bundle")

    @torch.inference_mode()
    def run_whole(self, batch: Mapping[str, list[Any]], num: int) -> Sequence[Row | SampleError]:
        image = self._images(batch["tryon"])
        with autocast(self._device):
            correction = self._network(torch.cat([self._context(batch), image], dim=1)).float() - image
        rows: list[Row | SampleError] = []
        for i in range(num):
            size = batch["tryon"][i].shape[:2]
            full = self._images([batch["tryon"][i]], size)
            region = self._masks([batch["agnostic_mask"][i]], size)
            rows.append({"tryon": tensor_to_images(full + region * grow(correction[i : i + 1], size))[0]})
        return rows

    def _context(self, batch: Mapping[str, list[Any]]) -> torch.Tensor:
        return self._images(batch["warped_garment"]) * self._masks(batch["warped_mask"], top=255.0)


class RefineByGarment(Refine):
    """The same for a network that looks at the garment photo itself."""

    name = "refine_by_garment"
    context = "garment"
    reads: ClassVar[tuple[str, ...]] = ("tryon", "agnostic_mask", "garment", "garment_mask")

    def _context(self, batch: Mapping[str, list[Any]]) -> torch.Tensor:
        return self._images(batch["garment"]) * self._masks(batch["garment_mask"])
