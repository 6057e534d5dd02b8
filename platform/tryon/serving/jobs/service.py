"""All of batch jobs for one process: what routes and background work share."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from dataclasses import dataclass

from tryon import storage
from tryon.errors import StorageError
from tryon.serving.jobs.config import JobsConfig
from tryon.serving.jobs.database import open_database
from tryon.serving.jobs.store import JobStore
from tryon.serving.jobs.uploads import UploadStore
from tryon.serving.jobs.webhooks import Post, WebhookSender, service_secret
from tryon.serving.jobs.worker import Fetch, OnItem, TryOn, Worker

logger = logging.getLogger("ray.serve")


@dataclass(frozen=True)
class JobService:
    """The stores of one config, opened."""

    config: JobsConfig
    store: JobStore
    uploads: UploadStore
    secret: bytes

    def results_of(self, job_id: str) -> str:
        """URI of the folder of a job's results."""
        return storage.join(self.config.results, job_id)

    def remove_results(self, job_id: str) -> None:
        """Removes a job's result files.

        Raises:
            StorageError: the place cannot be written.
        """
        try:
            storage.delete(self.results_of(job_id))
        except OSError as error:
            text = f"results of job {job_id} cannot be removed: {error}"
            raise StorageError(text, code="uri-unwritable") from error

    def sweep(self) -> None:
        """Removes expired jobs with their results, and expired uploads; files before rows."""
        for job_id in self.store.expired():
            self.remove_results(job_id)
            self.store.forget(job_id)
        self.uploads.sweep()

    def close(self) -> None:
        """Closes the database's connections."""
        self.store.database.close()


def open_jobs(config: JobsConfig) -> JobService:
    """Opens the store of a config, which is made where it is missing.

    Raises:
        ConfigError: its URL names no store.
        StorageError: it cannot be reached.
    """
    config = config.absolute()
    store = JobStore(
        open_database(config.store), max_attempts=config.max_attempts, max_open_items=config.max_open_items
    )
    uploads = UploadStore(store.database, config.uploads, config.upload_ttl_s)
    return JobService(config, store, uploads, service_secret(store.database))


async def run_jobs(
    service: JobService,
    tryon: TryOn,
    fetch: Fetch,
    stop: asyncio.Event,
    post: Post | None = None,
    on_item: OnItem = lambda end, seconds: None,
) -> None:
    """Works items off, sends webhooks and removes what has expired, until `stop` is set. Any number of processes may.

    Args:
        service: from `open_jobs`.
        tryon: see `Worker`.
        fetch: see `Worker`.
        stop: set it from the same event loop.
        post: see `WebhookSender`; None: to public addresses.
        on_item: see `Worker`.
    """
    config = service.config
    worker = Worker(service.store, service.uploads, config.results, tryon, fetch, config.worker, on_item)
    sender = await asyncio.to_thread(WebhookSender, service.store.database, config.webhooks, post)
    await asyncio.gather(worker.run(stop), sender.run(stop), _sweep_until(service, stop))


async def _sweep_until(service: JobService, stop: asyncio.Event) -> None:
    while not stop.is_set():
        try:
            await asyncio.to_thread(service.sweep)
        except StorageError as error:
            logger.warning("what has expired is not removed yet: %s", error.message)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), service.config.sweep_s * random.uniform(0.5, 1.5))
