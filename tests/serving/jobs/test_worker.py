"""The worker: what it takes, writes, tries again and gives back."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tryon import storage
from tryon.data.crawl.guard import FetchError
from tryon.errors import SampleError
from tryon.serving.faults import BusyError, DeadlineError
from tryon.serving.jobs.bodies import BatchOptions
from tryon.serving.jobs.config import WorkerConfig
from tryon.serving.jobs.database import open_database
from tryon.serving.jobs.records import Fault, Item, ItemState, NewJob
from tryon.serving.jobs.store import JobStore
from tryon.serving.jobs.uploads import UploadStore
from tryon.serving.jobs.worker import Worker

QUICK = WorkerConfig(parallel=2, lease_s=30.0, poll_s=0.02, first_pause_s=0.0, grace_s=30.0)
WAIT_S = 60.0


class Bench:
    """A store, a folder, and a worker whose try-on is the test's."""

    def __init__(self, folder: Path) -> None:
        self.store = JobStore(open_database(str(folder / "jobs.db")), max_attempts=3, lost_pause_s=0.0)
        self.uploads = UploadStore(self.store.database, str(folder / "uploads"), 3600.0)
        self.results = folder / "results"
        self.fetched: list[tuple[str, str | None]] = []
        self.ends: list[str] = []

    def submit(self, *items: dict[str, Any], **options: Any) -> None:
        self.store.submit(NewJob("job", "shop", options, list(items), "h", 3600.0))

    async def fetch(self, url: str, field: str | None) -> bytes:
        self.fetched.append((url, field))
        return url.encode()

    def worker(
        self,
        tryon: Callable[[bytes, bytes, BatchOptions, str], Awaitable[bytes]],
        config: WorkerConfig = QUICK,
        fetch: Callable[[str, str | None], Awaitable[bytes]] | None = None,
    ) -> Worker:
        count = self.count
        return Worker(self.store, self.uploads, str(self.results), tryon, fetch or self.fetch, config, count)

    def count(self, end: str, seconds: float) -> None:
        assert seconds >= 0
        self.ends.append(end)

    async def run(self, worker: Worker, until: Callable[[], bool]) -> None:
        """Runs a worker until something is so, and stops it."""
        stop = asyncio.Event()
        running = asyncio.create_task(worker.run(stop))
        try:
            async with asyncio.timeout(WAIT_S):
                while not until():
                    await asyncio.sleep(0.02)
        finally:
            stop.set()
            await running

    def ended(self) -> bool:
        return self.store.get("job", "shop").ended_s is not None

    def items(self) -> list[Item]:
        return self.store.items("job")

    def files(self) -> list[str]:
        return sorted(path.name for path in self.results.rglob("*") if path.is_file())


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.store.database.close()


def by_url(i: int, **more: str) -> dict[str, Any]:
    return {"person_url": f"https://x.example/p{i}", "garment_url": f"https://x.example/g{i}", **more}


async def joined(person: bytes, garment: bytes, options: BatchOptions, request_id: str) -> bytes:
    return b" ".join([person, garment, options.category.encode(), request_id.encode()])


def test_a_job_is_worked_off(bench: Bench) -> None:
    person = bench.uploads.put("shop", b"uploaded person").id
    bench.submit(
        by_url(0), {"person_id": person, "garment_url": "https://x.example/g", "category": "lower"}, category="dress"
    )
    asyncio.run(bench.run(bench.worker(joined), bench.ended))
    assert bench.files() == ["000000.jpg", "000001.jpg"]
    first, second = (storage.read_bytes(item.result_uri or "") for item in bench.items())
    assert first == b"https://x.example/p0 https://x.example/g0 dress job-0"
    assert second == b"uploaded person https://x.example/g lower job-1"
    assert ("https://x.example/p0", "person_url") in bench.fetched
    assert ("https://x.example/g", "garment_url") in bench.fetched


def test_png_results_are_named_so(bench: Bench) -> None:
    bench.submit(by_url(0), output_format="png")
    asyncio.run(bench.run(bench.worker(joined), bench.ended))
    assert bench.files() == ["000000.png"]


def test_a_fault_of_the_input_is_for_good_and_one_of_the_moment_is_not(bench: Bench) -> None:
    calls: list[str] = []

    async def fetch(url: str, field: str | None) -> bytes:
        calls.append(url)
        if url.endswith("p0"):
            raise FetchError("no such photo", code="url-missing", field=field)
        if url.endswith("p1") and calls.count(url) < 3:
            raise FetchError("too slow", code="url-timeout", field=field)
        return url.encode()

    async def tryon(person: bytes, garment: bytes, options: BatchOptions, request_id: str) -> bytes:
        if person.endswith(b"p2"):
            raise SampleError("nobody is seen", code="no-person", field="person_image")
        if person.endswith(b"p3"):
            raise DeadlineError("the try-on took longer than 1 s")
        return b"done"

    bench.submit(*[by_url(i) for i in range(4)], {"person_id": "0" * 64, "garment_url": "https://x.example/g4"})
    asyncio.run(bench.run(bench.worker(tryon, fetch=fetch), bench.ended))
    missing, slow, nobody, late, upload = bench.items()
    assert (missing.attempts, missing.fault) == (1, Fault("url-missing", "no such photo", "person_url"))
    assert (slow.state, slow.attempts, slow.fault) == (ItemState.DONE, 3, None)
    assert (nobody.attempts, nobody.fault) == (1, Fault("no-person", "nobody is seen", "person_image"))
    assert (late.attempts, late.fault) == (3, Fault("deadline", "the try-on took longer than 1 s (3 tries)"))
    assert upload.fault is not None
    assert (upload.state, upload.fault.code, upload.fault.field) == (ItemState.FAILED, "upload-missing", "person_id")
    assert Counter(bench.ends) == {
        "url-missing": 1, "url-timeout": 2, "done": 1, "no-person": 1, "deadline": 3, "upload-missing": 1
    }  # fmt: skip


def test_an_unforeseen_fault_tells_nothing_of_the_inside(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    async def tryon(person: bytes, garment: bytes, options: BatchOptions, request_id: str) -> bytes:
        raise RuntimeError("/secret/path")

    bench.submit(by_url(0))
    asyncio.run(bench.run(bench.worker(tryon), bench.ended))
    (item,) = bench.items()
    assert item.fault is not None
    assert (item.state, item.attempts, item.fault.code) == (ItemState.FAILED, 3, "internal")
    assert "secret" not in item.fault.message
    assert "/secret/path" in caplog.text


def test_a_try_that_hangs_is_ended(bench: Bench) -> None:
    async def tryon(person: bytes, garment: bytes, options: BatchOptions, request_id: str) -> bytes:
        await asyncio.sleep(WAIT_S)
        return b"never"

    bench.submit(by_url(0))
    asyncio.run(bench.run(bench.worker(tryon, QUICK.model_copy(update={"deadline_s": 0.1})), bench.ended))
    (item,) = bench.items()
    assert (item.state, item.attempts) == (ItemState.FAILED, 3)
    assert item.fault == Fault("deadline", "fetching and try-on took longer than 0.1 s (3 tries)")


def test_a_busy_service_is_left_alone_for_a_while(bench: Bench) -> None:
    calls: list[float] = []

    async def tryon(person: bytes, garment: bytes, options: BatchOptions, request_id: str) -> bytes:
        calls.append(time.monotonic())
        if len(calls) <= 4:
            raise BusyError("all replicas are busy")
        return b"done"

    bench.submit(by_url(0))
    asyncio.run(bench.run(bench.worker(tryon), bench.ended))
    (item,) = bench.items()
    assert (item.state, item.attempts) == (ItemState.DONE, 1)  # more refusals than tries
    pauses = [after - before for before, after in itertools.pairwise(calls)]
    assert [pause >= least for pause, least in zip(pauses, (0.25, 0.5, 1.0, 2.0), strict=True)] == [True] * 4


def test_no_more_at_a_time_than_allowed(bench: Bench) -> None:
    now, most = 0, 0

    async def tryon(person: bytes, garment: bytes, options: BatchOptions, request_id: str) -> bytes:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.05)
        now -= 1
        return b"done"

    bench.submit(*map(by_url, range(8)))
    asyncio.run(bench.run(bench.worker(tryon, QUICK.model_copy(update={"parallel": 3})), bench.ended))
    assert most == 3


@pytest.mark.parametrize(("grace_s", "states"), [(30.0, ["done", "waiting"]), (0.0, ["waiting", "waiting"])])
def test_at_a_stop_work_is_ended_or_given_back(bench: Bench, grace_s: float, states: list[str]) -> None:
    begun: list[str] = []

    async def tryon(person: bytes, garment: bytes, options: BatchOptions, request_id: str) -> bytes:
        begun.append(request_id)
        await asyncio.sleep(0.5)
        return b"done"

    bench.submit(by_url(0), by_url(1))
    config = QUICK.model_copy(update={"parallel": 1, "grace_s": grace_s})
    asyncio.run(bench.run(bench.worker(tryon, config), lambda: bool(begun)))
    assert begun == ["job-0"]
    assert [item.state.value for item in bench.items()] == states
    (lease, *_) = bench.store.lease("next", 1, 60.0)
    assert lease.attempts == 1  # what was given back does not count


def test_a_lease_is_renewed_while_work_goes_on(bench: Bench) -> None:
    others: list[int] = []

    async def tryon(person: bytes, garment: bytes, options: BatchOptions, request_id: str) -> bytes:
        for _ in range(8):
            await asyncio.sleep(0.5)
            others.append(len(await asyncio.to_thread(bench.store.lease, "other", 1, 60.0)))
        return b"done"

    bench.submit(by_url(0))
    asyncio.run(bench.run(bench.worker(tryon, QUICK.model_copy(update={"lease_s": 2.0})), bench.ended))
    assert others == [0] * 8
    (item,) = bench.items()
    assert (item.state, item.attempts) == (ItemState.DONE, 1)


def test_work_that_nobody_wants_any_more_is_broken_off(bench: Bench) -> None:
    ends: list[str] = []

    async def tryon(person: bytes, garment: bytes, options: BatchOptions, request_id: str) -> bytes:
        await asyncio.to_thread(bench.store.cancel, "job", "shop", results=True)
        try:
            await asyncio.sleep(WAIT_S)
        except asyncio.CancelledError:
            ends.append("broken off")
            raise
        return b"done"

    bench.submit(by_url(0))
    config = QUICK.model_copy(update={"lease_s": 0.5})
    asyncio.run(bench.run(bench.worker(tryon, config), lambda: bool(ends)))
    assert [item.state for item in bench.items()] == [ItemState.CANCELLED]
    assert bench.files() == []


def test_a_result_that_comes_after_the_cancelling_is_removed(bench: Bench) -> None:
    calls: list[str] = []

    async def tryon(person: bytes, garment: bytes, options: BatchOptions, request_id: str) -> bytes:
        await asyncio.to_thread(bench.store.cancel, "job", "shop", results=True)
        calls.append(request_id)
        return b"done"

    bench.submit(by_url(0))
    asyncio.run(bench.run(bench.worker(tryon), lambda: bool(calls)))
    assert [item.state for item in bench.items()] == [ItemState.CANCELLED]
    assert bench.files() == []


def test_a_file_of_a_try_that_died_is_the_result(bench: Bench) -> None:
    async def never(person: bytes, garment: bytes, options: BatchOptions, request_id: str) -> bytes:
        raise AssertionError("the result was there")

    bench.submit(by_url(0))
    bench.store.lease("died", 1, 0.0)
    storage.write_bytes(str(bench.results / "job" / "000000.jpg"), b"written before the end")
    asyncio.run(bench.run(bench.worker(never), bench.ended))
    (item,) = bench.items()
    assert (item.state, item.attempts) == (ItemState.DONE, 2)
    assert storage.read_bytes(item.result_uri or "") == b"written before the end"


def test_a_folder_that_cannot_be_written_is_named(bench: Bench) -> None:
    bench.results.write_text("a file")
    bench.submit(by_url(0))
    asyncio.run(bench.run(bench.worker(joined), bench.ended))
    (item,) = bench.items()
    assert item.fault is not None
    assert (item.attempts, item.fault.code) == (3, "uri-unwritable")
