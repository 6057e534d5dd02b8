"""A store on SQLite and on PostgreSQL: tests that take `store_url` run on both."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serving.jobs.postgres import Cluster, cluster
from tryon.serving.jobs.database import open_database
from tryon.serving.jobs.store import JobStore


@pytest.fixture(scope="session")
def postgres() -> Iterator[Cluster]:
    with cluster() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgres"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'jobs.db'}"
    server: Cluster = request.getfixturevalue("postgres")
    return server.new_database()


@pytest.fixture
def sqlite_store(tmp_path: Path) -> Iterator[JobStore]:
    """For what no database decides."""
    database = open_database(str(tmp_path / "only.db"))
    yield JobStore(database)
    database.close()


@pytest.fixture
def store(store_url: str) -> Iterator[JobStore]:
    database = open_database(store_url, patience_s=20.0)
    yield JobStore(database, max_attempts=3, lost_pause_s=0.0)
    database.close()
