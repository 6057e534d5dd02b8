"""Geometric matching: shapes, gradients, and an anchor that follows the pose."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.models.checks import bad_condition, dead_parameters, learn, not_finite, second_empty, simulated
from tests.models.inputs import random_condition
from tryon.errors import BundleError
from tryon.models.gmm import LARGE, Gmm, GmmConfig, anchor_sources, correlate, trunk_width
from tryon.models.registry import num_parameters
from tryon.models.state_dict import load_strictly
from tryon.models.tensors import categories_to_tensor
from tryon.models.tom import Tom, TomConfig
from tryon.models.tps import tps_grid
from tryon.sample import Joint
from tryon.training.recipes.gmm import GmmRecipe


@pytest.mark.parametrize(("size", "grid"), [((64, 48), 5), ((128, 96), 3), ((67, 51), 5), ((16, 16), 5)])
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
    assert not dead_parameters(network, warped.square().mean() + mask.mean())


def test_the_large_preset_has_the_stated_size() -> None:
    with torch.device("meta"):
        assert num_parameters(Gmm(LARGE)) == pytest.approx(15e6, rel=0.05)


def test_four_simulator_samples_are_learnt_by_heart() -> None:
    torch.manual_seed(0)
    recipe = GmmRecipe({"width": 8}, (64, 48), None)
    tensors = recipe.prepare(simulated(4, (64, 48)))
    losses = learn(recipe.network, lambda: recipe.step(recipe.network, tensors).loss, 100, 4e-3)
    assert losses[-1] < 0.55, f"from {losses[0]:.2f}"


def test_an_untrained_network_is_close_to_its_anchor() -> None:
    torch.manual_seed(0)
    condition = random_condition(2, (64, 48))
    with torch.inference_mode():
        offsets = Gmm(GmmConfig(width=8)).eval()(condition) - anchor_sources(condition, 5)
    assert float(offsets.abs().max()) < 0.1


def posed(
    neck: tuple[float, float], hip: tuple[float, float], seen: float = 1.0, category: str = "upper"
) -> dict[str, Tensor]:
    """A garment box of rows 20..99 and columns 30..69 in a photo of 128x96, and a torso."""
    mask = torch.zeros(1, 1, 128, 96)
    mask[..., 20:100, 30:70] = 1
    pose = torch.zeros(1, 25, 3)
    pose[0, Joint.NECK] = torch.tensor([*neck, seen])
    pose[0, Joint.MID_HIP] = torch.tensor([*hip, seen])
    return {"garment_mask": mask, "pose": pose, "category": categories_to_tensor([category])}


def garment_px(condition: dict[str, Tensor], at: tuple[int, int]) -> tuple[float, float]:
    """Garment photo position (x, y) px that the anchor's warp shows at pixel (x, y) of the person."""
    grid = tps_grid(anchor_sources(condition, 5), 128, 96)[0, at[1], at[0]]
    return float((grid[0] + 1) * 48 - 0.5), float((grid[1] + 1) * 64 - 0.5)


def test_the_anchor_lays_the_garments_top_on_the_neck() -> None:
    x, y = garment_px(posed((48, 40), (48, 90)), (48, 40))
    assert x == pytest.approx(50, abs=1)
    assert 20 <= y <= 28
    assert garment_px(posed((48, 40), (48, 90)), (48, 90))[1] < 100


def test_the_anchor_lays_trousers_below_the_waist_and_a_dress_to_the_knees() -> None:
    lower, dress = (posed((48, 20), (48, 50), category=category) for category in ("lower", "dress"))
    waist = garment_px(lower, (48, 40))  # two thirds of the torso below the neck
    assert waist[1] == pytest.approx(20, abs=2)
    dress["garment_mask"][..., :36] = dress["garment_mask"][..., 60:] = 0  # 24 px wide on a torso of 30
    assert garment_px(dress, (48, 20))[1] == pytest.approx(20, abs=8)
    knees = garment_px(dress, (48, 80))[1]  # two torsos below the neck
    assert 85 <= knees <= 110


def test_of_two_garments_in_one_photo_size_the_narrower_trunk_is_laid_larger() -> None:
    wide, narrow = posed((48, 40), (48, 90)), posed((48, 40), (48, 90))
    narrow["garment_mask"][:, :, 45:, :42] = narrow["garment_mask"][:, :, 45:, 58:] = 0  # below the sleeves
    assert float(trunk_width(wide["garment_mask"])) == 40
    assert float(trunk_width(narrow["garment_mask"])) == 16
    across = [garment_px(c, (58, 60))[0] - garment_px(c, (48, 60))[0] for c in (wide, narrow)]
    assert across[1] < 0.9 * across[0]


def test_sleeves_beside_the_trunk_do_not_widen_it() -> None:
    mask = torch.zeros(1, 1, 64, 48)
    mask[..., 10:50, 18:30] = 1
    mask[..., 10:16, 4:44] = mask[..., 10:50, 4:10] = mask[..., 10:50, 38:44] = 1
    assert float(trunk_width(mask)) == 12
    mask[..., 14:50, 23:25] = 0  # open in front: nothing in the middle
    assert float(trunk_width(mask)) == 40


def test_wide_shoulders_take_a_garment_that_is_laid_wide() -> None:
    slim, broad = posed((48, 40), (48, 90)), posed((48, 40), (48, 90))
    for condition, half in ((slim, 12.0), (broad, 24.0)):
        condition["pose"][0, Joint.LEFT_SHOULDER] = torch.tensor([48 + half, 40, 1.0])
        condition["pose"][0, Joint.RIGHT_SHOULDER] = torch.tensor([48 - half, 40, 1.0])
    across, down = (
        [garment_px(c, at)[axis] - garment_px(c, (48, 50))[axis] for c in (slim, broad)]
        for axis, at in ((0, (58, 50)), (1, (48, 60)))
    )
    assert across[0] > 1.7 * across[1]
    assert down[0] == pytest.approx(down[1], rel=0.05)


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


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        (random_condition(1, (12, 48)), "inputs are 12x48: height and width must be 16 px or more"),
        (bad_condition(limbs=torch.zeros(2, 5, 64, 48)), "limbs is 2x5x64x48: the network takes 2x10x64x48"),
        (bad_condition(garment_mask=torch.zeros(1, 64, 48)), r"garment_mask is 1x64x48: the network takes \(batch"),
        (bad_condition(agnostic_mask=torch.zeros(2, 1, 32, 48)), "agnostic_mask is 2x1x32x48"),
        (bad_condition(pose=torch.zeros(2, 18, 3)), "pose is 2x18x3: the network takes 2x25x3"),
        (bad_condition(regions=not_finite(3)), "regions holds values that are not finite"),
        (bad_condition(garment_mask=second_empty()), "garment_mask of row 1 is empty: there is no garment"),
        (bad_condition(garment_mask=torch.ones(2, 1, 64, 48)), "garment_mask of row 0 is 1 everywhere"),
    ],
)
def test_bad_input_is_named(condition: dict[str, Tensor], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Gmm(GmmConfig(width=4))(condition)


def test_weights_of_another_network_are_named() -> None:
    with pytest.raises(BundleError, match=r"tom\.safetensors is no checkpoint of gmm: 'garment_encoder.*is missing"):
        load_strictly(Gmm(GmmConfig(width=4)), Tom(TomConfig(width=8)).state_dict(), "tom.safetensors", "gmm")
