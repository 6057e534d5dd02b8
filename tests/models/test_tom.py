"""Try-on module: shapes, gradients, and composition."""

from __future__ import annotations

import pytest
import torch

from tests.models.inputs import random_condition
from tryon.models.tom import Tom, TomConfig, compose


def inputs(size: tuple[int, int]) -> tuple[dict[str, torch.Tensor], torch.Tensor, torch.Tensor]:
    condition = random_condition(2, size)
    return condition, condition["garment"], condition["garment_mask"]


@pytest.mark.parametrize("size", [(64, 48), (128, 96), (96, 80)])
@pytest.mark.parametrize("patch", [2, 4])
def test_shapes_and_ranges(size: tuple[int, int], patch: int) -> None:
    with torch.inference_mode():
        out = Tom(TomConfig(width=8, patch=patch)).eval()(*inputs(size))
    assert out["rendering"].shape == out["tryon"].shape == (2, 3, *size)
    assert out["composition_mask"].shape == (2, 1, *size)
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
    (out["tryon"].square().mean() + out["composition_mask"].mean()).backward()
    dead = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not dead


def test_a_row_does_not_depend_on_its_neighbours() -> None:
    network = Tom(TomConfig(width=8)).eval()
    condition, warped, mask = inputs((64, 48))
    with torch.inference_mode():
        together = network(condition, warped, mask)["tryon"][1:]
        alone = network({name: value[1:] for name, value in condition.items()}, warped[1:], mask[1:])["tryon"]
    assert torch.allclose(together, alone, atol=1e-4)


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
