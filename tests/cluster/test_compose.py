"""The stack for one server: its files are there, and its service is the one of `local.yaml` with keys and stores."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tryon.config import parse_config
from tryon.serving.config import ServeConfig

ROOT = Path(__file__).resolve().parents[2]
CLUSTER = ROOT / "cluster"
COMPOSE: dict[str, Any] = yaml.safe_load((CLUSTER / "compose.yaml").read_text())


def test_all_that_is_mounted_is_there() -> None:
    for service in COMPOSE["services"].values():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (CLUSTER / source).exists(), source
            else:
                assert source in COMPOSE["volumes"]
        for secret in service.get("secrets", ()):
            assert secret in COMPOSE["secrets"]
        for other in service.get("depends_on", ()):
            assert "healthcheck" in COMPOSE["services"][other]
    build = COMPOSE["services"]["tryon"]["build"]
    assert (CLUSTER / build["context"] / build["dockerfile"]).is_file()


def test_only_the_page_and_grafana_are_reached_and_from_this_machine_alone() -> None:
    ports = [port for service in COMPOSE["services"].values() for port in service.get("ports", ())]
    assert sorted(ports) == ["127.0.0.1:3000:3000", "127.0.0.1:8000:8000"]


def test_the_service_is_that_of_local() -> None:
    ours, theirs = (
        yaml.safe_load(path.read_text()) for path in (CLUSTER / "serve-compose.yaml", ROOT / "serve_configs/local.yaml")
    )
    config = parse_config(ServeConfig, ours["applications"][0]["args"], "serve-compose.yaml")
    assert ours["applications"][0]["args"]["groups"] == theirs["applications"][0]["args"]["groups"]
    assert config.jobs is not None
    assert re.match(r"postgresql://\w+@postgres/", config.jobs.store)
    assert config.redis == "redis://redis:6379/0"
    secrets = {f"/run/secrets/{name}" for name in COMPOSE["services"]["tryon"]["secrets"]}
    assert config.keys in secrets
    assert COMPOSE["services"]["tryon"]["environment"]["PGPASSFILE"] in secrets


def test_the_image_copies_what_there_is() -> None:
    text = (CLUSTER / "Dockerfile").read_text()
    for line in re.findall(r"^COPY (.*)$", text, re.MULTILINE):
        for source in line.split()[:-1]:
            assert (ROOT / source).exists(), source
    assert "USER ray" in text
    stages = set(re.findall(r"^FROM \S+ AS (\S+)$", text, re.MULTILINE))
    assert {"cpu-torch", "gpu-torch", "tryon"} <= stages
    project = (ROOT / "pyproject.toml").read_text()
    for extras in re.findall(r"EXTRAS=(\S+)", text):
        for extra in extras.split(","):
            assert re.search(rf"^{extra} = \[", project, re.MULTILINE), extra


def test_prometheus_takes_its_files() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("no promtool on this machine: apt-get install prometheus")
    done = subprocess.run(
        [promtool, "check", "config", str(CLUSTER / "prometheus" / "prometheus.yml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "rules found" in done.stdout


def test_rules_and_dashboards_ask_for_metrics_that_are_counted() -> None:
    counted: set[str] = set()
    for module in ("serving", "engines", "training"):
        counted |= set(re.findall(r"\"(tryon_\w+)\"", (ROOT / f"platform/tryon/{module}/metrics.py").read_text()))
    text = (CLUSTER / "prometheus" / "alerts.yml").read_text()
    for path in (CLUSTER / "grafana" / "dashboards").glob("*.json"):
        text += " ".join(
            target["expr"] for panel in json.loads(path.read_text())["panels"] for target in panel["targets"]
        )
    asked = {re.sub(r"_(bucket|count|sum)$", "", name) for name in re.findall(r"ray_(tryon_\w+)", text)}
    assert asked == counted, asked ^ counted
    told = {tag for tags in re.findall(r"by \(([^)]*)\)", text) for tag in re.split(r"[, ]+", tags)}
    tags = {"le", "instance", "GpuIndex", "Location"}  # Prometheus' own and Ray's
    for module in ("serving", "engines", "training"):
        source = (ROOT / f"platform/tryon/{module}/metrics.py").read_text()
        tags |= {tag for names in re.findall(r"tag_keys=\(([^)]*)\)", source) for tag in re.findall(r"\w+", names)}
    assert told <= tags, told - tags
