"""A Prometheus for tests, on loopback."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
import yaml

from tests.test_interrupt import wait_for


class Prometheus:
    """Answers queries about what it has scraped."""

    def __init__(self, url: str) -> None:
        self._url = url

    def query(self, text: str) -> dict[tuple[str, ...], float]:
        """Values of an instant query, by the values of its labels in the order of their names."""
        reply = requests.get(f"{self._url}/api/v1/query", params={"query": text}, timeout=10).json()
        assert reply["status"] == "success", reply
        return {
            tuple(value for _, value in sorted(one["metric"].items())): float(one["value"][1])
            for one in reply["data"]["result"]
        }


@contextmanager
def prometheus_server(folder: Path, port: int, target: str) -> Iterator[Prometheus]:
    """A Prometheus that scrapes one target every second."""
    binary = shutil.which("prometheus")
    if binary is None:
        pytest.skip("no prometheus on this machine: apt-get install prometheus")
    config = folder / "prometheus.yml"
    told = {"scrape_interval": "1s", "scrape_timeout": "1s"}
    config.write_text(
        yaml.safe_dump(
            {"global": told, "scrape_configs": [{"job_name": "ray", "static_configs": [{"targets": [target]}]}]}
        )
    )
    address = f"127.0.0.1:{port}"
    process = subprocess.Popen(
        [binary, f"--config.file={config}", f"--storage.tsdb.path={folder}/data", f"--web.listen-address={address}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    found = Prometheus(f"http://{address}")

    def is_up() -> bool:
        try:
            return list(found.query("up").values()) == [1.0]
        except (requests.RequestException, ValueError):
            return False

    try:
        wait_for(is_up, 60, "a first scrape")
        yield found
    finally:
        process.kill()
        process.wait()
