"""Works items off: leases, renews while at work, writes each result once, ends the item."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import socket
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable

from tryon import storage
from tryon.errors import StorageError, TryonError
from tryon.serving.faults import BusyError, DeadlineError
from tryon.serving.jobs.bodies import BatchOptions, Pair, suffix
from tryon.serving.jobs.config import WorkerConfig
from tryon.serving.jobs.records import Fault, Finish, Lease
from tryon.serving.jobs.store import JobStore
from tryon.serving.jobs.uploads import UploadStore
from tryon.write_once import write_once

Fetch = Callable[[str, str | None], Awaitable[bytes]]
TryOn = Callable[[bytes, bytes, BatchOptions, str], Awaitable[bytes]]
OnItem = Callable[[str, float], None]
# What another try may not meet; every other fault of an input is the same the next time.
RETRIED = (
    "deadline",
    "url-unreachable",
    "url-timeout",
    "http-status",
    "body-cut",
    "uri-unreadable",
    "uri-unwritable",
    "store-unavailable",
)
INTERNAL = Fault("internal", "the service failed on this item; its log has the reason")
FIRST_BUSY_S = 0.5
logger = logging.getLogger("ray.serve")


class Worker:
    """A bounded number of items at a time, in one process.

    Killed at any point it leaves leases that run out, and at most whole files under names that are made from job and
    index: the next worker finds such a file and ends the item with it.

    Args:
        store: of the jobs.
        uploads: where items' uploaded images are.
        results: URI of the folder of results.
        tryon: given the files of person and garment, options and an id for logs, gives the file of the result; raises
            `BusyError` where the service takes no more at the moment, a `TryonError` where it cannot be done.
        fetch: given a URL and the input's name, gives the file, as `tryon.serving.fetch.Fetcher.fetch` does.
        config: leases and pauses.
        on_item: told how each try ended (done, lost, cancelled, busy, or the code of the fault) and its seconds.
    """

    def __init__(
        self,
        store: JobStore,
        uploads: UploadStore,
        results: str,
        tryon: TryOn,
        fetch: Fetch,
        config: WorkerConfig | None = None,
        on_item: OnItem = lambda end, seconds: None,
    ) -> None:
        self.name = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self._store = store
        self._uploads = uploads
        self._results = results
        self._tryon = tryon
        self._fetch = fetch
        self._config = config or WorkerConfig()
        self._on_item = on_item
        self._at_work: dict[asyncio.Task[None], Lease] = {}
        self._busy_s = 0.0
        self._resume_s = 0.0  # of time.monotonic

    async def run(self, stop: asyncio.Event) -> None:
        """Works until `stop` is set; then items at work get `grace_s` to end, and the others are given back."""
        renewing = asyncio.create_task(self._renew_forever())
        try:
            while not stop.is_set():
                await self._round(stop)
            if self._at_work:
                await asyncio.wait(self._at_work, timeout=self._config.grace_s)
        finally:
            renewing.cancel()
            await asyncio.gather(renewing, self._give_back(), return_exceptions=True)

    async def _round(self, stop: asyncio.Event) -> None:
        """Takes work if there is room and some waits, and waits for the next time there may be."""
        pause_s = self._resume_s - time.monotonic()
        if pause_s > 0:
            await _until(stop, (), pause_s)
            return
        room = self._config.parallel - len(self._at_work)
        if room <= 0:
            await _until(stop, self._at_work, None)
            return
        if not await self._take(room):
            await _until(stop, (), self._config.poll_s * random.uniform(0.5, 1.5))

    async def _take(self, num: int) -> int:
        try:
            leases = await asyncio.to_thread(self._store.lease, self.name, num, self._config.lease_s)
        except StorageError as error:
            logger.warning("batch work waits: %s", error.message)
            return 0
        for lease in leases:
            task = asyncio.create_task(self._work(lease))
            self._at_work[task] = lease
            task.add_done_callback(lambda done: self._at_work.pop(done, None))
        return len(leases)

    async def _renew_forever(self) -> None:
        while True:
            await asyncio.sleep(self._config.lease_s / 3)
            tasks = dict(self._at_work)
            if not tasks:
                continue
            try:
                held = await asyncio.to_thread(self._store.renew, list(tasks.values()), self._config.lease_s)
            except StorageError as error:
                logger.warning("leases are not renewed: %s", error.message)
                continue
            for task, lease in tasks.items():
                if lease.key not in held:  # cancelled, or another's by now: no use going on
                    task.cancel()

    async def _give_back(self) -> None:
        tasks = dict(self._at_work)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for lease in tasks.values():
            with contextlib.suppress(StorageError):  # else it runs out
                await asyncio.to_thread(self._store.release, lease)

    async def _work(self, lease: Lease) -> None:
        """One item from lease to end."""
        start = time.monotonic()
        end = await self._try(lease)
        self._on_item(end, time.monotonic() - start)

    async def _try(self, lease: Lease) -> str:
        """How it ended, in a word."""
        try:
            finish = await self._do(lease)
        except BusyError as error:
            self._busy_s = min(max(2 * self._busy_s, FIRST_BUSY_S), self._config.longest_pause_s)
            self._resume_s = time.monotonic() + self._busy_s * random.uniform(0.5, 1.0)
            await self._settle(self._store.release, lease)
            return error.code
        except TryonError as error:
            fault = Fault(error.code, error.message, error.field)
            pause_s = self._pause_s(lease) if error.code in RETRIED else None
            await self._settle(self._store.fail, lease, fault, pause_s)
            return error.code
        except Exception as error:
            logger.error("item %s of job %s failed", lease.position, lease.job_id, exc_info=error)
            await self._settle(self._store.fail, lease, INTERNAL, self._pause_s(lease))
            return INTERNAL.code
        return "done" if finish == Finish.KEPT else finish.value

    async def _do(self, lease: Lease) -> Finish:
        pair = Pair.model_validate(lease.inputs)
        options = BatchOptions.model_validate(lease.options)
        if pair.category is not None:
            options = options.model_copy(update={"category": pair.category})
        uri = storage.join(self._results, lease.job_id, f"{lease.position:06d}{suffix(options)}")
        # A try before may have got as far as the file.
        if lease.attempts == 1 or not await asyncio.to_thread(storage.exists, uri):
            data = await self._make(lease, pair, options)
            self._busy_s = 0.0
            await asyncio.to_thread(write_once, uri, data)
        finish = await self._settle(self._store.finish, lease, uri)
        if finish == Finish.CANCELLED:
            await asyncio.to_thread(storage.delete, uri)
        return finish

    async def _make(self, lease: Lease, pair: Pair, options: BatchOptions) -> bytes:
        """Bounded in time: the lease of a try that hangs would be renewed for ever."""
        deadline_s = self._config.deadline_s
        try:
            async with asyncio.timeout(deadline_s):
                person = await self._input(lease, pair.person_url, pair.person_id, "person")
                garment = await self._input(lease, pair.garment_url, pair.garment_id, "garment")
                return await self._tryon(person, garment, options, f"{lease.job_id}-{lease.position}")
        except TimeoutError as error:
            raise DeadlineError(f"fetching and try-on took longer than {deadline_s:g} s") from error

    async def _input(self, lease: Lease, url: str | None, upload_id: str | None, name: str) -> bytes:
        if url is not None:
            return await self._fetch(url, f"{name}_url")
        assert upload_id is not None
        return await asyncio.to_thread(self._uploads.read, lease.owner, upload_id, f"{name}_id")

    async def _settle(self, change: Callable[..., Finish], *values: object) -> Finish:
        """Tells the store; if it cannot be told, the lease runs out and another worker has the item."""
        try:
            return await asyncio.to_thread(change, *values)
        except StorageError as error:
            logger.warning("the end of an item could not be written: %s", error.message)
            return Finish.LOST

    def _pause_s(self, lease: Lease) -> float:
        pause_s = min(self._config.first_pause_s * 2.0 ** (lease.attempts - 1), self._config.longest_pause_s)
        return pause_s * random.uniform(0.5, 1.0)


async def _until(stop: asyncio.Event, tasks: Iterable[asyncio.Task[None]], seconds: float | None) -> None:
    """Returns when `stop` is set, one of the tasks ends, or the time is over."""
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({stopping, *tasks}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
