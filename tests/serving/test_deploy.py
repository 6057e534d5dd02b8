"""`serve deploy` of a config file, as an operator does it: on a Ray that `ray start` started."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from tests.conftest import ROOT
from tests.ray_nodes import Head, ray_head
from tests.test_interrupt import wait_for
from tryon.serving.run import free_port

pytestmark = [pytest.mark.ray, pytest.mark.slow]

BIN = Path(sys.executable).parent
START_S = 120


@pytest.fixture
def head(small_bundle: str, tmp_path: Path) -> Iterator[Head]:
    with ray_head(tmp_path / "ray.log", num_cpus=4, env={"TRYON_BUNDLE": small_bundle}) as running:
        yield running


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
    config["applications"][0]["args"]["jobs"] = {name: f"{tmp_path}/{name}" for name in ("store", "results", "uploads")}
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
    assert set(application(head)["deployments"]) == {"ingress", "all"}
