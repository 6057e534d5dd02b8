"""Thin-plate splines: what Bookstein's formula promises."""

from __future__ import annotations

import pytest
import torch

from tryon.models.layers import identity_grid, sample_image
from tryon.models.tps import control_points, tps_basis, tps_grid

GRIDS = [(3, 16, 12), (5, 31, 47), (9, 24, 18)]


@pytest.mark.parametrize(("grid", "h", "w"), GRIDS)
def test_rows_of_the_basis_sum_to_one(grid: int, h: int, w: int) -> None:
    assert torch.allclose(tps_basis(grid, h, w).sum(1), torch.ones(h * w), atol=1e-5)


@pytest.mark.parametrize(("grid", "h", "w"), GRIDS)
def test_resting_control_points_give_the_identity(grid: int, h: int, w: int) -> None:
    assert torch.allclose(tps_grid(control_points(grid)[None], h, w)[0], identity_grid(h, w), atol=1e-5)


@pytest.mark.parametrize(("grid", "h", "w"), GRIDS)
def test_affine_maps_are_reproduced_exactly(grid: int, h: int, w: int) -> None:
    maps = torch.randn(4, 2, 2, generator=torch.Generator().manual_seed(0))
    shift = torch.randn(4, 1, 2, generator=torch.Generator().manual_seed(1))
    got = tps_grid(control_points(grid) @ maps + shift, h, w)
    expected = identity_grid(h, w).view(1, -1, 2) @ maps + shift
    assert torch.allclose(got.view(4, -1, 2), expected, atol=1e-4)


def test_the_spline_passes_through_its_control_points() -> None:
    grid, side = 5, 200  # 200 px: the points at -0.9, -0.45, 0... lie on pixel corners, so between four centres
    sources = control_points(grid) + 0.1 * torch.randn(25, 2, generator=torch.Generator().manual_seed(2))
    sampled = tps_grid(sources[None], side, side).permute(0, 3, 1, 2)
    at = sample_image(sampled, control_points(grid).view(1, 1, 25, 2))[0, :, 0].T
    assert torch.allclose(at, sources, atol=2e-3)


def test_moving_one_point_moves_its_surroundings_most() -> None:
    sources = control_points(5).clone()
    sources[12] += 0.2
    moved = (tps_grid(sources[None], 40, 40)[0] - identity_grid(40, 40)).norm(dim=-1)
    assert moved[20, 20] > 0.25
    assert moved[2, 2] < 0.05 * moved[20, 20]
    assert moved.argmax() in (19 * 40 + 19, 19 * 40 + 20, 20 * 40 + 19, 20 * 40 + 20)


def test_every_resolution_is_the_same_warp() -> None:
    sources = (control_points(4) + 0.1 * torch.randn(16, 2, generator=torch.Generator().manual_seed(3)))[None]
    small, large = tps_grid(sources, 16, 12), tps_grid(sources, 48, 36)
    assert torch.allclose(small, large[:, 1::3, 1::3], atol=1e-5)


def test_gradients_reach_the_sources() -> None:
    sources = control_points(3)[None].clone().requires_grad_()
    tps_grid(sources, 8, 8).square().sum().backward()
    assert sources.grad is not None
    assert (sources.grad.abs() > 0).any(dim=-1).all()


def test_a_basis_first_needed_for_inference_serves_training_too() -> None:
    with torch.inference_mode():
        tps_grid(control_points(4)[None], 10, 14)
    sources = control_points(4)[None].clone().requires_grad_()
    tps_grid(sources, 10, 14).square().sum().backward()
    assert sources.grad is not None
