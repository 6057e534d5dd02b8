"""Smoothing in time."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from tryon.sample import NUM_JOINTS
from tryon.smoothing import POSE_WINDOW, is_cut, runs, smooth, smooth_poses

Float32 = npt.NDArray[np.float32]


def poses(num: int) -> Float32:
    """A figure that moves evenly to the right, 2 px a frame."""
    rng = np.random.default_rng(1)
    figure = np.concatenate([rng.uniform(20, 200, (NUM_JOINTS, 2)), np.full((NUM_JOINTS, 1), 0.9)], axis=1)
    return np.stack([figure + np.array([2 * i, 0, 0]) for i in range(num)]).astype(np.float32)


def test_even_motion_is_neither_late_nor_shorter() -> None:
    values = np.arange(12, dtype=np.float32)[:, None] * (1.0, -3.0)
    assert smooth(values.astype(np.float32), POSE_WINDOW) == pytest.approx(values, abs=1e-4)
    assert smooth_poses(poses(12)) == pytest.approx(poses(12), abs=1e-3)


def test_noise_becomes_less() -> None:
    rng = np.random.default_rng(0)
    true = poses(60)
    noisy = true.copy()
    noisy[..., :2] += rng.normal(0, 3, noisy[..., :2].shape)
    before, after = (np.abs(np.diff(p[..., :2] - true[..., :2], axis=0)).mean() for p in (noisy, smooth_poses(noisy)))
    assert after < 0.3 * before


def test_what_a_detector_was_not_sure_of_counts_less() -> None:
    told = poses(9)
    told[4, 3] = (500.0, 500.0, 0.02)
    found = smooth_poses(told)
    assert np.linalg.norm(found[4, 3, :2] - poses(9)[4, 3, :2]) < 20


def test_a_joint_that_is_not_seen_stays_so() -> None:
    told = poses(9)
    told[:, 7] = 0
    told[4, 8] = 0
    found = smooth_poses(told)
    assert not found[:, 7].any()
    assert not found[4, 8].any()
    assert found[3, 8, :2] == pytest.approx(told[3, 8, :2], abs=2.5), "a missing neighbour does not draw it to 0"


def test_one_frame_is_itself() -> None:
    assert smooth_poses(poses(1)) == pytest.approx(poses(1))


def test_runs_end_at_gaps_and_cuts() -> None:
    told = poses(8)
    told[5:, :, 0] += 400
    assert is_cut(told[4], told[5])
    assert not is_cut(told[3], told[4])
    assert runs([0, 1, 2, 4, 5, 6, 7, 8], list(told)) == [(0, 3), (3, 5), (5, 8)]
    assert runs([], []) == []
    told[5:, :, 2] = 0
    assert not is_cut(told[4], told[5]), "nothing is known"
