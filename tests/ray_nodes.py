"""Ray nodes as an operator starts them: `ray start`, each with its own ports and folder, all on loopback."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests

from tests.conftest import RAY_ENV
from tests.test_interrupt import session, wait_for
from tryon.serving.run import free_port

RAY = str(Path(sys.executable).parent / "ray")
START_S = 300


@dataclass(frozen=True)
class Head:
    """A running head node."""

    gcs: str
    dashboard: str
    env: dict[str, str]


def _ports() -> list[str]:
    agents = ("dashboard-agent-listen", "dashboard-agent-grpc", "metrics-export", "runtime-env-agent")
    return [f"--{name}-port={free_port()}" for name in agents]


@contextmanager
def ray_head(log: Path, *, num_cpus: int, env: dict[str, str] | None = None) -> Iterator[Head]:
    """A head node with its dashboard; ended with all it started."""
    folder = tempfile.mkdtemp(prefix="tr", dir="/tmp")  # short: sockets lie in it
    gcs, dashboard = free_port(), free_port()
    running = Head(f"127.0.0.1:{gcs}", f"http://127.0.0.1:{dashboard}", {
        **{key: value for key, value in os.environ.items() if not key.startswith("RAY_")},
        **RAY_ENV,
        "PATH": f"{Path(RAY).parent}:{os.environ['PATH']}",  # of the activated environment, which jobs' `python` is
        "RAY_DASHBOARD_ADDRESS": f"http://127.0.0.1:{dashboard}", **(env or {}),
    })  # fmt: skip
    command = [RAY, "start", "--head", "--block", f"--num-cpus={num_cpus}", "--include-dashboard=true", *_ports()]
    command += ["--node-ip-address=127.0.0.1", f"--temp-dir={folder}", f"--port={gcs}"]
    command += [f"--dashboard-port={dashboard}", f"--ray-client-server-port={free_port()}"]
    with session(command, log, running.env) as process:
        wait_for(lambda: process.poll() is not None or dashboard_is_up(running.dashboard), START_S, "`ray start`")
        assert process.poll() is None, log.read_text()
        yield running
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def ray_worker(head: Head, log: Path, *, num_cpus: int, resources: str = "{}") -> Iterator[int]:
    """A node that joins the head; gives the process id of its `ray start`."""
    command = [RAY, "start", f"--address={head.gcs}", "--block", f"--num-cpus={num_cpus}", *_ports()]
    command += ["--node-ip-address=127.0.0.1", f"--resources={resources}"]
    before = live_nodes(head)
    with session(command, log, head.env) as process:
        wait_for(lambda: process.poll() is not None or bool(live_nodes(head) - before), START_S, "a node")
        assert process.poll() is None, log.read_text()
        yield process.pid


def dashboard_is_up(address: str) -> bool:
    try:
        return requests.get(f"{address}/api/version", timeout=5).status_code == 200
    except requests.RequestException:
        return False


def live_nodes(head: Head) -> set[str]:
    """Ids of the nodes that live, as the dashboard tells."""
    try:
        reply = requests.get(f"{head.dashboard}/api/v0/nodes", timeout=10).json()
    except (requests.RequestException, ValueError):
        return set()
    return {node["node_id"] for node in reply["data"]["result"]["result"] if node["state"] == "ALIVE"}
