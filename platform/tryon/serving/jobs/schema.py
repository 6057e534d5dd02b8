"""Tables of jobs, by version: made at first use, and brought up to date by what is new since."""

from __future__ import annotations

from tryon.errors import StorageError
from tryon.serving.jobs.database import Database, PostgresDatabase, Transaction

LOCK = 7_304_416  # any number, the same in every process
# One entry a version; what was released is never edited. Times are Unix time in s, of the database's clock.
MIGRATIONS = (
    (
        """CREATE TABLE batch_jobs (
            id TEXT PRIMARY KEY,
            owner TEXT NOT NULL,
            idempotency_key TEXT,
            body_hash TEXT NOT NULL,
            options TEXT NOT NULL,
            status TEXT NOT NULL,
            total INTEGER NOT NULL,
            completed INTEGER NOT NULL DEFAULT 0,
            failed INTEGER NOT NULL DEFAULT 0,
            cancelled INTEGER NOT NULL DEFAULT 0,
            webhook_url TEXT,
            ttl_s DOUBLE PRECISION NOT NULL,
            created_s DOUBLE PRECISION NOT NULL,
            ended_s DOUBLE PRECISION,
            expires_s DOUBLE PRECISION,
            UNIQUE (owner, idempotency_key)
        )""",
        "CREATE INDEX batch_jobs_open ON batch_jobs (owner) WHERE ended_s IS NULL",
        "CREATE INDEX batch_jobs_expiry ON batch_jobs (expires_s) WHERE expires_s IS NOT NULL",
        """CREATE TABLE batch_items (
            job_id TEXT NOT NULL REFERENCES batch_jobs (id) ON DELETE CASCADE,
            position INTEGER NOT NULL,
            inputs TEXT NOT NULL,
            state TEXT NOT NULL,
            attempts INTEGER NOT NULL DEFAULT 0,
            ready_s DOUBLE PRECISION NOT NULL,
            lease_owner TEXT,
            lease_token TEXT,
            lease_expires_s DOUBLE PRECISION,
            result_uri TEXT,
            error_code TEXT,
            error_message TEXT,
            error_field TEXT,
            ended_s DOUBLE PRECISION,
            PRIMARY KEY (job_id, position)
        )""",
        # By position first: jobs take turns, so a short job does not wait for the end of a long one.
        "CREATE INDEX batch_items_waiting ON batch_items (position, ready_s) WHERE state = 'waiting'",
        "CREATE INDEX batch_items_leased ON batch_items (lease_expires_s) WHERE state = 'leased'",
        """CREATE TABLE batch_deliveries (
            id TEXT PRIMARY KEY,
            job_id TEXT NOT NULL REFERENCES batch_jobs (id) ON DELETE CASCADE,
            owner TEXT NOT NULL,
            url TEXT NOT NULL,
            body TEXT NOT NULL,
            state TEXT NOT NULL,
            attempts INTEGER NOT NULL DEFAULT 0,
            ready_s DOUBLE PRECISION NOT NULL,
            last_error TEXT,
            UNIQUE (job_id)
        )""",
        "CREATE INDEX batch_deliveries_waiting ON batch_deliveries (ready_s) WHERE state = 'waiting'",
        """CREATE TABLE batch_uploads (
            uri TEXT PRIMARY KEY,
            owner TEXT NOT NULL,
            sha256 TEXT NOT NULL,
            bytes INTEGER NOT NULL,
            written INTEGER NOT NULL,
            expires_s DOUBLE PRECISION NOT NULL
        )""",
        "CREATE INDEX batch_uploads_id ON batch_uploads (owner, sha256)",
        "CREATE INDEX batch_uploads_expiry ON batch_uploads (expires_s)",
        "CREATE TABLE batch_secret (id INTEGER PRIMARY KEY, secret TEXT NOT NULL)",
    ),
)


def migrate(database: Database) -> None:
    """Makes the tables, or adds what is new; of many processes that start at once, one does it.

    Raises:
        StorageError: the database cannot be reached, or a newer version of tryon has written to it.
    """
    database.write(lambda tx: _apply(tx, lock=isinstance(database, PostgresDatabase)))


def _apply(tx: Transaction, *, lock: bool) -> None:
    if lock:
        tx.one("SELECT pg_advisory_xact_lock(:key)", key=LOCK)
    tx.run("CREATE TABLE IF NOT EXISTS batch_schema (version INTEGER PRIMARY KEY)")
    version = _version(tx)
    if version > len(MIGRATIONS):
        text = f"the job store has schema {version}, this tryon knows {len(MIGRATIONS)}: it was written by a newer one"
        raise StorageError(text, code="store-newer", field="store")
    for number, statements in enumerate(MIGRATIONS[version:], start=version + 1):
        for statement in statements:
            tx.run(statement)
        tx.run("INSERT INTO batch_schema (version) VALUES (:version)", version=number)


def _version(tx: Transaction) -> int:
    row = tx.one("SELECT coalesce(max(version), 0) AS version FROM batch_schema")
    assert row is not None
    return int(row["version"])
