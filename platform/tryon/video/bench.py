"""How much a try-on flickers: on simulated walks, whose true warps are known."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from tryon.config import Config, Size, StageSpec
from tryon.data.simulator.walk import walk
from tryon.engines.in_process import build_pipeline
from tryon.models.bundle import default_bundle
from tryon.sample import Row
from tryon.smoothing import steady_poses
from tryon.stages.warp import Warp
from tryon.stages.warp_clip import WarpClip

Float32 = npt.NDArray[np.float32]
Points = tuple[Float32, Float32]
CELL = 4  # px of the garment photo: errors are compared cell by cell
GIVEN = ("id", "category", "person", "garment", "garment_mask")


class VideoBenchConfig(Config):
    """Which walks."""

    bundle: str = Field(default_factory=default_bundle, description="URI; its warp is measured")
    walks: int = Field(4, ge=1, le=1000, description="persons")
    frames: int = Field(40, ge=3, le=100_000, description="of each, at 25 a second")
    size: Size = Field((256, 192), description="(height, width) px")
    seed: int = Field(0, ge=0, le=2**31 - 1, description="same seed, same walks")
    every: int = Field(2, ge=1, le=100, description="the network looks at each so many-th frame")


class Steadiness(Config):
    """Of one way to warp a film's frames."""

    flicker_px: float = Field(description="change of a garment point's error between frames, px of the garment photo")
    epe_px: float = Field(description="mean end-point error, px of the garment photo")
    warp_ms: float = Field(description="a frame, the network's share")


def bench_video(config: VideoBenchConfig, on_walk: Callable[[int], None] = lambda done: None) -> dict[str, Steadiness]:
    """Measures each frame by itself and all of them together.

    Args:
        config: which walks.
        on_walk: told how many walks are done.

    Returns:
        By name: frame by frame, smoothed.
    """
    ways: Mapping[str, Warp] = {
        "frame by frame": Warp(config.bundle),
        "smoothed": WarpClip(config.bundle, every=config.every),
    }
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in ways}
    annotate = build_pipeline([StageSpec(name="pose")], GIVEN, fill_missing=True)
    rest = build_pipeline([StageSpec(name="parse"), StageSpec(name="agnostic")], (*GIVEN, "pose", "person_mask"))
    for done in range(config.walks):
        rows = list(walk(config.seed + done, config.frames, *config.size))
        seen = annotate({name: [row[name] for row in rows] for name in GIVEN})
        kept = [i for i, code in enumerate(seen["error_code"]) if code is None]
        batch = {name: [column[i] for i in kept] for name, column in seen.items()}
        steady = steady_poses([int(one) for one in batch["id"]], batch["pose"])
        for name, stage in ways.items():
            told = batch if name == "frame by frame" else {**batch, "pose": steady}
            found[name].append(_measured(stage, rest(told), [rows[i] for i in kept]))
        on_walk(done + 1)
    return {
        name: Steadiness(flicker_px=flicker, epe_px=epe, warp_ms=ms)
        for name, (flicker, epe, ms) in ((name, np.mean(values, axis=0)) for name, values in found.items())
    }


def _measured(stage: Warp, batch: dict[str, list[Any]], rows: Sequence[Row]) -> tuple[float, float, float]:
    start = time.perf_counter()
    grids = stage.grids(batch, rows[0]["person"].shape[:2])
    seconds = time.perf_counter() - start
    errors = [errors_of(row, grid) for row, grid in zip(rows, grids, strict=True)]
    epe = float(np.mean(np.concatenate([np.linalg.norm(error, axis=1) for _, error in errors])))
    return flicker(errors), epe, 1000 * seconds / len(rows)


def errors_of(row: Row, grid: Float32) -> Points:
    """Where on the garment photo the visible pixels truly lie, and by how much a warp misses that.

    Args:
        row: of the simulator.
        grid: sampling grid (H, W, 2) in [-1, 1].

    Returns:
        Places and errors, px of the garment photo: float32 (n, 2) each, x and y.
    """
    height, width = row["garment"].shape[:2]
    ys, xs = np.nonzero(row["true_mask"])
    true = np.stack([xs, ys], axis=1) + row["true_flow"][ys, xs]
    told = (grid[ys, xs] + 1) * np.array([width, height], dtype=np.float32) / 2 - 0.5
    return true.astype(np.float32), (told - true).astype(np.float32)


def flicker(frames: Sequence[Points]) -> float:
    """Mean change of a garment point's error from a frame to the next, px; 0 for a warp that is wrong alike.

    Args:
        frames: of `errors_of`, in order.
    """
    changes = []
    before: dict[tuple[int, int], Float32] = {}
    for places, errors in frames:
        now = _by_cell(places, errors)
        changes += [float(np.linalg.norm(now[cell] - before[cell])) for cell in now.keys() & before.keys()]
        before = now
    return float(np.mean(changes)) if changes else 0.0


def _by_cell(places: Float32, errors: Float32) -> dict[tuple[int, int], Float32]:
    cells, index = np.unique(np.floor(places / CELL).astype(int), axis=0, return_inverse=True)
    index = index.reshape(-1)
    count = np.bincount(index).astype(np.float32)
    means = np.stack([np.bincount(index, errors[:, axis]) / count for axis in (0, 1)], axis=1)
    return {(int(x), int(y)): mean.astype(np.float32) for (x, y), mean in zip(cells, means, strict=True)}
