"""Image metrics, a figure per sample. Computed by torchmetrics with its defaults on images in [0, 1]."""

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
)

MS_SSIM_MIN_SIDE = 176  # five scales of an 11 px window: the side over 16, rounded down, must reach 11


def paired_metrics(
    results: Sequence[npt.NDArray[np.uint8]], truths: Sequence[npt.NDArray[np.uint8]]
) -> Mapping[str, list[float]]:
    """SSIM, MS-SSIM and PSNR (dB) of each result against its truth.

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


def _unit(image: npt.NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1).unsqueeze(0).float().div_(255.0)
