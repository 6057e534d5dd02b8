"""What the verbs show while they work: progress with counts and time left, tables at the end."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from tryon.console import console, say
from tryon.data.job import Job, run_job
from tryon.data.shards import Manifest
from tryon.engines.cluster import ray_session
from tryon.engines.dataset import ShardReport
from tryon.evaluation.figures import columns, method_title

if TYPE_CHECKING:
    from tryon.evaluation.run import Evaluation


class Bar:
    """A progress bar on a terminal; elsewhere a line every few seconds, so that logs stay readable."""

    LINE_EVERY_S = 10.0

    def __init__(self, title: str) -> None:
        self._title = title
        self._start = time.monotonic()
        self._last_line = self._start
        self._progress = Progress(
            SpinnerColumn(), TextColumn(f"{title:<9}"), BarColumn(), MofNCompleteColumn(),
            TextColumn("{task.fields[text]}"), TimeRemainingColumn(), console=console, transient=True,
            disable=not console.is_terminal,
        )  # fmt: skip
        self._task = self._progress.add_task(title, total=None, text="starting")

    def update(self, done: int, total: int | None, text: str) -> None:
        """Shows how far it is; `total` is None while that is not known."""
        self._progress.update(self._task, completed=done, total=total, text=text)
        now = time.monotonic()
        if not console.is_terminal and now - self._last_line >= self.LINE_EVERY_S:
            self._last_line = now
            of, left = "", ""
            if total is not None:
                of = f"/{total}"
                left = f"  about {(now - self._start) * (total - done) / max(1, done):.0f} s left"
            say(f"{self._title:<9} {done}{of}  {text}{left}")

    def __enter__(self) -> Bar:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()


@contextmanager
def maybe_ray(num_actors: int | None) -> Iterator[None]:
    """A Ray session, unless the work runs in this process."""
    if num_actors == 0:
        yield
    else:
        with ray_session():
            yield


def run_job_shown(job: Job, out: str, title: str, num_actors: int | None = None) -> Manifest:
    """Runs a data job with a progress bar and says what became of every row."""
    rows = quarantined = reused = 0
    start = time.monotonic()
    with maybe_ray(num_actors), Bar(title) as bar:
        shards = 0

        def on_report(report: ShardReport, total: int | None) -> None:
            nonlocal rows, quarantined, reused, shards
            shards += 1
            rows += report.rows_in
            quarantined += report.quarantined
            reused += report.rows_in if report.reused else 0
            rate = (rows - reused) / max(1e-9, time.monotonic() - start)
            bar.update(shards, total, f"{rows} rows, {quarantined} quarantined, {rate:.1f} rows/s")

        manifest = run_job(job, out, num_actors=num_actors, on_report=on_report)
    seconds = time.monotonic() - start
    text = f"{title:<9} {manifest.rows_in} rows in = {manifest.rows} out + {manifest.quarantined} quarantined"
    taken = f", {reused} taken from an earlier run" if reused else ""
    say(f"{text}{taken}, {seconds:.0f} s -> {out}")
    if manifest.reasons:
        told = ", ".join(f"{code} {num}" for code, num in sorted(manifest.reasons.items(), key=lambda item: -item[1]))
        say(f"{'':<9} quarantined: {told} (each row with its reason in {out}/_quarantine)")
    return manifest


def train_shown(recipe: str, data: str, out: str, options: Mapping[str, Any], bundle: str | None = None) -> None:
    """Trains with a live line of step, loss, speed and data wait; a finished run is not repeated."""
    from tryon.training.loop import Stopped
    from tryon.training.run import check_run, finished, run

    spec = check_run(recipe, data, out, options, bundle)
    entry = finished(spec)
    title = f"train {recipe}"
    if entry is not None:
        say(f"{title:<9} done before, in {out} ({_figures(entry.metrics)})")
        return
    resolved = " ".join(f"{k}={v}" for k, v in spec.config.model_dump().items() if k != "recipe")
    say(f"{title:<9} {spec.manifest.rows} samples, {resolved}")
    start = time.monotonic()
    with maybe_ray(0 if spec.config.num_workers == 0 else None), Bar(title) as bar:

        def on_metrics(line: Mapping[str, float]) -> None:
            text = f"loss {line.get('loss', float('nan')):.4f}  {line['samples_per_s']:.1f} samples/s"
            bar.update(int(line["step"]), spec.config.steps, f"{text}  data wait {line['data_wait_share']:.0%}")

        try:
            entry = run(spec, on_metrics)
        except Stopped as stopped:
            say(f"{title:<9} {stopped}; the same command goes on from there")
            return
    seconds = time.monotonic() - start
    text = f"{entry.num_parameters / 1e6:.1f} M parameters, {_figures(entry.metrics)}"
    say(f"{title:<9} {text}, {seconds:.0f} s -> {out}")


def evaluate_shown(
    data: str, bundle: str | None, out: str, *, num_actors: int | None = None, **options: Any
) -> Evaluation:
    """Evaluates with a progress bar and prints the table; `options` are fields of `EvaluateConfig`."""
    from tryon.config import parse_config
    from tryon.data.sources.open import open_source
    from tryon.evaluation.config import EvaluateConfig, resolve
    from tryon.evaluation.judges import Judges
    from tryon.evaluation.run import evaluate
    from tryon.models.bundle import default_bundle, load_bundle

    bundle = bundle or default_bundle()
    # What cannot be used is found before Ray is started.
    load_bundle(bundle).network("synthesis")
    config = resolve(parse_config(EvaluateConfig, options, "evaluate"))
    Judges(config)
    source = open_source(data, pairing=config.pairing)
    with maybe_ray(num_actors), Bar("evaluate") as bar:
        done = 0

        def on_report(report: ShardReport, total: int | None) -> None:
            nonlocal done
            done += 1
            bar.update(done, total, f"shard {report.shard}")

        result = evaluate(source, data, bundle, out, config, num_actors=num_actors, on_report=on_report)
    console.print(metrics_table(result))
    say(f"evaluate  {result.samples} measured, {result.quarantined} not usable -> {out}/report.html")
    return result


def metrics_table(result: Evaluation) -> Table:
    """Methods against metrics."""
    figures = result.figures
    there = columns(figures.values())
    table = Table(title=f"{result.samples} samples against the person photos (arrows: to where it is better)")
    table.add_column("method")
    for figure in there.values():
        table.add_column(figure.heading, justify="right")
    for method, values in figures.items():
        cells = [figure.show(values.get(name)) for name, figure in there.items()]
        table.add_row(method_title(method), *cells)
    return table


def _figures(metrics: Mapping[str, float]) -> str:
    shown = {k: v for k, v in metrics.items() if k.startswith("val_")} or dict(metrics)
    return ", ".join(f"{name} {value:.3f}" for name, value in shown.items())
