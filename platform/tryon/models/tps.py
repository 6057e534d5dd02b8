"""Thin-plate splines with fixed target control points (Bookstein 1989): the grid is linear in the sources.

With the control points on the body fixed on a regular lattice, the interpolation weights of each pixel do not
change, so a warp is one matrix product: grid = basis @ sources, at any resolution.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from tryon.models.device import full_precision
from tryon.models.layers import identity_grid


def control_points(grid: int) -> Tensor:
    """Regular lattice (grid * grid, 2) of points (x, y) in [-0.9, 0.9], row by row."""
    line = torch.linspace(-0.9, 0.9, grid)
    ys, xs = torch.meshgrid(line, line, indexing="ij")
    return torch.stack([xs.ravel(), ys.ravel()], dim=-1)


def _kernel(points_a: Tensor, points_b: Tensor) -> Tensor:
    """U(r) = r^2 log r^2 between all pairs."""
    r2 = (points_a[:, None] - points_b[None]).square().sum(-1)
    return r2 * torch.log(r2.clamp_min(1e-12))


@lru_cache(maxsize=16)
@torch.inference_mode(mode=False)  # kept for training too, wherever it was first needed
def tps_basis(grid: int, height: int, width: int) -> Tensor:
    """Weights (h * w, grid * grid) of the control points' sources in each pixel's sampling position.

    Rows sum to 1, and affine maps of the sources are reproduced exactly.
    """
    points = control_points(grid).double()
    n = len(points)
    system = torch.zeros(n + 3, n + 3, dtype=torch.float64)
    system[:n, :n] = _kernel(points, points)
    affine = torch.cat([torch.ones(n, 1, dtype=torch.float64), points], dim=1)
    system[:n, n:] = affine
    system[n:, :n] = affine.T
    pixels = identity_grid(height, width).reshape(-1, 2).double()
    rows = torch.cat([_kernel(pixels, points), torch.ones(len(pixels), 1, dtype=torch.float64), pixels], dim=1)
    basis: Tensor = (rows @ torch.linalg.inv(system)[:, :n]).float()
    return basis


def tps_grid(sources_bk2: Tensor, height: int, width: int) -> Tensor:
    """Sampling grid (b, h, w, 2) in [-1, 1] for control points that sample at `sources_bk2` (x, y)."""
    b, k, _ = sources_bk2.shape
    # While a network is traced for export sizes are tensors; the basis is a constant there.
    height, width = int(height), int(width)
    basis = tps_basis(round(int(k) ** 0.5), height, width).to(sources_bk2.device)
    # Not in bf16, which autocast would take for a product: its steps are 0.8 % of half a photo, 4 px of 1024.
    with full_precision(sources_bk2.device):
        return (basis @ sources_bk2.float()).view(b, height, width, 2)
