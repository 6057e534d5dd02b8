"""Pose: the BODY_25 mapping, faults, and real photos where those are at hand."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from tryon.sample import Joint
from tryon.stages.pose import HIP_RAISE, LANDMARK_OF, SHOULDER_DROP, Pose, body_25

UInt8 = npt.NDArray[np.uint8]


@pytest.fixture(scope="module")
def stage() -> Pose:
    return Pose()


def person(shared: Path, name: str = "00006_00") -> UInt8:
    image = cv2.imread(str(shared / "vitonhd" / "test" / "image" / f"{name}.jpg"))
    assert image is not None
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def landmarks() -> npt.NDArray[np.float32]:
    """Landmark i lies at (10 i, 20 i) with visibility 0.9."""
    index = np.arange(33, dtype=np.float32)
    return np.stack([10 * index, 20 * index, np.full(33, 0.9, np.float32)], axis=1)


def test_body_25_takes_the_right_landmarks() -> None:
    pose = body_25(landmarks(), height=1000, width=1000)
    assert pose.shape == (25, 3)
    assert pose.dtype == np.float32
    assert tuple(pose[Joint.NOSE, :2]) == (0, 0)
    assert tuple(pose[Joint.LEFT_WRIST, :2]) == (150, 300)
    assert tuple(pose[Joint.RIGHT_WRIST, :2]) == (160, 320)
    trunk = np.array([115 - 235, 230 - 470])  # from the middle of MediaPipe's hips to that of its shoulders
    assert pose[Joint.NECK, :2] == pytest.approx((115, 230) - SHOULDER_DROP * trunk)
    assert pose[Joint.MID_HIP, :2] == pytest.approx((235, 470) + HIP_RAISE * trunk)
    assert pose[Joint.LEFT_HIP, :2] == pytest.approx((230, 460) + HIP_RAISE * trunk)
    assert pose[Joint.RIGHT_SHOULDER, :2] == pytest.approx((120, 240) - SHOULDER_DROP * trunk)
    assert pose[Joint.LEFT_SMALL_TOE, 2] == 0
    assert pose[Joint.RIGHT_SMALL_TOE, 2] == 0
    missing = set(Joint) - set(LANDMARK_OF)
    assert missing == {Joint.NECK, Joint.MID_HIP, Joint.LEFT_SMALL_TOE, Joint.RIGHT_SMALL_TOE}


def test_joints_outside_the_frame_keep_their_place_without_confidence() -> None:
    pose = body_25(landmarks(), height=400, width=1000)
    assert pose[Joint.LEFT_WRIST, 2] == pytest.approx(0.9)
    assert pose[Joint.LEFT_HIP, 2] == 0
    assert pose[Joint.LEFT_HIP, :2] == pytest.approx((230, 460) + HIP_RAISE * np.array([-120, -240]))


@pytest.mark.parametrize(
    "image",
    [
        np.full((96, 64, 3), 200, np.uint8),
        np.zeros((65, 201, 3), np.uint8),
        np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8),
    ],
    ids=["flat", "black", "noise"],
)
def test_nobody_is_an_error_row(stage: Pose, image: UInt8) -> None:
    batch = stage({"person": [image]})
    assert batch["error_code"] == ["no-person"]
    assert batch["error"] == ["no person was found in the person photo"]
    assert batch["error_stage"] == ["pose"]
    assert batch["pose"] == [None]
    assert batch["person_mask"] == [None]


def test_rows_in_error_are_passed_by(stage: Pose) -> None:
    before = {"person": [None], "error_code": ["image-empty"], "error": ["empty"], "error_stage": ["decode"]}
    after = stage(before)
    assert after["error_code"] == ["image-empty"]
    assert after["error_stage"] == ["decode"]


def test_importing_loads_nothing_heavy() -> None:
    code = "import sys, tryon.stages.pose; sys.exit('mediapipe' in sys.modules)"
    root = Path(__file__).resolve().parents[2] / "platform"
    assert subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(root)}).returncode == 0


@pytest.mark.parametrize("size", [(1024, 768), (257, 193), (128, 96)])
def test_finds_a_real_person_at_any_size(stage: Pose, shared: Path, size: tuple[int, int]) -> None:
    image = np.asarray(cv2.resize(person(shared), size[::-1], interpolation=cv2.INTER_AREA), dtype=np.uint8)
    row = stage.process({"person": image})
    pose, mask = row["pose"], row["person_mask"]
    assert mask.shape == size
    assert mask.dtype == np.uint8
    assert set(np.unique(mask)) == {0, 1}
    share = np.array([size[1], size[0]])
    assert np.abs(pose[Joint.NOSE, :2] / share - (0.48, 0.16)).max() < 0.05
    assert pose[Joint.LEFT_SHOULDER, 0] > pose[Joint.RIGHT_SHOULDER, 0], "left is the person's own"
    assert pose[Joint.NOSE, 2] > 0.9


def test_landmarks_in_metres(stage: Pose, shared: Path) -> None:
    world = stage.process({"person": person(shared)})["pose_world"]
    assert world.shape == (33, 4)
    assert world.dtype == np.float32
    assert np.abs(world[23:25, :3].mean(axis=0)).max() < 0.03, "the origin lies between the hips"
    assert 0.2 < np.linalg.norm(world[11, :3] - world[12, :3]) < 0.6, "shoulders, metres"
    assert world[11, 0] > world[12, 0], "x runs to the viewer's right"
    assert world[0, 1] < world[11, 1] < world[23, 1], "y runs down"
    assert 0 <= world[:, 3].min() <= world[:, 3].max() <= 1


def test_a_brought_pose_stays_and_is_no_error_where_nobody_is_found(stage: Pose, shared: Path) -> None:
    drawn, photo = np.full((96, 64, 3), 200, np.uint8), person(shared)
    pose = np.arange(75, dtype=np.float32).reshape(25, 3)
    mask = np.ones((96, 64), dtype=np.uint8)
    batch = {"person": [drawn, photo, drawn], "pose": [pose, pose, pose], "person_mask": [mask, None, None]}
    out = stage(batch, fill_missing=True)
    assert out["error_code"] == [None, None, "no-person"]
    assert all(kept is pose for kept in out["pose"][:2])
    assert out["person_mask"][0] is mask
    assert out["person_mask"][1].shape == photo.shape[:2]
    assert out["pose_world"][0] is None
    assert out["pose_world"][1].shape == (33, 4)


def test_dark_photo_is_found(stage: Pose, shared: Path) -> None:
    row = stage.process({"person": (person(shared) // 6).astype(np.uint8)})
    assert row["pose"][Joint.NOSE, 2] > 0.5


def test_is_deterministic_and_survives_pickling(stage: Pose, shared: Path) -> None:
    image = person(shared, "03615_00")
    first = stage.process({"person": image})
    again = pickle.loads(pickle.dumps(stage)).process({"person": image})
    assert np.array_equal(first["pose"], again["pose"])
    assert np.array_equal(first["person_mask"], again["person_mask"])
