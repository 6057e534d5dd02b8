"""Try-on module: shapes, gradients, learning, the parse that guides it, composition, and what it turns away."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from tests.models.checks import bad_condition, dead_parameters, learn, not_finite, second_empty, simulated
from tests.models.inputs import random_condition
from tryon.errors import BundleError
from tryon.models.flow import PARSE_CLASSES
from tryon.models.gmm import Gmm, GmmConfig
from tryon.models.layers import BoundaryRefinement, SelfAttention2d
from tryon.models.registry import num_parameters
from tryon.models.state_dict import load_strictly
from tryon.models.tensors import condition, images_to_tensor, masks_to_tensor
from tryon.models.tom import LARGE, Tom, TomConfig, compose, garment_odds
from tryon.training.recipes.base import worn_garment
from tryon.training.recipes.flow import parse_classes, parse_loss


def inputs(size: tuple[int, int]) -> tuple[dict[str, torch.Tensor], torch.Tensor, torch.Tensor]:
    condition = random_condition(2, size)
    return condition, condition["garment"], condition["garment_mask"]


@pytest.mark.parametrize("size", [(64, 48), (128, 96), (96, 80), (68, 52)])
@pytest.mark.parametrize("patch", [2, 4])
def test_shapes_and_ranges(size: tuple[int, int], patch: int) -> None:
    with torch.inference_mode():
        out = Tom(TomConfig(width=8, patch=patch)).eval()(*inputs(size))
    assert out["rendering"].shape == out["tryon"].shape == (2, 3, *size)
    assert out["composition_mask"].shape == (2, 1, *size)
    assert out["parse"].shape == (2, len(PARSE_CLASSES), -(-size[0] // (2 * patch)), -(-size[1] // (2 * patch)))
    assert float(out["rendering"].abs().max()) <= 1
    assert 0 <= float(out["composition_mask"].min()) <= float(out["composition_mask"].max()) <= 1


def test_the_garment_is_shown_only_where_it_lies_and_the_person_kept_outside_the_mask() -> None:
    condition, warped, warped_mask = inputs((64, 48))
    with torch.inference_mode():
        out = Tom(TomConfig(width=8)).eval()(condition, warped, warped_mask)
    assert not out["composition_mask"][warped_mask == 0].any()
    outside = (condition["agnostic_mask"] == 0).expand(-1, 3, -1, -1)
    assert torch.equal(out["tryon"][outside], condition["agnostic"][outside])


def test_gradients_reach_every_parameter() -> None:
    network = Tom(TomConfig(width=8))
    out = network(*inputs((64, 48)))
    assert not dead_parameters(network, out["tryon"].square().mean() + out["composition_mask"].mean())


def test_presets_have_the_stated_sizes() -> None:
    with torch.device("meta"):
        small, large = Tom(TomConfig()), Tom(LARGE)
    assert num_parameters(small) < 1e6
    assert num_parameters(large) == pytest.approx(30e6, rel=0.05)
    attention = large.middle[1]
    assert isinstance(attention, SelfAttention2d)
    assert attention.qkv.in_channels == 512


def test_four_simulator_samples_are_learnt_by_heart() -> None:
    size, rows = (64, 48), simulated(4, (64, 48))
    tensors = condition(rows, size)
    person, worn = worn_garment(rows, size)
    mask = masks_to_tensor(rows["true_mask"], size)
    warped = images_to_tensor(rows["true_garment"], size) * mask
    classes = parse_classes(rows, worn, size)
    torch.manual_seed(0)
    network = Tom(TomConfig(width=16, patch=2))

    def loss() -> torch.Tensor:
        out = network(tensors, warped, mask)
        return F.l1_loss(out["tryon"], person) + 0.1 * parse_loss(out["parse"], classes)

    losses = learn(network, loss, 150, 5e-3)
    assert losses[-1] < 0.045, f"from {losses[0]:.2f}"
    with torch.inference_mode():
        out = network(tensors, warped, mask)
    inside = tensors["agnostic_mask"].mean()
    assert float(F.l1_loss(out["tryon"], person) / inside) < 0.12
    predicted, truth = out["parse"].argmax(1), F.adaptive_avg_pool2d(classes, (16, 12)).argmax(1)
    assert float((predicted == truth).float().mean()) > 0.9


def test_the_parse_decides_what_the_composition_mask_shows() -> None:
    network, given = Tom(TomConfig(width=8)).eval(), inputs((64, 48))
    torch.nn.init.zeros_(network.parse.weight)
    masks, features = {}, {}
    for name in PARSE_CLASSES:
        assert network.parse.bias is not None
        with torch.no_grad():
            network.parse.bias.copy_(torch.tensor([8.0 * (name == other) for other in PARSE_CLASSES]))
            out = network(*given)
        masks[name], features[name] = out["composition_mask"], out["rendering"]
    inside = given[2] > 0
    assert float(masks["garment"][inside].mean()) > 0.95
    assert all(float(masks[name][inside].mean()) < 0.1 for name in ("background", "arms", "other"))
    assert not torch.allclose(features["arms"], features["background"], atol=1e-3), "the finer level sees the parse"


def test_garment_odds() -> None:
    assert float(garment_odds(torch.zeros(1, 4, 1, 1))) == pytest.approx(0.0, abs=1e-6)
    shares = torch.tensor([0.1, 0.6, 0.25, 0.05]).log().view(1, 4, 1, 1)
    assert float(garment_odds(shares)) == pytest.approx(math.log(0.6 / (0.4 / 3)), abs=1e-5)


def test_boundary_refinement_is_a_correction_that_sees_the_guide() -> None:
    torch.manual_seed(0)
    block, x, guide = BoundaryRefinement(4, 8, guide=2), torch.randn(1, 4, 9, 7), torch.randn(1, 2, 9, 7)
    assert 0 < float((block(x, guide) - x).detach().abs().max()) < 0.3
    assert not torch.equal(block(x, guide), block(x, 0 * guide))
    torch.nn.init.zeros_(block.correct.weight)
    assert torch.equal(block(x, guide), x)


def test_what_lies_outside_the_warped_mask_is_not_looked_at() -> None:
    network = Tom(TomConfig(width=8)).eval()
    condition, warped, mask = inputs((64, 48))
    with torch.inference_mode():
        first = network(condition, warped, mask)["rendering"]
        again = network(condition, torch.where(mask > 0, warped, -warped), mask)["rendering"]
    assert torch.equal(first, again)


def test_composition() -> None:
    condition = {"agnostic": torch.full((1, 3, 1, 3), 0.5), "agnostic_mask": torch.tensor([[[[0.0, 1.0, 1.0]]]])}
    warped, rendering = torch.full((1, 3, 1, 3), 1.0), torch.full((1, 3, 1, 3), -1.0)
    mask = torch.tensor([[[[1.0, 1.0, 0.25]]]])
    assert compose(condition, warped, mask, rendering)[0, 0, 0].tolist() == [0.5, 1.0, -0.5]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"limbs": torch.zeros(2, 5, 64, 48)}, "limbs is 2x5x64x48: the network takes 2x10x64x48"),
        ({"warped": torch.zeros(2, 1, 64, 48)}, "warped is 2x1x64x48: the network takes 2x3x64x48"),
        ({"warped_mask": torch.zeros(1, 1, 64, 48)}, "warped_mask is 1x1x64x48"),
        ({"skin": torch.zeros(2, 4)}, "skin is 2x4: the network takes 2x3"),
        ({"agnostic": not_finite(3)}, "agnostic holds values that are not finite"),
        ({"agnostic_mask": second_empty()}, "agnostic_mask of row 1 is empty: there is nothing to generate"),
        ({"agnostic_mask": torch.ones(2, 1, 64, 48)}, "agnostic_mask of row 0 is 1 everywhere"),
    ],
)
def test_bad_input_is_named(changes: dict[str, torch.Tensor], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Tom(TomConfig(width=8)).infer(bad_condition(**changes))


@pytest.mark.parametrize("size", [(66, 48), (64, 46), (8, 8)])
def test_sizes_that_do_not_divide_are_named(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=f"inputs are {size[0]}x{size[1]}: .*multiples of 4, from 16 on"):
        Tom(TomConfig(width=8)).infer(bad_condition(size))


def test_weights_of_another_network_are_named() -> None:
    with pytest.raises(BundleError, match=r"gmm\.safetensors is no checkpoint of tom: 'stem.*is missing"):
        load_strictly(Tom(TomConfig(width=8)), Gmm(GmmConfig(width=4)).state_dict(), "gmm.safetensors", "tom")
