"""Category by outline: drawn garments, simulated ones, real tops; by parse where there is no garment photo."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from tryon.sample import Label
from tryon.stages.category import Category, Guess, garment_category, worn_category
from tryon.stages.registry import stage_class

UInt8 = npt.NDArray[np.uint8]

# Outlines in a frame 100 wide and 200 high.
SHAPES: dict[str, list[list[tuple[int, int]]]] = {
    "tee": [[(40, 20), (50, 26), (60, 20), (85, 45), (78, 55), (68, 45), (68, 100), (32, 100), (32, 45), (22, 55),
             (15, 45)]],
    "strap top": [[(33, 60), (36, 20), (40, 20), (40, 55), (60, 55), (60, 20), (64, 20), (67, 60), (67, 110),
                   (33, 110)]],
    "trousers": [[(35, 10), (65, 10), (70, 60), (66, 190), (53, 190), (50, 70), (47, 190), (34, 190), (30, 60)]],
    "shorts": [[(35, 60), (65, 60), (74, 120), (53, 122), (50, 95), (47, 122), (26, 120)]],
    "skirt": [[(38, 50), (62, 50), (78, 130), (22, 130)]],
    "pencil skirt": [[(38, 30), (62, 30), (66, 120), (34, 120)]],
    "shift dress": [[(40, 10), (50, 16), (60, 10), (66, 22), (62, 50), (66, 150), (34, 150), (38, 50), (34, 22)]],
    "flared dress": [[(40, 10), (50, 18), (60, 10), (66, 22), (60, 70), (85, 190), (15, 190), (40, 70), (34, 22)]],
}  # fmt: skip
KIND = {
    "tee": "upper", "strap top": "upper", "trousers": "lower", "shorts": "lower", "skirt": "lower",
    "pencil skirt": "lower", "shift dress": "dress", "flared dress": "dress",
}  # fmt: skip


def outline(name: str, scale: int = 4) -> UInt8:
    mask = np.zeros((200 * scale, 100 * scale), dtype=np.uint8)
    cv2.fillPoly(mask, [np.array(points) * scale for points in SHAPES[name]], (1,))
    return mask


def run(**columns: Any) -> dict[str, Any]:
    return Category()({name: [value] for name, value in columns.items()})


@pytest.mark.parametrize("scale", [1, 4])
@pytest.mark.parametrize("name", SHAPES)
def test_drawn_outlines(name: str, scale: int) -> None:
    guess = garment_category(outline(name, scale))
    assert guess is not None
    assert guess.category == KIND[name]
    assert 0.1 <= guess.confidence <= 1


def test_the_place_in_the_frame_does_not_matter() -> None:
    shifted = np.pad(outline("skirt"), ((300, 10), (5, 400)))
    assert garment_category(shifted) == garment_category(outline("skirt"))


def test_simulated_garments() -> None:
    from tryon.data.simulator import simulate

    rows = [simulate(2, index, 256, 192) for index in range(30)]
    guesses = [garment_category(row["garment_mask"]) for row in rows]
    right = [guess is not None and guess.category == row["category"] for guess, row in zip(guesses, rows, strict=True)]
    assert np.mean(right) > 0.8


def test_nothing_in_the_mask_or_the_parse() -> None:
    assert garment_category(np.zeros((50, 40), np.uint8)) is None
    assert worn_category(np.zeros((50, 40), np.uint8)) is None


@pytest.mark.parametrize(
    ("labels", "category"),
    [
        ({Label.UPPER_CLOTHES: 400, Label.PANTS: 900}, "upper"),
        ({Label.UPPER_CLOTHES: 100, Label.DRESS: 900}, "dress"),
        ({Label.SKIRT: 500, Label.LEFT_LEG: 300}, "lower"),
    ],
)
def test_worn_garment(labels: dict[Label, int], category: str) -> None:
    parse = np.zeros(10_000, dtype=np.uint8)
    start = 0
    for label, count in labels.items():
        parse[start : start + count] = label
        start += count
    guess = worn_category(parse.reshape(100, 100))
    assert guess is not None
    assert guess.category == category
    assert guess.confidence > 0.5


def test_the_garment_photo_decides_over_what_is_worn() -> None:
    parse = np.full((100, 100), Label.UPPER_CLOTHES, np.uint8)
    assert run(garment_mask=outline("trousers"), parse=parse)["category"] == ["lower"]
    assert run(garment_mask=None, parse=parse)["category"] == ["upper"]
    assert run(parse=parse)["category"] == ["upper"], "columns it looks at may be absent"


def test_a_category_that_is_there_stays() -> None:
    batch = {"category": ["upper", None], "garment_mask": [outline("skirt"), outline("skirt")]}
    assert Category()(batch, fill_missing=True)["category"] == ["upper", "lower"]


def test_what_is_unclear_is_not_guessed() -> None:
    out = run(garment_mask=None, parse=None)
    assert out["error_code"] == ["category-unclear"]
    assert out["category"] == [None]
    assert "column 'category'" in out["error"][0]
    guesses = {name: garment_category(outline(name)) for name in SHAPES}
    name, least = min(((n, g.confidence) for n, g in guesses.items() if g is not None), key=lambda pair: pair[1])
    strict = Category(min_confidence=min(1.0, least + 0.01))({"garment_mask": [outline(name)]})
    assert least < 1
    assert strict["error_code"] == ["category-unclear"]
    assert f"{least:.2f}" in strict["error"][0]
    with pytest.raises(ValueError, match=r"min_confidence = 1\.5"):
        Category(min_confidence=1.5)


def test_is_known_by_name() -> None:
    assert stage_class("category") is Category
    assert Guess("upper", 0.5).confidence == 0.5


def test_real_tops(shared: Path) -> None:
    from tryon.stages.garment_mask import GarmentMask

    stage, wrong = GarmentMask(), []
    for path in sorted((shared / "vitonhd" / "test" / "cloth").glob("*.jpg"))[::3]:
        image = cv2.imread(str(path), cv2.IMREAD_REDUCED_COLOR_2)
        assert image is not None
        guess = garment_category(stage.process({"garment": np.ascontiguousarray(image[..., ::-1])})["garment_mask"])
        if guess is None or guess.category != "upper":
            wrong.append((path.stem, guess))
    assert not wrong
