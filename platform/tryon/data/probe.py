"""Finding what ends a process: each item is tried in a child, and the one the child dies of is named.

A native library that crashes on one photo would otherwise end the actor again and again, and the run with it.
"""

from __future__ import annotations

import contextlib
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

TIMEOUT_S = 600  # for all items in one child; an item that never ends counts as deadly


def deadly_items(check: Callable[[Any], None], items: Sequence[Any]) -> dict[int, str]:
    """Places of the items that end the process, each with a clause on how.

    Args:
        check: what is tried; picklable. What it raises is of no interest.
        items: picklable.
    """
    deadly: dict[int, str] = {}
    start = 0
    while start < len(items):
        reached, ending = _try_items(check, items[start:])
        if ending is None:
            break
        deadly[start + reached] = ending
        start += reached + 1
    return deadly


def _try_items(check: Callable[[Any], None], items: Sequence[Any]) -> tuple[int, str | None]:
    """How many items a child got through, and how it ended; None if well."""
    command = [sys.executable, "-c", "from tryon.data.probe import main; main()"]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    # Two pickles: what the second one holds may only be found with the path in the first.
    told = pickle.dumps(sys.path) + pickle.dumps((check, list(items)))
    try:
        done, _ = child.communicate(told, timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        child.kill()
        done, _ = child.communicate()
        return done.count(b"."), f"did not end within {TIMEOUT_S} s"
    if child.returncode == 0:
        return len(items), None
    return done.count(b"."), f"ended the process ({_ending(child.returncode)})"


def _ending(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def main() -> None:
    """The child: reads a check and items from standard input, writes a dot an item."""
    sys.path[:] = pickle.load(sys.stdin.buffer)
    check, items = pickle.load(sys.stdin.buffer)
    for item in items:
        with contextlib.suppress(Exception):  # only the end of the process is looked for here
            check(item)
        sys.stdout.write(".")
        sys.stdout.flush()
