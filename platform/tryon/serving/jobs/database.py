"""SQLite or PostgreSQL behind one small interface: transactions that are run again when the connection is lost.

SQL is written once, in what both share, with ``:name`` for a value. Two words of it are this module's: ``now_s()`` is
the database's own clock (Unix time, s; workers' clocks may differ), and ``FOR UPDATE …`` is dropped on SQLite, where
``BEGIN IMMEDIATE`` has already shut other writers out.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import random
import re
import sqlite3
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from tryon.errors import ConfigError, StorageError

T = TypeVar("T")
Row = dict[str, Any]
POSTGRES_SCHEMES = ("postgresql", "postgres")
SQLITE_LEAST = (3, 35, 0)  # RETURNING, MATERIALIZED
BUSY_TIMEOUT_S = 30.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 2.0
logger = logging.getLogger("ray.serve")


class Transaction:
    """What a unit of work may do; all of it happens or nothing."""

    def __init__(self, connection: Any, translate: Callable[[str], str]) -> None:
        self._connection = connection
        self._translate = translate

    def all(self, sql: str, **values: Any) -> list[Row]:
        """Every row of a query, or of a statement with RETURNING."""
        return [dict(row) for row in self._connection.execute(self._translate(sql), values).fetchall()]

    def one(self, sql: str, **values: Any) -> Row | None:
        """The first row, or None."""
        row = self._connection.execute(self._translate(sql), values).fetchone()
        return None if row is None else dict(row)

    def run(self, sql: str, **values: Any) -> int:
        """Runs a statement; the number of rows it touched."""
        touched: int = self._connection.execute(self._translate(sql), values).rowcount
        return touched

    def many(self, sql: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Runs a statement once for each row of values, without a round trip for each."""
        self._connection.cursor().executemany(self._translate(sql), rows)


class Database(ABC):
    """A place for the tables of jobs.

    Args:
        patience_s: how long work is tried again while the database cannot be reached (it restarts, a network is cut).
    """

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._idle: list[Any] = []
        self._lock = threading.Lock()

    def write(self, work: Callable[[Transaction], T]) -> T:
        """Runs work in a transaction of its own and commits it.

        The work may run more than once, also where a commit went through and its answer was lost: it has to be such
        that a second run does no harm.

        Raises:
            StorageError: the database did not answer within the patience, or refused.
        """
        return self._patiently(lambda: self._once(work, "BEGIN IMMEDIATE"))

    def read(self, work: Callable[[Transaction], T]) -> T:
        """As `write`, for work that only reads: on SQLite it waits for nobody."""
        return self._patiently(lambda: self._once(work, "BEGIN"))

    def close(self) -> None:
        """Closes the idle connections."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    @abstractmethod
    def _connect(self) -> Any: ...

    @abstractmethod
    def _translate(self, sql: str) -> str: ...

    @abstractmethod
    def _passing(self, error: Exception) -> bool:
        """True for a fault that another try may not meet."""

    @abstractmethod
    def _begin(self, connection: Any, how: str) -> None: ...

    def _once(self, work: Callable[[Transaction], T], how: str) -> T:
        with self._connection() as connection:
            self._begin(connection, how)
            done = work(Transaction(connection, self._translate))
            connection.commit()
            return done

    @contextlib.contextmanager
    def _connection(self) -> Iterator[Any]:
        """An idle connection or a new one; after a fault it is closed, which rolls back."""
        with self._lock:
            connection = self._idle.pop() if self._idle else None
        connection = connection or self._connect()
        try:
            yield connection
        except BaseException:
            with contextlib.suppress(Exception):
                connection.close()
            raise
        with self._lock:
            self._idle.append(connection)

    def _patiently(self, run: Callable[[], T]) -> T:
        give_up = time.monotonic() + self._patience_s
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                return run()
            except self._faults as error:
                if not self._passing(error) or time.monotonic() + pause_s > give_up:
                    text = f"the job store does not answer: {' '.join(str(error).split())}"
                    raise StorageError(text, code="store-unavailable") from error
                logger.warning("the job store is tried again: %s", type(error).__name__)
            self.close()  # what broke one connection broke the idle ones
            time.sleep(pause_s * random.uniform(0.5, 1.0))
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    _faults: tuple[type[Exception], ...] = ()


class SqliteDatabase(Database):
    """A file on a local disk, in WAL mode, synced at every commit. WAL needs shared memory: no network file systems."""

    _faults = (sqlite3.Error,)

    def __init__(self, path: str, patience_s: float) -> None:
        super().__init__(patience_s)
        if sqlite3.sqlite_version_info < SQLITE_LEAST:
            text = (
                f"SQLite {sqlite3.sqlite_version} is too old for the job store; 3.35 or a postgresql:// URL is needed"
            )
            raise ConfigError(text, code="store-invalid", field="store")
        self._path = os.path.abspath(os.path.expanduser(path))

    def _connect(self) -> sqlite3.Connection:
        try:
            os.makedirs(os.path.dirname(self._path), exist_ok=True)
        except OSError as error:
            text = f"the folder of the job store {self._path} cannot be made: {error.strerror}"
            raise StorageError(text, code="store-unavailable") from error
        connection = sqlite3.connect(
            self._path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False, cached_statements=256
        )
        connection.row_factory = sqlite3.Row
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")
        return connection

    def _begin(self, connection: Any, how: str) -> None:
        connection.execute(how)

    def _translate(self, sql: str) -> str:
        return _for_sqlite(sql)

    def _passing(self, error: Exception) -> bool:
        code = getattr(error, "sqlite_errorcode", None)
        return code is not None and code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


class PostgresDatabase(Database):
    """A PostgreSQL server, 12 or newer, through psycopg 3."""

    def __init__(self, url: str, patience_s: float) -> None:
        super().__init__(patience_s)
        try:
            import psycopg
            from psycopg.rows import dict_row
        except ImportError as error:
            text = "a postgresql:// store needs psycopg: pip install 'tryon[postgres]'"
            raise ConfigError(text, code="store-invalid", field="store") from error
        self._faults = (psycopg.Error,)
        self._retried = (psycopg.OperationalError, psycopg.InterfaceError)
        self._open = functools.partial(psycopg.connect, url, row_factory=dict_row, connect_timeout=10)

    def _connect(self) -> Any:
        return self._open()

    def _begin(self, connection: Any, how: str) -> None:
        """Nothing: psycopg begins with the first statement."""

    def _translate(self, sql: str) -> str:
        return _for_postgres(sql)

    def _passing(self, error: Exception) -> bool:
        return isinstance(error, self._retried)


@functools.lru_cache(maxsize=256)
def _for_sqlite(sql: str) -> str:
    sql = re.sub(r"\bFOR UPDATE( SKIP LOCKED)?", "", sql)
    return sql.replace("now_s()", "((julianday('now') - 2440587.5) * 86400.0)")


@functools.lru_cache(maxsize=256)
def _for_postgres(sql: str) -> str:
    sql = re.sub(r":(\w+)", r"%(\1)s", sql)
    # Of the statement, not of the transaction, which may have waited for a lock; and stable, so that the column it is
    # compared to keeps its index, which the volatile clock_timestamp() would lose.
    return sql.replace("now_s()", "extract(epoch from statement_timestamp())::float8")


def open_database(url: str, *, patience_s: float = 30.0) -> Database:
    """Database of a URL; connects at first use.

    Args:
        url: a path or ``sqlite:///path`` (made where it is missing), or ``postgresql://user:password@host/name``.
        patience_s: how long work is tried again while the database cannot be reached.

    Raises:
        ConfigError: another scheme, no path, or the driver is missing.
    """
    scheme, separator, rest = url.partition("://")
    if separator and scheme in POSTGRES_SCHEMES:
        return PostgresDatabase(url, patience_s)
    path = rest.removeprefix("/") if separator else url
    if (separator and scheme != "sqlite") or not path:
        named = f"{scheme}://…" if separator else repr(url)  # a URL may hold a password
        text = f"store {named} is not a path, sqlite:///path or postgresql://host/name"
        raise ConfigError(text, code="store-invalid", field="store")
    return SqliteDatabase(path, patience_s)
