"""Runs beside one another: what differs in their configs, how good they are, and a page of curves and pictures."""

from __future__ import annotations

import base64
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tryon import storage
from tryon.charts import figure
from tryon.curves import Series, curves
from tryon.errors import ConfigError, StorageError
from tryon.page import render
from tryon.training.runs import Run

# Told apart on light and on dark, and by eyes that mix up red and green: their lightness differs, too.
COLOURS = ("#3b6fd4", "#e08a1e", "#2f8f5b", "#c8452f", "#8a5cd1", "#0f9aa7", "#c25a93", "#8a7748")
NOT_SAID = "-"


@dataclass(frozen=True)
class FigureOf:
    """One figure of one run.

    Attributes:
        last: its last value.
        best: its best value; None where no direction is better, or none is finite.
        best_step: where that was.
        leads: its best value is the best of all runs.
    """

    last: float
    best: float | None
    best_step: int | None
    leads: bool


@dataclass(frozen=True)
class Compared:
    """Runs beside one another; each sequence is in their order.

    Attributes:
        runs: two or more.
        labels: their names, with the bundle's where several have the same.
        differing: values by key of the config and of what the run is built on, as text.
        figures: by name, each run's (last, best, step of the best), or None where it has no such figure.
        pictures_step: the last step at which all of them that have pictures have one; None: there is none.
    """

    runs: Sequence[Run]
    labels: Sequence[str]
    differing: Mapping[str, Sequence[str]]
    figures: Mapping[str, Sequence[FigureOf | None]]
    pictures_step: int | None


@dataclass(frozen=True)
class Shown:
    """One run's pictures on the page: a data URI and a step, or why there are none."""

    picture: str | None
    note: str


def compare(runs: Sequence[Run]) -> Compared:
    """Lays runs beside one another.

    Raises:
        ConfigError: fewer than two, or more than can be told apart by colour.
    """
    if not 2 <= len(runs) <= len(COLOURS):
        given = ", ".join(run.uri for run in runs[:10])
        text = f"2 to {len(COLOURS)} runs can be compared, {len(runs)} are given: {given}"
        raise ConfigError(text, code="run-count", field="RUN")
    told = [dict(_flat(_facts(run))) for run in runs]
    keys = dict.fromkeys(key for facts in told for key in facts)
    rows = {key: [facts.get(key, NOT_SAID) for facts in told] for key in keys}
    names = sorted({name for run in runs for name in run.names()}, key=lambda name: _place(name, runs))
    steps = [set(run.pictures) for run in runs if run.pictures]
    return Compared(
        runs=runs,
        labels=labels(runs),
        differing={key: values for key, values in rows.items() if len(set(values)) > 1},
        figures={name: _figures(name, runs) for name in names},
        pictures_step=max(set.intersection(*steps), default=None) if steps else None,
    )


def labels(runs: Sequence[Run]) -> list[str]:
    """A name for each, unique where the runs' folders are."""
    names = Counter(run.info.name for run in runs)
    bundles = Counter((run.info.name, _bundle(run)) for run in runs)
    found = []
    for run in runs:
        name, bundle = run.info.name, _bundle(run)
        more = "" if names[name] == 1 else f" ({bundle})" if bundles[name, bundle] == 1 else f" ({run.uri})"
        found.append(name + more)
    return found


def write_page(compared: Compared, out: str) -> None:
    """Writes the page: one file, nothing outside it.

    Raises:
        StorageError: it cannot be written.
    """
    charts = {name: _chart(name, compared) for name in compared.figures}
    drawn = {name: svg for name, svg in charts.items() if svg}
    page = render(
        "tryon.training", "compare.html.j2", {"clock": lambda text: text[:16].replace("T", " ")},
        runs=list(zip(compared.runs, compared.labels, COLOURS, strict=False)),
        losses={name: svg for name, svg in drawn.items() if not name.startswith("val_")},
        validation={name: svg for name, svg in drawn.items() if name.startswith("val_")},
        compared=compared,
        arrows={name: _arrow(name, compared.runs) for name in compared.figures},
        shown=[_shown(run, compared.pictures_step) for run in compared.runs],
        configs=[json.dumps(dict(run.info.provenance), indent=2, ensure_ascii=False) for run in compared.runs],
    )  # fmt: skip
    storage.write_bytes(out, page.encode())


def _facts(run: Run) -> dict[str, Any]:
    """What may differ: the config, and what the run was given and ran with."""
    rest = {key: value for key, value in run.info.provenance.items() if key != "config"}
    return {**run.config, "data": run.info.data, **rest, "out": run.info.out, "tryon_version": run.info.tryon_version}


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """A text for each value, those of nested mappings under ``outer.inner``."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        elif isinstance(value, list | tuple):
            yield prefix + key, "x".join(map(str, value))
        else:
            yield prefix + key, value if isinstance(value, str) else json.dumps(value)


def _place(name: str, runs: Sequence[Run]) -> tuple[bool, bool, str]:
    """Validation first, and there the figures that checkpoints are kept by; then the loss and its parts."""
    kept = any(run.metric.removeprefix("-") == name for run in runs)
    return not name.startswith("val_"), not (kept or name == "loss"), name


def _figures(name: str, runs: Sequence[Run]) -> list[FigureOf | None]:
    lasts, bests = [run.last(name) for run in runs], [run.best(name) for run in runs]
    values = [best[1] for best in bests if best is not None]
    top = (max if _higher(name, runs) else min)(values, default=None)
    found: list[FigureOf | None] = []
    for last, best in zip(lasts, bests, strict=True):
        step, value = best or (None, None)
        leads = len(values) > 1 and value is not None and value == top
        found.append(None if last is None else FigureOf(last, value, step, leads))
    return found


def _higher(name: str, runs: Sequence[Run]) -> bool | None:
    return next((better for run in runs if (better := run.higher_is_better(name)) is not None), None)


def _arrow(name: str, runs: Sequence[Run]) -> str:
    return {True: "↑", False: "↓", None: ""}[_higher(name, runs)]


def _chart(name: str, compared: Compared) -> str:
    """The figure of all runs that have it; empty where none has a finite value."""
    rows = zip(compared.runs, compared.labels, COLOURS, strict=False)
    series = [Series(label, colour, run.points(name)) for run, label, colour in rows]
    if not any(math.isfinite(y) for line in series for _, y in line.points):
        return ""
    return curves(f"{name} against step", [line for line in series if line.points])


def _shown(run: Run, step: int | None) -> Shown:
    """The pictures at the step that all have; the run's last where there is no such step."""
    if not run.pictures:
        return Shown(None, "it left no pictures")
    at = max(run.pictures) if step is None else step
    try:
        data = storage.read_bytes(run.pictures[at])
    except StorageError as error:
        return Shown(None, str(error))
    return Shown(f"data:image/jpeg;base64,{base64.b64encode(data).decode()}", f"step {figure(at)}")


def _bundle(run: Run) -> str:
    return run.info.out.rstrip("/").rpartition("/")[2]
