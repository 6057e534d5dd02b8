"""How a job's rows change, inside a transaction of the caller's.

waiting → leased → done | failed          leased → waiting (another try, given back, worker lost)
waiting → cancelled                       leased → cancelled (with its results, or instead of waiting again)
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Sequence

from tryon.serving.jobs.database import Row, Transaction
from tryon.serving.jobs.records import Fault, Finish, ItemState, Job, JobStatus, Lease

ENDED_COUNT = {ItemState.DONE: "completed", ItemState.FAILED: "failed", ItemState.CANCELLED: "cancelled"}


def due(tx: Transaction) -> tuple[list[str], bool]:
    """Ids of jobs with a lease that has run out; whether any item can be leased."""
    expired = tx.all(
        "SELECT DISTINCT job_id FROM batch_items WHERE state = 'leased' AND lease_expires_s <= now_s() ORDER BY job_id"
    )
    waiting = tx.one("SELECT 1 AS due FROM batch_items WHERE state = 'waiting' AND ready_s <= now_s() LIMIT 1")
    return [row["job_id"] for row in expired], waiting is not None


def lease(tx: Transaction, worker: str, token: str, num: int, lease_s: float) -> list[Lease]:
    """Takes up to `num` waiting items that nobody else is taking at this moment."""
    rows = tx.all(
        "WITH picked AS MATERIALIZED ("  # else PostgreSQL may run the LIMIT more than once
        " SELECT job_id, position FROM batch_items WHERE state = 'waiting' AND ready_s <= now_s()"
        " ORDER BY position, ready_s LIMIT :num FOR UPDATE SKIP LOCKED)"
        " UPDATE batch_items SET state = 'leased', attempts = attempts + 1, lease_owner = :worker,"
        " lease_token = :token, lease_expires_s = now_s() + :lease_s"
        " WHERE (job_id, position) IN (SELECT job_id, position FROM picked)"
        " RETURNING job_id, position, attempts, inputs",
        worker=worker,
        token=token,
        num=num,
        lease_s=lease_s,
    )
    jobs = {
        job_id: tx.one("SELECT owner, options FROM batch_jobs WHERE id = :id", id=job_id)
        for job_id in {row["job_id"] for row in rows}
    }
    rows.sort(key=lambda row: (row["position"], row["job_id"]))  # RETURNING has no order
    return [_lease_of(row, jobs[row["job_id"]], token) for row in rows]


def _lease_of(row: Row, job: Row | None, token: str) -> Lease:
    assert job is not None
    return Lease(
        job_id=row["job_id"],
        position=row["position"],
        token=token,
        attempts=row["attempts"],
        owner=job["owner"],
        inputs=json.loads(row["inputs"]),
        options=json.loads(job["options"]),
    )


def begin(tx: Transaction, job_id: str) -> None:
    """Marks a job as running."""
    tx.run("UPDATE batch_jobs SET status = 'running' WHERE id = :id AND status = 'queued'", id=job_id)


def renew(tx: Transaction, leases: Sequence[Lease], lease_s: float) -> set[str]:
    """Keys of the leases that still hold, now until `lease_s` from now. In order, as `cancel` locks."""
    sql = (
        "UPDATE batch_items SET lease_expires_s = now_s() + :lease_s WHERE job_id = :job_id"
        " AND position = :position AND lease_token = :token AND state = 'leased'"
    )
    return {
        x.key
        for x in sorted(leases, key=lambda lease: (lease.job_id, lease.position))
        if tx.run(sql, lease_s=lease_s, job_id=x.job_id, position=x.position, token=x.token)
    }


def lock(tx: Transaction, job_id: str) -> Job | None:
    """The job, whose row is this transaction's until its end."""
    row = tx.one("SELECT * FROM batch_jobs WHERE id = :id FOR UPDATE", id=job_id)
    return None if row is None else Job.of(row)


def if_held(tx: Transaction, held: Lease, change: Callable[[Transaction, Job, int], None]) -> Finish:
    """Makes a change to an item if the lease is still the item's.

    Args:
        tx: the transaction.
        held: the lease.
        change: given the transaction, the locked job and how often the item was begun.
    """
    job = lock(tx, held.job_id)
    item = tx.one(
        "SELECT * FROM batch_items WHERE job_id = :job_id AND position = :position FOR UPDATE",
        job_id=held.job_id,
        position=held.position,
    )
    if job is None or item is None or item["state"] == ItemState.CANCELLED:
        return Finish.CANCELLED
    if item["lease_token"] != held.token:
        return Finish.LOST
    if item["state"] == ItemState.LEASED:  # else this very lease ended it, and the commit's answer was lost
        change(tx, job, item["attempts"])
    return Finish.KEPT


def expired(tx: Transaction, job_id: str) -> list[Row]:
    """Position and attempts of a locked job's items whose lease has run out."""
    return tx.all(
        "SELECT position, attempts FROM batch_items WHERE job_id = :job_id AND state = 'leased'"
        " AND lease_expires_s <= now_s() ORDER BY position FOR UPDATE",
        job_id=job_id,
    )


def wait(tx: Transaction, job: Job, position: int, attempts: int, ready_in_s: float, fault: Fault | None) -> None:
    """Lets a leased item of a locked job wait for its next try; in a cancelled job it is cancelled."""
    if job.status == JobStatus.CANCELLED:
        end(tx, job, position, ItemState.CANCELLED, fault=fault)
        return
    tx.run(
        "UPDATE batch_items SET state = 'waiting', attempts = :attempts, ready_s = now_s() + :ready_in_s,"
        " lease_owner = NULL, lease_token = NULL, lease_expires_s = NULL,"
        " error_code = :code, error_message = :message, error_field = :field"
        " WHERE job_id = :job_id AND position = :position",
        attempts=attempts,
        ready_in_s=ready_in_s,
        job_id=job.id,
        position=position,
        **_columns(fault),
    )


def end(
    tx: Transaction,
    job: Job,
    position: int,
    state: ItemState,
    *,
    result_uri: str | None = None,
    fault: Fault | None = None,
) -> None:
    """Ends a leased item of a locked job for good; the job with it, if it was the last."""
    tx.run(
        "UPDATE batch_items SET state = :state, ended_s = now_s(), result_uri = :result_uri, lease_expires_s = NULL,"
        " error_code = :code, error_message = :message, error_field = :field"
        " WHERE job_id = :job_id AND position = :position",
        state=state,
        result_uri=result_uri,
        job_id=job.id,
        position=position,
        **_columns(fault),
    )
    _count(tx, job.id, state, 1)


def cancel(tx: Transaction, job_id: str, owner: str, *, results: bool) -> Job | None:
    """Cancels what waits, and with `results` also what is at work; the job as it is then."""
    job = lock(tx, job_id)
    if job is None or job.owner != owner:
        return None
    states = "('waiting', 'leased')" if results else "('waiting')"
    of_job = f"job_id = :id AND state IN {states}"
    rows = tx.all(f"SELECT position FROM batch_items WHERE {of_job} ORDER BY position FOR UPDATE", id=job_id)
    if rows:
        tx.run(f"UPDATE batch_items SET state = 'cancelled', ended_s = now_s() WHERE {of_job}", id=job_id)
    if results:
        tx.run("UPDATE batch_items SET result_uri = NULL WHERE job_id = :id", id=job_id)
    if job.ended_s is None:
        tx.run("UPDATE batch_jobs SET status = 'cancelled' WHERE id = :id", id=job_id)
        _count(tx, job_id, ItemState.CANCELLED, len(rows))
    return lock(tx, job_id)


def _count(tx: Transaction, job_id: str, state: ItemState, num: int) -> None:
    name = ENDED_COUNT[state]
    job = tx.one(f"UPDATE batch_jobs SET {name} = {name} + :num WHERE id = :id RETURNING *", id=job_id, num=num)
    assert job is not None
    if job["total"] > job["completed"] + job["failed"] + job["cancelled"]:
        return
    status = JobStatus.CANCELLED if job["status"] == JobStatus.CANCELLED else JobStatus.DONE
    tx.run(
        "UPDATE batch_jobs SET status = :status, ended_s = now_s(), expires_s = now_s() + ttl_s WHERE id = :id",
        id=job_id,
        status=status,
    )
    if job["webhook_url"]:
        _queue_webhook(tx, {**job, "status": status})


def _queue_webhook(tx: Transaction, job: Row) -> None:
    """In the transaction that ends the job: it is told of, or it has not ended."""
    counts = {name: job[name] for name in ("total", "completed", "failed", "cancelled")}
    body = {"type": f"batch.{job['status']}", "data": {"job_id": job["id"], "status": job["status"], **counts}}
    tx.run(
        "INSERT INTO batch_deliveries (id, job_id, owner, url, body, state, ready_s)"
        " VALUES (:id, :job_id, :owner, :url, :body, 'waiting', now_s())",
        id=f"msg_{uuid.uuid4().hex}",
        job_id=job["id"],
        owner=job["owner"],
        url=job["webhook_url"],
        body=json.dumps(body),
    )


def _columns(fault: Fault | None) -> dict[str, str | None]:
    if fault is None:
        return {"code": None, "message": None, "field": None}
    return {"code": fault.code, "message": fault.message, "field": fault.field}
