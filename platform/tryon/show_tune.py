"""What `tryon tune` shows: what is searched and where to look, a line a trial that ends, the table, best first."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from tryon.console import console, say
from tryon.options import read_options
from tryon.show import Bar
from tryon.training.tune.check import SearchSpec, check_search, explain_conflict
from tryon.training.tune.record import REPORT, SearchInfo, State, Trial, ranked, taken_up
from tryon.training.tune.space import pairs, read_space, shown

ENDED: tuple[State, ...] = ("finished", "pruned", "failed")


def tune_shown(
    recipe: str,
    space: Path,
    data: str,
    out: str,
    *,
    config: Path | None = None,
    fixed: Sequence[str] = (),
    bundle: str | None = None,
    dashboard: bool = True,
    **given: Any,
) -> None:
    """Searches with a live line; a finished search is not repeated, only its page is written anew.

    Args:
        recipe: by name.
        space: YAML file.
        data: URI of the data set.
        out: URI of the bundle that the best trial becomes.
        config: YAML file of training options.
        fixed: ``key=value`` over it.
        bundle: that frozen networks come from.
        dashboard: start Ray's.
        given: fields of `SearchConfig` over the space file's.
    """
    search = read_space(space, given)
    explain_conflict(search, read_options(None, fixed))
    spec = taken_up(check_search(recipe, data, out, search, read_options(config, fixed), bundle))
    from tryon.training.tune.report import write_report
    from tryon.training.tune.search import SearchStopped, finished_search, run_search

    watch = _Shown(spec)
    info = finished_search(spec)
    if info is not None:
        write_report(spec.folder, info)
        watch.say(f"done before, {watch.total(info)} -> {out}, {spec.folder}/{REPORT}")
        return
    watch.begins()
    try:
        info = run_search(spec, watch, dashboard=dashboard)
    except SearchStopped as stopped:
        watch.say(f"{stopped}; the same command goes on from there")
        return
    finally:
        watch.close()
    console.print(trials_table(info, list(search.space)))
    watch.say(f"{watch.total(info)} -> {out}, {spec.folder}/{REPORT}")


class _Shown:
    """Prints how a search goes."""

    def __init__(self, spec: SearchSpec) -> None:
        self._spec = spec
        self._title = f"tune {spec.recipe}"
        self._bar: Bar | None = None
        self._start = time.monotonic()

    def say(self, text: str) -> None:
        """One line."""
        say(f"{self._title:<9} {text}")

    def begins(self) -> None:
        """What is searched, how, and where it goes."""
        spec, search = self._spec, self._spec.search
        how = {
            "asha": f"asha from step {search.grace_steps}, one in {search.reduction_factor:g} goes on",
            "pbt": f"pbt every {search.perturb_steps} steps",
            "none": "none stopped",
        }[search.scheduler]
        chosen = "" if search.scheduler == "pbt" else f", chosen by {search.search}"
        place = "in its own process" if spec.in_process else f"on {spec.base.config.num_workers} Ray Train workers"
        self.say(
            f"{spec.base.manifest.rows} samples, {search.num_trials} trials of {spec.steps} steps{chosen}, {how}; "
            f"{search.max_concurrent} at a time, each {place}; compared by {search.metric}"
        )
        for key, values in search.space.items():
            self.say(f"  {key}: {values}")

    def started(self, dashboard: str | None) -> None:
        self.say(f"trials in {self._spec.folder}; live: tensorboard --logdir {self._spec.folder}")
        if dashboard:
            self.say(f"Ray dashboard: {dashboard}")
        self._bar = Bar(self._title).__enter__()

    def told(self, trials: Sequence[Trial]) -> None:
        if self._bar is None:
            return
        counts = Counter(trial.state for trial in trials)
        text = f"{counts['running']} running, {counts['pruned']} pruned"
        text += f", {counts['failed']} failed" if counts["failed"] else ""
        there = [trial for trial in trials if trial.value is not None]
        if there:
            best = ranked(there, self._spec.search.metric)[0]
            text += f", best {shown(best.value)} ({best.name})"
        self._bar.update(sum(counts[state] for state in ENDED), self._spec.search.num_trials, text)

    def ended(self, trial: Trial) -> None:
        figure = "" if trial.value is None else f", {self._spec.metric} {shown(trial.value)}"
        reason = f" ({trial.reason})" if trial.reason else ""
        self.say(f"{trial.name} {trial.state} at step {trial.step}{figure}: {pairs(trial.values)}{reason}")

    def close(self) -> None:
        """Ends the bar, if there is one."""
        if self._bar is not None:
            self._bar.__exit__()
            self._bar = None

    def total(self, info: SearchInfo) -> str:
        """The result in one line."""
        best = next(trial for trial in info.trials if trial.number == info.best)
        counts = Counter(trial.state for trial in info.trials)
        told = ", ".join(f"{counts[state]} {state}" for state in ENDED if counts[state])
        return f"best {self._spec.metric} {shown(best.value)} of {best.name}, {told}, {info.took_s:.0f} s"


def trials_table(info: SearchInfo, keys: Sequence[str]) -> Table:
    """Trials, best first."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("trial", "state", "step", info.metric.removeprefix("-"), *keys):
        table.add_column(title, justify="left" if title in ("trial", "state") else "right")
    styles: Mapping[str, str] = {"failed": "red", "pruned": "dim"}
    for trial in ranked(info.trials, info.metric):
        figure = "-" if trial.value is None else shown(trial.value)
        cells = (trial.name, trial.state, str(trial.step), figure, *(shown(trial.values[key]) for key in keys))
        table.add_row(*cells, style="bold" if trial.number == info.best else styles.get(trial.state))
    return table
