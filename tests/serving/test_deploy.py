"""`serve deploy` of a config file, as an operator does it: on a Ray that `ray start` started."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from tests.conftest import ROOT
from tests.ray_nodes import Head, ray_head
from tests.test_interrupt import wait_for
from tryon.models.bundle import copy_bundle
from tryon.serving.run import free_port

pytestmark = [pytest.mark.ray, pytest.mark.slow]

BIN = Path(sys.executable).parent
START_S = 300


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


def config_on(port: int, tmp_path: Path, user_config: dict[str, Any] | None = None) -> Path:
    """A copy of the local config on another port; `user_config` is the ingress's."""
    config = yaml.safe_load((ROOT / "serve_configs/local.yaml").read_text())
    config["http_options"]["port"] = port
    config["applications"][0]["args"]["jobs"] = {name: f"{tmp_path}/{name}" for name in ("store", "results", "uploads")}
    if user_config is not None:
        config["applications"][0]["deployments"] = [{"name": "ingress", "user_config": user_config}]
    file = tmp_path / "local.yaml"
    file.write_text(yaml.safe_dump(config))
    return file


def is_healthy(port: int) -> bool:
    try:
        body = requests.get(f"http://127.0.0.1:{port}/api/v1/health", timeout=10).json()
    except (requests.RequestException, json.JSONDecodeError):
        return False
    return bool(body.get("status") == "healthy" and body["model_loaded"])


def deploy(head: Head, file: Path) -> None:
    """`serve deploy`, until the application runs."""
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


def test_serve_deploy(head: Head, tmp_path: Path) -> None:
    port = free_port()
    deploy(head, config_on(port, tmp_path))
    assert is_healthy(port)
    assert set(application(head)["deployments"]) == {"ingress", "all"}


def models(port: int) -> set[str]:
    reply = requests.get(f"http://127.0.0.1:{port}/api/v1/models", timeout=30)
    assert reply.status_code == 200, reply.text
    return {model["model"] for model in reply.json()["models"]}


def pids(head: Head) -> set[int]:
    """Of the replicas."""
    found = application(head)["deployments"].values()
    return {replica["pid"] for deployment in found for replica in deployment["replicas"]}


def test_other_bundles_without_a_restart(
    head: Head, small_bundle: str, photo_files: tuple[Path, Path], tmp_path: Path
) -> None:
    port, other = free_port(), str(tmp_path / "other")
    copy_bundle(small_bundle, other)
    deploy(head, config_on(port, tmp_path))
    before = pids(head)
    person, garment = (path.read_bytes() for path in photo_files)
    statuses: list[int] = []
    stop = threading.Event()

    def post(model: str | None) -> int:
        told = {"person_image": person, "garment_image": garment}
        options = {"options": json.dumps({"model": model})}
        url = f"http://127.0.0.1:{port}/api/v1/tryon"
        return requests.post(url, files=told, data=options, timeout=120).status_code

    def ask() -> None:
        while not stop.is_set():
            statuses.append(post(None))

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    wait_for(lambda: len(statuses) >= 2, START_S, "answers")
    assert post("other") == 404
    deploy(head, config_on(port, tmp_path, {"bundle": small_bundle, "bundles": {"other": other}}))
    wait_for(lambda: models(port) == {"default", "other"}, START_S, "the other bundle")
    assert post("other") == 200
    # What cannot be served leaves what is served as it is.
    deploy(head, config_on(port, tmp_path, {"bundle": str(tmp_path / "nowhere")}))
    num = len(statuses)
    wait_for(lambda: len(statuses) >= num + 2, START_S, "answers")
    assert models(port) == {"default", "other"}
    stop.set()
    asking.join(120)
    assert set(statuses) == {200}
    assert pids(head) == before
