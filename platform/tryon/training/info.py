"""A run's own files, by name and by content: read without torch, so that runs are listed at once.

<out>-runs/<name>/run.json          config, data, what it is built on, status
metrics.jsonl     a line a report
samples/step-00000100.jpg     what the network made above what was true
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from tryon import storage
from tryon.config import Config
from tryon.errors import StorageError

RUN = "run.json"
METRICS = "metrics.jsonl"
SAMPLES = "samples"
Metrics = dict[str, float]
Status = Literal["running", "stopped", "pruned", "failed", "finished"]


class RunInfo(Config):
    """What `run.json` holds."""

    name: str = Field(description="of the run: recipe and a hash of what decides the weights")
    status: Status = Field(description="running is also what a killed run says; pruned: a search stopped it for good")
    started: str = Field(description="UTC, ISO 8601")
    updated: str = Field(description="UTC, ISO 8601")
    tryon_version: str = Field(description="that ran it last")
    data: str = Field(description="URI of the data set")
    out: str = Field(description="URI of the bundle")
    provenance: Mapping[str, Any] = Field(description="resolved config, hash of the data, frozen networks")
    reason: str = Field("", description="why it failed")


def read_info(uri: str) -> RunInfo | None:
    """What `run.json` of a run's folder holds, or None where there is no such file.

    Raises:
        StorageError: the storage cannot be read.
    """
    data = _read(storage.join(uri, RUN))
    return None if data is None else RunInfo.model_validate_json(data)


def write_status(uri: str, status: Status, reason: str = "") -> None:
    """Says in a run's folder what became of it, where what ran it could not.

    Raises:
        StorageError: the storage cannot be read or written.
    """
    info = read_info(uri)
    if info is not None and (info.status, info.reason) != (status, reason):
        told = info.model_copy(update={"status": status, "reason": reason})
        storage.write_bytes(storage.join(uri, RUN), told.model_dump_json(indent=2).encode())


def read_lines(uri: str) -> list[Metrics]:
    """The lines of a run's folder; none where there are none yet.

    Raises:
        StorageError: the storage cannot be read: to take that for no lines would overwrite those that are there.
    """
    return [json.loads(line) for line in (_read(storage.join(uri, METRICS)) or b"").splitlines()]


def _read(uri: str) -> bytes | None:
    try:
        return storage.read_bytes(uri)
    except StorageError as error:
        if error.code == "uri-missing":
            return None
        raise
