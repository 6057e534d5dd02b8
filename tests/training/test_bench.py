"""`tryon bench train`: what it counts, and one small run of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.test_cli import run_tryon
from tryon.data.ingest import LocalBatches
from tryon.data.shards import read_manifest
from tryon.engines.cluster import physical_cpus
from tryon.errors import ConfigError
from tryon.training.bench import BenchConfig, Kind, Leg, figures_of, multiply, resolve, speed_of


def leg(kind: Kind, repeat: int, speed: float, wait: float = 0.0) -> Leg:
    return Leg(kind=kind, repeat=repeat, samples_per_s=speed, data_wait_share=wait)


def test_speed_is_wall_clock_time_after_the_first_line() -> None:
    lines = [
        {"step": 10.0, "seconds": 99.0, "data_wait_share": 0.9},
        {"step": 20.0, "seconds": 4.0, "data_wait_share": 0.5},
        {"step": 30.0, "seconds": 1.0, "data_wait_share": 0.0},
    ]
    assert speed_of(lines, batch_size=8) == (20 * 8 / 5, 0.4)
    assert speed_of(lines, batch_size=8, warm=2) == (10 * 8 / 1, 0.0)


def test_figures_compare_what_one_repeat_gave() -> None:
    legs = []
    for repeat, drift in enumerate((1.0, 0.5, 0.25)):  # a machine that grows slower
        legs += [leg("plain", repeat, 10 * drift), leg("ray", repeat, 9.6 * drift), leg("two", repeat, 8 * drift)]
        legs.append(leg("streamed", repeat, 7 * drift, wait=(0.01, 0.04, 0.2)[repeat]))
    cost, wait, gain = figures_of(legs)
    assert (cost.value, cost.passed) == (pytest.approx(0.96), True)
    assert (wait.value, wait.passed) == (0.04, True)
    assert (gain.value, gain.passed) == (pytest.approx(8 / 9.6), False)


def test_more_threads_than_cores_and_odd_numbers_are_refused() -> None:
    cores = physical_cpus()
    with pytest.raises(ConfigError, match=f"threads = {2 * cores} is not allowed.*has {cores} cores"):
        resolve(BenchConfig(threads=2 * cores))
    with pytest.raises(ValueError, match="an even number is needed"):
        BenchConfig(batch_size=7)


def test_copies_are_read_as_more_samples(small_data: str, tmp_path: Path) -> None:
    out = str(tmp_path / "data")
    multiply(small_data, out, 3)
    manifest, before = read_manifest(out), read_manifest(small_data)
    assert (manifest.rows, manifest.num_shards) == (3 * before.rows, 3 * before.num_shards)
    assert manifest.sha256 != before.sha256
    local = LocalBatches(out, manifest, ("id", "person"), (64, 48), 0.0)
    assert sum(len(batch["id"]) for batch in local("train", 8, None)) == manifest.rows


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.skipif(physical_cpus() < 2, reason="two workers need two cores")
def test_one_command_measures_all_kinds_of_run(small_data: str, tmp_path: Path) -> None:
    out = tmp_path / "bench.json"
    words = ["--data", small_data, "--size", "64x48", "--steps", "5", "--repeats", "1", "--out", str(out)]
    reply = run_tryon("bench", "train", *words, timeout=560)
    assert reply.returncode == 0, reply.stderr
    assert "data wait, streamed shards" in reply.stdout
    told = json.loads(out.read_text())
    assert [entry["kind"] for entry in told["legs"]] == ["plain", "ray", "two", "streamed"]
    assert all(entry["samples_per_s"] > 0 and 0 <= entry["data_wait_share"] <= 1 for entry in told["legs"])
    assert [figure["bar"] for figure in told["figures"]] == [0.95, 0.05, 0.9]
    assert told["machine"]["threads"] == told["config"]["threads"] >= 2
    assert told["machine"]["versions"]["ray"]
