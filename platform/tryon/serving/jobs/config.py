"""Configuration of batch jobs."""

from __future__ import annotations

import os
from typing import Annotated

from pydantic import Field

from tryon import storage
from tryon.config import Config

DAY_S = 86_400.0
HOME = "~/.local/share/tryon/jobs"
HostName = Annotated[str, Field(min_length=1, max_length=253)]


class WorkerConfig(Config):
    """How a process works items off."""

    parallel: int = Field(4, ge=1, le=1000, description="items at work at a time in one process")
    lease_s: float = Field(60.0, gt=0, description="an item whose worker was not heard of for so long is taken back")
    deadline_s: float = Field(600.0, gt=0, description="of one try of an item, fetching included")
    poll_s: float = Field(1.0, gt=0, description="between two looks for work while there is none")
    grace_s: float = Field(20.0, ge=0, description="at a stop, for items at work to end; the rest is given back")
    first_pause_s: float = Field(2.0, ge=0, description="before another try of an item, doubled for each further one")
    longest_pause_s: float = Field(300.0, ge=0, description="bound of that, and of the pause of a busy service")


class WebhookConfig(Config):
    """How the end of a job is told."""

    max_attempts: int = Field(16, ge=1, le=100, description="calls before it is given up")
    first_pause_s: float = Field(5.0, ge=0, description="after the first failed call, doubled for each further one")
    longest_pause_s: float = Field(3600.0, ge=0, description="bound of that")
    timeout_s: float = Field(10.0, gt=0, description="for a call")
    poll_s: float = Field(1.0, gt=0, description="between two looks for what is due")
    private_hosts: tuple[HostName, ...] = Field(
        (), description="that may be called though they are at loopback or private addresses"
    )


class JobsConfig(Config):
    """Batch jobs: where they are kept, and their bounds."""

    store: str = Field(f"{HOME}/jobs.db", description="path, sqlite:///path, or postgresql://user@host/name")
    results: str = Field(f"{HOME}/results", description="folder of the results, any URI")
    uploads: str = Field(f"{HOME}/uploads", description="folder of uploaded images, any URI")
    max_pairs: int = Field(10_000, ge=1, le=100_000, description="pairs of one job")
    max_open_items: int = Field(100_000, ge=1, description="items of one API key that may wait or be at work")
    max_attempts: int = Field(5, ge=1, le=100, description="times an item is begun before it has failed")
    job_ttl_s: float = Field(7 * DAY_S, gt=0, description="from its end until a job and its results are removed")
    upload_ttl_s: float = Field(DAY_S, gt=0, description="until an uploaded image is removed")
    sweep_s: float = Field(60.0, gt=0, description="between two removals of what has expired")
    worker: WorkerConfig = Field(default_factory=WorkerConfig, description="of each process that works items off")
    webhooks: WebhookConfig = Field(default_factory=WebhookConfig, description="of each process that sends them")

    def absolute(self) -> JobsConfig:
        """The same places, named so that a process in another folder finds them."""
        names = [name for name in ("store", "results", "uploads") if "://" not in getattr(self, name)]
        told = {name: storage.absolute(os.path.expanduser(getattr(self, name))) for name in names}
        return self.model_copy(update=told)
