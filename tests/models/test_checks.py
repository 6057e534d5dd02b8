"""What networks turn away, said by one set of checks."""

from __future__ import annotations

import pytest
import torch

from tryon.models.checks import MASKS, check_condition, check_input, check_masks, check_size, has_values, mask_faults

MAPS = {"garment": 3, "garment_mask": 1}


def given(**changes: torch.Tensor) -> dict[str, torch.Tensor]:
    mask = torch.zeros(2, 1, 16, 8)
    mask[..., 4:12, 2:6] = 1
    return {"garment": torch.zeros(2, 3, 16, 8), "garment_mask": mask, "pose": torch.zeros(2, 25, 3), **changes}


def check(condition: dict[str, torch.Tensor]) -> None:
    check_condition(condition, MAPS, vectors={"pose": (25, 3)}, multiple=4, least=8, masks=("garment_mask",))


def test_what_is_in_order_is_let_through() -> None:
    check(given())
    check(given(other=torch.full((1,), torch.nan)))  # not the network's


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"garment": torch.zeros(3, 16, 8)},
            r"^garment is 3x16x8: the network takes \(batch, chan",
        ),
        (
            {"garment": torch.zeros(2, 3, 18, 8)},
            "^inputs are 18x8: .* must be multiples of 4, from 8 on$",
        ),
        ({"garment": torch.zeros(2, 3, 16, 4)}, "^inputs are 16x4: "),
        ({"garment_mask": torch.zeros(2, 2, 16, 8)}, "^garment_mask is 2x2x16x8: the network takes 2x1x16x8 here$"),
        ({"garment_mask": torch.zeros(2, 1, 8, 8)}, "^garment_mask is 2x1x8x8: "),
        ({"pose": torch.zeros(1, 25, 3)}, "^pose is 1x25x3: the network takes 2x25x3 here$"),
        ({"pose": torch.full((2, 25, 3), torch.inf)}, "^pose holds values that are not finite"),
        ({"garment_mask": torch.zeros(2, 1, 16, 8)}, "^garment_mask of row 0 is empty: there is no garment$"),
        ({"garment_mask": torch.ones(2, 1, 16, 8)}, "^garment_mask of row 0 is 1 everywhere: the garment's outline"),
    ],
)
def test_the_fault_is_named(changes: dict[str, torch.Tensor], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        check(given(**changes))


def test_without_values_nothing_is_looked_at() -> None:
    check({name: value.to("meta") for name, value in given(garment_mask=torch.ones(2, 1, 16, 8)).items()})
    check_input(torch.zeros(1, 3, 0, 4, device="meta"), 3, "image")
    assert has_values(torch.zeros(1))
    assert not has_values(torch.zeros(1, device="meta"))


def test_sizes() -> None:
    check_size(17, 23, 1, 16)
    with pytest.raises(ValueError, match=r"^inputs are 15x23: height and width must be 16 px or more$"):
        check_size(15, 23, 1, 16)


def test_masks_are_judged_row_by_row() -> None:
    mask = torch.zeros(4, 1, 6, 6)
    mask[1], mask[2, :, 2], mask[3, :, :5] = 1, 1, 0.9
    assert mask_faults("worn_mask", mask) == {
        0: f"empty: {MASKS['worn_mask'][0]}",
        1: f"1 everywhere: {MASKS['worn_mask'][1]}",
    }
    check_masks({"worn_mask": mask[2:]})
    with pytest.raises(ValueError, match=r"^worn_mask of row [01] is "):
        check_masks({"worn_mask": mask})
