"""Ctrl-C: what was started ends, nothing is left behind, and the same command goes on from what is there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import requests

from tests.conftest import ROOT, SMALL
from tests.test_cli import run_tryon

pytestmark = [pytest.mark.ray, pytest.mark.slow]

SCRIPT = Path(sys.executable).with_name("tryon")
START_S, END_S = 300, 30
INTERRUPTED = 130
SIZE = f"{SMALL[0]}x{SMALL[1]}"
Process = tuple[int, int]
"""A process id, and the start time that tells it from a later process of the same id."""


def processes() -> dict[Process, tuple[int, int]]:
    """Parent and session of every process that runs; zombies left out."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        if fields[0] != "Z":
            found[int(entry.name), int(fields[19])] = int(fields[1]), int(fields[3])
    return found


def family(pid: int) -> set[Process]:
    """A process, all below it, and all of its session."""
    everything = processes()
    members = {pid}
    while True:
        more = {p for (p, _), (parent, session) in everything.items() if parent in members or session == pid} - members
        if not more:
            return {key for key in everything if key[0] in members}
        members |= more


def alive(members: set[Process]) -> set[Process]:
    return members & set(processes())


def describe(members: set[Process]) -> list[str]:
    lines = []
    for pid, _ in members:
        try:
            lines.append(Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()[:100])
        except OSError:
            continue
    return lines


def wait_for(condition: Callable[[], bool], seconds: float, what: str) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{what} took more than {seconds} s"
        time.sleep(0.2)


def _heed_sigint() -> None:
    """A shell ignores SIGINT in what it starts in the background, and children of the tests would inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def session(command: list[str], log: Path, env: dict[str, str] | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """Runs a command in a session of its own, output to a file; whatever it leaves is killed at the end.

    Args:
        command: to run.
        log: the file.
        env: its whole environment; None: this process's.
    """
    with log.open("wb") as sink:
        process = subprocess.Popen(
            command,
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_heed_sigint,
            cwd=ROOT,
            env=env,
        )
    members: set[Process] = set()
    try:
        members = family(process.pid)
        yield process
    finally:
        members |= family(process.pid)
        for pid, _ in alive(members):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()
        wait_for(lambda: not alive(members), 10, "the end of what was left")


def interrupt(process: subprocess.Popen[bytes], log: Path, send: Callable[[int, int], None]) -> int:
    """Sends SIGINT, checks that all ends in time, and gives the exit code."""
    members = family(process.pid)
    assert len(members) > 3, "Ray was not up"
    send(process.pid, signal.SIGINT)
    code = process.wait(END_S)
    wait_for(lambda: not alive(members), 10, f"the end of {describe(alive(members))}")
    assert not family(process.pid)
    assert "Traceback" not in log.read_text()
    return code


def test_ctrl_c_ends_the_service(small_bundle: str, tmp_path: Path) -> None:
    from tryon.serving.run import free_port

    log, port = tmp_path / "log", free_port()
    with session([str(SCRIPT), "serve", "--bundle", small_bundle, "--port", str(port)], log) as process:
        wait_for(lambda: "Ctrl-C" in log.read_text() or process.poll() is not None, START_S, "the start of the service")
        health = requests.get(f"http://127.0.0.1:{port}/api/v1/health", timeout=30).json()
        assert health["status"] == "healthy", log.read_text()
        # A terminal sends Ctrl-C to the whole foreground group: Ray's own processes get it too.
        assert interrupt(process, log, os.killpg) in (0, INTERRUPTED)
    lines = log.read_text().splitlines()
    assert not [line for line in lines if "raylet" in line or "logging.cc" in line], lines


def test_ctrl_c_ends_a_data_job_and_a_rerun_goes_on(tmp_path: Path) -> None:
    log, out = tmp_path / "log", tmp_path / "data"
    arguments = ["data", "synth", "--out", str(out), "--size", SIZE, "--seed", "4"]
    with session([str(SCRIPT), *arguments, "--num", "3200", "--actors", "2"], log) as process:
        both = [out / "shard-00000.parquet", out / "shard-00001.parquet"]
        wait_for(
            lambda: all(path.exists() for path in both) or process.poll() is not None, START_S, "the first two shards"
        )
        assert interrupt(process, log, os.kill) == INTERRUPTED
    assert "interrupted; the same command goes on" in log.read_text()
    assert not list(out.rglob("*.tmp"))
    assert not (out / "_manifest.json").exists()
    before = [path.read_bytes() for path in both]
    done = run_tryon(*arguments, "--num", "70", "--actors", "0")
    assert done.returncode == 0, done.stderr
    assert "70 rows in = 70 out" in done.stdout
    assert "64 taken from an earlier run" in done.stdout or "70 taken from an earlier run" in done.stdout
    assert [path.read_bytes() for path in both] == before
