"""The store of jobs: every change is one transaction, an item ends once, whoever dies in between.

Order of locks on PostgreSQL, against deadlocks: a job's row, then its items by position. Only `lease` and `renew` take
items alone. A deadlock that happens all the same is run again by the database layer.
"""

from __future__ import annotations

import functools
import json
import uuid
from collections.abc import Collection, Sequence

from tryon.serving.faults import BusyError
from tryon.serving.jobs import transitions
from tryon.serving.jobs.database import Database, Transaction
from tryon.serving.jobs.errors import IdempotencyError, JobMissingError
from tryon.serving.jobs.records import Fault, Finish, Item, ItemState, Job, JobStatus, Lease, NewJob
from tryon.serving.jobs.schema import migrate

LOST = Fault("worker-lost", "the worker ended or hung while it was at this item")


class JobStore:
    """Jobs and items in a database.

    Args:
        database: from `open_database`; its tables are made here where they are missing.
        max_attempts: times an item is begun; a worker that is killed at it counts, one that gives it back does not.
        max_open_items: items of one owner that may wait or be at work; a job past it is refused as busy.
        lost_pause_s: wait before an item whose worker was lost is begun again, doubled for each further try.

    Raises:
        StorageError: the database cannot be reached, or a newer version of tryon has written to it.
    """

    def __init__(
        self,
        database: Database,
        *,
        max_attempts: int = 5,
        max_open_items: int = 100_000,
        lost_pause_s: float = 1.0,
    ) -> None:
        self.database = database
        self._max_attempts = max_attempts
        self._max_open_items = max_open_items
        self._lost_pause_s = lost_pause_s
        migrate(database)

    def submit(self, job: NewJob) -> tuple[Job, bool]:
        """Takes a job in.

        Returns:
            The job, and False where it had been taken before: under the same idempotency key (and owner), or the
            same id.

        Raises:
            IdempotencyError: the key stands for another body.
            BusyError: the owner has too many open items.
        """
        return self.database.write(lambda tx: self._submit(tx, job))

    def taken_before(self, job: NewJob) -> Job | None:
        """The job that its owner handed in under the same idempotency key, or id, if there is one.

        Raises:
            IdempotencyError: the key stands for another body.
        """
        return self.database.read(lambda tx: _find_taken(tx, job))

    def _submit(self, tx: Transaction, new: NewJob) -> tuple[Job, bool]:
        made = tx.run(
            "INSERT INTO batch_jobs (id, owner, idempotency_key, body_hash, options, status, total, webhook_url,"
            " ttl_s, created_s) VALUES (:id, :owner, :key, :body_hash, :options, :status, :total, :webhook_url,"
            " :ttl_s, now_s()) ON CONFLICT DO NOTHING",
            id=new.id,
            owner=new.owner,
            key=new.idempotency_key,
            body_hash=new.body_hash,
            options=json.dumps(new.options),
            status=JobStatus.QUEUED,
            total=len(new.items),
            webhook_url=new.webhook_url,
            ttl_s=new.ttl_s,
        )
        if not made:
            taken = _find_taken(tx, new)
            assert taken is not None
            return taken, False
        self._check_room(tx, new)
        tx.many(
            "INSERT INTO batch_items (job_id, position, inputs, state, ready_s)"
            " VALUES (:job_id, :position, :inputs, 'waiting', now_s())",
            [{"job_id": new.id, "position": i, "inputs": json.dumps(inputs)} for i, inputs in enumerate(new.items)],
        )
        row = tx.one("SELECT * FROM batch_jobs WHERE id = :id", id=new.id)
        assert row is not None
        return Job.of(row), True

    def _check_room(self, tx: Transaction, new: NewJob) -> None:
        row = tx.one(
            "SELECT coalesce(sum(total - completed - failed - cancelled), 0) AS num FROM batch_jobs"
            " WHERE owner = :owner AND ended_s IS NULL",
            owner=new.owner,
        )
        assert row is not None
        if row["num"] > self._max_open_items:
            open_before = int(row["num"]) - len(new.items)
            text = f"{open_before:,} items are open, and at most {self._max_open_items:,} may be with this job's"
            raise BusyError(f"{text} {len(new.items):,}; try again when some have ended")

    def get(self, job_id: str, owner: str) -> Job:
        """A job of an owner.

        Raises:
            JobMissingError: there is none of that id, it has expired, or it is another owner's.
        """
        row = self.database.read(
            lambda tx: tx.one("SELECT * FROM batch_jobs WHERE id = :id AND owner = :owner", id=job_id, owner=owner)
        )
        if row is None:
            raise JobMissingError(job_id)
        return Job.of(row)

    def items(
        self, job_id: str, *, after: int = -1, limit: int = 100, states: Collection[ItemState] = tuple(ItemState)
    ) -> list[Item]:
        """A page of a job's items, by position.

        Args:
            job_id: of the job.
            after: position of the last one of the page before.
            limit: most items.
            states: only items in one of these.
        """
        known = ", ".join(f"'{ItemState(state)}'" for state in states)
        sql = (
            f"SELECT * FROM batch_items WHERE job_id = :job_id AND position > :after AND state IN ({known})"
            " ORDER BY position LIMIT :limit"
        )
        rows = self.database.read(lambda tx: tx.all(sql, job_id=job_id, after=after, limit=limit))
        return [Item.of(row) for row in rows]

    def lease(self, worker: str, num: int, lease_s: float) -> list[Lease]:
        """Gives a worker up to `num` items that wait, each to one worker alone, for `lease_s` seconds.

        Items whose lease has run out are made to wait again first, or failed after the last try.
        """
        expired, waiting = self.database.read(transitions.due)
        for job_id in expired:
            self.database.write(functools.partial(self._take_back, job_id=job_id))
        if not expired and not waiting:
            return []
        token = uuid.uuid4().hex
        leases = self.database.write(lambda tx: transitions.lease(tx, worker, token, num, lease_s))
        # Not in the same transaction: it would wait for the job's row while it holds items.
        for job_id in sorted({lease.job_id for lease in leases}):
            self.database.write(functools.partial(transitions.begin, job_id=job_id))
        return leases

    def _take_back(self, tx: Transaction, job_id: str) -> None:
        job = transitions.lock(tx, job_id)
        if job is None:
            return
        for item in transitions.expired(tx, job_id):
            pause_s = self._lost_pause_s * 2.0 ** (item["attempts"] - 1)
            self._again_or_end(tx, job, item["position"], item["attempts"], LOST, pause_s)

    def renew(self, leases: Sequence[Lease], lease_s: float) -> set[str]:
        """Prolongs leases to `lease_s` seconds from now; `Lease.key` of those among them that still hold."""
        return self.database.write(lambda tx: transitions.renew(tx, leases, lease_s))

    def finish(self, lease: Lease, result_uri: str) -> Finish:
        """Ends an item as done, if the lease is still the item's."""

        def done(tx: Transaction, job: Job, attempts: int) -> None:
            transitions.end(tx, job, lease.position, ItemState.DONE, result_uri=result_uri)

        return self.database.write(lambda tx: transitions.if_held(tx, lease, done))

    def fail(self, lease: Lease, fault: Fault, retry_in_s: float | None) -> Finish:
        """Ends an item as failed, or lets it wait for another try.

        Args:
            lease: of the item.
            fault: why.
            retry_in_s: seconds until the next try, if one is left; None: the item has failed for good.
        """

        def failed(tx: Transaction, job: Job, attempts: int) -> None:
            if retry_in_s is None:
                transitions.end(tx, job, lease.position, ItemState.FAILED, fault=fault)
            else:
                self._again_or_end(tx, job, lease.position, attempts, fault, retry_in_s)

        return self.database.write(lambda tx: transitions.if_held(tx, lease, failed))

    def release(self, lease: Lease, ready_in_s: float = 0.0) -> Finish:
        """Gives an item back unworked: the try does not count."""

        def given_back(tx: Transaction, job: Job, attempts: int) -> None:
            transitions.wait(tx, job, lease.position, attempts - 1, ready_in_s, None)

        return self.database.write(lambda tx: transitions.if_held(tx, lease, given_back))

    def _again_or_end(
        self, tx: Transaction, job: Job, position: int, attempts: int, fault: Fault, pause_s: float
    ) -> None:
        if attempts < self._max_attempts:
            transitions.wait(tx, job, position, attempts, pause_s, fault)
        else:
            told = Fault(fault.code, f"{fault.message} ({attempts} tries)", fault.field)
            transitions.end(tx, job, position, ItemState.FAILED, fault=told)

    def cancel(self, job_id: str, owner: str, *, results: bool = False) -> Job:
        """Cancels the items that wait; those at work may end.

        Args:
            job_id: of the job; that it has ended is no fault.
            owner: its owner.
            results: also cancels the items at work, and forgets where results are: the caller removes the files,
                a worker that comes late its own.

        Raises:
            JobMissingError: there is no such job of this owner.
        """
        job = self.database.write(lambda tx: transitions.cancel(tx, job_id, owner, results=results))
        if job is None:
            raise JobMissingError(job_id)
        return job

    def expired(self, limit: int = 100) -> list[str]:
        """Ids of jobs past their time-to-live, which is counted from their end."""
        sql = "SELECT id FROM batch_jobs WHERE expires_s <= now_s() ORDER BY expires_s LIMIT :limit"
        return [row["id"] for row in self.database.read(lambda tx: tx.all(sql, limit=limit))]

    def forget(self, job_id: str) -> None:
        """Removes an expired job with its items, once its result files are gone."""
        sql = "DELETE FROM batch_jobs WHERE id = :id AND expires_s <= now_s()"
        self.database.write(lambda tx: tx.run(sql, id=job_id))

    def count_jobs(self) -> dict[JobStatus, int]:
        """Jobs by status, for metrics."""
        sql = "SELECT status, count(*) AS num FROM batch_jobs GROUP BY status"
        rows = self.database.read(lambda tx: tx.all(sql))
        return dict.fromkeys(JobStatus, 0) | {JobStatus(row["status"]): row["num"] for row in rows}


def _find_taken(tx: Transaction, new: NewJob) -> Job | None:
    row = tx.one(
        "SELECT * FROM batch_jobs WHERE owner = :owner AND (id = :id OR idempotency_key = :key)",
        owner=new.owner,
        id=new.id,
        key=new.idempotency_key,
    )
    if row is not None and row["body_hash"] != new.body_hash:
        raise IdempotencyError(new.idempotency_key or new.id)
    return None if row is None else Job.of(row)
