"""Quality: good samples pass, each fault is turned away by its own check with score and threshold."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tryon.data.simulator import simulate
from tryon.errors import ConfigError, SampleError
from tryon.images import decode_photo, resize
from tryon.sample import Joint
from tryon.stages import _photo_scores as measure
from tryon.stages._faces import Face
from tryon.stages.garment_mask import GarmentMask
from tryon.stages.pose import Pose
from tryon.stages.quality import SCORES, Quality

QUALITY = Quality()
LAYERS = ("person", "garment", "pose", "person_mask", "garment_mask", "category")


def row_of(**changes: Any) -> dict[str, Any]:
    sample = simulate(41, 2, 256, 192)
    return {**dict.fromkeys(Quality.optional), **{name: sample[name] for name in LAYERS}, **changes}


def code_of(row: dict[str, Any], stage: Quality = QUALITY) -> str:
    with pytest.raises(SampleError) as caught:
        stage.process(row)
    assert any(digit in caught.value.message for digit in "0123456789"), "the sentence has the score"
    assert "is taken" in caught.value.message
    return caught.value.code


def test_good_samples_pass_with_all_scores() -> None:
    for index in range(6):
        sample = simulate(41, index, 256, 192)
        row = {**dict.fromkeys(Quality.optional), **{name: sample[name] for name in LAYERS}}
        scores = json.loads(QUALITY.process(row)["quality"])
        assert list(scores) == sorted(SCORES)
        assert None not in scores.values()


def _blurred(photo: Any, sigma: float) -> Any:
    return cv2.GaussianBlur(photo, (0, 0), sigma)


FAULTS: list[tuple[str, str, Callable[[dict[str, Any]], dict[str, Any]]]] = [
    ("blur", "person", lambda row: {"person": _blurred(row["person"], 3)}),
    ("blur", "garment", lambda row: {"garment": _blurred(row["garment"], 4)}),
    ("exposure", "dark", lambda row: {"person": (row["person"] * 0.1).astype(np.uint8)}),
    ("exposure", "bright", lambda row: {"person": np.minimum(row["person"] * 6.0, 255).astype(np.uint8)}),
    ("resolution", "photo", lambda row: {"person_photo": resize(row["person"], 80, 60)}),
    ("person-size", "tiny", lambda row: {"person_mask": _box(row["person_mask"], 0.1)}),
    ("people", "pieces", lambda row: {"person_mask": _two_boxes(row["person_mask"])}),
    ("garment-mask", "empty", lambda row: {"garment_mask": np.zeros_like(row["garment_mask"])}),
    ("garment-mask", "all", lambda row: {"garment_mask": np.ones_like(row["garment_mask"])}),
    ("garment-mask", "borders", lambda row: {"garment_mask": _frame(row["garment_mask"])}),
    ("cropped", "hips", lambda row: {"pose": _moved(row["pose"], (Joint.LEFT_HIP, Joint.RIGHT_HIP), 0, 200)}),
    ("cropped", "shoulder", lambda row: {"pose": _moved(row["pose"], (Joint.LEFT_SHOULDER,), -200, 0)}),
    ("keypoints", "unseen", lambda row: {"pose": row["pose"] * np.array([1, 1, 0], np.float32)}),
]


def _box(like: Any, share: float) -> Any:
    mask = np.zeros_like(like)
    mask[20 : 20 + round(share * like.shape[0]), 20 : 20 + round(share * like.shape[1])] = 1
    return mask


def _two_boxes(like: Any) -> Any:
    mask = np.zeros_like(like)
    mask[40:200, 10:80] = mask[40:200, 110:170] = 1
    return mask


def _frame(like: Any) -> Any:
    mask = like.copy()
    mask[0], mask[-1], mask[:, 0], mask[:, -1] = 1, 1, 1, 1
    return mask


def _moved(pose: Any, joints: tuple[Joint, ...], dx: float, dy: float) -> Any:
    moved = pose.copy()
    moved[list(joints), :2] += np.array([dx, dy], np.float32)
    return moved


@pytest.mark.parametrize(("check", "which", "change"), FAULTS, ids=[f"{c}-{w}" for c, w, _ in FAULTS])
def test_each_fault_is_turned_away_by_its_check(
    check: str, which: str, change: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    row = row_of()
    assert code_of({**row, **change(row)}) == f"quality-{check}"


def test_a_check_that_is_off_lets_pass() -> None:
    row = row_of()
    blurred = {**row, "person": _blurred(row["person"], 3), "garment": _blurred(row["garment"], 3)}
    Quality({"min_sharpness": None}).process(blurred)
    assert code_of(row, Quality({"min_sharpness": 90})) == "quality-blur"


def test_thresholds_are_checked() -> None:
    with pytest.raises(ConfigError, match="max_outsid"):
        Quality({"max_outsid": 1})
    with pytest.raises(ConfigError, match="min_person_share = 2"):
        Quality({"min_person_share": 2})


def test_sharpness_does_not_ask_for_size() -> None:
    sample = simulate(41, 3, 768, 576)
    scores = []
    for height, width in ((768, 576), (512, 384), (384, 288)):
        photo = resize(sample["person"], height, width)
        work = measure.shrink(photo, measure.WORK_PX)
        scores.append(measure.sharpness(work, measure.region_of(sample["person_mask"], work)))
    assert max(scores) < 2 * min(scores)
    blurred = measure.shrink(_blurred(sample["person"], 3), measure.WORK_PX)
    assert measure.sharpness(blurred, measure.region_of(None, blurred)) < 0.3 * min(scores)


def test_half_rows_are_scored_by_what_they_have() -> None:
    row = row_of()
    person_only = {**row, "garment": None, "garment_mask": None}
    scores = json.loads(QUALITY.process(person_only)["quality"])
    assert all((value is None) == name.startswith("garment_") for name, value in scores.items())
    batch = {name: [row[name], row[name]] for name in LAYERS}
    batch["person"][1] = batch["pose"][1] = batch["person_mask"][1] = None
    out = QUALITY(batch, fill_missing=True)
    assert out["error_code"] == [None, None]
    assert json.loads(out["quality"][1])["person_share"] is None


def _face(x: float, y: float, size: float = 0.1, score: float = 0.95) -> Face:
    return Face(x - size / 2, y - size / 2, size, size, score)


def test_people_are_counted_beside_the_body_not_on_it() -> None:
    pose = np.zeros((25, 3), np.float32)
    for joint in measure.HEAD:
        pose[joint] = (50, 20, 1)
    for joint, x, y in zip(measure.TORSO, (60, 40, 56, 44), (35, 35, 65, 65), strict=True):
        pose[joint] = (x, y, 1)
    head, chest, waist, beside, far = _face(0.5, 0.2), _face(0.5, 0.5), _face(0.47, 0.7), _face(0.85, 0.2), _face(0, 0)
    assert measure.count_people([head], pose, 100, 100) == 1
    assert measure.count_people([head, chest, waist, _face(0.53, 0.22)], pose, 100, 100) == 1
    assert measure.count_people([head, beside], pose, 100, 100) == 2
    assert measure.count_people([head, beside, far, chest], pose, 100, 100) == 3
    assert measure.count_people([head, _face(0.9, 0.9, size=0.02)], pose, 100, 100) == 1, "a passer-by"
    assert measure.count_people([head, _face(0.9, 0.3, score=0.65)], pose, 100, 100) == 1, "a window"
    assert measure.count_people([], pose, 100, 100) == 1
    assert measure.count_people([head, beside], None, 100, 100) == 2


def test_a_wearer_is_told_from_a_print() -> None:
    mask = np.zeros((100, 100), np.uint8)
    mask[20:90, 30:70] = 1
    assert measure.wearer_faces([_face(0.5, 0.3)], mask) == 1
    assert measure.wearer_faces([_face(0.5, 0.6)], mask) == 0
    assert measure.wearer_faces([_face(0.5, 0.3, score=0.65)], mask) == 0
    assert measure.wearer_faces([_face(0.5, 0.3)], None) == 1


def test_skin_counts_where_the_garment_is_cut_by_the_frame() -> None:
    photo = np.full((200, 150, 3), 240, np.uint8)
    photo[:, 40:110] = (200, 150, 125)
    photo[60:150, 40:110] = (30, 60, 120)
    mask = (photo[..., 0] != 240).astype(np.uint8)
    assert measure.worn_skin(photo, mask) > 0.4
    assert code_of(row_of(garment=photo, garment_mask=mask)) == "quality-garment-person"
    free = mask.copy()
    free[:10], free[-10:] = 0, 0
    assert measure.worn_skin(photo, free) == 0


def test_official_pairs_pass(shared: Path) -> None:
    folder = shared / "vitonhd" / "test"
    pose, garment_mask = Pose(), GarmentMask()
    names = [line.split()[0] for line in (folder / "test_pairs.txt").read_text().splitlines()]
    assert len(names) == 24
    for name in names:
        person = decode_photo((folder / "image" / name).read_bytes(), name).pixels
        garment = decode_photo((folder / "cloth" / name).read_bytes(), name).pixels
        row = {**dict.fromkeys(Quality.optional), "person": person, "garment": garment, "category": "upper"}
        QUALITY.process({**row, **pose.process(row), **garment_mask.process(row)})
