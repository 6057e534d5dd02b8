"""Refine: the structural-correction module restores garment detail from a context image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch

from tryon.config import Backend
from tryon.errors import BundleError, SampleError
from tryon.sample import Row
from tryon.stages._region import Region, paint
from tryon.stages.network import NetworkStage

UInt8 = npt.NDArray[np.uint8]


class Refine(NetworkStage):
    """Adds the correction found at the network's size to the image at its own size, inside the agnostic mask."""

    name = "refine"
    role = "refinement"
    context: ClassVar[str] = "warped"  # what the network was trained to look at
    reads: ClassVar[tuple[str, ...]] = ("tryon", "agnostic_mask", "warped_garment", "warped_mask")
    adds = ("tryon",)

    def __init__(self, bundle: str, *, backend: Backend = "auto") -> None:
        """Loads the network.

        Args:
            bundle: URI.
            backend: of `NetworkStage`.

        Raises:
            BundleError: no such bundle, it lacks the network, or its network looks at another context.
        """
        super().__init__(bundle, backend=backend)
        trained = getattr(getattr(self._network, "config", None), "context", self.context)
        if trained != self.context:
            text = f"the refinement network of bundle {bundle} looks at the {trained} context: {self.name} feeds it"
            other = next(cls.name for cls in (Refine, RefineByGarment) if cls.context == trained)
            raise BundleError(f"{text} {self.context}; run the stage {other!r}", code="bundle-stage", field="bundle")

    @torch.inference_mode()
    def run_whole(self, batch: Mapping[str, list[Any]], num: int) -> Sequence[Row | SampleError]:
        image = self._images(batch["tryon"])
        restored = self.runner({"image": torch.cat([self._context(batch), image], dim=1)})["restored"]
        correction = restored.float() - image
        corrections = correction.mul(127.5).permute(0, 2, 3, 1).contiguous().cpu().numpy()
        return [self._correct_one(batch["tryon"][i], batch["agnostic_mask"][i], corrections[i]) for i in range(num)]

    @staticmethod
    def _correct_one(tryon: UInt8, mask: UInt8, correction: npt.NDArray[np.float32]) -> Row:
        """Adds a correction of any size to an image, in the agnostic mask's box."""
        tryon, region = tryon.copy(), Region.around(mask)
        if not region.is_empty:
            paint(tryon, region, mask, region.enlarged(correction, (mask.shape[0], mask.shape[1])) + region.of(tryon))
        return {"tryon": tryon}

    def _context(self, batch: Mapping[str, list[Any]]) -> torch.Tensor:
        return self._images(batch["warped_garment"]) * self._masks(batch["warped_mask"], top=255.0)


class RefineByGarment(Refine):
    """The same for a network that looks at the garment photo itself."""

    name = "refine_by_garment"
    context = "garment"
    reads: ClassVar[tuple[str, ...]] = ("tryon", "agnostic_mask", "garment", "garment_mask")

    def _context(self, batch: Mapping[str, list[Any]]) -> torch.Tensor:
        return self._images(batch["garment"]) * self._masks(batch["garment_mask"])
