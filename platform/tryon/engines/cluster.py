"""Starting and ending Ray: quiet, local unless a cluster is named, nothing left behind."""

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tryon.errors import TryonError

# Set before Ray starts; workers inherit them. `setdefault`: what the user exported wins.
_QUIET = {
    "RAY_AUTH_MODE": "disabled",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_SERVE_LOG_TO_STDERR": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "GLOG_minloglevel": "2",
    "TF_CPP_MIN_LOG_LEVEL": "2",
    # Nobody takes this machine away from its own Ray; on a cluster Ray Train keeps its watcher, one process more.
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
}
# One reader must always find a CPU beside actors that hold the others, or Ray Data waits for ever.
SPARE_CPUS = 2
TOO_SLOW = "node timed out during startup"  # a plain Exception of Ray's, whose limit cannot be set


@contextmanager
def ray_session(
    address: str | None = None,
    *,
    num_cpus: int | None = None,
    dashboard: bool = False,
    resources: Mapping[str, float] | None = None,
) -> Iterator[None]:
    """Joins the cluster that is named, or starts one on this machine and ends it afterwards.

    Inside a session that is already running nothing is started and nothing is ended.

    Args:
        address: of a cluster; None takes ``RAY_ADDRESS`` from the environment, else starts a local one.
        num_cpus: logical CPUs of a local cluster; None: the machine's and two to spare for readers.
        dashboard: of a local cluster, on 127.0.0.1; it takes 1 GB of memory.
        resources: of a local cluster, beside CPUs and GPUs.

    Raises:
        TryonError: the machine is too busy to start it.
    """
    import ray

    if ray.is_initialized():
        yield
        return
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    local: dict[str, Any] = {}
    if address == "local":
        for key, value in _QUIET.items():
            os.environ.setdefault(key, value)
        cpus = num_cpus or physical_cpus() + SPARE_CPUS
        local = {"num_cpus": cpus, "include_dashboard": dashboard, "resources": dict(resources or {})}
        _be_patient()
    with _stderr_on_failure():
        try:
            ray.init(address=address, log_to_driver=False, logging_level="ERROR", **local)
        except Exception as error:
            if TOO_SLOW not in str(error):
                raise
            text = "Ray did not start within 30 s, which it allows itself: this machine is too busy; run it again"
            raise TryonError(text, code="ray-slow") from error
    _quiet_loggers()
    try:
        yield
    finally:
        ray.shutdown()


def is_running() -> bool:
    """Whether this process is part of a Ray; does not import it."""
    ray = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())


def _be_patient() -> None:
    """The dashboard may take minutes to come up on a machine that is busy; read when Ray is imported, so set here."""
    from ray._private import ray_constants

    ray_constants.RAY_DASHBOARD_STARTUP_TIMEOUT_S = max(300, ray_constants.RAY_DASHBOARD_STARTUP_TIMEOUT_S)


@contextmanager
def _stderr_on_failure() -> Iterator[None]:
    """Holds back file descriptor 2 and shows it only if the body fails.

    Ray's C++ side tells there, at every start, that it has read RAY_BACKEND_LOG_LEVEL.
    """
    with tempfile.TemporaryFile() as held:
        saved = os.dup(2)
        os.dup2(held.fileno(), 2)
        failed = True
        try:
            yield
            failed = False
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            if failed:
                held.seek(0)
                os.write(2, held.read())


def _quiet_loggers() -> None:
    """Ray's libraries tell each step on stderr; the verbs show their own progress. Errors still come through."""
    import ray.data
    import ray.serve
    import ray.train  # noqa: F401 - the imports set the levels that are lowered here

    for name in ("ray.data", "ray.serve", "ray.train"):
        logging.getLogger(name).setLevel(logging.ERROR)
    _drop_pool_warning()


def _drop_pool_warning() -> None:
    """Keeps one warning of the raylet off the terminal; all its others still come through.

    "8 PYTHON worker processes have been started ... 4x the maximum" is told on a 2-core machine by any training run,
    because Ray Train alone has five actors. Ray has no setting for it, so its printer is replaced.
    """
    from ray._private import worker

    printer = worker.print_to_stdstream
    if getattr(printer, "drops_pool_warning", False):
        return

    def show(data: dict[str, Any], ignore_prefix: bool) -> None:
        if not any("worker processes have been started" in str(line) for line in data.get("lines", ())):
            printer(data, ignore_prefix)

    show.drops_pool_warning = True  # type: ignore[attr-defined]
    worker.print_to_stdstream = show


def dashboard_url() -> str | None:
    """Where the dashboard of the session's cluster is, or None where it has none."""
    from ray._private import worker

    url = worker.get_dashboard_url()
    return f"http://{url}" if url else None


def physical_cpus() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0))


def worker_cpus() -> int:
    """CPUs that actors of a data job may hold: the cluster's less what is spared for readers."""
    import ray

    if not ray.is_initialized():
        return physical_cpus()
    return max(1, int(ray.cluster_resources().get("CPU", 1)) - SPARE_CPUS)


@contextmanager
def stop_on_sigterm() -> Iterator[threading.Event]:
    """An event that SIGTERM sets while the body runs, so that what is told to end ends well.

    To be entered after `ray_session`: Ray sets a handler of its own when it starts, which aborts the process.
    """
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():  # only there can a handler be set
        yield event
        return
    before = signal.signal(signal.SIGTERM, lambda *_: event.set())
    try:
        yield event
    finally:
        signal.signal(signal.SIGTERM, before)
