"""Smoothness of a warp: first and second differences of a dense flow, or of a TPS lattice."""

from __future__ import annotations

import torch
from torch import Tensor


def total_variation(grid_b2hw: Tensor) -> Tensor:
    """Mean absolute first difference of the displacement between neighbours, in units of the grid's own pixels."""
    h, w = grid_b2hw.shape[-2:]
    px = grid_b2hw * grid_b2hw.new_tensor([w / 2, h / 2])[:, None, None]
    step = px.new_tensor([1.0, 0.0])[:, None, None]
    dx = px[..., 1:] - px[..., :-1] - step
    dy = px[..., 1:, :] - px[..., :-1, :] - step.flip(0)
    return dx.abs().mean() + dy.abs().mean()


def second_differences(grid_b2hw: Tensor) -> Tensor:
    """Mean absolute second difference along rows and columns, in units of the grid's own pixels; 0 for affine flows."""
    h, w = grid_b2hw.shape[-2:]
    px = grid_b2hw * grid_b2hw.new_tensor([w / 2, h / 2])[:, None, None]
    total = px.new_zeros(())
    for axis in (-1, -2):
        if px.shape[axis] >= 3:
            total = total + torch.diff(px, n=2, dim=axis).abs().mean()
    return total


def second_order(sources_bk2: Tensor) -> Tensor:
    """Mean absolute second difference of neighbouring control points, along rows and columns; 0 for affine warps."""
    side = round(sources_bk2.shape[1] ** 0.5)
    lattice = sources_bk2.view(-1, side, side, 2)
    rows = lattice[:, 2:] - 2 * lattice[:, 1:-1] + lattice[:, :-2]
    columns = lattice[:, :, 2:] - 2 * lattice[:, :, 1:-1] + lattice[:, :, :-2]
    return rows.abs().mean() + columns.abs().mean()
