"""Workers and the database are killed again and again: every item ends once, with one result."""

from __future__ import annotations

import json
import random
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from tests.serving.jobs import working
from tests.serving.jobs.postgres import Cluster
from tryon.serving.jobs.records import ItemState, Job, NewJob
from tryon.serving.jobs.service import JobService, open_jobs

NUM, ROUNDS, SEED = 200, 10, 20260
LIMIT_S = 600


def new_job() -> NewJob:
    return NewJob(
        id="catalogue",
        owner="shop",
        options={"output_format": "jpeg"},
        items=[{"person_url": f"https://x.example/p{i}", "garment_url": f"https://x.example/g{i}"} for i in range(NUM)],
        body_hash="h",
        ttl_s=3600.0,
        webhook_url="https://x.example/hook",
    )


def wait_for(service: JobService, num: int) -> Job:
    """Until so many items have ended."""
    give_up = time.monotonic() + LIMIT_S
    while time.monotonic() < give_up:
        job = service.store.get("catalogue", "shop")
        if job.completed + job.failed >= num:
            return job
        time.sleep(0.05)
    raise AssertionError(f"{num} items did not end in {LIMIT_S} s: {job}")


def kill_in_rounds(
    service: JobService, workers: list[BaseProcess], url: str, folder: Path, server: Cluster | None
) -> None:
    """Ten times, at random points of the job: one of the workers, with kill -9; in the middle the database."""
    chance = random.Random(SEED)
    for i, ended in enumerate(sorted(chance.sample(range(5, NUM - 10), ROUNDS))):
        wait_for(service, ended)
        time.sleep(chance.uniform(0.0, 0.1))
        victim = workers.pop(chance.randrange(len(workers)))
        victim.kill()
        victim.join()
        if server is not None and i == ROUNDS // 2:
            server.crash()
            server.start()
        workers.append(working.start(url, folder))


@pytest.mark.slow
@pytest.mark.timeout(2 * LIMIT_S)
def test_every_item_ends_once_whoever_is_killed(store_url: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    server = request.getfixturevalue("postgres") if store_url.startswith("postgresql") else None
    service = open_jobs(working.config(store_url, tmp_path))
    service.store.submit(new_job())
    workers = [working.start(store_url, tmp_path) for _ in range(2)]
    try:
        kill_in_rounds(service, workers, store_url, tmp_path, server)
        job = wait_for(service, NUM)
        told = wait_for_lines(tmp_path / "told")
    finally:
        for worker in workers:
            worker.kill()
            worker.join()
    assert (job.status, job.total, job.completed, job.failed) == ("done", NUM, NUM, 0)
    check_items(service, tmp_path)
    assert {line["type"] for line in told} == {"batch.done"}
    assert len({line["id"] for line in told}) == 1
    assert told[0]["data"] == {
        "job_id": "catalogue", "status": "done", "total": NUM, "completed": NUM, "failed": 0, "cancelled": 0
    }  # fmt: skip
    service.close()


def check_items(service: JobService, folder: Path) -> None:
    """Each item is done and has one file, whole, of its own inputs, that some worker computed."""
    items = service.store.items("catalogue", limit=NUM + 1)
    assert [(item.position, item.state) for item in items] == [(i, ItemState.DONE) for i in range(NUM)]
    names = sorted(path.name for path in (folder / "results" / "catalogue").iterdir() if path.suffix != ".tmp")
    assert names == [f"{i:06d}.jpg" for i in range(NUM)]
    computed = {json.loads(line)["token"]: json.loads(line) for line in (folder / "computed").read_text().splitlines()}
    for item in items:
        assert item.result_uri == str(folder / "results" / "catalogue" / f"{item.position:06d}.jpg")
        result = json.loads(Path(item.result_uri).read_text())
        assert result["inputs"] == [f"https://x.example/{kind}{item.position}" for kind in "pg"]
        assert computed[result["token"]] == result
    again = len(computed) - NUM
    assert again <= ROUNDS * 10, f"{again} items were computed again; a kill may cost three, the database's six"


def wait_for_lines(path: Path) -> list[dict[str, object]]:
    give_up = time.monotonic() + 60
    while not (path.exists() and path.read_text()) and time.monotonic() < give_up:
        time.sleep(0.1)
    return [json.loads(line) for line in path.read_text().splitlines()]
