"""`tryon video`: a film through a bundle."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests.test_cli import run_tryon
from tests.video.films import psnr, sound_packets, write_film
from tryon.codec import encode_jpeg
from tryon.data.job import Job, run_job
from tryon.data.shards import Manifest, read_shard, shard_uri
from tryon.data.simulator import simulate
from tryon.data.simulator.walk import walk
from tryon.errors import SampleError
from tryon.video import frames as frames_module
from tryon.video.bench import VideoBenchConfig, bench_video, errors_of, flicker
from tryon.video.clip import open_clip, read_frames
from tryon.video.run import make_video

UInt8 = npt.NDArray[np.uint8]
SIZE = (256, 192)
NUM, EMPTY = 14, (5, 6)
GARMENT = encode_jpeg(simulate(9, 1, 256, 192)["garment"])


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A walk on which for two frames nobody is to be seen."""
    pictures = [row["person"] for row in walk(4, NUM, *SIZE)]
    for i in EMPTY:
        pictures[i] = np.full((*SIZE, 3), 90, dtype=np.uint8)
    return write_film(tmp_path_factory.mktemp("film") / "in.mp4", pictures)


def run_here(job: Job, out: str, title: str) -> Manifest:
    del title
    return run_job(job, out, num_actors=0)


def tried_on(folder: Path, num: int) -> dict[int, UInt8]:
    found = {}
    for shard in range(num):
        batch = read_shard(shard_uri(str(folder / "tryon"), shard))
        found.update({int(one): pixels for one, pixels in zip(batch["id"], batch["result"], strict=True)})
    return found


def make(film: Path, folder: Path, bundle: str, **options: Any) -> Any:
    return make_video(
        open_clip(str(film)), GARMENT, str(folder / "out.mp4"), str(folder), run_here, category="upper", bundle=bundle,
        **options,
    )  # fmt: skip


@pytest.fixture(scope="module")
def made(film: Path, small_bundle: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("made")
    return folder, make(film, folder, small_bundle)


def test_persons_are_dressed_and_the_other_frames_are_as_they_were(film: Path, made: tuple[Path, Any]) -> None:
    folder, result = made
    assert (result.frames, result.worn, result.reasons) == (NUM, NUM - len(EMPTY), {"no-person": len(EMPTY)})
    before = dict(read_frames(open_clip(str(film)), 0, NUM))
    after = dict(read_frames(open_clip(str(folder / "out.mp4")), 0, NUM))
    assert list(after) == list(range(NUM))
    for i in range(NUM):
        assert (psnr(before[i], after[i]) > 34) == (i in EMPTY), i
        assert psnr(before[i][:20], after[i][:20]) > 30, "above the head nothing changes"
    assert sound_packets(folder / "out.mp4") == sound_packets(film)


def test_where_a_task_begins_makes_no_difference(
    film: Path, made: tuple[Path, Any], small_bundle: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tried_on(made[0], 1)
    monkeypatch.setattr(frames_module, "FRAMES_A_TASK", 4)
    monkeypatch.setattr("tryon.video.run.FRAMES_A_TASK", 4)
    make(film, tmp_path, small_bundle)
    parts = tried_on(tmp_path, 4)
    assert sorted(parts) == sorted(whole) == [i for i in range(NUM) if i not in EMPTY]
    for i, pixels in whole.items():
        assert np.abs(pixels.astype(int) - parts[i]).max() <= 1, i


def test_a_run_goes_on_from_what_it_has_made(
    film: Path, made: tuple[Path, Any], small_bundle: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = made
    seen: list[tuple[int, bool]] = []
    run = partial(run_job, num_actors=0, on_report=lambda report, _: seen.append((report.shard, report.reused)))
    make_video(
        open_clip(str(film)), GARMENT, str(tmp_path / "again.mp4"), str(folder), lambda job, out, _: run(job, out),
        category="upper", bundle=small_bundle,
    )  # fmt: skip
    assert seen == [(0, True), (0, True)]


def test_a_garment_photo_that_shows_none_is_named(film: Path, small_bundle: str, tmp_path: Path) -> None:
    with pytest.raises(SampleError, match="garment photo"):
        make_video(
            open_clip(str(film)), b"no photo", str(tmp_path / "out.mp4"), str(tmp_path), run_here, category="upper",
            bundle=small_bundle,
        )  # fmt: skip


@pytest.mark.ray
@pytest.mark.slow
def test_the_command(film: Path, small_bundle: str, tmp_path: Path) -> None:
    (tmp_path / "shirt.jpg").write_bytes(GARMENT)
    out = tmp_path / "out.mp4"
    told = ("--garment", str(tmp_path / "shirt.jpg"), "--out", str(out), "--bundle", small_bundle, "--actors", "1")
    done = run_tryon("video", str(film), *told, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{NUM - len(EMPTY)} frames tried on, {len(EMPTY)} as they were (no-person {len(EMPTY)})" in done.stdout
    assert len(open_clip(str(out)).times) == NUM
    assert not (tmp_path / "out.mp4-work").exists()
    for wrong, says in (("x.mp4", "x.mp4"), (str(tmp_path / "shirt.jpg"), "film")):
        failed = run_tryon("video", wrong, *told)
        assert failed.returncode == 2
        assert says in failed.stderr


# Flicker ------------------------------------------------------------------------------------------------------------


def test_a_walk_moves_and_keeps_its_garment() -> None:
    rows = list(walk(3, 12, *SIZE))
    assert len({row["garment"].tobytes() for row in rows}) == 1
    assert [row["id"] for row in rows[:2]] == ["00000000", "00000001"]
    places = np.stack([row["pose"][:, :2] for row in rows])
    seen = (np.stack([row["pose"][:, 2] for row in rows]) > 0).all(axis=0)
    steps = np.linalg.norm(np.diff(places[:, seen], axis=0), axis=-1)
    assert 0.2 < steps.mean() < 5
    assert steps.max() < 12, "no joint jumps"
    again = list(walk(3, 12, *SIZE))
    assert all(np.array_equal(a["person"], b["person"]) for a, b in zip(rows, again, strict=True))


def test_the_true_warp_is_without_error_and_one_that_is_wrong_alike_does_not_flicker() -> None:
    rows = list(walk(3, 4, *SIZE))
    ys, xs = np.mgrid[: SIZE[0], : SIZE[1]].astype(np.float32)
    scale = np.array([SIZE[1], SIZE[0]], dtype=np.float32)
    grids = [(np.stack([xs, ys], -1) + row["true_flow"] + 0.5) / scale * 2 - 1 for row in rows]
    exact = [errors_of(row, grid) for row, grid in zip(rows, grids, strict=True)]
    assert max(np.abs(error).max() for _, error in exact) < 1e-3
    shifted = [(places, error + np.array([3.0, 0.0])) for places, error in exact]
    assert flicker(shifted) == pytest.approx(0, abs=1e-3)
    jumping = [(places, error + np.array([3.0 * (i % 2), 0.0])) for i, (places, error) in enumerate(exact)]
    assert flicker(jumping) == pytest.approx(3, abs=1e-3)


@pytest.mark.slow
def test_smoothing_halves_the_flicker_and_costs_no_accuracy(tmp_path: Path) -> None:
    found = bench_video(VideoBenchConfig(walks=2, frames=24))
    alone, together = found["frame by frame"], found["smoothed"]
    assert together.flicker_px <= 0.5 * alone.flicker_px
    assert together.epe_px <= 1.02 * alone.epe_px


def test_the_bench_prints_and_writes(small_bundle: str, tmp_path: Path) -> None:
    out = tmp_path / "video.json"
    done = run_tryon("bench", "video", "--bundle", small_bundle, "--walks", "1", "--frames", "6", "--out", str(out))
    assert done.returncode == 0, done.stderr
    assert "of what it is frame by frame" in done.stdout
    assert set(json.loads(out.read_text())["ways"]) == {"frame by frame", "smoothed"}
