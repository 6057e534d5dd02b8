"""Losses between an image and its truth, pixel by pixel or window by window. All are >= 0, and 0 for equal images."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

SSIM_MIN_SIDE = 11  # the window's side


def masked_l1(a: Tensor, b: Tensor, mask: Tensor) -> Tensor:
    """Mean absolute difference over the pixels of a mask (b, 1, h, w), per channel; 0 for an empty mask."""
    return ((a - b).abs() * mask).sum() / (mask.sum() * a.shape[1]).clamp_min(1.0)


def gradient_l1(a: Tensor, b: Tensor) -> Tensor:
    """Mean absolute difference of horizontal and vertical image gradients: keeps edges sharp."""
    dx = F.l1_loss(a[..., 1:] - a[..., :-1], b[..., 1:] - b[..., :-1])
    dy = F.l1_loss(a[..., 1:, :] - a[..., :-1, :], b[..., 1:, :] - b[..., :-1, :])
    return dx + dy


def ssim_loss(result: Tensor, truth: Tensor) -> Tensor:
    """One minus the structural similarity (Wang et al. 2004), 11 px Gaussian window.

    Args:
        result: (b, c, h, w) in [-1, 1].
        truth: the same shape.

    Returns:
        Scalar in [0, 2]; 0 for equal images.

    Raises:
        ValueError: shapes differ, or a side is under 11 px.
    """
    if result.shape != truth.shape:
        raise ValueError(f"result is {tuple(result.shape)}, truth is {tuple(truth.shape)}: they must have one shape")
    if min(result.shape[-2:]) < SSIM_MIN_SIDE:
        raise ValueError(f"image is {tuple(result.shape[-2:])} px: SSIM needs {SSIM_MIN_SIDE} px a side")
    similarity = structural_similarity_index_measure(result.float(), truth.float(), data_range=2.0)
    assert isinstance(similarity, Tensor)
    return 1 - similarity
