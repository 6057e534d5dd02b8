"""Where the worn garment shows in the person photo."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from tryon.errors import SampleError
from tryon.sample import Label, Row

UInt8 = npt.NDArray[np.uint8]
WORN: Mapping[str, tuple[Label, ...]] = {
    "upper": (Label.UPPER_CLOTHES,),
    "lower": (Label.SKIRT, Label.PANTS),
    "dress": (Label.DRESS, Label.UPPER_CLOTHES, Label.SKIRT),
}


def worn_mask(row: Row) -> UInt8:
    """1 where the worn garment shows and may be generated: by the simulator's truth, else by the parse."""
    seen = row.get("true_mask")
    if seen is None:
        seen = np.isin(row["parse"], WORN[row["category"]])
    return np.asarray((seen > 0) & (row["agnostic_mask"] > 0), dtype=np.uint8)


def worn_region(row: Row) -> UInt8:
    """`worn_mask`, of a row that has one.

    Raises:
        SampleError: the garment shows nowhere.
    """
    region = worn_mask(row)
    if not region.any():
        raise SampleError("no worn garment shows inside the agnostic mask", code="garment-unseen")
    return region
