"""Extract: the garment that a person wears to a garment photo, frontal and on white."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tryon.errors import SampleError
from tryon.models.device import autocast
from tryon.models.extract import Extract, Plan
from tryon.models.tensors import GARMENT_LABELS, extraction_condition, labels_to_mask, tensor_to_images, worn_masks
from tryon.sample import Row
from tryon.stages.category import WORN_SHARE, worn_category
from tryon.stages.network import NetworkStage

UInt8 = npt.NDArray[np.uint8]
MIN_GARMENT_SHARE = 0.002  # of the photo: less is no garment photo


class ExtractGarment(NetworkStage):
    """Plans at the network's size, samples the person photo once, at its own size.

    Reads ``person``, ``parse`` and ``pose``; looks at ``category``, and takes what is worn most plainly where there is
    none; adds ``garment`` and ``garment_mask``, at the person photo's size. A row whose person wears no such garment
    ends with the code ``"garment-not-worn"``.
    """

    name = "extract"
    role = "extraction"
    reads = ("person", "parse", "pose")
    optional = ("category",)
    adds = ("garment", "garment_mask")

    @torch.inference_mode()
    def run_whole(self, batch: Mapping[str, list[Any]], num: int) -> Sequence[Row | SampleError]:
        worn: dict[str, list[Any]] = {name: batch[name] for name in self.reads}
        worn["category"] = [_category(*row) for row in zip(batch["parse"], batch["category"], strict=True)]
        inputs = {name: value.to(self._device) for name, value in extraction_condition(worn, self._size).items()}
        with autocast(self._device):
            plan: Plan = self._network(inputs)
        return [
            self._compose_one({name: column[i : i + 1] for name, column in worn.items()}, plan.row(i))
            for i in range(num)
        ]

    def _faults(self, batch: Mapping[str, list[Any]]) -> dict[int, SampleError]:
        found: dict[int, SampleError] = {}
        for i, (parse, told) in enumerate(zip(batch["parse"], batch["category"], strict=True)):
            fault = self._fault(parse, _category(parse, told))
            if fault is not None:
                found[i] = fault
        return found

    def _fault(self, parse: UInt8, category: str | None) -> SampleError | None:
        """Why nothing can be extracted from a row."""
        if category is None:
            return _unworn("the parse shows no clothes on the person, so there is no garment to extract")
        if category not in GARMENT_LABELS:
            text = f"category {category!r} is not one of {', '.join(GARMENT_LABELS)}"
            return SampleError(text, code="category-unknown", field="category")
        share = float(np.isin(parse, GARMENT_LABELS[category]).mean())
        mask = labels_to_mask([parse], GARMENT_LABELS[category], self._size)
        if share < WORN_SHARE or float(mask.max()) <= 0.5:
            return _unworn(f"the person wears no {category} garment to extract: it takes {share:.1%} of the photo")
        if float(mask.min()) >= 0.5:
            return _unworn(f"the {category} garment takes all of the photo, so its outline is not known")
        return None

    def _compose_one(self, row: Mapping[str, list[Any]], plan: Plan) -> Row | SampleError:
        size = row["person"][0].shape[:2]
        made = Extract.compose(plan, self._images(row["person"], size), worn_masks(row, size).to(self._device))
        mask = (made.garment_mask[0, 0] > 0.5).to(torch.uint8).cpu().numpy()
        if mask.mean() < MIN_GARMENT_SHARE:
            text = "the network made no garment of what is worn: too little of it is seen"
            return SampleError(text, code="garment-not-extracted", field="person")
        return {"garment": tensor_to_images(made.garment)[0], "garment_mask": mask}


def _category(parse: UInt8, told: str | None) -> str | None:
    """The category that was told, else what is worn most plainly; None where no clothes are seen."""
    guess = worn_category(parse) if told is None else None
    return guess.category if guess is not None else told


def _unworn(text: str) -> SampleError:
    return SampleError(text, code="garment-not-worn", field="person")
