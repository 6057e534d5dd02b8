"""What the store hands out: jobs, items, leases, deliveries."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from tryon.serving.jobs.database import Row


class JobStatus(StrEnum):
    """Of a job."""

    QUEUED = "queued"  # no item has been begun
    RUNNING = "running"
    DONE = "done"  # every item has ended, as done or failed
    CANCELLED = "cancelled"  # what waited was cancelled; items at work when it was may still end


class ItemState(StrEnum):
    """Of an item. The last three are for good: an item enters one of them, once."""

    WAITING = "waiting"
    LEASED = "leased"  # a worker has it until the lease runs out
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Finish(StrEnum):
    """What became of a worker's word that an item has ended."""

    KEPT = "kept"
    LOST = "lost"  # the lease had run out and another worker has, or had, the item: nothing was written
    CANCELLED = "cancelled"  # the item was cancelled or its job removed: a result that was written is not wanted


@dataclass(frozen=True)
class Fault:
    """Why an item failed: the code, sentence and field of a `TryonError`."""

    code: str
    message: str
    field: str | None = None


@dataclass(frozen=True)
class NewJob:
    """A job as it is handed in.

    Attributes:
        id: made by the caller, so that handing in twice after a lost answer makes one job.
        owner: id of the API key; "" where keys are off.
        options: JSON of the options of every item.
        items: JSON of each item's inputs.
        body_hash: of the request's body: the same idempotency key with another hash is refused.
        ttl_s: seconds from its end until job and results are removed.
    """

    id: str
    owner: str
    options: dict[str, Any]
    items: list[dict[str, Any]]
    body_hash: str
    ttl_s: float
    idempotency_key: str | None = None
    webhook_url: str | None = None


@dataclass(frozen=True)
class Job:
    """A job and how far it is. `total` = `completed` + `failed` + `cancelled` + those not ended. Times: Unix, s."""

    id: str
    owner: str
    status: JobStatus
    options: dict[str, Any]
    total: int
    completed: int
    failed: int
    cancelled: int
    body_hash: str
    webhook_url: str | None
    created_s: float
    ended_s: float | None
    expires_s: float | None

    @classmethod
    def of(cls, row: Row) -> Job:
        """From a row of batch_jobs."""
        values = {name: row[name] for name in cls.__dataclass_fields__}
        return cls(**{**values, "options": json.loads(row["options"]), "status": JobStatus(row["status"])})


@dataclass(frozen=True)
class Item:
    """An item of a job; `fault` is also that of the last try while it waits for another."""

    position: int
    inputs: dict[str, Any]
    state: ItemState
    attempts: int
    result_uri: str | None
    fault: Fault | None

    @classmethod
    def of(cls, row: Row) -> Item:
        """From a row of batch_items."""
        code = row["error_code"]
        return cls(
            position=row["position"],
            inputs=json.loads(row["inputs"]),
            state=ItemState(row["state"]),
            attempts=row["attempts"],
            result_uri=row["result_uri"],
            fault=Fault(code, row["error_message"], row["error_field"]) if code else None,
        )


@dataclass(frozen=True)
class Lease:
    """An item that a worker has for a while; `token` tells this lease from every other of the item."""

    job_id: str
    position: int
    token: str
    attempts: int
    owner: str
    inputs: dict[str, Any]
    options: dict[str, Any]

    @property
    def key(self) -> str:
        """Names the lease among all others."""
        return f"{self.job_id}/{self.position}/{self.token}"


@dataclass(frozen=True)
class Delivery:
    """A webhook call that is due. `id` and `body` are the same at every try."""

    id: str
    owner: str
    url: str
    body: str
    attempts: int
