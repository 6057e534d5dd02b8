"""Reading a source to the end, as the engines do, and keeping count."""

from __future__ import annotations

import pickle
from pathlib import Path

import pyarrow.parquet as pq

from tryon.config import StageSpec
from tryon.data.job import Job, run_job
from tryon.data.shards import Manifest
from tryon.data.sources.base import Source
from tryon.sample import FIELDS, Row


def rows_of(source: Source) -> list[Row]:
    """All rows; source and tasks go through pickle, as on their way to an actor."""
    tasks = list(source.tasks())
    assert repr(tasks) == repr(list(source.tasks())), "the same tasks each time"
    travelled: Source = pickle.loads(pickle.dumps(source))
    rows = [row for task in tasks for row in travelled.read(pickle.loads(pickle.dumps(task)))]
    for row in rows:
        assert set(row) <= {*source.fields, "error_code", "error", "error_stage"} <= set(FIELDS), row
    return rows


def faults_of(rows: list[Row]) -> dict[str, str]:
    """Id to code of the rows that cannot be used."""
    assert all(row["error"] and row["error_stage"] == "source" for row in rows if "error_code" in row)
    return {row["id"]: row["error_code"] for row in rows if "error_code" in row}


def decoded(source: Source, out: Path | str) -> Manifest:
    """A data job that decodes what the source brings."""
    specs = [StageSpec(name="decode_person"), StageSpec(name="decode_garment")]
    fields = ("id", *(name for name in source.fields if name.endswith("_uri")))
    return run_job(Job(source, specs, fields, {}), str(out), num_actors=0)


def quarantine(out: Path) -> dict[str, str]:
    """Id to code of the rows that a job set aside."""
    tables = [pq.read_table(path) for path in sorted((out / "_quarantine").glob("*.parquet"))]
    return {row["id"]: row["error_code"] for table in tables for row in table.to_pylist()}
