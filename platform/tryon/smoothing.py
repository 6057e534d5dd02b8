"""Smoothing in time, by windows that lie evenly around each frame: what moves evenly is not late."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tryon.sample import Joint

Float32 = npt.NDArray[np.float32]

POSE_WINDOW: tuple[float, ...] = (1.0, 0.8, 0.41, 0.14, 0.03)  # a Gaussian's, of 1.5 frames; weights by distance
SURE = 0.3  # confidence from which on a joint counts
CUT = 0.5  # of the trunk's length: no one moves so far in a frame
Runs = list[tuple[int, int]]


def runs(numbers: Sequence[int], poses: Sequence[Float32]) -> Runs:
    """Where frames follow each other without a gap and without a cut.

    Args:
        numbers: of the frames, rising.
        poses: their keypoints, (25, 3) each.

    Returns:
        First and after-last place of each run.
    """
    breaks = [i for i in range(1, len(numbers)) if numbers[i] != numbers[i - 1] + 1 or is_cut(poses[i - 1], poses[i])]
    edges = [0, *breaks, len(numbers)]
    return [(a, b) for a, b in itertools.pairwise(edges) if a < b]


def is_cut(before: Float32, after: Float32) -> bool:
    """Whether the scene has changed between two frames: the joints that both are sure of have jumped."""
    both = (before[:, 2] >= SURE) & (after[:, 2] >= SURE)
    trunk = float(np.linalg.norm(before[Joint.NECK, :2] - before[Joint.MID_HIP, :2]))
    if not both.any() or trunk <= 0:
        return False
    jump = np.linalg.norm(before[both, :2] - after[both, :2], axis=1)
    return bool(np.median(jump) > CUT * trunk)


def smooth(values: Float32, weights: Sequence[float]) -> Float32:
    """Weighted means over windows that shrink at both ends alike where one of them would leave the run.

    Args:
        values: float32 (n, ...), a run's.
        weights: by distance from the window's middle, in frames.

    Returns:
        The same shape.
    """
    out = np.empty_like(values)
    for i in range(len(values)):
        reach = min(len(weights) - 1, i, len(values) - 1 - i)
        window = np.array([weights[abs(j)] for j in range(-reach, reach + 1)], dtype=np.float32)
        out[i] = np.tensordot(window / window.sum(), values[i - reach : i + reach + 1], axes=1)
    return out


def smooth_poses(poses: Float32, weights: Sequence[float] = POSE_WINDOW) -> Float32:
    """Keypoints of a run, each by how sure the detector was of it.

    Args:
        poses: float32 (n, 25, 3): x px, y px, confidence.
        weights: see `smooth`.

    Returns:
        The same shape; a joint that a frame does not show stays one that it does not show.
    """
    sure = poses[..., 2:]
    total = smooth(sure, weights)
    places = smooth(poses[..., :2] * sure, weights) / np.maximum(total, 1e-6)
    seen = sure > 0
    return np.where(seen, np.concatenate([places, total], axis=-1), poses).astype(np.float32)


def steady_poses(numbers: Sequence[int], poses: Sequence[Float32]) -> list[Float32]:
    """`smooth_poses` over each of the `runs` of frames; arguments as there."""
    steady = list(poses)
    for start, stop in runs(numbers, poses):
        steady[start:stop] = smooth_poses(np.stack(steady[start:stop]))
    return steady
