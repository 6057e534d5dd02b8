"""A head and two workers annotate, train and serve; each time one of the workers is lost as when its power fails.

``-s`` prints how long each took to recover; ``TRYON_LOSSES=5`` does it all five times. `make soak` runs it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT
from tests.ray_nodes import Head, live_nodes, ray_head, ray_worker
from tests.serving.test_deploy import application, is_healthy
from tests.test_interrupt import SCRIPT, alive, family, session, wait_for
from tests.training.test_interrupted import last_step
from tests.training.test_killed import workers
from tryon.client import Client
from tryon.client.replies import ServiceError
from tryon.codec import encode_jpeg
from tryon.data.annotate import AnnotateConfig, annotate_job
from tryon.data.job import run_job
from tryon.data.simulator import simulate
from tryon.data.sources.open import open_source
from tryon.serving.run import free_port

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.soak]

LAYERS = ("person", "garment", "pose", "person_mask", "parse", "garment_mask", "agnostic", "agnostic_mask")
SIZE = (128, 96)
LOSSES = int(os.environ.get("TRYON_LOSSES", "1"))
CPUS = 2  # of a worker node: what one training worker, or one replica, needs; the head has one, for readers
LONG_S = 420
TRAINING = {
    "size": "[64,48]", "batch_size": "4", "network.width": "4", "checkpoint_every": "5", "report_every": "1",
    "val_fraction": "0.2", "trackers": "[]", "num_workers": "2", "min_workers": "1", "cpus_per_worker": str(CPUS),
    "steps": "60",
}  # fmt: skip


class Cluster:
    """A head without work of its own but what drives, and two nodes that work."""

    def __init__(self, head: Head, folder: Path, ends: ExitStack) -> None:
        self.head = head
        self._folder = folder
        self._ends = ends
        self.nodes: list[int] = []
        self._started = 0
        self.add()
        self.add()

    def add(self) -> None:
        """One more node."""
        self._started += 1
        log = self._folder / f"node{self._started}.log"
        self.nodes.append(self._ends.enter_context(ray_worker(self.head, log, num_cpus=CPUS)))

    def lose(self) -> float:
        """Ends all processes of a node at once; gives the moment."""
        members = family(self.nodes.pop(0))
        for pid, _ in members:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not alive(members), 10, "the end of the node's processes")
        return time.monotonic()

    @property
    def env(self) -> dict[str, str]:
        return {**self.head.env, "RAY_ADDRESS": self.head.gcs, "OMP_NUM_THREADS": "1"}


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with ray_head(tmp_path / "head.log", num_cpus=CPUS - 1) as head, ExitStack() as ends:
        yield Cluster(head, tmp_path, ends)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Pairs in VITON-HD's layout."""
    folder = tmp_path / "photos"
    for index in range(64):
        row = simulate(6, index, *SIZE)
        for name, field in (("image", "person"), ("cloth", "garment")):
            file = folder / "train" / name / f"{index:05d}_00.jpg"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(encode_jpeg(row[field], 95))
    return folder


class Asking:
    """Try-ons by the project's client, one after another, until it is told to end."""

    def __init__(self, url: str, person: bytes, garment: bytes) -> None:
        self._client = Client(url, timeout_s=LONG_S / 4)
        self._photos = person, garment
        self._answered: list[float] = []  # when each answered request was begun
        self._faults: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self._thread.start()

    def _ask(self) -> None:
        while not self._stop.is_set():
            start = time.monotonic()
            try:
                self._client.tryon(*self._photos)
                self._answered.append(start)
            except ServiceError as error:
                self._faults.append(error.message)

    def answered_since(self, moment: float) -> bool:
        """Whether a request that began after a moment was answered; fails with the first fault there was."""
        assert not self._faults, self._faults
        return any(start > moment for start in list(self._answered))

    def end(self) -> int:
        """How many were answered; fails with the faults there were."""
        self._stop.set()
        self._thread.join()
        assert not self._faults, self._faults
        return len(self._answered)


def shards(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.parquet"))}


def nodes_with_a_replica(head: Head) -> int:
    """Nodes, among those that live, on which a replica of the stages runs."""
    replicas = application(head)["deployments"]["all"]["replicas"]
    return len({one["node_id"] for one in replicas if one["state"] == "RUNNING"} & live_nodes(head))


def recovered(
    process: subprocess.Popen[bytes], log: Path, since: float, what: str, condition: Callable[[], bool]
) -> None:
    wait_for(lambda: process.poll() is not None or condition(), LONG_S, what)
    assert condition(), log.read_text()
    print(f"{what}: {time.monotonic() - since:.1f} s after the node was lost")  # noqa: T201 - the figure of the test


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("turn", range(LOSSES))
def test_a_node_is_lost_while_data_is_annotated_a_network_trained_and_a_service_asked(
    turn: int, cluster: Cluster, photos: Path, small_bundle: str, tmp_path: Path
) -> None:
    data = annotate(cluster, photos, tmp_path)
    cluster.add()
    train(cluster, data, tmp_path)
    serve(cluster, small_bundle, tmp_path)


def annotate(cluster: Cluster, photos: Path, folder: Path) -> Path:
    log = folder / "annotate.log"
    alone, out = folder / "alone", folder / "data"
    config = AnnotateConfig(layers=LAYERS)
    run_job(annotate_job(open_source(str(photos)), config, str(photos)), str(alone), num_actors=0)
    command = [str(SCRIPT), "data", "annotate", str(photos), "--out", str(out), "--layers", ",".join(LAYERS)]
    with session([*command, "--actors", "4"], log, cluster.env) as process:
        wait_for(lambda: process.poll() is not None or bool(shards(out)), LONG_S, "the first shard")
        assert process.poll() is None, log.read_text()
        before = len(shards(out))
        lost = cluster.lose()
        recovered(process, log, lost, "annotate wrote its next shard", lambda: len(shards(out)) > before)
        assert process.wait(LONG_S) == 0, log.read_text()
    assert shards(out) == shards(alone)
    return out


def train(cluster: Cluster, data: Path, folder: Path) -> None:
    log = folder / "train.log"
    bundle = folder / "bundle"
    options = [word for key, value in TRAINING.items() for word in ("--set", f"{key}={value}")]
    command = [str(SCRIPT), "train", "gmm", "--data", str(data), "--out", str(bundle), *options]
    with session(command, log, cluster.env) as process:
        wait_for(lambda: process.poll() is not None or last_step(bundle) >= 10, LONG_S, "the first steps")
        assert process.poll() is None, log.read_text()
        assert [len(workers(node)) for node in cluster.nodes] == [1, 1]
        lost, before = cluster.lose(), last_step(bundle)
        recovered(process, log, lost, "training wrote its next checkpoint", lambda: last_step(bundle) > before)
        cluster.add()
        assert process.wait(LONG_S) == 0, log.read_text()
    (run,) = Path(f"{bundle}-runs").iterdir()
    lines = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert lines == list(range(1, int(TRAINING["steps"]) + 1)), "no line twice, none missing"
    assert (bundle / "bundle.json").is_file()


def serve(cluster: Cluster, bundle: str, folder: Path) -> None:
    log = folder / "serve.log"
    rows = (simulate(5, 0, 256, 192), simulate(5, 1, 256, 192))
    config: dict[str, Any] = yaml.safe_load((ROOT / "serve_configs" / "local.yaml").read_text())
    (group,) = config["applications"][0]["args"]["groups"]
    group |= {"num_cpus": CPUS, "num_replicas": 2}
    del config["applications"][0]["args"]["jobs"]
    config["applications"][0]["args"]["num_replicas"] = 2
    file = folder / "serve.yaml"
    file.write_text(yaml.safe_dump(config))
    port = free_port()
    command = [str(SCRIPT), "serve", "--config", str(file), "--bundle", bundle, "--port", str(port)]
    with session(command, log, cluster.env) as process:
        wait_for(lambda: process.poll() is not None or is_healthy(port), LONG_S, "the service")
        assert process.poll() is None, log.read_text()
        wait_for(lambda: nodes_with_a_replica(cluster.head) == 2, LONG_S, "a replica on each node")
        asking = Asking(f"http://127.0.0.1:{port}", encode_jpeg(rows[0]["person"]), encode_jpeg(rows[1]["garment"]))
        wait_for(lambda: asking.answered_since(0), LONG_S, "the first answer")
        lost = cluster.lose()
        recovered(process, log, lost, "the service answered", lambda: asking.answered_since(lost))
        cluster.add()
        recovered(process, log, lost, "a new node had a replica", lambda: nodes_with_a_replica(cluster.head) == 2)
        assert asking.end() > 2
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0, log.read_text()
