"""`serve deploy` of a config file, as an operator does it: on a Ray that `ray start` started."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from tests.conftest import ROOT
from tests.test_interrupt import session, wait_for
from tryon.serving.run import free_port

pytestmark = [pytest.mark.ray, pytest.mark.slow]

BIN = Path(sys.executable).parent
START_S = 120


@dataclass(frozen=True)
class Head:
    """A running head node."""

    gcs: str
    dashboard: str
    env: dict[str, str]


@pytest.fixture
def head(small_bundle: str, tmp_path: Path) -> Iterator[Head]:
    folder = tempfile.mkdtemp(prefix="tr", dir="/tmp")  # short: sockets lie in it
    gcs, dashboard = free_port(), free_port()
    env = {
        **{key: value for key, value in os.environ.items() if not key.startswith("RAY_")},
        "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "TRYON_BUNDLE": small_bundle,
        "RAY_DASHBOARD_ADDRESS": f"http://127.0.0.1:{dashboard}",
    }  # fmt: skip
    ports = {
        "port": gcs, "dashboard-port": dashboard, "ray-client-server-port": free_port(),
        "dashboard-agent-listen-port": free_port(), "dashboard-agent-grpc-port": free_port(),
        "metrics-export-port": free_port(), "runtime-env-agent-port": free_port(),
    }  # fmt: skip
    command = [str(BIN / "ray"), "start", "--head", "--block", "--num-cpus=4", "--include-dashboard=true"]
    command += [
        "--node-ip-address=127.0.0.1",
        f"--temp-dir={folder}",
        *(f"--{name}={port}" for name, port in ports.items()),
    ]
    log = tmp_path / "ray.log"
    with session(command, log, env) as process:
        running = Head(f"127.0.0.1:{gcs}", env["RAY_DASHBOARD_ADDRESS"], env)
        wait_for(lambda: process.poll() is not None or dashboard_is_up(running.dashboard), START_S, "`ray start`")
        assert process.poll() is None, log.read_text()
        yield running
    shutil.rmtree(folder, ignore_errors=True)


def dashboard_is_up(address: str) -> bool:
    try:
        return requests.get(f"{address}/api/version", timeout=5).status_code == 200
    except requests.RequestException:
        return False


def application(head: Head) -> dict[str, Any]:
    """What Serve says of the application; its status is "none" before there is one."""
    try:
        reply = requests.get(f"{head.dashboard}/api/serve/applications/", timeout=10).json()
    except (requests.RequestException, ValueError):
        reply = {}
    found: dict[str, Any] = reply.get("applications", {}).get("tryon", {"status": "none"})
    return found


def config_on(port: int, tmp_path: Path) -> Path:
    """A copy of the local config on another port."""
    config = yaml.safe_load((ROOT / "serve_configs/local.yaml").read_text())
    config["http_options"]["port"] = port
    file = tmp_path / "local.yaml"
    file.write_text(yaml.safe_dump(config))
    return file


def is_healthy(port: int) -> bool:
    try:
        body = requests.get(f"http://127.0.0.1:{port}/api/v1/health", timeout=10).json()
    except (requests.RequestException, json.JSONDecodeError):
        return False
    return bool(body.get("status") == "healthy" and body["model_loaded"])


def test_serve_deploy(head: Head, tmp_path: Path) -> None:
    port = free_port()
    file = config_on(port, tmp_path)
    done = subprocess.run(
        [str(BIN / "serve"), "deploy", str(file)],
        env=head.env,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    wait_for(lambda: application(head)["status"] not in ("none", "NOT_STARTED", "DEPLOYING"), START_S, "the deployment")
    assert application(head)["status"] == "RUNNING", application(head)["message"]
    assert is_healthy(port)
    assert set(application(head)["deployments"]) == {"ingress", "annotation", "warp", "synthesis", "refinement"}
