"""Losses between an image and its truth, pixel by pixel or window by window. All are >= 0, and 0 for equal images."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from tryon.models.device import full_precision

SSIM_MIN_SIDE = 11  # the window's side
SSIM_SIGMA = 1.5  # px
SSIM_C1, SSIM_C2 = 0.01**2, 0.03**2


def masked_l1(a: Tensor, b: Tensor, mask: Tensor) -> Tensor:
    """Mean absolute difference over the pixels of a mask (b, 1, h, w), per channel; 0 for an empty mask."""
    return ((a - b).abs() * mask).sum() / (mask.sum() * a.shape[1]).clamp_min(1.0)


def gradient_l1(a: Tensor, b: Tensor) -> Tensor:
    """Mean absolute difference of horizontal and vertical image gradients: keeps edges sharp."""
    dx = F.l1_loss(a[..., 1:] - a[..., :-1], b[..., 1:] - b[..., :-1])
    dy = F.l1_loss(a[..., 1:, :] - a[..., :-1, :], b[..., 1:, :] - b[..., :-1, :])
    return dx + dy


def ssim_rows(result: Tensor, truth: Tensor) -> Tensor:
    """Structural similarity (Wang et al. 2004) of each image, 11 px Gaussian window: torchmetrics' figure, 4 x as fast.

    Args:
        result: (b, c, h, w) in [-1, 1].
        truth: the same shape.

    Returns:
        (b,) in [-1, 1]; 1 for equal images.

    Raises:
        ValueError: shapes differ, or a side is under 11 px.
    """
    if result.shape != truth.shape:
        raise ValueError(f"result is {tuple(result.shape)}, truth is {tuple(truth.shape)}: they must have one shape")
    if min(result.shape[-2:]) < SSIM_MIN_SIDE:
        raise ValueError(f"image is {tuple(result.shape[-2:])} px: SSIM needs {SSIM_MIN_SIDE} px a side")
    with full_precision(result.device):  # variances are differences of means: autocast's few digits leave nothing
        return _ssim_rows(result, truth)


def _ssim_rows(result: Tensor, truth: Tensor) -> Tensor:
    # In [0, 1], as the metric is defined: around 0 the term that compares means would be another.
    a, b = (F.pad((x.float() + 1) / 2, (SSIM_MIN_SIDE // 2,) * 4, mode="reflect") for x in (result, truth))
    mean_a, mean_b, aa, bb, ab = _window_means(torch.stack([a, b, a * a, b * b, a * b], dim=1)).unbind(1)
    upper = (2 * mean_a * mean_b + SSIM_C1) * (2 * (ab - mean_a * mean_b) + SSIM_C2)
    spread = (aa - mean_a.square()).clamp_min(0) + (bb - mean_b.square()).clamp_min(0)
    return (upper / ((mean_a.square() + mean_b.square() + SSIM_C1) * (spread + SSIM_C2))).flatten(1).mean(1)


def _window_means(x_bkchw: Tensor) -> Tensor:
    """Means by the Gaussian window, which is one of columns after one of rows."""
    b, k, c, h, w = x_bkchw.shape
    place = torch.arange(SSIM_MIN_SIDE, device=x_bkchw.device) - SSIM_MIN_SIDE // 2
    weights = torch.exp(-(place / SSIM_SIGMA).square() / 2)
    window = (weights / weights.sum()).expand(k * c, 1, -1)
    rows = F.conv2d(x_bkchw.reshape(b, k * c, h, w), window[..., None], groups=k * c)
    means = F.conv2d(rows, window[..., None, :], groups=k * c)
    return means.view(b, k, c, *means.shape[-2:])


def ssim_loss(result: Tensor, truth: Tensor) -> Tensor:
    """One minus the mean of `ssim_rows`, which says more.

    Args:
        result: (b, c, h, w) in [-1, 1].
        truth: the same shape.

    Returns:
        Scalar in [0, 2]; 0 for equal images.

    Raises:
        ValueError: shapes differ, or a side is under 11 px.
    """
    return 1 - ssim_rows(result, truth).mean()
