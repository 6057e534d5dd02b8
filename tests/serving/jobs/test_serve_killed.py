"""Batch jobs of the whole service, killed again and again: replicas, the ingress, and all of Serve.

``TRYON_BATCH`` items and ``TRYON_ROUNDS`` kills; the defaults keep the suite quick.
"""

from __future__ import annotations

import os
import random
import subprocess
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT
from tests.serving.starting import START_S, served
from tests.test_interrupt import wait_for
from tryon.client import Client, PairInput
from tryon.client.replies import Job
from tryon.serving.bench.processes import replicas
from tryon.serving.run import free_port

NUM = int(os.environ.get("TRYON_BATCH", "12"))
ROUNDS = int(os.environ.get("TRYON_ROUNDS", "3"))
VICTIMS = ("all", "ingress", "serve")  # the deployment of the stages, that of the API and its worker, everything
SEED = 4
LIMIT_S = 1800


def config_file(store_url: str, folder: Path) -> Path:
    """The local config with its jobs below a folder, and items that are taken back soon."""
    config = yaml.safe_load((ROOT / "serve_configs/local.yaml").read_text())
    places = {"store": store_url, "results": str(folder / "results"), "uploads": str(folder / "uploads")}
    worker = {"lease_s": 5.0, "poll_s": 0.2, "first_pause_s": 0.2, "longest_pause_s": 5.0, "parallel": 2}
    config["applications"][0]["args"]["jobs"] = {**places, "max_attempts": 60, "worker": worker}
    file = folder / "local.yaml"
    file.write_text(yaml.safe_dump(config))
    return file


def kill_replica(process: subprocess.Popen[bytes], name: str) -> None:
    """Ends a replica of a deployment with SIGKILL."""
    wait_for(lambda: bool(replicas("tryon", name, process.pid)), START_S, f"a replica of {name}")
    replicas("tryon", name, process.pid)[0].kill()


def ended(job: Job) -> int:
    return job.completed + job.failed


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(LIMIT_S)
def test_every_item_ends_once_whatever_is_killed(
    store_url: str, small_bundle: str, photo_files: tuple[Path, Path], tmp_path: Path
) -> None:
    file, port = config_file(store_url, tmp_path), free_port()
    draw = random.Random(SEED)
    # The first three rounds have one victim each; whichever number of rounds, each kind is killed.
    victims = [*draw.sample(VICTIMS, len(VICTIMS)), *draw.choices(VICTIMS, k=ROUNDS)][:ROUNDS]
    turns = sorted(draw.sample(range(1, NUM - 1), ROUNDS))
    written: dict[str, int] = {}

    def look(client: Client, job_id: str) -> Job:
        """How the job stands; no result that was there is written again."""
        for path in (tmp_path / "results").rglob("*.jpg"):
            assert written.setdefault(str(path), path.stat().st_mtime_ns) == path.stat().st_mtime_ns, path
        return client.job(job_id)

    with ExitStack() as stack:
        running = stack.enter_context(ExitStack())
        process = running.enter_context(served(small_bundle, port, tmp_path / "serve-0.log", "--config", str(file)))
        with Client(f"http://127.0.0.1:{port}", timeout_s=120, tries=200) as client:
            job_id = client.submit([PairInput(*photo_files, id=str(i)) for i in range(NUM)]).job_id
            for i, (turn, victim) in enumerate(zip(turns, victims, strict=True), 1):
                wait_for(lambda turn=turn: ended(look(client, job_id)) >= turn, LIMIT_S, f"{turn} items")  # type: ignore[misc]
                time.sleep(draw.uniform(0.0, 0.5))
                if victim == "serve":
                    running.close()  # kills all of the session
                    running = stack.enter_context(ExitStack())
                    process = running.enter_context(
                        served(small_bundle, port, tmp_path / f"serve-{i}.log", "--config", str(file))
                    )
                else:
                    kill_replica(process, victim)
            wait_for(lambda: ended(look(client, job_id)) >= NUM, LIMIT_S, "all items")
            job = look(client, job_id)
            items, results = client.items(job_id), client.results(job_id)
    assert (job.status, job.total, job.completed, job.failed) == ("done", NUM, NUM, 0)
    assert Counter(item.state for item in items) == {"done": NUM}
    assert [item.id for item in items] == [str(i) for i in range(NUM)]
    assert len({result.index for result in results}) == NUM
    assert len(list((tmp_path / "results").rglob("*.jpg"))) == NUM == len(written)
