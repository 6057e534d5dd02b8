"""Metrics, a figure per sample: of images (torchmetrics with its defaults, images in [0, 1]), warps and parses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torchmetrics.functional.image import (
    multiscale_structural_similarity_index_measure,
    peak_signal_noise_ratio,
    structural_similarity_index_measure,
    visual_information_fidelity,
)

from tryon.sample import NUM_LABELS

MS_SSIM_MIN_SIDE = 176  # five scales of an 11 px window: the side over 16, rounded down, must reach 11
VIF_MIN_SIDE = 41  # four scales, the first with a 17 px window


def paired_metrics(
    results: Sequence[npt.NDArray[np.uint8]], truths: Sequence[npt.NDArray[np.uint8]]
) -> Mapping[str, list[float]]:
    """SSIM, MS-SSIM and PSNR (dB) of each result against its truth; higher is better in all three.

    SSIM lies in [-1, 1], MS-SSIM in [0, 1], both 1 for equal images; PSNR is unbounded.

    Args:
        results: uint8 RGB (H, W, 3).
        truths: the same sizes.

    Returns:
        ``ssim``, ``psnr`` and, from 176 px on, ``ms_ssim``: one figure a sample.

    Raises:
        ValueError: a result and its truth differ in size.
    """
    out: dict[str, list[float]] = {}
    for result, truth in zip(results, truths, strict=True):
        if result.shape != truth.shape:
            raise ValueError(f"result is {result.shape}, truth is {truth.shape}: they must have one size")
        a, b = _unit(result), _unit(truth)
        figures = {
            "ssim": structural_similarity_index_measure(a, b, data_range=1.0),
            "psnr": peak_signal_noise_ratio(a, b, data_range=1.0),
        }
        if min(result.shape[:2]) >= MS_SSIM_MIN_SIDE:
            figures["ms_ssim"] = multiscale_structural_similarity_index_measure(a, b, data_range=1.0)
        for name, value in figures.items():
            out.setdefault(name, []).append(float(value))
    return out


def vif(result: npt.NDArray[np.uint8], truth: npt.NDArray[np.uint8]) -> float:
    """Visual information fidelity, pixel domain (Sheikh and Bovik 2006): the truth's information that is left.

    Each colour channel by itself on levels 0..255, which the noise variance of 2 is meant for; their mean.

    Args:
        result: uint8 RGB (H, W, 3), 41 px a side or more.
        truth: the same size.

    Returns:
        0 or more, higher is better; 1 for equal images, and over 1 where contrast was raised without noise.

    Raises:
        ValueError: the sizes differ, or a side is under 41 px.
    """
    if result.shape != truth.shape:
        raise ValueError(f"result is {result.shape}, truth is {truth.shape}: they must have one size")
    if min(result.shape[:2]) < VIF_MIN_SIDE:
        raise ValueError(f"images are {result.shape[:2]} px: VIF needs {VIF_MIN_SIDE} px a side")
    return float(visual_information_fidelity(_unit(result) * 255, _unit(truth) * 255))


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
