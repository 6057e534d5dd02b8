"""Batch jobs inside a process of the service: stores opened when they are first needed, work in the background."""

from __future__ import annotations

import asyncio
import logging
import threading

from tryon.errors import StorageError
from tryon.serving.jobs.config import JobsConfig
from tryon.serving.jobs.service import JobService, open_jobs, run_jobs
from tryon.serving.jobs.worker import Fetch, OnItem, TryOn

logger = logging.getLogger("ray.serve")


class JobHost:
    """The batch jobs of one process.

    Args:
        config: where jobs are kept, and their bounds.
        tryon: see `tryon.serving.jobs.worker.Worker`.
        fetch: see there.
        on_item: see there.
    """

    def __init__(self, config: JobsConfig, tryon: TryOn, fetch: Fetch, on_item: OnItem) -> None:
        self._config = config
        self._tryon = tryon
        self._fetch = fetch
        self._on_item = on_item
        self._service: JobService | None = None
        self._opening = threading.Lock()
        self._stop = asyncio.Event()
        self._work: asyncio.Task[None] | None = None

    def service(self) -> JobService:
        """The stores, opened; blocks while they are.

        Raises:
            ConfigError: the store's URL names none.
            StorageError: it cannot be reached.
        """
        with self._opening:
            if self._service is None:
                self._service = open_jobs(self._config)
            return self._service

    def keep_working(self) -> None:
        """Begins the work in the background, and again where it has ended by a fault. Call it in the event loop."""
        if self._work is not None and self._work.done() and not self._work.cancelled():
            error = self._work.exception()
            if error is not None:
                level = logging.WARNING if isinstance(error, StorageError) else logging.ERROR
                logger.log(level, "batch work ended and begins anew: %s", error, exc_info=error)
        if self._work is None or self._work.done():
            self._work = asyncio.create_task(self._run())

    async def count(self) -> dict[str, int] | None:
        """Jobs by status; None: the store is not open yet, or cannot be reached."""
        if self._service is None:
            return None
        try:
            counts = await asyncio.to_thread(self._service.store.count_jobs)
        except StorageError:
            return None
        return {status.value: num for status, num in counts.items()}

    async def close(self) -> None:
        """Ends the work: items at work get their time of grace, the others are given back."""
        self._stop.set()
        if self._work is not None:
            await asyncio.gather(self._work, return_exceptions=True)
        if self._service is not None:
            await asyncio.to_thread(self._service.close)

    async def _run(self) -> None:
        service = await asyncio.to_thread(self.service)
        await run_jobs(service, self._tryon, self._fetch, self._stop, on_item=self._on_item)
