"""A search's page: parallel coordinates, learning curves of all trials, and a table, best first."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from tryon import storage
from tryon.curves import Series, curves
from tryon.page import render
from tryon.parallel import Axis, Track, parallel
from tryon.training.info import read_lines
from tryon.training.loop import Metrics
from tryon.training.tune.record import REPORT, SearchInfo, Trial, ranked
from tryon.training.tune.space import Range, pairs, shown

COLOURS = {"best": "var(--best)", "finished": "var(--bar)", "failed": "var(--bad)", "pruned": "var(--soft)"}


def write_report(folder: str, info: SearchInfo) -> None:
    """Writes the page: one file, nothing outside it.

    Args:
        folder: URI of the search's.
        info: of it.

    Raises:
        StorageError: it cannot be written, or a trial cannot be read.
    """
    storage.write_bytes(storage.join(folder, REPORT), search_page(folder, info).encode())


def search_page(folder: str, info: SearchInfo) -> str:
    """The page as HTML."""
    order = ranked(info.trials, info.metric)
    lines = {trial.number: read_lines(storage.join(folder, trial.name)) for trial in order}
    space = {key: Range.model_validate(values) for key, values in info.search["space"].items()}
    metric = info.metric.removeprefix("-")
    best = next((trial for trial in order if trial.number == info.best), None)
    return render(
        "tryon.training", "tune.html.j2", {"value": shown},
        info=info, folder=folder, order=order, space=space, metric=metric, best=best,
        arrow="↓" if info.metric.startswith("-") else "↑",
        counts=Counter(trial.state for trial in order),
        kinds={trial.number: kind_of(trial, info.best) for trial in order},
        coordinates=_coordinates(info, order, space),
        curves=_curves(info, order, lines),
    )  # fmt: skip


def kind_of(trial: Trial, best: int | None) -> str:
    """How a trial is drawn."""
    if trial.number == best:
        return "best"
    return trial.state if trial.has_ended else "pruned"


def _coordinates(info: SearchInfo, order: Sequence[Trial], space: dict[str, Range]) -> str:
    """Worst first, so that the best is drawn over the others."""
    values = [trial.value for trial in order if trial.value is not None]
    axes = [_axis(key, found) for key, found in space.items()]
    if values:
        low, high = min(values), max(values)
        low, high = (high, low) if info.metric.startswith("-") else (low, high)
        axes.append(Axis(f"{info.metric.removeprefix('-')}, best on top", low, high, log=_spans(values)))
    if len(axes) < 2:
        return ""
    tracks = []
    for trial in reversed(order):
        own: list[object] = [trial.values[key] for key in space]
        figures: list[object] = [] if trial.value is None else [trial.value]
        tracks.append(Track(_told(trial, info), kind_of(trial, info.best), own + figures))
    return parallel("configs of all trials and what they came to", axes, tracks)


def _axis(key: str, values: Range) -> Axis:
    if values.choice is not None:
        return Axis(key, choices=tuple(map(str, values.choice)))
    return Axis(key, *values.bounds, log=values.is_log)


def _spans(values: Sequence[float]) -> bool:
    """So far apart that a linear axis would show one of them alone."""
    return min(values) > 0 and max(values) / min(values) > 20


def _told(trial: Trial, info: SearchInfo) -> str:
    figure = "no figure" if trial.value is None else f"{info.metric.removeprefix('-')} {shown(trial.value)}"
    return f"{trial.name}, {trial.state} at step {trial.step}: {figure}; {pairs(trial.values)}"


def _curves(info: SearchInfo, order: Sequence[Trial], lines: dict[int, list[Metrics]]) -> dict[str, str]:
    """By figure, the search's own first, then the other validation figures and the loss."""
    names = {name for found in lines.values() for line in found for name in line if name.startswith("val_")}
    metric = info.metric.removeprefix("-")
    drawn = {}
    for name in (metric, *sorted(names - {metric}), "loss"):
        series = []
        for trial in reversed(order):
            points = [(line["step"], line[name]) for line in lines[trial.number] if line.get(name) is not None]
            if any(math.isfinite(y) for _, y in points):
                kind = kind_of(trial, info.best)
                cut = trial.state in ("pruned", "failed")
                series.append(Series(f"{trial.name}, {trial.state}", COLOURS[kind], points, cut=cut))
        if series:
            drawn[name] = curves(f"{name} against step", series)
    return drawn
