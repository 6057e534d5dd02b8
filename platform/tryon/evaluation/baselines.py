"""What a try-on has to beat: the grey agnostic person, and the garment pasted with one affine map."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tryon.models.gmm import apply_grid, mask_box, torso_frame
from tryon.models.tensors import (
    images_to_tensor,
    masks_to_tensor,
    poses_to_tensor,
    tensor_to_images,
)
from tryon.models.tom import compose
from tryon.models.tps import tps_grid
from tryon.sample import Batch

UInt8 = npt.NDArray[np.uint8]
# Fitted to the simulator's true flows: how far the box's top edge lies above the neck, torso lengths; a and b of the
# box's height, a + b * its height / width, torso lengths. What is left of the height's spread is 0.16, 0.24 and 0.39.
FIT: Mapping[str, tuple[float, float, float]] = {
    "upper": (0.166, 0.92, 0.42), "lower": (-0.686, 0.48, 0.64), "dress": (0.169, 1.52, 0.45),
}  # fmt: skip
MAX_ASPECT = 3.5


def agnostic(batch: Batch, i: int) -> UInt8:
    """The person with everything that was to be generated left grey."""
    image: UInt8 = batch["agnostic"][i]
    return image


def affine_paste(batch: Batch, i: int) -> UInt8:
    """The garment laid on the torso by a similarity, the rest left grey.

    Its box's top lies at the shoulders or the waist, its height is as many torso lengths as `FIT` says of the category
    and the box's proportions.
    """
    row: Mapping[str, Any] = {name: [batch[name][i]] for name in ("pose", "agnostic_mask")}
    size = batch["agnostic"][i].shape[:2]
    garment = images_to_tensor([batch["garment"][i]], size)
    mask = masks_to_tensor([batch["garment_mask"][i]], size)
    torso = torso_frame(poses_to_tensor(row, size), (size[0], size[1]))
    top, height, width, centre = mask_box(mask)
    rise, least, growth = FIT[batch["category"][i]]
    scale = height / ((least + growth * (height / width).clamp(max=MAX_ASPECT)) * torso.length)
    sources = torso.sources(5, top, centre, (scale, scale), torch.tensor([rise]))
    warped, warped_mask, _ = apply_grid(garment, mask, tps_grid(sources, *size))
    condition = {
        "agnostic": images_to_tensor([batch["agnostic"][i]], size),
        "agnostic_mask": masks_to_tensor([batch["agnostic_mask"][i]], size),
    }
    image: UInt8 = tensor_to_images(compose(condition, warped, warped_mask, condition["agnostic"]))[0]
    return image


BASELINES: Mapping[str, Callable[[Batch, int], UInt8]] = {"agnostic": agnostic, "affine_paste": affine_paste}
