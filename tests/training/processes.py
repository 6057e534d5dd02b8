"""`tryon` as processes that a test kills; a fixture that calls `end_all` leaves none behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

_started: list[subprocess.Popen[bytes]] = []


def start_tryon(words: list[str], log: Path) -> subprocess.Popen[bytes]:
    """Starts the command on one thread; its output goes to the end of a file."""
    script = str(Path(sys.executable).with_name("tryon"))
    with log.open("ab") as stream:
        process = subprocess.Popen(
            [script, *words], stdout=stream, stderr=stream, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
    _started.append(process)
    return process


def end_all() -> None:
    """Kills what has been started and waits for its end."""
    for process in _started:
        process.kill()
        process.wait()
    _started.clear()
