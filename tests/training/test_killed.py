"""Runs on Ray whose processes are killed at random moments: they reach the end, and end as if nothing had been.

Kills are few here, because each costs seconds; ``TRYON_KILLS=20`` makes it as many in all.
"""

from __future__ import annotations

import json
import os
import random
import signal
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from tests.test_interrupt import SCRIPT, Process, alive, describe, family, session, wait_for
from tests.training.test_interrupted import last_step, weights

pytestmark = [pytest.mark.ray, pytest.mark.slow]

NUM_KILLS = int(os.environ.get("TRYON_KILLS", "3"))
SEED = int(os.environ.get("TRYON_KILLS_SEED", "0"))
STEPS_A_KILL = 12  # enough that the run is not at its end before the last one
PATIENCE_S = 300
TOO_BUSY = "this machine is too busy; run it again"
SETTINGS = {
    "size": "[64, 48]", "batch_size": "4", "network.width": "4", "checkpoint_every": "2", "report_every": "1",
    "val_fraction": "0.2", "ema": "0.9", "trackers": "[]",
}  # fmt: skip
ENV = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2", "RAY_DATA_EXECUTION_NO_PROGRESS_TIMEOUT_S": "300",
    "OMP_NUM_THREADS": "1",
}  # fmt: skip


def command(data: str, out: Path, **settings: object) -> list[str]:
    told = {**SETTINGS, **settings}
    options = [word for key, value in told.items() for word in ("--set", f"{key}={value}")]
    return [str(SCRIPT), "train", "gmm", "--data", data, "--out", str(out), *options]


def workers(driver: int) -> list[Process]:
    """Ray Train's workers below a driver."""
    found = []
    for pid, start in family(driver):
        with suppress(OSError):
            if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"ray::RayTrainWorker"):
                found.append((pid, start))
    return sorted(found)


def kinds(num_workers: int, num: int) -> Iterator[str]:
    """What is killed, in turn: the driver every third time."""
    names = ("worker", "driver", "worker") if num_workers == 1 else ("worker", "driver", "workers")
    yield from (names[i % 3] for i in range(num))


def kill_while_it_runs(data: str, out: Path, log: Path, num_workers: int, num: int, steps: int) -> Sequence[str]:
    """Runs the command again and again until it ends by itself; gives what was killed, and at which step."""
    rng = random.Random(SEED + num_workers)
    left = list(kinds(num_workers, num))
    done: list[str] = []
    while True:
        with session(command(data, out, num_workers=num_workers, steps=steps), log, {**os.environ, **ENV}) as process:
            while left and process.poll() is None:
                # Now while processes start, now in the middle of steps and of writing checkpoints.
                goal = last_step(out) + (0 if len(done) % 4 == 3 else rng.choice((2, 4)))
                wait_for(lambda goal=goal: last_step(out) >= goal or process.poll() is not None, PATIENCE_S, "a step")
                wait_for(lambda: bool(workers(process.pid)) or process.poll() is not None, PATIENCE_S, "a worker")
                wait_for_a_while(rng.random() * 0.3)
                victims = {
                    "driver": [(process.pid, 0)],
                    "workers": workers(process.pid),
                    "worker": rng.sample(found, 1) if (found := workers(process.pid)) else [],
                }[left[0]]
                if not victims or process.poll() is not None:
                    continue
                members = family(process.pid)
                for pid, _ in victims:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                done.append(f"{left.pop(0)} at step {last_step(out)}")
                print(f"killed {done[-1]}")  # noqa: T201 - which moments a failure is about
                if done[-1].startswith("driver"):
                    process.wait(60)
                    wait_for(lambda m=members: not alive(m), 150, f"the end of {describe(alive(members))}")
                    break
            else:
                if process.wait(PATIENCE_S) != 0 and TOO_BUSY in log.read_text():
                    continue  # as its user is told to
                assert process.returncode == 0, log.read_text()
                assert not left, f"the run ended before {left} could be killed"
                return done


def wait_for_a_while(seconds: float) -> None:
    with suppress(AssertionError):
        wait_for(lambda: False, seconds, "")


def lines_of(out: Path) -> list[int]:
    run = next(Path(f"{out}-runs").iterdir())
    return [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]


def share(part: int) -> int:
    """Of the kills, for one of two runs."""
    return (NUM_KILLS + part) // 2


@pytest.mark.timeout(60 + 240 * NUM_KILLS)
def test_one_worker_killed_again_and_again_ends_with_the_weights_of_an_unbroken_run(
    small_data: str, tmp_path: Path
) -> None:
    num = share(1)
    steps = STEPS_A_KILL * num
    assert not kill_while_it_runs(small_data, tmp_path / "unbroken", tmp_path / "log", 1, 0, steps)
    done = kill_while_it_runs(small_data, tmp_path / "killed", tmp_path / "log", 1, num, steps)
    assert len(done) == num
    assert lines_of(tmp_path / "killed") == list(range(1, steps + 1)), "no line twice, none missing"
    assert weights(tmp_path / "killed") == weights(tmp_path / "unbroken")


@pytest.mark.timeout(60 + 240 * NUM_KILLS)
def test_two_workers_reach_the_end_whichever_of_them_is_killed(small_data: str, tmp_path: Path) -> None:
    num = share(0)
    steps = STEPS_A_KILL * num
    done = kill_while_it_runs(small_data, tmp_path / "killed", tmp_path / "log", 2, num, steps)
    assert len(done) == num
    assert lines_of(tmp_path / "killed") == list(range(1, steps + 1)), "no line twice, none missing"
