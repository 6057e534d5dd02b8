"""Agnostic images of a drawn figure: what must be covered, what must be kept."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from tryon.sample import GREY, Joint, Label
from tryon.stages.agnostic import Agnostic

UInt8 = npt.NDArray[np.uint8]
SIZE = (512, 384)
JOINTS = {
    Joint.NOSE: (192, 84), Joint.RIGHT_EYE: (180, 74), Joint.LEFT_EYE: (204, 74), Joint.NECK: (192, 150),
    Joint.RIGHT_SHOULDER: (136, 150), Joint.LEFT_SHOULDER: (248, 150), Joint.RIGHT_ELBOW: (108, 236),
    Joint.LEFT_ELBOW: (276, 236), Joint.RIGHT_WRIST: (96, 316), Joint.LEFT_WRIST: (288, 316), Joint.MID_HIP: (192, 310),
    Joint.RIGHT_HIP: (160, 310), Joint.LEFT_HIP: (224, 310), Joint.RIGHT_KNEE: (156, 420), Joint.LEFT_KNEE: (228, 420),
    Joint.RIGHT_ANKLE: (154, 500), Joint.LEFT_ANKLE: (230, 500),
}  # fmt: skip


def row(category: str = "upper", sleeve: float = 0.5) -> dict[str, Any]:
    """A figure with a parse drawn by hand; the sleeve ends at this share of the arm."""
    pose = np.zeros((25, 3), dtype=np.float32)
    for joint, (x, y) in JOINTS.items():
        pose[joint] = x, y, 0.9
    parse = np.zeros(SIZE, dtype=np.uint8)
    cv2.ellipse(parse, (192, 72), (46, 52), 0, 0, 360, (int(Label.HAIR),), -1)
    cv2.rectangle(parse, (176, 110), (208, 150), (int(Label.FACE),), -1)
    for side, hip in ((-1, 160), (1, 224)):
        cv2.line(parse, (hip, 310), (hip + 4 * side, 500), (int(Label.PANTS),), 50)
    cv2.rectangle(parse, (140, 145), (244, 310), (int(Label.UPPER_CLOTHES),), -1)
    for name, label in (("RIGHT", Label.RIGHT_ARM), ("LEFT", Label.LEFT_ARM)):
        a, b, c = (np.array(JOINTS[Joint[f"{name}_{part}"]]) for part in ("SHOULDER", "ELBOW", "WRIST"))
        tip = c + 0.4 * (c - b)
        for start, stop in ((a, b), (b, c), (c, tip)):
            cv2.line(parse, tuple(map(int, start)), tuple(map(int, stop)), (int(label),), 24)
        cuff = a + (b - a) * sleeve * 2 if sleeve <= 0.5 else b + (c - b) * (sleeve - 0.5) * 2
        cv2.line(parse, tuple(map(int, a)), tuple(map(int, b if sleeve > 0.5 else cuff)), (4,), 28)
        if sleeve > 0.5:
            cv2.line(parse, tuple(map(int, b)), tuple(map(int, cuff)), (4,), 28)
    cv2.ellipse(parse, (192, 86), (28, 36), 0, 0, 360, (int(Label.FACE),), -1)
    person = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    return {
        "person": person,
        "parse": parse,
        "pose": pose,
        "person_mask": (parse > 0).astype(np.uint8),
        "category": category,
    }


def made(given: dict[str, Any]) -> UInt8:
    out = Agnostic().process(given)
    mask: UInt8 = out["agnostic_mask"]
    assert mask.dtype == np.uint8
    assert mask.shape == given["parse"].shape
    assert set(np.unique(mask)) <= {0, 1}
    assert (out["agnostic"][mask > 0] == GREY).all()
    assert np.array_equal(out["agnostic"][mask == 0], given["person"][mask == 0])
    return mask


def covered(mask: UInt8, where: npt.NDArray[np.bool_]) -> float:
    assert where.any()
    return float(mask[where].mean())


def test_upper_covers_the_garment_and_the_arms_and_keeps_the_rest() -> None:
    given = row("upper")
    before = given["person"].copy()
    mask, parse = made(given), given["parse"]
    assert np.array_equal(given["person"], before), "the input is left alone"
    rows = np.arange(SIZE[0])[:, None]
    assert covered(mask, parse == Label.UPPER_CLOTHES) >= 0.99
    arms = (parse == Label.LEFT_ARM) | (parse == Label.RIGHT_ARM)
    assert covered(mask, arms & (rows < 300)) > 0.97
    assert covered(mask, arms & (rows > 338)) < 0.1, "hands stay"
    assert covered(mask, (parse == Label.FACE) & (rows < 116)) <= 0.03
    assert covered(mask, parse == Label.HAIR) <= 0.03
    assert covered(mask, (parse == Label.PANTS) & (rows > 340)) < 0.05
    assert covered(mask, (parse == Label.FACE) & (rows > 130)) > 0.8, "the neck is covered"


def test_sleeve_length_does_not_leak() -> None:
    """The covered region of a sleeveless and of a long-sleeved top is the same but for a margin."""
    short, long = made(row(sleeve=0.05)), made(row(sleeve=0.95))
    above = np.arange(SIZE[0])[:, None] < 300
    changed = (short != long) & above
    assert changed.sum() < 0.02 * long.sum()


def test_lower_covers_legs_and_keeps_the_top() -> None:
    given = row("lower")
    mask, parse = made(given), given["parse"]
    rows = np.arange(SIZE[0])[:, None]
    assert covered(mask, parse == Label.PANTS) >= 0.99
    assert covered(mask, (parse == Label.UPPER_CLOTHES) & (rows < 280)) < 0.05
    assert covered(mask, (parse == Label.FACE) | (parse == Label.HAIR)) == 0


def test_dress_covers_trunk_and_thighs() -> None:
    given = row("dress")
    mask, parse = made(given), given["parse"]
    rows = np.arange(SIZE[0])[:, None]
    assert covered(mask, parse == Label.UPPER_CLOTHES) >= 0.99
    assert covered(mask, (parse == Label.PANTS) & (rows < 400)) > 0.95
    assert covered(mask, (parse == Label.PANTS) & (rows > 480)) < 0.2
    assert covered(mask, parse == Label.HAIR) <= 0.03


@pytest.mark.parametrize("category", ["upper", "lower", "dress"])
def test_a_worn_dress_is_covered_as_far_as_the_category_goes(category: str) -> None:
    given = row(category)
    parse, rows = given["parse"], np.arange(SIZE[0])[:, None]
    parse[np.isin(parse, (Label.UPPER_CLOTHES, Label.PANTS)) & (rows < 430)] = Label.DRESS
    mask = made(given)
    below = (rows > 330) if category == "lower" else (rows >= 0)
    assert covered(mask, (parse == Label.DRESS) & below) >= 0.99
    assert covered(mask, np.isin(parse, (Label.HAIR, Label.FACE)) & (rows < 116)) <= 0.03
    if category == "lower":
        assert covered(mask, (parse == Label.DRESS) & (rows < 270)) < 0.05


def test_a_tie_below_the_hem_is_covered_and_skin_next_to_hair_is_left() -> None:
    given = row("upper")
    parse = given["parse"]
    cv2.line(parse, (200, 300), (205, 390), (int(Label.UPPER_CLOTHES),), 10)
    cv2.line(parse, (176, 60), (170, 146), (int(Label.HAIR),), 8)
    mask = made(given)
    assert covered(mask, parse == Label.UPPER_CLOTHES) >= 0.99
    assert covered(mask, parse == Label.HAIR) <= 0.03
    near = cv2.dilate((parse == Label.HAIR).astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    assert covered(mask, near & (parse == Label.FACE)) < 0.2


@pytest.mark.parametrize("category", ["upper", "lower", "dress"])
@pytest.mark.parametrize(
    "lost",
    [
        [Joint.LEFT_WRIST, Joint.LEFT_ELBOW],
        [Joint.LEFT_HIP, Joint.RIGHT_HIP, Joint.MID_HIP],
        [Joint.NOSE, Joint.LEFT_EYE, Joint.RIGHT_EYE],
        [Joint.LEFT_KNEE, Joint.RIGHT_KNEE, Joint.LEFT_ANKLE, Joint.RIGHT_ANKLE],
    ],
)
def test_missing_joints(category: str, lost: list[Joint]) -> None:
    given = row(category)
    given["pose"][lost] = 0
    mask = made(given)
    label = Label.PANTS if category == "lower" else Label.UPPER_CLOTHES
    assert covered(mask, given["parse"] == label) > 0.9
    assert covered(mask, given["parse"] == Label.HAIR) < 0.05


@pytest.mark.parametrize("size", [(64, 48), (129, 97), (1501, 1123)])
def test_any_size(size: tuple[int, int]) -> None:
    given = row()
    for name in ("person", "parse", "person_mask"):
        given[name] = cv2.resize(given[name], size[::-1], interpolation=cv2.INTER_NEAREST)
    given["pose"][:, :2] *= np.array(size[::-1]) / np.array(SIZE[::-1])
    mask = made(given)
    assert covered(mask, given["parse"] == Label.UPPER_CLOTHES) > 0.97
    assert np.array_equal(mask, made(given))


def test_unknown_category_and_errors_before() -> None:
    good, bad = row(), row("hat")
    batch: dict[str, list[Any]] = {name: [good[name], bad[name], None] for name in good}
    batch |= {"error_code": [None, None, "no-person"], "error": [None, None, "x"], "error_stage": [None, None, "pose"]}
    after = Agnostic()(batch)
    assert after["error_code"] == [None, "category-unknown", "no-person"]
    assert "'hat'" in after["error"][1]
    assert after["agnostic"][1] is None
    assert after["agnostic"][0] is not None
