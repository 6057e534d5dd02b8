"""What a try-on has to beat: the grey agnostic person, and the garment pasted with one affine map."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from tryon.models.gmm import anchor_sources, apply_grid
from tryon.models.tensors import (
    categories_to_tensor,
    images_to_tensor,
    masks_to_tensor,
    poses_to_tensor,
    tensor_to_images,
)
from tryon.models.tom import compose
from tryon.models.tps import tps_grid
from tryon.sample import Batch

UInt8 = npt.NDArray[np.uint8]


def agnostic(batch: Batch, i: int) -> UInt8:
    """The person with everything that was to be generated left grey."""
    image: UInt8 = batch["agnostic"][i]
    return image


def affine_paste(batch: Batch, i: int) -> UInt8:
    """The garment laid on the torso by the similarity of `anchor_sources`, the rest left grey."""
    row: Mapping[str, Any] = {name: [batch[name][i]] for name in ("pose", "agnostic_mask")}
    size = batch["agnostic"][i].shape[:2]
    garment = images_to_tensor([batch["garment"][i]], size)
    mask = masks_to_tensor([batch["garment_mask"][i]], size)
    place = {"pose": poses_to_tensor(row, size), "category": categories_to_tensor([batch["category"][i]])}
    sources = anchor_sources({"garment_mask": mask, **place}, grid=5)
    warped, warped_mask, _ = apply_grid(garment, mask, tps_grid(sources, *size))
    condition = {
        "agnostic": images_to_tensor([batch["agnostic"][i]], size),
        "agnostic_mask": masks_to_tensor([batch["agnostic_mask"][i]], size),
    }
    image: UInt8 = tensor_to_images(compose(condition, warped, warped_mask, condition["agnostic"]))[0]
    return image


BASELINES: Mapping[str, Callable[[Batch, int], UInt8]] = {"agnostic": agnostic, "affine_paste": affine_paste}
