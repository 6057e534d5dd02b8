"""Finding Ray Serve's replicas among the processes below one."""

from __future__ import annotations

import os
from contextlib import suppress

import psutil


def below(pid: int | None = None) -> list[psutil.Process]:
    """All processes that come from one; None: from this one, as Ray's do that it started."""
    return list(psutil.Process(os.getpid() if pid is None else pid).children(recursive=True))


def replicas(app: str = "", deployment: str = "", pid: int | None = None) -> list[psutil.Process]:
    """Replicas below a process.

    Args:
        app: name of the application; empty: of all.
        deployment: how the deployment's name begins.
        pid: see `below`.
    """
    prefix = f"ray::ServeReplica:{app}:{deployment}" if app else "ray::ServeReplica:"
    found = []
    for process in below(pid):
        with suppress(psutil.Error):
            if "".join(process.cmdline()[:1]).startswith(prefix):
                found.append(process)
    return found
