"""`tryon bench scale`: what a row costs, and what memory is held, as data sets grow.

The same few thumbnails again and again, each time another file of another row, through annotation, through a training
run that reads the shards as they come, and through batch try-on. Costs are taken between the first shard (or line of
the run) and the last: how long processes take to start is not part of what a row costs.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from functools import lru_cache
from typing import Any, Literal

import psutil
from pydantic import Field, field_validator

from tryon import storage
from tryon.config import Config, Size
from tryon.data.annotate import AnnotateConfig, annotate_job
from tryon.data.batch import batch_tryon_job
from tryon.data.job import Job, run_job
from tryon.data.sources.base import Source
from tryon.engines.cluster import ray_session
from tryon.engines.dataset import ShardReport
from tryon.measured import Figure, at_most, machine
from tryon.sample import Row
from tryon.serving.bench.inputs import Pair, another_file, make_pairs
from tryon.serving.bench.processes import below
from tryon.serving.bench.stages import ANNOTATED
from tryon.training.bench import speed_of
from tryon.training.loop import Metrics
from tryon.training.run import check_run, run

Work = Literal["annotate", "train", "tryon"]
WORKS: tuple[Work, ...] = ("annotate", "train", "tryon")
PICTURES = 16
SHARD_ROWS = 20
BAR = 1.1  # times the cost, and the memory, of the smallest data set
SAMPLE_S = 0.5
BATCH, LINES = 20, 10  # samples a step of the run that reads; lines that it writes
RUN: Mapping[str, Any] = {
    "batch_size": BATCH, "size": (64, 48), "val_fraction": 0.0, "cache": "none", "trackers": (),
    "network": {"width": 4},
}  # fmt: skip


class ScaleBenchConfig(Config):
    """What is measured."""

    bundle: str = Field(description="URI; of batch try-on")
    rows: tuple[int, ...] = Field((1000, 10_000), min_length=2, description="of each data set, in rising order")
    size: Size = Field((128, 96), description="(height, width) px of the thumbnails")
    actors: int | None = Field(None, ge=0, description="processes; null: one a core; 0: without Ray, in this process")
    works: tuple[Work, ...] = Field(WORKS, min_length=1, description="annotate, train, tryon; train needs annotate")

    @field_validator("rows")
    @classmethod
    def _rising(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if list(value) != sorted(set(value)) or value[0] < 2 * SHARD_ROWS:
            raise ValueError(f"they must rise, from {2 * SHARD_ROWS} on")
        return value

    @field_validator("works")
    @classmethod
    def _known(cls, value: tuple[Work, ...]) -> tuple[Work, ...]:
        if "train" in value and "annotate" not in value:
            raise ValueError("train reads what annotate wrote: name both")
        return value


class Cost(Config):
    """What one kind of work on one data set took."""

    work: Work = Field(description="of the three")
    rows: int = Field(description="of the data set")
    ms_a_row: float = Field(description="between the first shard and the last")
    seconds: float = Field(description="from start to end")
    memory_mb: float = Field(description="the most that all processes had of their own")


class ScaleBenchResult(Config):
    """What a bench found; written as JSON."""

    config: ScaleBenchConfig = Field(description="resolved")
    machine: Mapping[str, Any] = Field(description="processor, cores, versions")
    costs: tuple[Cost, ...] = Field(description="in the order they were measured")
    figures: tuple[Figure, ...] = Field(description="against what is asked")


class Thumbnails(Source):
    """A few simulated pairs again and again."""

    fields = ("id", "category", "person_file", "garment_file")
    complete = fields
    licence = "Apache-2.0"

    def __init__(self, num: int, size: Size) -> None:
        """Draws the pictures.

        Args:
            num: rows.
            size: (height, width) px.
        """
        self._num = num
        self._pairs = _pictures(size)

    def tasks(self) -> Iterable[int]:
        """The number of each shard's first row."""
        yield from range(0, self._num, SHARD_ROWS)

    def read(self, task: int) -> list[Row]:
        """A shard's rows."""
        return [
            {
                "id": f"{i:08d}",
                "category": "upper",
                "person_file": another_file(self._pairs[i % PICTURES].person, i),
                "garment_file": another_file(self._pairs[(i + i // PICTURES) % PICTURES].garment, i),
            }
            for i in range(task, min(task + SHARD_ROWS, self._num))
        ]


@lru_cache(maxsize=1)
def _pictures(size: Size) -> tuple[Pair, ...]:
    return tuple(make_pairs(PICTURES, size))


def bench_scale(config: ScaleBenchConfig, on_cost: Callable[[Cost], None]) -> ScaleBenchResult:
    """Measures.

    Args:
        config: what.
        on_cost: told each cost.

    Raises:
        TryonError: the bundle cannot be used, or Ray does not start.
    """
    costs: list[Cost] = []
    session = nullcontext() if config.actors == 0 else ray_session()
    with tempfile.TemporaryDirectory(prefix="tryon-scale-") as folder, session:
        for num in config.rows:
            for work in config.works:
                costs.append(_cost(work, num, config, folder))
                on_cost(costs[-1])
            for name in ("annotate", "tryon", "bundle", "bundle-runs"):
                storage.delete(storage.join(folder, name))
    return ScaleBenchResult(config=config, machine=machine(), costs=tuple(costs), figures=figures_of(costs))


def figures_of(costs: Iterable[Cost]) -> tuple[Figure, ...]:
    """The largest data set's cost and memory over the smallest's, of each kind of work."""
    found: dict[Work, list[Cost]] = {}
    for cost in costs:
        found.setdefault(cost.work, []).append(cost)
    made = []
    for work, some in found.items():
        first, last = some[0], some[-1]
        rows = f"{last.rows} rows / {first.rows}"
        made.append(at_most(f"{work}: cost of a row, {rows}", [last.ms_a_row / first.ms_a_row], BAR))
        made.append(at_most(f"{work}: memory, {rows}", [last.memory_mb / first.memory_mb], BAR))
    return tuple(made)


def _cost(work: Work, num: int, config: ScaleBenchConfig, folder: str) -> Cost:
    out = storage.join(folder, work)
    start = time.perf_counter()
    with _memory() as most_mb:
        if work == "train":
            ms = _train_ms(storage.join(folder, "annotate"), storage.join(folder, "bundle"), num, config.actors)
        else:
            source = Thumbnails(num, config.size)
            if work == "annotate":
                job = annotate_job(source, AnnotateConfig(layers=ANNOTATED, quality=None), "bench")
            else:
                job = batch_tryon_job(source, config.bundle, "bench")
            ms = _job_ms(job, out, config.actors)
    seconds = time.perf_counter() - start
    return Cost(work=work, rows=num, ms_a_row=ms, seconds=seconds, memory_mb=most_mb())


def _job_ms(job: Job, out: str, actors: int | None) -> float:
    """Milliseconds a row, of the shards after the first."""
    told: list[tuple[float, int]] = []

    def on_report(report: ShardReport, of: int | None) -> None:
        del of
        told.append((time.perf_counter(), report.rows_out + report.quarantined))

    run_job(job, out, num_actors=actors, on_report=on_report)
    return 1000 * (told[-1][0] - told[0][0]) / sum(rows for _, rows in told[1:])


def _train_ms(data: str, out: str, num: int, actors: int | None) -> float:
    """Milliseconds a row, of a run that sees each once, after its first line."""
    every = max(1, num // BATCH // LINES)
    told = {**RUN, "steps": num // BATCH, "report_every": every, "checkpoint_every": num // BATCH}
    told["num_workers"] = 0 if actors == 0 else 1
    lines: list[Metrics] = []
    run(check_run("autoencoder", data, out, told), lines.append)
    return 1000 / speed_of(lines, BATCH)[0]


@contextmanager
def _memory() -> Iterator[Callable[[], float]]:
    """The most memory that this process and those below it had of their own, MB; each sample a moment."""
    found, stop = [0.0], threading.Event()

    def look() -> None:
        while not stop.wait(SAMPLE_S):
            total = 0
            for process in (psutil.Process(os.getpid()), *below()):
                with suppress(psutil.Error):
                    total += process.memory_full_info().uss
            found.append(total / 1e6)

    watching = threading.Thread(target=look, daemon=True)
    watching.start()
    try:
        yield lambda: statistics.quantiles(found, n=20)[-1] if len(found) > 1 else found[0]  # a passing peak is none
    finally:
        stop.set()
        watching.join()
