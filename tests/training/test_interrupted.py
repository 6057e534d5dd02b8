"""Runs that are killed or told to end, as processes: they go on, and end as if nothing had been."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.training.processes import end_all, start_tryon
from tryon.models.bundle import load_bundle
from tryon.training.checkpoints import NAME

STEPS = 24
NUM_KILLS = 4
SETTINGS = {
    "size": "[64, 48]", "steps": str(STEPS), "batch_size": "4", "num_workers": "0", "network.width": "4",
    "checkpoint_every": "2", "report_every": "1", "val_fraction": "0.2", "ema": "0.9",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _none_left() -> Iterator[None]:
    yield
    end_all()


def start(data: str, out: Path, log: Path) -> subprocess.Popen[bytes]:
    options = [word for key, value in SETTINGS.items() for word in ("--set", f"{key}={value}")]
    return start_tryon(["train", "gmm", "--data", data, "--out", str(out), *options], log)


def last_step(out: Path) -> int:
    """Of the newest whole checkpoint."""
    matches = (NAME.fullmatch(file.name) for file in Path(f"{out}-runs").glob("*/checkpoints/*.pt"))
    return max((int(match.group(1)) for match in matches if match is not None), default=0)


def wait_for_step(process: subprocess.Popen[bytes], out: Path, step: int) -> None:
    deadline = time.monotonic() + 300
    while last_step(out) < step and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def weights(out: Path) -> str:
    return load_bundle(str(out)).manifest.networks["warp"].sha256


@pytest.fixture(scope="module")
def unbroken(small_data: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Hash of the weights of a run that nothing happened to."""
    folder = tmp_path_factory.mktemp("unbroken")
    assert start(small_data, folder / "bundle", folder / "log").wait(300) == 0, (folder / "log").read_text()
    return weights(folder / "bundle")


@pytest.mark.slow
def test_a_run_killed_again_and_again_ends_with_the_same_weights(
    small_data: str, tmp_path: Path, unbroken: str
) -> None:
    out, log, rng = tmp_path / "bundle", tmp_path / "log", random.Random(0)
    kills = 0
    while True:
        process = start(small_data, out, log)
        if kills < NUM_KILLS:
            before = last_step(out)
            # At any moment: while it starts, in a step, while a checkpoint is written.
            wait_for_step(process, out, before + rng.choice((0, 2, 4)))
            time.sleep(rng.random() * (2.0 if last_step(out) == before else 0.05))
            if process.poll() is None:
                process.kill()
                kills += 1
        if process.wait(300) == 0:
            break
    assert kills == NUM_KILLS
    assert weights(out) == unbroken
    run = next(Path(f"{out}-runs").iterdir())
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, STEPS + 1)), "no step twice, none missing"


@pytest.mark.slow
def test_sigterm_saves_ends_well_and_the_run_goes_on(small_data: str, tmp_path: Path, unbroken: str) -> None:
    out, log = tmp_path / "bundle", tmp_path / "log"
    process = start(small_data, out, log)
    wait_for_step(process, out, 4)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0, log.read_text()
    assert "stopped at step" in log.read_text()
    run = next(Path(f"{out}-runs").iterdir())
    assert json.loads((run / "run.json").read_text())["status"] == "stopped"
    assert 4 <= last_step(out) < STEPS
    assert not out.exists()
    assert start(small_data, out, log).wait(300) == 0
    assert weights(out) == unbroken
    assert json.loads((run / "run.json").read_text())["status"] == "finished"
