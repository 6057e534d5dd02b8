"""What lies over the garment: arms, hair, jackets, accessories; and that a pose estimator still finds the figure."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from tryon.data.simulator import SimulatorConfig, TopSpec, render, sample_specs, simulate
from tryon.data.simulator.config import EASY_TOPS
from tryon.data.simulator.wardrobe import sample_jacket, sample_top
from tryon.sample import Label

H, W = 256, 192
Specs = tuple[Any, Any, Any]


@pytest.fixture(scope="module")
def specs() -> Specs:
    """A figure in one closed top, nothing over it."""
    figure, _, scene = sample_specs(8, 0, EASY_TOPS)
    return figure, dataclasses.replace(sample_top(np.random.default_rng(1)), tucked=False), scene


def wearing(specs: Specs, **clothes: Any) -> dict[str, Any]:
    figure, garment, scene = specs
    outfit = dataclasses.replace(figure.outfit, **clothes)
    return render(dataclasses.replace(figure, outfit=outfit), garment, scene, H, W)


def test_an_open_jacket_hides_the_sides_of_a_top_and_not_its_middle(specs: Specs) -> None:
    alone, under = wearing(specs), wearing(specs, jacket=sample_jacket(np.random.default_rng(2)))
    np.testing.assert_array_equal(alone["garment"], under["garment"])
    assert under["true_amodal_mask"].sum() > 0.9 * alone["true_amodal_mask"].sum()
    assert 0.02 < under["true_mask"].sum() / alone["true_mask"].sum() < 0.7
    columns = np.nonzero(under["true_mask"])[1]
    every = np.nonzero(alone["true_mask"])[1]
    assert every.min() + 8 < columns.min() < columns.max() < every.max() - 8
    # The jacket stays on the person without the garment, and its pixels are upper clothes too.
    hidden = (under["true_amodal_mask"] == 1) & (under["true_mask"] == 0)
    assert (under["parse"][hidden] == Label.UPPER_CLOTHES).mean() > 0.6
    assert np.abs(under["person"][hidden].astype(int) - under["unoccluded_person"][hidden]).mean() < 12


def test_a_jacket_tried_on_takes_the_outfits_place(specs: Specs) -> None:
    figure, _, scene = specs
    jacket = sample_jacket(np.random.default_rng(3))
    row = render(figure, jacket, scene, H, W)
    assert row["category"] == "upper"
    worn, seen = row["true_mask"] == 1, row["parse"] == Label.UPPER_CLOTHES
    assert worn.sum() < 0.95 * seen.sum()  # the top below shows in the opening
    assert (row["unoccluded_person"][worn] != row["person"][worn]).any(axis=-1).mean() > 0.8
    # The photo shows the inside of the back through the opening.
    photo = row["garment_mask"]
    assert photo[H // 2, W // 2] == 1
    flow = row["true_flow"][row["true_amodal_mask"] == 1]
    assert np.isfinite(flow).all()


@pytest.mark.parametrize(
    ("clothes", "label"),
    [
        ({"bag": (0.3, 0.2, 0.1)}, Label.BAG),
        ({"scarf": (0.8, 0.2, 0.2)}, Label.SCARF),
        ({"sunglasses": True}, Label.SUNGLASSES),
        ({"hat": "brim"}, Label.HAT),
        ({"hat": "beanie"}, Label.HAT),
    ],
    ids=["bag", "scarf", "sunglasses", "brim", "beanie"],
)
def test_accessories_are_drawn_and_labelled(specs: Specs, clothes: dict[str, Any], label: Label) -> None:
    bare, with_it = wearing(specs), wearing(specs, **clothes)
    on = with_it["parse"] == label
    assert on.sum() > 20
    assert not (bare["parse"] == label).any()
    assert (bare["person"][on] != with_it["person"][on]).any(axis=-1).mean() > 0.6
    assert not (with_it["true_mask"][on]).any()
    np.testing.assert_array_equal(with_it["true_amodal_mask"], bare["true_amodal_mask"])


def test_a_belt_shows_where_a_top_is_tucked(specs: Specs) -> None:
    figure, garment, scene = specs
    tucked = (figure, dataclasses.replace(garment, tucked=True), scene)
    assert (wearing(tucked, belt=(0.2, 0.1, 0.1))["parse"] == Label.BELT).sum() > 15
    assert not (wearing(specs, belt=(0.2, 0.1, 0.1))["parse"] == Label.BELT).any()


def test_hands_and_hair_cover_garments() -> None:
    posed = SimulatorConfig(arms=1, jackets=0, accessories=0, open_garments=0)
    free = posed.model_copy(update={"arms": 0.0, "long_hair": 0.0, "turn": 0.0})
    shares = {}
    for name, config in (("posed", posed), ("free", free)):
        rows = [simulate(12, i, 128, 96, config) for i in range(12)]
        hidden = [
            np.isin(r["parse"], (Label.LEFT_ARM, Label.RIGHT_ARM, Label.HAIR))[r["true_amodal_mask"] == 1].mean()
            for r in rows
        ]
        shares[name] = float(np.mean(hidden))
    assert shares["posed"] > 1.6 * shares["free"]
    assert shares["posed"] > 0.04


def test_an_arm_of_a_turned_trunk_hangs_behind_it() -> None:
    config = SimulatorConfig(arms=0)
    found = [sample_specs(2, i, config)[0] for i in range(80)]
    behind = [f for f in found if f.left_arm.behind or f.right_arm.behind]
    assert behind
    for figure in behind:
        assert figure.left_arm.behind == (figure.yaw > 0.26)
        assert figure.right_arm.behind == (figure.yaw < -0.26)


def test_easy_tops_are_plain_tops() -> None:
    for i in range(30):
        figure, garment, _ = sample_specs(1, i, EASY_TOPS)
        assert isinstance(garment, TopSpec)
        assert (garment.category, garment.opening, figure.outfit.jacket) == ("upper", 0.0, None)


def test_mediapipe_finds_the_figures() -> None:
    from tryon.stages.pose import Pose

    persons = [simulate(77, i, 512, 384)["person"] for i in range(12)]
    found = Pose()({"person": persons})["error_code"]
    assert found.count(None) >= 11
