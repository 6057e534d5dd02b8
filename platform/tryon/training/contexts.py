"""The true warp with faults: what the structural-correction module may be trained on instead of a network's warp.

It then learns what to take from a context that is nearly right, whichever network made it, and no warp network limits
how well it can learn that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from tryon.data.triplets.faults import FAULTS, FaultConfig, make_fault, shift, shift_field
from tryon.models.tensors import GARMENT_LABELS, Size, images_to_tensor, masks_to_tensor
from tryon.sample import GREY, Row

UInt8 = npt.NDArray[np.uint8]

TRUE_FIELDS = ("true_garment", "true_mask")
FAULT_ODDS = 0.5  # of each fault; one context in sixteen has none
FAULTS_OF_A_WARP = FaultConfig(noise=(2, 15), blur=(0.001, 0.005), jpeg=(15, 60))  # milder than faults to be corrected


def faulty_contexts(batch: Mapping[str, Any], size: Size, rng: np.random.Generator) -> Tensor:
    """True warps with faults drawn anew at each call.

    Args:
        batch: columns; used: person, parse, category, and `TRUE_FIELDS` where the data set has them.
        size: (h, w).
        rng: decides the faults.

    Returns:
        float32 (b, 3, h, w) in [-1, 1], 0 where no garment lies.
    """
    columns = {name: batch.get(name) for name in ("person", "parse", "category", *TRUE_FIELDS)}
    rows = [
        {name: None if column is None else column[i] for name, column in columns.items()}
        for i in range(len(batch["person"]))
    ]
    made = [with_faults(*true_warp(row), rng) for row in rows]
    images, masks = zip(*made, strict=True)
    return images_to_tensor(images, size) * masks_to_tensor(masks, size, top=255.0)


def true_warp(row: Row) -> tuple[UInt8, UInt8]:
    """The visible garment on the body, uint8 (H, W, 3), and its mask, 0 and 255.

    The simulator's own, which is as unshaded as a warped garment photo; else what the parse cuts from the person.
    """
    if row["true_garment"] is not None and row["true_mask"] is not None:
        return row["true_garment"], np.asarray(row["true_mask"] * np.uint8(255), dtype=np.uint8)
    worn = np.isin(row["parse"], GARMENT_LABELS[row["category"]])
    return row["person"], np.where(worn, np.uint8(255), np.uint8(0))


def with_faults(image: UInt8, mask: UInt8, rng: np.random.Generator) -> tuple[UInt8, UInt8]:
    """A warped garment and its mask with some of noise, blur, compression and elastic shift; what lies outside is gone.

    Args:
        image: RGB (H, W, 3).
        mask: (H, W), 0..255.
        rng: decides which, and how strong.
    """
    # Outside the garment lies grey, 0 for the network, so that a blur brings in nothing else.
    out = np.where((mask > 127)[..., None], image, np.uint8(GREY))
    for name in FAULTS:
        if rng.random() >= FAULT_ODDS:
            continue
        if name == "elastic":
            height, width = mask.shape
            field = shift_field((height, width), rng.uniform(*FAULTS_OF_A_WARP.elastic) * height, rng)
            out, mask = shift(out, field), shift(mask, field)
        else:
            out = make_fault(name, out, FAULTS_OF_A_WARP, rng)
    return out, mask
