"""What `tryon train --plan` shows: a line a step, a bar while one trains, the table at the end."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from tryon.console import console, say
from tryon.show import Bar, maybe_ray
from tryon.training.loop import Metrics, Stopped
from tryon.training.plan import Done, read_plan, run_plan
from tryon.training.plan_report import FIGURES, ssim_changes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tryon.training.run import RunSpec


def plan_shown(file: Path, data: str, val: str, out: str) -> None:
    """Runs a plan and prints what the bundle was worth after each step."""
    plan = read_plan(file)
    alone = all({**plan.set, **step.set}.get("num_workers") == 0 for step in plan.steps if step.train)
    with maybe_ray(0 if alone else None):
        watch = _Shown()
        try:
            done = run_plan(plan, data, out, val, watch, num_actors=0 if alone else None)
        except Stopped as stopped:
            say(f"plan      {stopped}; the same command goes on from there")
            return
        finally:
            watch.close()
    console.print(plan_table(done))
    say(f"plan      all steps done -> {out}, {out}-plan/report.html")


class _Shown:
    """Prints how a plan goes."""

    def __init__(self) -> None:
        self._title = ""
        self._bar: Bar | None = None

    def step(self, i: int, of: int, name: str, done: Done | None) -> None:
        self._title = f"{i + 1}/{of} {name}"
        if done is not None:
            say(f"{self._title:<9} done before")
        else:
            say(f"{self._title:<9} begins")

    def metrics(self, spec: RunSpec, line: Metrics) -> None:
        if self._bar is None:
            self._bar = Bar(self._title).__enter__()
        text = f"loss {line.get('loss', float('nan')):.4f}  {line['samples_per_s']:.1f} samples/s"
        self._bar.update(int(line["step"]), spec.config.steps, f"{text}  data wait {line['data_wait_share']:.0%}")

    def finished(self, i: int, done: Done) -> None:
        del i
        self.close()
        if done.measured:
            told = ", ".join(f"{name} {done.measured[name]:.4f}" for name in FIGURES if name in done.measured)
            say(f"{self._title:<9} {told}")

    def close(self) -> None:
        """Ends the bar, if there is one."""
        if self._bar is not None:
            self._bar.__exit__()
            self._bar = None


def plan_table(done: Sequence[Done]) -> Table:
    """Steps against the bundle's figures."""
    figures = [name for name in FIGURES if any(name in step.measured for step in done)]
    table = Table(title="the bundle on held-out samples after each step")
    for title in ("step", *figures, "change of SSIM", "took"):
        table.add_column(title, justify="left" if title == "step" else "right")
    for step, change in zip(done, ssim_changes(done), strict=True):
        cells = [f"{step.measured[name]:.4f}" if name in step.measured else "" for name in figures]
        table.add_row(step.name, *cells, "" if change is None else f"{change:+.4f}", f"{step.took_s:.0f} s")
    return table
