"""Fields to tensors: what networks are conditioned on, the same in training and in the stages.

Shape legend: b batch, h, w network size in px, k keypoints. Images are float32 in [-1, 1], masks in [0, 1].
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from tryon.images import resize
from tryon.sample import CATEGORIES, Joint, Label

Size = tuple[int, int]
# Limbs whose place decides where skin and sleeves go; each is one channel of the limb map.
LIMBS: tuple[tuple[Joint, Joint], ...] = (
    (Joint.RIGHT_SHOULDER, Joint.RIGHT_ELBOW),
    (Joint.RIGHT_ELBOW, Joint.RIGHT_WRIST),
    (Joint.LEFT_SHOULDER, Joint.LEFT_ELBOW),
    (Joint.LEFT_ELBOW, Joint.LEFT_WRIST),
    (Joint.RIGHT_SHOULDER, Joint.LEFT_SHOULDER),
    (Joint.NECK, Joint.MID_HIP),
    (Joint.RIGHT_HIP, Joint.RIGHT_KNEE),
    (Joint.RIGHT_KNEE, Joint.RIGHT_ANKLE),
    (Joint.LEFT_HIP, Joint.LEFT_KNEE),
    (Joint.LEFT_KNEE, Joint.LEFT_ANKLE),
)
NUM_ARM_LIMBS = 4  # the first of them
# Parse regions that stay visible beside the agnostic mask; each is one channel of the region map.
REGIONS: tuple[tuple[Label, ...], ...] = (
    (Label.FACE, Label.HAIR, Label.HAT, Label.SUNGLASSES),
    (Label.SKIRT, Label.PANTS, Label.BELT, Label.LEFT_LEG, Label.RIGHT_LEG),
    (Label.BACKGROUND,),
)
GARMENT_LABELS: Mapping[str, tuple[Label, ...]] = {
    "upper": (Label.UPPER_CLOTHES,),
    "lower": (Label.SKIRT, Label.PANTS),
    "dress": (Label.DRESS, Label.UPPER_CLOTHES, Label.SKIRT),
}
LIMB_STRIDE = 4  # limbs are wide and smooth: drawn at a quarter of the size, 16 x cheaper, and enlarged
NEUTRAL_SKIN = (0.55, 0.25, 0.10)  # in [-1, 1]; used only where no face is visible
CONDITION_READS = ("garment", "garment_mask", "agnostic", "agnostic_mask", "parse", "pose", "category")
EXTRACTION_READS = ("person", "parse", "pose", "category")


def images_to_tensor(images: Sequence[npt.NDArray[np.uint8]], size: Size) -> Tensor:
    """RGB uint8 (H, W, 3) images of any size to float32 (b, 3, h, w) in [-1, 1]."""
    stacked = np.stack([resize(image, *size) for image in images])
    return torch.from_numpy(stacked).permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)


def masks_to_tensor(masks: Sequence[npt.NDArray[Any]], size: Size, top: float = 1.0) -> Tensor:
    """Masks (H, W), uint8 or float32, with values 0..top to float32 (b, 1, h, w) in [0, 1]."""
    stacked = np.stack([resize(mask.astype(np.float32, copy=False), *size) for mask in masks])
    return torch.from_numpy(stacked).unsqueeze(1).div_(top)


def tensor_to_images(images_bchw: Tensor) -> npt.NDArray[np.uint8]:
    """Float (b, 3, h, w) in [-1, 1] to uint8 (b, h, w, 3), rounded."""
    scaled = images_bchw.detach().float().clamp(-1, 1).add(1).mul(127.5).round()
    return scaled.to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu().numpy()


def tensor_to_alpha(masks_b1hw: Tensor) -> npt.NDArray[np.uint8]:
    """Float (b, 1, h, w) in [0, 1] to uint8 (b, h, w) in 0..255, rounded."""
    return masks_b1hw.detach().float().clamp(0, 1).mul(255).round().to(torch.uint8)[:, 0].cpu().numpy()


def labels_to_mask(parses: Sequence[npt.NDArray[np.uint8]], labels: Sequence[Label], size: Size) -> Tensor:
    """float32 (b, 1, h, w), 1 where the parse has one of the labels."""
    table = np.zeros(256, dtype=np.float32)
    table[list(labels)] = 1
    return masks_to_tensor([np.asarray(cv2.LUT(parse, table)) for parse in parses], size)


def poses_to_tensor(batch: Mapping[str, Any], size: Size, of: str = "agnostic_mask") -> Tensor:
    """Keypoints scaled from the images' size, which a field of theirs has, to the network's: float32 (b, 25, 3)."""
    rows = []
    for pose, image in zip(batch["pose"], batch[of], strict=True):
        scale = np.array([size[1] / image.shape[1], size[0] / image.shape[0], 1.0], dtype=np.float32)
        rows.append(np.asarray(pose, dtype=np.float32) * scale)
    return torch.from_numpy(np.stack(rows))


def limb_frames(pose_bk3: Tensor, size: Size, stride: int) -> Tensor:
    """Each pixel's place in each limb's own frame: how far along it, and how far to which side.

    Where a sleeve goes is nearly linear in these, however the arm is bent.

    Args:
        pose_bk3: keypoints px at `size` with confidence.
        size: (h, w).
        stride: px of `size` to a pixel of the result.

    Returns:
        float32 (b, 20, h / stride, w / stride): along (0 at the limb's first joint, 1 at its second) and across (in
        eighths of the height, positive to the right of its direction) of each of `LIMBS`, in [-2, 2]; 0 where unseen.
    """
    along, across, length, seen = _limb_coordinates(pose_bk3, (size[0] // stride, size[1] // stride), stride)
    places = torch.cat([along / length.clamp_min(0.02 * size[0]), across / (0.125 * size[0])], dim=1)
    return places.clamp(-2, 2) * seen.repeat(1, 2)[..., None, None]


def _limb_coordinates(pose_bk3: Tensor, shape: Size, stride: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Px along and across each limb (b, k, *shape) at every stride-th pixel; lengths px (b, k, 1, 1); seen (b, k)."""
    ys = (torch.arange(shape[0], device=pose_bk3.device).float().view(1, 1, -1, 1) + 0.5) * stride
    xs = (torch.arange(shape[1], device=pose_bk3.device).float().view(1, 1, 1, -1) + 0.5) * stride
    start = pose_bk3[:, [a for a, _ in LIMBS]]
    end = pose_bk3[:, [b for _, b in LIMBS]]
    x, y = start[..., 0, None, None], start[..., 1, None, None]
    dx, dy = end[..., 0, None, None] - x, end[..., 1, None, None] - y
    length = (dx * dx + dy * dy).clamp_min(1e-6).sqrt()
    along = ((xs - x) * dx + (ys - y) * dy) / length
    across = ((ys - y) * dx - (xs - x) * dy) / length
    return along, across, length, (start[..., 2] > 0) & (end[..., 2] > 0)


def categories_to_tensor(categories: Sequence[str]) -> Tensor:
    """One-hot float32 (b, 3), in the order of `CATEGORIES`.

    Raises:
        ValueError: no such category.
    """
    unknown = [category for category in categories if category not in CATEGORIES]
    if unknown:
        raise ValueError(f"category {unknown[0]!r} is not one of {', '.join(CATEGORIES)}")
    return torch.eye(len(CATEGORIES))[[CATEGORIES.index(category) for category in categories]]


def limb_map(pose_bk3: Tensor, size: Size) -> Tensor:
    """Soft limbs: exp(-(distance / sigma)^2) to each limb's segment.

    Args:
        pose_bk3: keypoints px at `size` with confidence; a limb with an unseen end (confidence 0) is left out.
        size: (h, w).

    Returns:
        float32 (b, 10, h, w) in [0, 1]; channels as in `LIMBS`.
    """
    along, across, length, seen = _limb_coordinates(
        pose_bk3, (size[0] // LIMB_STRIDE, size[1] // LIMB_STRIDE), LIMB_STRIDE
    )
    distance2 = across**2 + (along - along.clamp(min=0).minimum(length)) ** 2
    sigma = 0.035 * size[0]  # about half an arm's width of a half-length figure
    # Cut off at e^-12: further away exp gives denormals, and arithmetic on those is 100 x slower on CPUs.
    near = (distance2 < 12 * sigma**2) & seen[..., None, None]
    coarse = torch.where(near, torch.exp(-distance2 / sigma**2), 0.0)
    return F.interpolate(coarse.contiguous(), size=size, mode="bilinear", align_corners=False)


def skin_tone(agnostics: Sequence[npt.NDArray[np.uint8]], parses: Sequence[npt.NDArray[np.uint8]]) -> Tensor:
    """Median face colour of each person as float32 (b, 3) in [-1, 1]; neutral where no face shows."""
    tones = []
    for image, parse in zip(agnostics, parses, strict=True):
        face = image[parse == Label.FACE]
        face = face[(face != 128).any(axis=-1)]
        tone = np.median(face, axis=0) / 127.5 - 1.0 if len(face) >= 16 else np.array(NEUTRAL_SKIN)
        tones.append(tone.astype(np.float32))
    return torch.from_numpy(np.stack(tones))


def worn_masks(batch: Mapping[str, Any], size: Size) -> Tensor:
    """Where each person's parse shows a garment of the row's category: float32 (b, 1, h, w)."""
    rows = zip(batch["parse"], batch["category"], strict=True)
    return torch.cat([labels_to_mask([parse], GARMENT_LABELS[category], size) for parse, category in rows])


def extraction_condition(batch: Mapping[str, Any], size: Size) -> dict[str, Tensor]:
    """Everything extraction is conditioned on, from the fields in `EXTRACTION_READS`.

    Args:
        batch: columns as lists; images of one sample share a size, samples may differ.
        size: network size (h, w).

    Returns:
        person (b, 3, h, w), worn_mask (b, 1, h, w), pose (b, 25, 3) px, category (b, 3), one-hot.
    """
    return {
        "person": images_to_tensor(batch["person"], size),
        "worn_mask": worn_masks(batch, size),
        "pose": poses_to_tensor(batch, size, of="person"),
        "category": categories_to_tensor(batch["category"]),
    }


def condition(batch: Mapping[str, Any], size: Size) -> dict[str, Tensor]:
    """Everything warp, synthesis and refinement are conditioned on, from the fields in `CONDITION_READS`.

    Args:
        batch: columns as lists; images of one sample share a size, samples may differ.
        size: network size (h, w).

    Returns:
        garment (b, 3, h, w), garment_mask, agnostic_mask (b, 1, h, w), agnostic (b, 3, h, w),
        limbs (b, 10, h, w), regions (b, 3, h, w), skin (b, 3), pose (b, 25, 3), category (b, 3), one-hot.
    """
    pose = poses_to_tensor(batch, size)
    agnostic_mask = masks_to_tensor(batch["agnostic_mask"], size)
    regions = torch.cat([labels_to_mask(batch["parse"], labels, size) for labels in REGIONS], dim=1)
    return {
        "garment": images_to_tensor(batch["garment"], size),
        "garment_mask": masks_to_tensor(batch["garment_mask"], size),
        "agnostic": images_to_tensor(batch["agnostic"], size),
        "agnostic_mask": agnostic_mask,
        "limbs": limb_map(pose, size),
        "regions": regions * (1 - agnostic_mask),  # what lies under the mask must not leak the old garment
        "skin": skin_tone(batch["agnostic"], batch["parse"]),
        "pose": pose,
        "category": categories_to_tensor(batch["category"]),
    }
