"""What `tryon runs list|show|compare` print: tables, or JSON and nothing but JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tryon import storage
from tryon.console import console, say
from tryon.training.compare import compare, write_page
from tryon.training.info import Metrics
from tryon.training.runs import Run, find_run, find_runs

NUMBERS = ("step", "loss", "samples/s", "last", "best", "at step")
PIPED_WIDTH = 140  # columns where no terminal sets them
UNITS = ((86_400.0, "days"), (3600.0, "h"), (60.0, "min"), (1.0, "s"))


def list_shown(uris: Sequence[str], *, as_json: bool = False) -> None:
    """Prints a line a run, the one that began last first, and what was passed by."""
    found = find_runs(uris)
    if as_json:
        _print_json({"runs": [summary(run) for run in found.runs], "passed_by": dict(found.passed_by)})
        return
    table = _table(
        "run", "recipe", "state", "step", "loss", "kept by", "samples/s", "last, UTC", whole=("run", "last, UTC")
    )
    for run in found.runs:
        kept = run.metric.removeprefix("-")
        best = f"{kept} {_number(run.last(kept))}" if kept else "-"
        when = run.info.updated[5:16].replace("T", " ")
        step = f"{run.step}/{run.config.get('steps', '?')}"
        cells = (run.info.name, run.recipe, state_of(run), step, _number(run.last("loss")), best)
        _add(table, *cells, _number(run.samples_per_s), when, style=_style(run))
    _print(table)
    for run in found.runs:
        if run.info.reason:
            say(f"{run.info.name} failed: {run.info.reason}")
    for folder in dict.fromkeys(run.uri.rpartition("/")[0] for run in found.runs):
        say(f"in {folder}")
    for folder, why in found.passed_by.items():
        say(f"{folder} {why}")


def run_shown(uri: str, num_lines: int = 5, *, as_json: bool = False) -> None:
    """Prints one run: facts, config, figures, its last lines and where the rest is."""
    run = find_run(uri)
    if as_json:
        last = [dict(line) for line in run.lines[-num_lines:]] if num_lines else []
        _print_json({**summary(run), "info": run.info.model_dump(mode="json"), "last_lines": last, **places(run)})
        return
    _print(_facts(run))
    figures = _table("figure", "last", "best", "at step")
    for name in run.names():
        best = run.best(name)
        _add(figures, name, _number(run.last(name)), *((_number(best[1]), str(best[0])) if best else ("-", "-")))
    _print(figures)
    for line in run.lines[-num_lines:] if num_lines else []:
        say(_line(line, run.names()))


def compare_shown(uris: Sequence[str], out: str) -> None:
    """Writes the page, and prints the figures of validation and the keys that differ."""
    found = find_runs(uris)
    compared = compare(found.runs)
    write_page(compared, out)
    table = _table("figure: last (best)", *compared.labels)
    for name, row in compared.figures.items():
        if name == "loss" or name.startswith("val_"):
            cells = [f"{_number(f.last)} ({_number(f.best)})" if f else "-" for f in row]
            _add(table, name, *cells)
    _print(table)
    say(f"differ in: {', '.join(compared.differing) or 'nothing'}")
    for folder, why in found.passed_by.items():
        say(f"{folder} {why}")
    say(f"compare   {len(compared.runs)} runs -> {out}")


def summary(run: Run) -> dict[str, Any]:
    """A run in short, as JSON tells it."""
    best = {name: found for name in run.names() if (found := run.best(name)) is not None}
    return {
        "name": run.info.name, "uri": run.uri, "recipe": run.recipe, "state": run.state, "age_s": round(run.age_s),
        "reason": run.info.reason, "step": run.step, "steps": run.config.get("steps"), "best_metric": run.metric,
        "samples_per_s": run.samples_per_s, "started": run.info.started, "updated": run.info.updated,
        "last": {name: run.last(name) for name in run.names()},
        "best": {name: {"step": step, "value": value} for name, (step, value) in best.items()},
    }  # fmt: skip


def places(run: Run) -> dict[str, Any]:
    """Where pictures, TensorBoard's files and checkpoints of a run are."""
    return {
        "pictures": list(run.pictures.values()),
        "tensorboard": storage.join(run.uri, "tensorboard"),
        "checkpoints": list(run.checkpoints.values()),
    }


def state_of(run: Run) -> str:
    """In words: a run that says it is running and wrote nothing for long was most likely killed."""
    return f"silent for {duration(run.age_s)}" if run.state == "silent" else run.state


def duration(seconds: float) -> str:
    """In the largest unit of which it has two or more."""
    size, unit = next((size, unit) for size, unit in UNITS if seconds >= 2 * size or size == 1)
    return f"{seconds / size:.0f} {unit}"


def _facts(run: Run) -> Table:
    facts = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_header=False)
    info = run.info
    state = state_of(run)
    if run.state == "silent":
        state += " though it says it is running: it was killed, most likely; the same command goes on from there"
    elif info.reason:
        state += f": {info.reason}"
    told = {
        "run": info.name, "folder": run.uri, "state": state, "step": f"{run.step} of {run.config.get('steps', '?')}",
        "began": info.started, "wrote last": f"{info.updated}, {duration(run.age_s)} ago", "data": info.data,
        "bundle": info.out, "written by": f"tryon {info.tryon_version}",
        "config": _pairs(run.config),
        "built on": _pairs({k: v for k, v in info.provenance.items() if k != "config"}),
        "checkpoints": _steps(run.checkpoints) + (f", the best by {run.metric}" if run.metric else ""),
        "pictures": _steps(run.pictures),
        "TensorBoard": f"tensorboard --logdir {run.uri.rpartition('/')[0]}",
    }  # fmt: skip
    for name, value in told.items():
        _add(facts, name, value)
    return facts


def _steps(files: Mapping[int, str]) -> str:
    if not files:
        return "none"
    folder = next(iter(files.values())).rpartition("/")[0]
    steps = [str(step) for step in files]
    shown = steps if len(steps) <= 6 else [*steps[:2], "...", *steps[-3:]]
    return f"{folder}, of step {', '.join(shown)}"


def _pairs(values: Mapping[str, Any]) -> str:
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in values.items()}
    return "\n".join(f"{key} = {text}" for key, text in texts.items())


def _line(line: Metrics, names: Sequence[str]) -> str:
    """One line of metrics as text; a table would need a column for each of a dozen figures."""
    shown = [name for name in (*names, "lr", "samples_per_s", "data_wait_share") if name in line]
    return f"step {line['step']:.0f}  " + "  ".join(f"{name} {_number(line[name])}" for name in shown)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _style(run: Run) -> str | None:
    return {"failed": "red", "silent": "yellow", "running": "green"}.get(run.state)


def _table(*titles: str, whole: tuple[str, ...] = ()) -> Table:
    """Columns; those named in `whole` are not broken over lines."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in titles:
        justify: Literal["left", "right"] = "right" if title in NUMBERS else "left"
        table.add_column(title, justify=justify, overflow="fold", no_wrap=title in whole)
    return table


def _add(table: Table, *cells: str, style: str | None = None) -> None:
    table.add_row(*(Text(cell) for cell in cells), style=style)


def _print(table: Table) -> None:
    wide = console if console.is_terminal else Console(width=max(console.width, PIPED_WIDTH))
    wide.print(table)


def _print_json(value: Any) -> None:
    print(json.dumps(_finite(value), indent=2, ensure_ascii=False))  # noqa: T201


def _finite(value: Any) -> Any:
    """JSON knows neither NaN nor infinity."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    return [_finite(inner) for inner in value] if isinstance(value, list | tuple) else value
