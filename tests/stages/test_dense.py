"""The IUV map of a drawn figure: parts where they belong, coordinates that run as they are said to."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from tests.stages.test_parse import drawn_pose, figure
from tryon.sample import Joint, Label
from tryon.stages.dense import Dense, Part

UInt8 = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]


def dense_of(pose: Float32, labels: UInt8) -> UInt8:
    row = {"pose": pose, "parse": labels, "person_mask": (labels > 0).astype(np.uint8)}
    dense: UInt8 = Dense().process(row)["dense"]
    assert dense.dtype == np.uint8
    assert dense.shape == (*labels.shape, 3)
    assert dense[..., 0].max() <= 24
    assert not dense[labels == 0].any(), "off the person all three are 0"
    return dense


def part_at(dense: UInt8, pose: Float32, joint: Joint, other: Joint, share: float = 0.5) -> int:
    x, y = pose[joint, :2] + share * (pose[other, :2] - pose[joint, :2])
    return int(dense[round(float(y)), round(float(x)), 0])


def test_parts_have_densepose_numbers() -> None:
    _, labels, pose = figure(1.0, 2.0)
    dense = dense_of(pose, labels)
    assert part_at(dense, pose, Joint.NECK, Joint.MID_HIP) == Part.TORSO + 1
    assert part_at(dense, pose, Joint.LEFT_SHOULDER, Joint.LEFT_ELBOW, 0.7) in (15, 17)
    assert part_at(dense, pose, Joint.RIGHT_SHOULDER, Joint.RIGHT_ELBOW, 0.7) in (16, 18)
    assert part_at(dense, pose, Joint.LEFT_ELBOW, Joint.LEFT_WRIST) in (19, 21)
    assert part_at(dense, pose, Joint.RIGHT_ELBOW, Joint.RIGHT_WRIST) in (20, 22)
    assert part_at(dense, pose, Joint.LEFT_HIP, Joint.LEFT_KNEE, 0.7) == 10
    assert part_at(dense, pose, Joint.RIGHT_HIP, Joint.RIGHT_KNEE, 0.7) == 9
    assert part_at(dense, pose, Joint.LEFT_KNEE, Joint.LEFT_ANKLE) == 14
    assert part_at(dense, pose, Joint.RIGHT_KNEE, Joint.RIGHT_ANKLE) == 13
    assert part_at(dense, pose, Joint.LEFT_EYE, Joint.LEFT_EAR) == Part.LEFT_HEAD
    assert part_at(dense, pose, Joint.RIGHT_EYE, Joint.RIGHT_EAR) == Part.RIGHT_HEAD


def test_seen_from_behind_the_backs_of_the_parts_show() -> None:
    _, labels, pose = figure()
    swapped = pose.copy()
    for right, left in ((2, 5), (3, 6), (4, 7), (9, 12), (10, 13), (11, 14)):
        swapped[[right, left]] = pose[[left, right]]
    swapped[[Joint.NOSE, Joint.LEFT_EYE, Joint.RIGHT_EYE, Joint.LEFT_EAR, Joint.RIGHT_EAR], 2] = 0
    dense = dense_of(swapped, labels)
    assert part_at(dense, swapped, Joint.NECK, Joint.MID_HIP) == Part.TORSO
    assert part_at(dense, swapped, Joint.LEFT_HIP, Joint.LEFT_KNEE, 0.7) == 8
    assert set(np.unique(dense[..., 0])) & {2, 9, 10, 13, 14} == set()


def test_u_runs_along_a_part_and_v_from_the_persons_right_to_the_left() -> None:
    _, labels, pose = figure(1.0, 2.0)
    dense = dense_of(pose, labels).astype(int)
    ys, xs = np.nonzero(dense[..., 0] == 2)
    torso = dense[ys, xs]
    assert np.corrcoef(ys, torso[:, 1])[0, 1] > 0.99
    assert np.corrcoef(xs, torso[:, 2])[0, 1] > 0.99, "the person's left is on the right"
    assert np.ptp(torso[:, 1]) > 150
    assert np.ptp(torso[:, 2]) > 150
    for parts in ((15, 17), (16, 18), (20, 22)):
        ys, xs = np.nonzero(np.isin(dense[..., 0], parts))
        assert np.corrcoef(ys, dense[ys, xs, 1])[0, 1] > 0.9, "arms hang: U grows downwards"


def test_a_wrist_that_is_not_seen_is_behind_the_back() -> None:
    _, labels, pose = figure(1.0, 2.0)
    pose[Joint.LEFT_WRIST] = (*(pose[Joint.MID_HIP, :2] - (0, 40)), 0.9)
    before = dense_of(pose, labels)
    assert (before[..., 0] == Part.LEFT_HAND).sum() > 50
    pose[Joint.LEFT_WRIST, 2] = 0.1
    behind = dense_of(pose, labels)
    on_trunk = labels == Label.UPPER_CLOTHES
    hidden = np.isin(behind[..., 0], (Part.LEFT_HAND, Part.LEFT_FOREARM, Part.LEFT_FOREARM + 2)) & on_trunk
    shown = np.isin(before[..., 0], (Part.LEFT_HAND, Part.LEFT_FOREARM, Part.LEFT_FOREARM + 2)) & on_trunk
    assert hidden.sum() < 0.3 * shown.sum()


@pytest.mark.parametrize("scale", [0.25, 0.51, 3.0])
def test_any_size(scale: float) -> None:
    _, labels, pose = figure(1.0, scale)
    dense = dense_of(pose, labels)
    assert np.array_equal(dense, dense_of(pose, labels))
    assert ((dense[..., 0] > 0) & (labels > 0)).sum() > 0.75 * (labels > 0).sum()


def test_empty_pose_is_an_error_row_and_an_imported_map_stays() -> None:
    _, labels, pose = figure()
    mask = (labels > 0).astype(np.uint8)
    batch = {"pose": [np.zeros_like(pose), pose], "parse": [labels, labels], "person_mask": [mask, mask]}
    out = Dense()(batch)
    assert out["error_code"] == ["pose-empty", None]
    imported = np.full((*labels.shape, 3), 2, np.uint8)
    kept = Dense()({**batch, "dense": [None, imported]}, fill_missing=True)
    assert kept["dense"][1] is imported


def test_pose_outside_the_frame() -> None:
    _, labels, _ = figure()
    pose = drawn_pose()
    pose[:, 1] += 120
    pose[pose[:, 1] > 255, 2] = 0
    dense_of(pose, labels)
