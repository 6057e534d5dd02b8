"""A process that works jobs off, to be killed: what it computed and told is in files."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import random
import uuid
from collections.abc import Mapping
from multiprocessing.process import BaseProcess
from pathlib import Path

from tryon.serving.jobs.bodies import BatchOptions
from tryon.serving.jobs.config import JobsConfig, WebhookConfig, WorkerConfig
from tryon.serving.jobs.service import open_jobs, run_jobs

MAX_ATTEMPTS = 60


def config(url: str, folder: Path) -> JobsConfig:
    return JobsConfig(
        store=url,
        results=str(folder / "results"),
        uploads=str(folder / "uploads"),
        max_attempts=MAX_ATTEMPTS,
        worker=WorkerConfig(parallel=3, lease_s=2.0, poll_s=0.1, first_pause_s=0.05),
        webhooks=WebhookConfig(first_pause_s=0.05, poll_s=0.1),
    )


def start(url: str, folder: Path) -> BaseProcess:
    """A new worker process, forked from a server that has imported what it needs."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.serving.jobs.working"])
    process = context.Process(target=_work, args=(url, str(folder)))
    process.start()
    return process


def _work(url: str, folder: str) -> None:
    asyncio.run(_run(url, Path(folder)))


async def _run(url: str, folder: Path) -> None:
    async def fetch(text: str, field: str | None) -> bytes:
        return text.encode()

    async def tryon(person: bytes, garment: bytes, options: BatchOptions, request_id: str) -> bytes:
        await asyncio.sleep(random.uniform(0.0, 0.05))
        made = {"inputs": [person.decode(), garment.decode()], "token": uuid.uuid4().hex}
        append(folder / "computed", json.dumps(made))
        return json.dumps(made).encode()

    async def post(text: str, headers: Mapping[str, str], body: bytes) -> int:
        append(folder / "told", json.dumps({"id": headers["webhook-id"], **json.loads(body)}))
        return 200

    service = await asyncio.to_thread(open_jobs, config(url, folder))
    await run_jobs(service, tryon, fetch, asyncio.Event(), post)


def append(path: Path, line: str) -> None:
    """One write, so that lines of processes do not mix and a kill cuts none."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(file, f"{line}\n".encode())
    os.close(file)
