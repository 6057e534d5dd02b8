"""Geometric matching: shapes, gradients, and an anchor that follows the pose."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.models.inputs import random_condition
from tryon.models.gmm import Gmm, GmmConfig, anchor_sources, correlate
from tryon.models.tps import tps_grid
from tryon.sample import Joint


@pytest.mark.parametrize(("size", "grid"), [((64, 48), 5), ((128, 96), 3)])
def test_shapes(size: tuple[int, int], grid: int) -> None:
    network = Gmm(GmmConfig(width=4, grid=grid)).eval()
    condition = random_condition(2, size)
    with torch.inference_mode():
        assert network(condition).shape == (2, grid * grid, 2)
        warped, mask, sampling = network.warp(condition)
    assert warped.shape == (2, 3, *size)
    assert mask.shape == (2, 1, *size)
    assert sampling.shape == (2, *size, 2)
    assert float(mask.min()) >= 0
    assert float(mask.max()) <= 1


def test_gradients_reach_every_parameter() -> None:
    network = Gmm(GmmConfig(width=4))
    warped, mask, _ = network.warp(random_condition(2, (64, 48)))
    (warped.square().mean() + mask.mean()).backward()
    dead = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not dead


def test_a_row_does_not_depend_on_its_neighbours() -> None:
    network = Gmm(GmmConfig(width=4)).eval()
    condition = random_condition(3, (64, 48))
    with torch.inference_mode():
        together = network(condition)
        alone = network({name: value[1:2] for name, value in condition.items()})
    assert torch.allclose(together[1:2], alone, atol=1e-5)


def test_an_untrained_network_is_close_to_its_anchor() -> None:
    torch.manual_seed(0)
    condition = random_condition(2, (64, 48))
    with torch.inference_mode():
        offsets = Gmm(GmmConfig(width=8)).eval()(condition) - anchor_sources(condition, 5)
    assert float(offsets.abs().max()) < 0.1


def posed(neck: tuple[float, float], hip: tuple[float, float], seen: float = 1.0) -> dict[str, Tensor]:
    """A garment box of rows 20..99 and columns 30..69 in a photo of 128x96, and a torso."""
    mask = torch.zeros(1, 1, 128, 96)
    mask[..., 20:100, 30:70] = 1
    pose = torch.zeros(1, 25, 3)
    pose[0, Joint.NECK] = torch.tensor([*neck, seen])
    pose[0, Joint.MID_HIP] = torch.tensor([*hip, seen])
    return {"garment_mask": mask, "pose": pose}


def garment_px(condition: dict[str, Tensor], at: tuple[int, int]) -> tuple[float, float]:
    """Garment photo position (x, y) px that the anchor's warp shows at pixel (x, y) of the person."""
    grid = tps_grid(anchor_sources(condition, 5), 128, 96)[0, at[1], at[0]]
    return float((grid[0] + 1) * 48 - 0.5), float((grid[1] + 1) * 64 - 0.5)


def test_the_anchor_lays_the_garments_top_on_the_neck() -> None:
    x, y = garment_px(posed((48, 40), (48, 90)), (48, 40))
    assert x == pytest.approx(50, abs=1)
    assert 20 <= y <= 28
    assert garment_px(posed((48, 40), (48, 90)), (48, 90))[1] < 100


def test_the_anchor_follows_the_pose() -> None:
    before = garment_px(posed((48, 40), (48, 90)), (40, 60))
    after = garment_px(posed((57, 47), (57, 97)), (49, 67))
    assert after == pytest.approx(before, abs=1e-2)
    assert garment_px(posed((57, 47), (57, 97)), (40, 60)) != pytest.approx(before, abs=2)


def test_the_anchor_scales_with_the_torso() -> None:
    small, large = posed((48, 30), (48, 60)), posed((48, 30), (48, 90))
    down = [garment_px(c, (48, 50))[1] - garment_px(c, (48, 40))[1] for c in (small, large)]
    assert down[0] == pytest.approx(2 * down[1], rel=1e-3)


def test_the_anchor_follows_the_lean() -> None:
    upright, leaning = posed((48, 40), (48, 90)), posed((48, 40), (18, 80))  # torsos of 50 px
    assert garment_px(leaning, (18, 80)) == pytest.approx(garment_px(upright, (48, 90)), abs=1)


def test_an_unseen_torso_and_an_empty_mask_still_give_a_warp() -> None:
    condition = posed((48, 40), (48, 90), seen=0.0)
    assert torch.isfinite(anchor_sources(condition, 5)).all()
    assert torch.equal(anchor_sources(condition, 5), anchor_sources(posed((1, 2), (3, 4), seen=0.0), 5))
    condition["garment_mask"].zero_()
    assert torch.isfinite(anchor_sources(condition, 5)).all()


def test_correlation_is_cosine_similarity() -> None:
    features = torch.randn(2, 8, 16, 12, generator=torch.Generator().manual_seed(0))
    out = correlate(features, 3 * features)
    assert out.shape == (2, 192, 16, 12)
    own = out.flatten(2).diagonal(dim1=1, dim2=2)
    assert torch.allclose(own, torch.ones_like(own), atol=1e-5)
    assert float(out.abs().max()) <= 1 + 1e-5
