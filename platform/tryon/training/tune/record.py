"""What a search leaves, and how it is read back.

<out>-tune/<recipe>-<hash>/search.json      what is searched, and what became of each trial
trial-01/         a run's folder: config, lines, pictures, checkpoints, TensorBoard's files
best.yaml         the best trial's config, for `tryon train --config`
report.html       all of it on a page
ray/              Ray Tune's own state, which an interrupted search is restored from
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field

from tryon import storage
from tryon.config import Config
from tryon.errors import StorageError
from tryon.training.info import read_info, read_lines
from tryon.training.loop import Metrics
from tryon.training.run import RunSpec
from tryon.training.tune.check import SearchSpec

SEARCH = "search.json"
REPORT = "report.html"
BEST = "best.yaml"
LINEAGE = "lineage.json"
State = Literal["waiting", "running", "pruned", "failed", "finished"]


class Trial(Config):
    """One trial."""

    number: int = Field(ge=1, description="from 1, in the order they were chosen")
    values: Mapping[str, Any] = Field(description="by key of the space; of pbt, the last ones")
    state: State = Field(description="pruned: stopped because others were better at the same step")
    step: int = Field(0, ge=0, description="that it has reached")
    value: float | None = Field(None, description="of the search's metric there")
    reason: str = Field("", description="why it failed")

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"trial-{self.number:02d}"

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will be trained of it."""
        return self.state not in ("waiting", "running")


class SearchInfo(Config):
    """What `search.json` holds."""

    status: Literal["running", "stopped", "finished"] = Field(description="running is also what a killed search says")
    recipe: str = Field(description="by name")
    data: str = Field(description="URI of the data set")
    out: str = Field(description="URI of the bundle that the best trial becomes")
    search: Mapping[str, Any] = Field(description="the space file, resolved")
    steps: int = Field(description="of a trial that is not stopped")
    metric: str = Field(description="with - in front where less is better")
    trials: tuple[Trial, ...] = Field((), description="in the order they were chosen")
    took_s: float = Field(0.0, ge=0, description="s, over all its parts")
    best: int | None = Field(None, description="number of the best trial, once the search has finished")
    sha256: str = Field("", description="of the best trial's network in the bundle")


def read_search(folder: str) -> SearchInfo | None:
    """What a search's folder says, or None where there is none.

    Raises:
        StorageError: the storage cannot be read.
    """
    try:
        data = storage.read_bytes(storage.join(folder, SEARCH))
    except StorageError as error:
        if error.code == "uri-missing":
            return None
        raise
    return SearchInfo.model_validate_json(data)


def write_search(folder: str, info: SearchInfo) -> None:
    """Writes it, whole or not at all.

    Raises:
        StorageError: the place cannot be written.
    """
    storage.write_bytes(storage.join(folder, SEARCH), info.model_dump_json(indent=2).encode())


def taken_up(spec: SearchSpec) -> SearchSpec:
    """The search with the folder it has finished in, where what it went on from is its own best trial by now."""
    now, folder = spec.goes_on_from(), f"{spec.base.out}-tune"
    if now is None or not storage.exists(folder):
        return spec
    for uri in storage.list_files(folder, (f"/{SEARCH}",)):
        info = read_search(uri.removesuffix(f"/{SEARCH}"))
        same = info is not None and info.search == new_search(spec).search and info.data == spec.data
        if info is not None and same and info.status == "finished" and info.sha256 == now:
            return dataclasses.replace(spec, found=uri.removesuffix(f"/{SEARCH}"))
    return spec


def new_search(spec: SearchSpec) -> SearchInfo:
    """A search that has not begun."""
    return SearchInfo(
        status="running", recipe=spec.recipe, data=spec.data, out=spec.base.out,
        search=spec.search.model_dump(mode="json", by_alias=True, exclude_none=True), steps=spec.steps,
        metric=spec.search.metric,
    )  # fmt: skip


def ranked(trials: Sequence[Trial], metric: str) -> list[Trial]:
    """Best first: those that finished, by their figure; then those that came further, by theirs."""
    sign = 1.0 if metric.startswith("-") else -1.0

    def key(trial: Trial) -> tuple[bool, int, float]:
        return trial.state != "finished", -trial.step, math.inf if trial.value is None else sign * trial.value

    return sorted(trials, key=key)


def points(folder: str, metric: str) -> list[tuple[float, float]]:
    """Step and figure of a trial's validations, from its folder; none where there is nothing yet."""
    name = metric.removeprefix("-")
    return [(line["step"], line[name]) for line in read_lines(folder) if line.get(name) is not None]


def is_settled(run: RunSpec) -> bool:
    """Whether this trial has finished or was pruned before."""
    info = read_info(run.folder())
    return info is not None and info.status in ("finished", "pruned") and is_same(info.provenance, run.provenance())


def is_same(found: Mapping[str, Any], provenance: Mapping[str, Any]) -> bool:
    """Whether what a run's folder says it was trained with is this; it has more of the config than decides."""
    config = {key: value for key, value in found["config"].items() if key in provenance["config"]}
    return json.dumps({**found, "config": config}, sort_keys=True) == json.dumps(provenance, sort_keys=True)


def last_line(folder: str, metric: str) -> Metrics | None:
    """The last line of a trial that has the figure."""
    lines = [line for line in read_lines(folder) if line.get(metric.removeprefix("-")) is not None]
    return lines[-1] if lines else None


def read_lineage(folder: str) -> list[dict[str, Any]]:
    """The configs a trial of population based training has had: each with the step it began at, and whose weights."""
    uri = storage.join(folder, LINEAGE)
    return json.loads(storage.read_bytes(uri)) if storage.exists(uri) else []


def write_lineage(folder: str, lineage: Sequence[Mapping[str, Any]]) -> None:
    """Writes them.

    Raises:
        StorageError: the place cannot be written.
    """
    storage.write_bytes(storage.join(folder, LINEAGE), json.dumps(lineage, indent=2).encode())
