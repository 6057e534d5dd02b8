"""The Ray Data engine: the same bytes by any number of actors in any order, and faults that come through whole."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from ray.exceptions import ActorUnavailableError

from tryon.data.job import JobWorker, run_job
from tryon.data.synth import SynthConfig, synth_job
from tryon.engines import dataset
from tryon.engines.dataset import ShardReport, run_shards
from tryon.errors import BundleError
from tryon.models.bundle import load_bundle

JOB = synth_job(SynthConfig(num=40, size=(64, 48), seed=3))  # two shards


def shard_bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.parquet"))}


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("reference") / "data"
    run_job(JOB, str(out), num_actors=0)
    return out


def test_order_does_not_matter(reference: Path, tmp_path: Path) -> None:
    worker = JobWorker(JOB, str(tmp_path))
    for shard, task in reversed(list(enumerate(JOB.source.tasks()))):
        worker.process(shard, task)
    assert shard_bytes(tmp_path) == shard_bytes(reference)
    assert list(shard_bytes(tmp_path)) == [f"shard-{i:05d}.parquet" for i in range(2)]


@pytest.mark.ray
@pytest.mark.parametrize("num_actors", [1, 2])
def test_actors_write_the_bytes_that_one_process_writes(
    reference: Path, tmp_path: Path, ray_local: None, num_actors: int
) -> None:
    reports: list[ShardReport] = []
    manifest = run_job(JOB, str(tmp_path), num_actors=num_actors, on_report=lambda report, _: reports.append(report))
    assert shard_bytes(tmp_path) == shard_bytes(reference)
    assert sorted(report.shard for report in reports) == [0, 1]
    assert (manifest.rows_in, manifest.rows) == (40, 40)
    assert (tmp_path / "_manifest.json").read_bytes() == (reference / "_manifest.json").read_bytes()


@pytest.mark.ray
def test_a_fault_in_a_workers_constructor_reaches_the_driver_as_it_was(ray_local: None) -> None:
    with pytest.raises(BundleError, match=r"/nowhere/bundle.*does not exist") as caught:
        list(run_shards([1, 2], partial(load_bundle, "/nowhere/bundle"), num_actors=1))  # type: ignore[arg-type]
    assert caught.value.code == "bundle-missing"
    assert caught.value.field == "bundle"


def test_in_process_the_fault_is_simply_raised() -> None:
    with pytest.raises(BundleError):
        list(run_shards([1], partial(load_bundle, "/nowhere/bundle"), num_actors=0))  # type: ignore[arg-type]


def test_what_a_lost_node_leaves_begins_anew_and_is_given_up_where_nothing_comes_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The losses here are made up; a real one is in tests/test_node_loss.py."""
    runs: list[list[int]] = []
    good_for = [2, 0, 1, 0, 0, 0, 0]  # shards of each run before the node is lost

    def run(segment: list[tuple[int, int]], make_worker: object, num_actors: int) -> Iterator[ShardReport]:
        del make_worker
        runs.append([shard for shard, _ in segment])
        assert num_actors == min(2, len(segment))
        for shard, _ in segment[: good_for[len(runs) - 1]]:
            yield ShardReport(shard, 1, 1, 0)
        raise ActorUnavailableError("the node is gone", None)

    monkeypatch.setattr(dataset, "_run_segment", run)
    monkeypatch.setattr(dataset, "LOST_S", 0.0)
    reports = run_shards(range(5), JobWorker, num_actors=2)  # type: ignore[arg-type]
    assert [next(reports).shard for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ActorUnavailableError):
        next(reports)
    assert runs == [[0, 1, 2, 3, 4], [2, 3, 4], [2, 3, 4], [3, 4], [3, 4], [3, 4]]
