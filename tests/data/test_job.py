"""A data job on a bad day: rows that break a stage, rows that end the process, workers and drivers that are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.test_interrupt import family, session
from tryon.codec import encode_png
from tryon.config import StageSpec
from tryon.data.job import Job, run_job
from tryon.data.simulator import simulate
from tryon.data.sources.base import Source
from tryon.data.synth import SynthConfig, synth_job
from tryon.sample import Row

SIZE = (96, 72)


class Deadly(bytes):
    """A photo that ends the process that looks at it."""

    def __bool__(self) -> bool:
        os.kill(os.getpid(), signal.SIGKILL)
        return True


class Breaking(bytes):
    """A photo on which a stage fails in a way it did not foresee."""

    def __bool__(self) -> bool:
        raise ZeroDivisionError("a bug")


class Photos(Source):
    """Eight photos in two tasks, some of them of the kinds above."""

    fields: tuple[str, ...] = ("id", "category", "person_file")
    licence = "Apache-2.0"

    def __init__(self, special: dict[int, type[bytes]]) -> None:
        self._special = special

    def tasks(self) -> Iterable[range]:
        yield from (range(4), range(4, 8))

    def read(self, task: Sequence[int]) -> list[Row]:
        photos = {i: encode_png(simulate(2, i, *SIZE)["person"]) for i in task}
        return [
            {"id": str(i), "category": "upper", "person_file": self._special.get(i, bytes)(photos[i])} for i in task
        ]


def photo_job(special: dict[int, type[bytes]]) -> Job:
    specs = [StageSpec(name="decode_person"), StageSpec(name="fit_person")]
    return Job(Photos(special), specs, ("id", "person"), {"test": 1})


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def quarantine(folder: Path) -> list[dict[str, Any]]:
    return [row for path in sorted(folder.glob("_quarantine/*.parquet")) for row in pq.read_table(path).to_pylist()]


def test_a_stage_that_fails_costs_its_row_only(tmp_path: Path) -> None:
    manifest = run_job(photo_job({1: Breaking, 6: Breaking}), str(tmp_path), num_actors=0)
    assert (manifest.rows_in, manifest.rows, manifest.quarantined) == (8, 6, 2)
    rows = quarantine(tmp_path)
    assert [row["id"] for row in rows] == ["1", "6"]
    assert {row["error_code"] for row in rows} == {"stage-failed"}
    assert rows[0]["error"] == "a stage failed on this sample: ZeroDivisionError: a bug"


@pytest.mark.ray
def test_a_row_that_ends_the_process_costs_itself_only(tmp_path: Path, ray_local: None) -> None:
    manifest = run_job(photo_job({2: Deadly, 3: Deadly}), str(tmp_path), num_actors=1)
    assert (manifest.rows_in, manifest.rows, manifest.quarantined) == (8, 6, 2)
    rows = quarantine(tmp_path)
    assert [(row["id"], row["error_code"]) for row in rows] == [("2", "worker-crashed"), ("3", "worker-crashed")]
    assert rows[0]["error"] == "processing this sample ended the process (SIGKILL)"


def find_actors(pid: int) -> list[int]:
    """Ray Data's actors below a process."""
    titles = {member: Path(f"/proc/{member}/cmdline") for member, _ in family(pid)}
    return sorted(member for member, title in titles.items() if title.exists() and b"MapWorker" in title.read_bytes())


@pytest.mark.ray
@pytest.mark.slow
def test_killed_worker_killed_driver_and_the_bytes_are_the_same(tmp_path: Path) -> None:
    """`kill -9` of an actor, then of the driver with all it started; the rerun ends with an unbroken run's files."""
    num, whole, broken = 320, tmp_path / "whole", tmp_path / "broken"
    run_job(synth_job(SynthConfig(num=num, size=SIZE, seed=9)), str(whole), num_actors=0)
    script = str(Path(sys.executable).with_name("tryon"))
    command = [script, "data", "synth", "--num", str(num), "--size", "96x72", "--seed", "9", "--actors", "2"]
    command += ["--out", str(broken)]
    with session(command, tmp_path / "log") as first:  # what is in the session is killed at the end of the block
        wait_for_shards(broken, 2, first)
        actors = find_actors(first.pid)
        assert len(actors) == 2, actors
        os.kill(actors[0], signal.SIGKILL)
        wait_for_shards(broken, 5, first)
    assert not (broken / "_manifest.json").exists(), "the run was over before it was killed"
    kept = {path.name: path.stat().st_mtime_ns for path in broken.glob("*.parquet")}
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert f"{num} rows in = {num} out + 0 quarantined, {32 * len(kept)} taken from an earlier run" in done.stdout
    assert {name: (broken / name).stat().st_mtime_ns for name in kept} == kept
    for path in broken.rglob("*.tmp"):  # a file that the kill cut off never has a shard's name
        path.unlink()
    assert contents(broken) == contents(whole)


def wait_for_shards(folder: Path, num: int, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 300
    while len(list(folder.glob("*.parquet"))) < num:
        assert process.poll() is None, "the run ended"
        assert time.monotonic() < end, f"no {num} shards in 300 s"
        time.sleep(0.01)
