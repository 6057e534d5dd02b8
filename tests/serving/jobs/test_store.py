"""The store, on SQLite and on PostgreSQL."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.serving.jobs.postgres import Cluster
from tests.test_interrupt import wait_for
from tryon.errors import ConfigError, StorageError
from tryon.serving.faults import BusyError
from tryon.serving.jobs.database import open_database
from tryon.serving.jobs.errors import IdempotencyError, JobMissingError
from tryon.serving.jobs.records import Fault, Finish, ItemState, JobStatus, NewJob
from tryon.serving.jobs.store import JobStore

LONG_S, SHORT_S = 60.0, 0.2
BROKEN = Fault("image-truncated", "person_image ends too early", "person_image")


def new(id: str = "a", num: int = 3, key: str | None = None, body_hash: str = "h", ttl_s: float = 60.0) -> NewJob:
    return NewJob(
        id=id,
        owner="shop",
        options={"quality": 90},
        items=[{"person_url": f"https://example.org/{i}.jpg"} for i in range(num)],
        body_hash=body_hash,
        ttl_s=ttl_s,
        idempotency_key=key,
    )


def states(store: JobStore, job_id: str = "a") -> list[str]:
    return [item.state.value for item in store.items(job_id)]


def test_a_job_from_hand_in_to_end(store: JobStore) -> None:
    job, made = store.submit(new())
    assert made
    assert (job.status, job.total, job.completed, job.ended_s) == (JobStatus.QUEUED, 3, 0, None)
    first, second = store.lease("w", 2, LONG_S)
    assert [first.position, second.position] == [0, 1]
    assert (first.owner, first.options, first.attempts) == ("shop", {"quality": 90}, 1)
    assert first.inputs == {"person_url": "https://example.org/0.jpg"}
    assert store.get("a", "shop").status == JobStatus.RUNNING
    assert store.finish(first, "out/0.jpg") == Finish.KEPT
    assert store.fail(second, BROKEN, None) == Finish.KEPT
    (third,) = store.lease("w", 2, LONG_S)
    assert store.get("a", "shop").ended_s is None
    assert store.finish(third, "out/2.jpg") == Finish.KEPT
    job = store.get("a", "shop")
    assert (job.status, job.completed, job.failed, job.cancelled) == (JobStatus.DONE, 2, 1, 0)
    assert job.ended_s is not None
    assert job.ended_s == pytest.approx(time.time(), abs=30)
    items = store.items("a")
    assert [item.result_uri for item in items] == ["out/0.jpg", None, "out/2.jpg"]
    assert items[1].fault == BROKEN
    assert store.lease("w", 9, LONG_S) == []
    assert store.count_jobs()[JobStatus.DONE] == 1


def test_jobs_take_turns(store: JobStore) -> None:
    store.submit(new("long", 5))
    store.lease("w", 2, LONG_S)
    store.submit(new("short", 2))
    assert [(x.job_id, x.position) for x in store.lease("w", 3, LONG_S)] == [("short", 0), ("short", 1), ("long", 2)]


def test_the_same_idempotency_key_gives_the_same_job(store: JobStore) -> None:
    first, _ = store.submit(new("a", key="k"))
    again, made = store.submit(new("b", key="k"))
    assert (again.id, made) == ("a", False)
    assert first.created_s == again.created_s
    with pytest.raises(IdempotencyError, match="'k' was sent before with another body"):
        store.submit(new("c", key="k", body_hash="other"))
    with pytest.raises(JobMissingError):
        store.get("b", "shop")
    assert store.submit(new("a"))[1] is False  # the answer of the first was lost
    assert len(store.items("a")) == 3


def test_the_same_key_from_many_threads_makes_one_job(store: JobStore) -> None:
    ids: list[str] = []
    start = threading.Barrier(8)

    def hand_in(i: int) -> None:
        start.wait()
        ids.append(store.submit(new(f"job{i}", key="k"))[0].id)

    run_threads(8, hand_in)
    assert len(ids) == 8
    assert len(set(ids)) == 1
    assert len(store.items(ids[0])) == 3


def test_an_owner_sees_only_its_own(store: JobStore) -> None:
    store.submit(new())
    for call in (store.get, store.cancel):
        with pytest.raises(JobMissingError, match="no job 'a'"):
            call("a", "another")
    assert states(store) == ["waiting"] * 3


def test_too_many_open_items_are_refused(store_url: str) -> None:
    store = JobStore(open_database(store_url), max_open_items=5)
    store.submit(new("a", 3))
    with pytest.raises(BusyError, match="3 items are open, and at most 5"):
        store.submit(new("b", 3))
    with pytest.raises(JobMissingError):
        store.get("b", "shop")
    for lease in store.lease("w", 1, LONG_S):
        store.finish(lease, "x")
    assert store.submit(new("b", 3))[1]
    store.database.close()


def test_a_late_worker_writes_nothing(store: JobStore) -> None:
    store.submit(new(num=1))
    (late,) = store.lease("slow", 1, SHORT_S)
    assert store.lease("other", 1, LONG_S) == []
    time.sleep(SHORT_S + 0.1)
    (held,) = store.lease("other", 1, LONG_S)
    assert (held.position, held.attempts) == (0, 2)
    assert store.renew([late, held], LONG_S) == {held.key}
    assert store.finish(late, "late.jpg") == Finish.LOST
    assert store.fail(late, BROKEN, None) == Finish.LOST
    assert store.release(late) == Finish.LOST
    assert store.finish(held, "held.jpg") == Finish.KEPT
    assert store.finish(late, "late.jpg") == Finish.LOST
    assert store.finish(held, "again.jpg") == Finish.KEPT  # the answer of the first was lost
    assert [item.result_uri for item in store.items("a")] == ["held.jpg"]
    assert store.get("a", "shop").completed == 1


def test_a_renewed_lease_does_not_run_out(store: JobStore) -> None:
    store.submit(new(num=1))
    (lease,) = store.lease("w", 1, SHORT_S)
    assert store.renew([lease], LONG_S) == {lease.key}
    time.sleep(SHORT_S + 0.1)
    assert store.lease("other", 1, LONG_S) == []


def test_an_item_is_begun_so_often_and_no_more(store: JobStore) -> None:
    store.submit(new(num=2))
    for attempt in (1, 2, 3):
        first, _lost = store.lease("w", 2, SHORT_S)
        assert first.attempts == attempt
        store.fail(first, BROKEN, 0.0)
        time.sleep(SHORT_S + 0.1)
    assert store.lease("w", 2, SHORT_S) == []
    failed, lost = store.items("a")
    assert failed.fault == Fault("image-truncated", "person_image ends too early (3 tries)", "person_image")
    assert lost.fault is not None
    assert (lost.state, lost.fault.code) == (ItemState.FAILED, "worker-lost")
    job = store.get("a", "shop")
    assert (job.status, job.failed) == (JobStatus.DONE, 2)


def test_a_try_that_was_given_back_does_not_count(store: JobStore) -> None:
    store.submit(new(num=1))
    for _ in range(5):
        (lease,) = store.lease("w", 1, LONG_S)
        assert lease.attempts == 1
        store.release(lease)


def test_another_try_waits_its_time(store: JobStore) -> None:
    store.submit(new(num=1))
    (lease,) = store.lease("w", 1, LONG_S)
    store.fail(lease, BROKEN, 0.5)
    (item,) = store.items("a")
    assert (item.state, item.fault) == (ItemState.WAITING, BROKEN)
    assert store.lease("w", 1, LONG_S) == []
    time.sleep(0.6)
    assert len(store.lease("w", 1, LONG_S)) == 1


def test_cancelling_leaves_what_is_at_work(store: JobStore) -> None:
    store.submit(new(num=4))
    first, second, third = store.lease("w", 3, LONG_S)
    job = store.cancel("a", "shop")
    assert (job.status, job.cancelled, job.ended_s) == (JobStatus.CANCELLED, 1, None)
    assert store.finish(first, "0.jpg") == Finish.KEPT
    store.fail(second, BROKEN, 0.0)  # would wait for another try
    store.release(third)
    assert states(store) == ["done", "cancelled", "cancelled", "cancelled"]
    job = store.cancel("a", "shop")
    assert (job.status, job.completed, job.cancelled) == (JobStatus.CANCELLED, 1, 3)
    assert job.ended_s is not None
    assert store.lease("w", 9, LONG_S) == []


def test_cancelling_with_results_takes_all_back(store: JobStore) -> None:
    store.submit(new())
    first, second = store.lease("w", 2, LONG_S)
    store.finish(first, "0.jpg")
    job = store.cancel("a", "shop", results=True)
    assert (job.status, job.completed, job.cancelled) == (JobStatus.CANCELLED, 1, 2)
    assert job.ended_s is not None
    assert store.renew([second], LONG_S) == set()
    assert store.finish(second, "1.jpg") == Finish.CANCELLED
    assert [item.result_uri for item in store.items("a")] == [None] * 3


def test_pages(store: JobStore) -> None:
    store.submit(new(num=5))
    for lease in store.lease("w", 3, LONG_S):
        store.finish(lease, f"{lease.position}.jpg")
    assert [item.position for item in store.items("a", limit=2)] == [0, 1]
    assert [item.position for item in store.items("a", after=1, limit=9)] == [2, 3, 4]
    assert [item.position for item in store.items("a", states=[ItemState.WAITING])] == [3, 4]


def test_an_ended_job_is_forgotten_after_its_time(store: JobStore) -> None:
    store.submit(new("open", ttl_s=0.0))
    store.submit(new("ended", 0, ttl_s=0.0))
    store.submit(new("kept"))
    store.cancel("ended", "shop")
    store.cancel("kept", "shop")
    assert store.expired() == ["ended"]
    for job_id in ("ended", "kept", "open"):
        store.forget(job_id)
    with pytest.raises(JobMissingError):
        store.get("ended", "shop")
    assert store.get("kept", "shop").cancelled == 3
    assert states(store, "open") == ["waiting"] * 3


def run_threads(num: int, work: Callable[[int], None]) -> None:
    with ThreadPoolExecutor(num) as pool:
        for done in [pool.submit(work, i) for i in range(num)]:
            done.result(120)


def test_threads_never_get_the_same_item(store: JobStore) -> None:
    store.submit(new("a", 60))
    store.submit(new("b", 60))
    got: list[tuple[str, int]] = []

    def take(i: int) -> None:
        while leases := store.lease(f"w{i}", 3, LONG_S):
            got.extend((lease.job_id, lease.position) for lease in leases)

    run_threads(6, take)
    assert sorted(got) == [(job, i) for job in "ab" for i in range(60)]


TAKE = """
import sys
from tryon.serving.jobs.database import open_database
from tryon.serving.jobs.store import JobStore
store = JobStore(open_database(sys.argv[1]))
input()
while leases := store.lease(sys.argv[2], 2, 60.0):
    for lease in leases:
        print(lease.position)
        assert store.finish(lease, sys.argv[2]) == "kept"
"""


def test_processes_never_get_the_same_item(store: JobStore, store_url: str) -> None:
    store.submit(new(num=80))
    command = [sys.executable, "-c", TAKE, store_url]
    workers = [
        subprocess.Popen([*command, f"w{i}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        for i in range(3)
    ]
    for worker in workers:  # all have started when the first begins
        assert worker.stdin is not None
        worker.stdin.write("\n")
        worker.stdin.flush()
    shown = [worker.communicate(timeout=120)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0, 0]
    positions = [int(line) for text in shown for line in text.split()]
    assert sorted(positions) == list(range(80))
    job = store.get("a", "shop")
    assert (job.status, job.completed) == (JobStatus.DONE, 80)
    told = Counter(item.result_uri for item in store.items("a"))
    assert told == {f"w{i}": len(text.split()) for i, text in enumerate(shown) if text}


def test_workers_and_a_canceller_at_once(store: JobStore) -> None:
    store.submit(new(num=120))
    cancelled = threading.Event()

    def work(i: int) -> None:
        if i == 0:
            wait_for(lambda: store.get("a", "shop").completed >= 10, LONG_S, "ten ended items")
            store.cancel("a", "shop", results=True)
            cancelled.set()
        while leases := store.lease(f"w{i}", 4, LONG_S):
            store.renew(leases, LONG_S)
            for n, lease in enumerate(leases):
                store.release(lease) if n == 3 else store.finish(lease, "x")
            if store.get("a", "shop").completed >= 60:
                cancelled.wait(LONG_S)  # some are left to cancel, however fast these are

    run_threads(5, work)
    job = store.get("a", "shop")
    seen = Counter(states(store) + [item.state.value for item in store.items("a", after=99)])
    assert seen == Counter(done=job.completed, cancelled=job.cancelled)
    assert (job.status, job.completed + job.cancelled) == (JobStatus.CANCELLED, 120)


def test_the_database_is_restarted_in_the_middle(postgres: Cluster) -> None:
    store = JobStore(open_database(postgres.new_database(), patience_s=60.0))
    store.submit(new(num=200))
    halfway = threading.Event()

    def work(i: int) -> None:
        while leases := store.lease(f"w{i}", 2, LONG_S):
            for lease in leases:
                assert store.finish(lease, f"{lease.position}") == Finish.KEPT
                if lease.position > 60:
                    halfway.set()

    def restart(i: int) -> None:
        assert halfway.wait(60)
        postgres.crash()
        time.sleep(0.3)
        postgres.start()

    run_threads(3, lambda i: restart(i) if i == 0 else work(i))
    assert halfway.is_set()
    # A lease whose answer was lost is held by nobody until it runs out: at most one of two items a worker.
    job = store.get("a", "shop")
    unended = [item.state for item in store.items("a", limit=200) if item.state != ItemState.DONE]
    assert set(unended) <= {ItemState.LEASED}
    assert len(unended) <= 4
    assert job.completed == 200 - len(unended)
    store.database.close()


def test_a_database_that_is_not_there() -> None:
    closed = open_database("postgresql://tryon@127.0.0.1:1/none", patience_s=0.3)
    with pytest.raises(StorageError, match="the job store does not answer") as caught:
        JobStore(closed)
    assert caught.value.code == "store-unavailable"


def test_a_store_of_a_newer_version_is_refused(store: JobStore, store_url: str) -> None:
    store.database.write(lambda tx: tx.run("INSERT INTO batch_schema (version) VALUES (99)"))
    with pytest.raises(StorageError, match="schema 99"):
        JobStore(open_database(store_url))


def test_many_that_start_at_once_make_the_tables_once(store_url: str) -> None:
    start = threading.Barrier(6)

    def begin(i: int) -> None:
        start.wait()
        database = open_database(store_url)
        JobStore(database).submit(new(f"job{i}"))
        database.close()

    run_threads(6, begin)
    assert JobStore(open_database(store_url)).count_jobs()[JobStatus.QUEUED] == 6


@pytest.mark.parametrize("url", ["mysql://me:secret@host/db", "sqlite://", "", "sqlite:///"])
def test_urls_that_name_no_store(url: str) -> None:
    with pytest.raises(ConfigError, match=r"is not a path, sqlite:///path or postgresql") as caught:
        open_database(url)
    assert "secret" not in caught.value.message


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be made"):
        JobStore(open_database(str(tmp_path / "file" / "jobs.db")))
