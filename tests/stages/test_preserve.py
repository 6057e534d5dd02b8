"""The photo's own pixels come back where neither garment is, and nowhere else; its light stays on the new garment."""

from __future__ import annotations

import numpy as np
import pytest

from tryon.sample import Batch, Label
from tryon.stages._shading import LIMITS, shading
from tryon.stages.preserve import Preserve

SIZE = (128, 96)


def batch(category: str = "upper") -> Batch:
    """A person with an upper garment in rows 30..69, an arm in columns 70..79, and a mask that covers both and more."""
    rng = np.random.default_rng(0)
    parse = np.zeros(SIZE, np.uint8)
    parse[30:70, 30:70] = Label.UPPER_CLOTHES
    parse[70:110, 30:70] = Label.PANTS
    parse[30:70, 76:84] = Label.LEFT_ARM
    mask = np.zeros(SIZE, np.uint8)
    mask[20:110, 20:90] = 1
    shown = np.zeros(SIZE, np.uint8)
    shown[30:70, 76:80] = 255  # the new garment has a sleeve
    return {
        "person": [rng.integers(0, 100, (*SIZE, 3), dtype=np.uint8)],
        "tryon": [rng.integers(150, 256, (*SIZE, 3), dtype=np.uint8)],
        "parse": [parse],
        "category": [category],
        "agnostic_mask": [mask],
        "composition_mask": [shown],
    }


def test_arms_and_background_are_the_photos_and_garments_are_not() -> None:
    given = batch()
    out = Preserve()(given)["tryon"][0]
    person, tryon = given["person"][0], given["tryon"][0]
    assert np.array_equal(out[36:64, 36:64], tryon[36:64, 36:64]), "the old garment is gone"
    assert np.array_equal(out[30:70, 76:80], tryon[30:70, 76:80]), "the new sleeve is there"
    assert np.array_equal(out[30:70, 81:84], person[30:70, 81:84]), "the bare arm beside it is the photo's"
    assert np.array_equal(out[84:110, 20:90], person[84:110, 20:90]), "so are the trousers"
    outside = given["agnostic_mask"][0] == 0
    assert np.array_equal(out[outside], tryon[outside])
    assert not np.shares_memory(out, tryon)


def test_around_the_old_garment_a_margin_is_drawn() -> None:
    given = batch()
    out = Preserve()(given)["tryon"][0].astype(int)
    drawn = np.abs(out - given["person"][0]).sum(axis=-1) > 0
    above = np.nonzero(drawn[20:30, 50])[0] + 20
    assert 2 <= 30 - above.min() <= 9


def test_a_fraction_of_the_new_garment_blends() -> None:
    given = batch()
    given["composition_mask"][0][30:70, 80:84] = 32
    out = Preserve()(given)["tryon"][0].astype(float)
    person, tryon = given["person"][0].astype(float), given["tryon"][0].astype(float)
    expected = person + (tryon - person) * 32 / 127.5
    assert np.abs(out - expected)[40:60, 81:84].max() <= 1


@pytest.mark.parametrize(("category", "kept", "gone"), [("lower", (31, 69), (75, 105)), ("dress", (21, 22), (31, 105))])
def test_what_is_taken_off_depends_on_the_category(category: str, kept: tuple[int, int], gone: tuple[int, int]) -> None:
    given = batch(category)
    out = Preserve()(given)["tryon"][0]
    if category == "lower":
        kept = (31, 60)
    assert np.array_equal(out[slice(*kept), 35:65], given["person"][0][slice(*kept), 35:65])
    assert np.array_equal(out[slice(*gone), 35:65], given["tryon"][0][slice(*gone), 35:65])


def test_without_a_warped_garment_nothing_changes() -> None:
    given = batch()
    given["composition_mask"][0][:] = 0
    assert Preserve()(given)["tryon"][0] is given["tryon"][0]
    given = batch()
    given["agnostic_mask"][0][:] = 0
    assert Preserve()(given)["tryon"][0] is given["tryon"][0]


LARGE = (512, 384)
WORN = np.pad(np.full((300, 240), 255, np.uint8), ((100, 112), (70, 74)))


def cloth(light: np.ndarray, colour: tuple[int, int, int] = (60, 110, 160)) -> np.ndarray:
    """A plain garment under a light, with the camera's noise."""
    noise = np.random.default_rng(1).normal(0, 2, (*LARGE, 3))
    return (np.array(colour) * light[..., None] + noise).clip(0, 255).astype(np.uint8)


def folds() -> np.ndarray:
    """Soft folds some 40 px apart."""
    x = np.arange(LARGE[1])
    return np.broadcast_to(1 + 0.12 * np.sin(2 * np.pi * x / 40), LARGE)


def test_folds_of_a_plain_garment_are_found() -> None:
    light = folds()
    found = shading(cloth(light), WORN, LARGE)
    assert found is not None
    inner = np.s_[120:380, 90:290]
    assert np.corrcoef(found[inner].ravel(), light[inner].ravel())[0, 1] > 0.95
    assert 0.04 < found[inner].std() < 1.2 * light[inner].std()
    assert found.min() >= LIMITS[0]
    assert found.max() <= LIMITS[1]


def test_a_print_is_no_light() -> None:
    image = cloth(np.ones(LARGE))
    image[180:260, 150:230] = (200, 60, 40)
    found = shading(image, WORN, LARGE)
    assert found is not None
    assert np.abs(found - 1).max() < 0.06


def test_of_a_pattern_or_next_to_nothing_no_light_is_taken() -> None:
    image = cloth(np.ones(LARGE))
    image[(np.arange(LARGE[0]) // 12) % 2 == 0] = (230, 220, 210)
    assert shading(image, WORN, LARGE) is None
    assert shading(cloth(np.ones(LARGE)), np.zeros_like(WORN), LARGE) is None


def test_the_new_garment_lies_in_the_old_ones_folds() -> None:
    light = folds()
    parse = np.where(WORN > 0, np.uint8(Label.UPPER_CLOTHES), np.uint8(0))
    mask = np.ones(LARGE, np.uint8)
    given: Batch = {
        "person": [cloth(light)],
        "tryon": [np.full((*LARGE, 3), 120, np.uint8)],
        "parse": [parse],
        "category": ["upper"],
        "agnostic_mask": [mask],
        "composition_mask": [WORN.copy()],
    }
    out = Preserve()(given)["tryon"][0]
    inner = np.s_[120:380, 90:290]
    assert np.corrcoef(out[inner].mean(-1).ravel(), light[inner].ravel())[0, 1] > 0.95
    given["composition_mask"][0][:, 200:] = 0  # there it is no garment but skin: drawn with a light of its own
    out = Preserve()(given)["tryon"][0]
    assert np.array_equal(out[120:380, 202:290], given["tryon"][0][120:380, 202:290])
