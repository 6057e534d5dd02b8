"""Finding the row that ends a process: each is tried in a child, and the one the child dies of is named.

A native library that crashes on one photo would otherwise end the actor again and again, and the run with it.
"""

from __future__ import annotations

import contextlib
import pickle
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tryon.sample import Row

if TYPE_CHECKING:
    from tryon.data.job import Job

TIMEOUT_S = 600  # for a whole shard in the child; a row that never ends counts as deadly


def deadly_rows(job: Job, task: Any) -> dict[str, str]:
    """Ids of the rows of a task that end the process, each with a sentence on how.

    Args:
        job: of which the source and the stages are used.
        task: one of the source's.
    """
    rows = job.source.read(task)
    deadly: dict[str, str] = {}
    start = 0
    while start < len(rows):
        reached, ending = _try_rows(job, rows[start:])
        if ending is None:
            break
        deadly[rows[start + reached]["id"]] = f"processing this sample {ending}"
        start += reached + 1
    return deadly


def _try_rows(job: Job, rows: Sequence[Row]) -> tuple[int, str | None]:
    """How many rows a child got through, and how it ended; None if well."""
    command = [sys.executable, "-c", "from tryon.data.probe import main; main()"]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    # Two pickles: what the second one holds may only be found with the path in the first.
    told = pickle.dumps(sys.path) + pickle.dumps((job, list(rows)))
    try:
        done, _ = child.communicate(told, timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        child.kill()
        done, _ = child.communicate()
        return done.count(b"."), f"did not end within {TIMEOUT_S} s"
    if child.returncode == 0:
        return len(rows), None
    return done.count(b"."), f"ended the process ({_ending(child.returncode)})"


def _ending(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def main() -> None:
    """The child: reads a job and rows from standard input, writes a dot a row."""
    sys.path[:] = pickle.load(sys.stdin.buffer)
    job, rows = pickle.load(sys.stdin.buffer)
    from tryon.data.job import JobWorker

    worker = JobWorker(job, "")
    for row in rows:
        with contextlib.suppress(Exception):  # only the end of the process is looked for here
            worker.run_row(row)
        sys.stdout.write(".")
        sys.stdout.flush()
