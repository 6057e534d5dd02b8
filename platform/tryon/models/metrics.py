"""Metrics, a figure per sample: of images (torchmetrics with its defaults, images in [0, 1]), warps and parses."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tryon.models.vif import MIN_SIDE_PX, vif
from tryon.sample import NUM_LABELS

PAIRED = ("ssim", "ms_ssim", "psnr", "vif")
OF_REGION = ("ssim", "ms_ssim", "psnr")
WINDOW_PX = 11  # of SSIM; its Gaussian reaches 5 px to each side
MS_SSIM_MIN_SIDE = 176  # five scales of an 11 px window: the side over 16, rounded down, must reach 11


def paired_metrics(
    results: Sequence[npt.NDArray[np.uint8]], truths: Sequence[npt.NDArray[np.uint8]]
) -> dict[str, list[float | None]]:
    """SSIM, MS-SSIM, PSNR (dB) and VIF of each result against its truth; higher is better in all four.

    SSIM lies in [-1, 1], MS-SSIM in [0, 1], both 1 for equal images; PSNR is unbounded; VIF is 0 or more, 1 for equal
    images.

    Args:
        results: uint8 RGB (H, W, 3).
        truths: the same sizes.

    Returns:
        ``ssim``, ``ms_ssim``, ``psnr``, ``vif``: a figure for each sample, None where it cannot be computed: MS-SSIM
        under 176 px a side, VIF under 41 px or where the truth is of one colour.

    Raises:
        ValueError: a result and its truth differ in size.
    """
    rows = [_paired(result, truth) for result, truth in zip(results, truths, strict=True)]
    return {name: [row[name] for row in rows] for name in PAIRED}


def region_metrics(
    results: Sequence[npt.NDArray[np.uint8]],
    truths: Sequence[npt.NDArray[np.uint8]],
    regions: Sequence[npt.NDArray[np.uint8]],
) -> dict[str, list[float | None]]:
    """SSIM, MS-SSIM and PSNR (dB) of a part of each image.

    SSIM is the mean of the whole image's map over the region's pixels, PSNR that of their squared errors; MS-SSIM has
    no map at full size, so it is that of the region's box, with the truth outside the region.

    Args:
        results: uint8 RGB (H, W, 3).
        truths: the same sizes.
        regions: uint8 (H, W), not 0 in the region.

    Returns:
        ``ssim``, ``ms_ssim``, ``psnr``: None where the region is empty, MS-SSIM also where its box is under 176 px a
        side.

    Raises:
        ValueError: a result, its truth and its region differ in size.
    """
    rows = [_of_region(*one) for one in zip(results, truths, regions, strict=True)]
    return {name: [row[name] for row in rows] for name in OF_REGION}


def _of_region(
    result: npt.NDArray[np.uint8], truth: npt.NDArray[np.uint8], region: npt.NDArray[np.uint8]
) -> dict[str, float | None]:
    from torchmetrics.functional.image import (
        multiscale_structural_similarity_index_measure,
        structural_similarity_index_measure,
    )

    if result.shape != truth.shape or region.shape != truth.shape[:2]:
        shapes = f"result is {result.shape}, truth {truth.shape}, region {region.shape}"
        raise ValueError(f"{shapes}: they must have one size")
    inside = region > 0
    if not inside.any():
        return dict.fromkeys(OF_REGION)
    rows, columns = (np.flatnonzero(inside.any(axis=axis)) for axis in (1, 0))
    # As far as the window of 11 px reaches beyond the region, the map inside is that of the whole image.
    near = tuple(slice(max(0, int(line[0]) - WINDOW_PX), int(line[-1]) + 1 + WINDOW_PX) for line in (rows, columns))
    a, b = _unit(result[near]), _unit(truth[near])
    _, ssim_map = structural_similarity_index_measure(a, b, data_range=1.0, return_full_image=True)
    box = tuple(slice(int(line[0]), int(line[-1]) + 1) for line in (rows, columns))
    multiscale = None
    if min(truth[box].shape[:2]) >= MS_SSIM_MIN_SIDE:
        masked = np.where(inside[box][..., None], result[box], truth[box])
        multiscale = float(
            multiscale_structural_similarity_index_measure(_unit(masked), _unit(truth[box]), data_range=1.0)
        )
    error = np.square((result.astype(np.float32) - truth.astype(np.float32))[inside] / 255).mean()
    return {
        "ssim": float(ssim_map[0].mean(0)[torch.from_numpy(inside[near])].mean()),
        "ms_ssim": multiscale,
        "psnr": float(-10 * np.log10(max(float(error), 1e-10))),
    }


def _paired(result: npt.NDArray[np.uint8], truth: npt.NDArray[np.uint8]) -> dict[str, float | None]:
    # Here, because it brings matplotlib: a second and more of the start of every training process.
    from torchmetrics.functional.image import (
        multiscale_structural_similarity_index_measure,
        peak_signal_noise_ratio,
        structural_similarity_index_measure,
    )

    if result.shape != truth.shape:
        raise ValueError(f"result is {result.shape}, truth is {truth.shape}: they must have one size")
    a, b = _unit(result), _unit(truth)
    side = min(result.shape[:2])
    information = vif(result, truth) if side >= MIN_SIDE_PX else math.nan
    multiscale = None
    if side >= MS_SSIM_MIN_SIDE:
        multiscale = float(multiscale_structural_similarity_index_measure(a, b, data_range=1.0))
    return {
        "ssim": float(structural_similarity_index_measure(a, b, data_range=1.0)),
        "ms_ssim": multiscale,
        "psnr": float(peak_signal_noise_ratio(a, b, data_range=1.0)),
        "vif": None if math.isnan(information) else information,
    }


def flow_end_point_error(flow_bhw2: Tensor, true_flow_bhw2: Tensor, valid_bhw: Tensor) -> Tensor:
    """Mean Euclidean distance of a flow from the true one, over the pixels where that is known.

    Args:
        flow_bhw2: (b, h, w, 2), x then y, px.
        true_flow_bhw2: the same shape; anything, NaN too, where not valid.
        valid_bhw: bool (b, h, w).

    Returns:
        float32 (b,) px, >= 0, lower is better; NaN for a sample without a valid pixel, or a NaN flow in one.

    Raises:
        ValueError: shapes differ.
    """
    shape = tuple(flow_bhw2.shape)
    if shape != tuple(true_flow_bhw2.shape) or shape[:-1] != tuple(valid_bhw.shape) or shape[-1] != 2:
        text = f"flow is {shape}, truth {tuple(true_flow_bhw2.shape)}, valid {tuple(valid_bhw.shape)}"
        raise ValueError(f"{text}: (b, h, w, 2) twice and (b, h, w) are needed")
    valid = valid_bhw.bool()
    distance = (flow_bhw2.float() - true_flow_bhw2.float()).norm(dim=-1)
    return torch.where(valid, distance, 0.0).flatten(1).sum(1) / valid.flatten(1).sum(1)


def parse_miou(predicted: Tensor, truth: Tensor, classes: Sequence[int] = tuple(range(NUM_LABELS))) -> Tensor:
    """Intersection over union, averaged over the classes that prediction or truth shows.

    Args:
        predicted: integer (b, h, w).
        truth: integer (b, h, w).
        classes: that count.

    Returns:
        float32 (b,) in [0, 1], higher is better; 1 where neither shows any of the classes.

    Raises:
        ValueError: shapes differ.
    """
    if predicted.shape != truth.shape:
        raise ValueError(f"parse is {tuple(predicted.shape)}, truth {tuple(truth.shape)}: they must have one shape")
    wanted = torch.tensor(classes, device=truth.device)[:, None, None, None]
    a, b = (predicted == wanted).flatten(2), (truth == wanted).flatten(2)
    union = (a | b).sum(2)
    iou = (a & b).sum(2) / union.clamp_min(1)
    num_shown = (union > 0).sum(0)
    return torch.where(num_shown > 0, iou.sum(0) / num_shown.clamp_min(1), 1.0)


def _unit(image: npt.NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1).unsqueeze(0).float().div_(255.0)
