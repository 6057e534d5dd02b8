"""The dashboards of data jobs and training ask for what a Ray that does both really exports."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.serving.prometheus_server import Prometheus, prometheus_server
from tryon.config import StageSpec
from tryon.data.job import Job, run_job
from tryon.data.simulator import simulate
from tryon.data.sources.base import Source, error_row
from tryon.engines.cluster import ray_session
from tryon.errors import DataError
from tryon.sample import Row
from tryon.serving.run import free_port
from tryon.training.run import check_run, run

DASHBOARDS = ROOT / "cluster" / "grafana" / "dashboards"
TRAINING = {
    "steps": 100, "batch_size": 4, "size": [96, 64], "num_workers": 1, "val_fraction": 0.25, "report_every": 1,
    "checkpoint_every": 10, "network": {"width": 8},
}  # fmt: skip
ANSWER_S = 60
GPU = re.compile("gpu|gram")  # what a machine without one does not export


class Slow(Source):
    """Simulated samples, a task at a time and with a wait, so that there is time to look."""

    fields = ("id", "category", "person", "garment")
    licence = "Apache-2.0"

    def tasks(self) -> Iterable[int]:
        yield from range(16)

    def read(self, task: int) -> list[Row]:
        time.sleep(0.4)
        rows = [simulate(3, 2 * task + i, 96, 72) for i in range(2)]
        told = [{name: row[name] for name in self.fields} for row in rows]
        if task % 4 == 0:
            told[0] = error_row(rows[0]["id"], DataError("damaged", code="photo-damaged"), "photo-damaged", "read")
        return told


def questions(name: str) -> dict[str, str]:
    """Expressions of a dashboard by panel and legend, without a GPU's."""
    panels = json.loads((DASHBOARDS / name).read_text())["panels"]
    return {
        f"{panel['title']}: {target['legendFormat']}": target["expr"].replace("$__rate_interval", "30s")
        for panel in panels for target in panel["targets"] if not GPU.search(target["expr"])
    }  # fmt: skip


@contextmanager
def asked(prometheus: Prometheus, name: str) -> Iterator[Callable[[], set[str]]]:
    """Asks a dashboard's questions again and again; gives what has had no answer."""
    left, stop = questions(name), threading.Event()

    def ask() -> None:
        while left and not stop.wait(0.5):
            for title, expr in list(left.items()):
                if prometheus.query(expr):
                    del left[title]

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield lambda: set(left)
    finally:
        stop.set()
        asking.join()


def left_after_a_while(unanswered: Callable[[], set[str]]) -> set[str]:
    """What has no answer yet; a busy machine exports the last figures after the work is done."""
    end = time.monotonic() + ANSWER_S
    while unanswered() and time.monotonic() < end:
        time.sleep(0.2)
    return unanswered()


@pytest.mark.ray
@pytest.mark.slow
def test_every_panel_is_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    monkeypatch.setenv("RAY_metrics_report_interval_ms", "500")
    with ray_session():
        (node,) = ray.nodes()
        target = f"{node['NodeManagerAddress']}:{node['MetricsExportPort']}"
        with prometheus_server(tmp_path, free_port(), target) as prometheus:
            with asked(prometheus, "data.json") as unanswered:
                stages = [StageSpec(name="pose"), StageSpec(name="parse")]
                job = Job(Slow(), stages, (*Slow.fields, "parse"), {"test": 1})
                manifest = run_job(job, str(tmp_path / "data"), num_actors=1)
                assert manifest.quarantined
                assert not left_after_a_while(unanswered)
            spec = check_run("autoencoder", str(tmp_path / "data"), str(tmp_path / "bundle"), TRAINING)
            with asked(prometheus, "training.json") as unanswered:
                run(spec, lambda _: None)
                assert not left_after_a_while(unanswered)
