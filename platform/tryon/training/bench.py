"""What Ray Train costs and gains: the same recipe in the plain loop, with one worker, from streamed shards, with two.

Each repeat takes the four kinds of run one after the other, so that a machine that grows slower does so for all; a
figure is the median over the repeats of what one repeat gives. Speeds count wall-clock time of the steps after warm-up:
not how long processes take to start, but all that a run does between its steps. Data are in memory after the first
epoch, so that one is the warm-up of runs that keep them there.
"""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field, field_validator

from tryon import storage
from tryon.config import Config, Size
from tryon.data.shards import MANIFEST, read_manifest, shard_uri
from tryon.engines.cluster import physical_cpus, ray_session
from tryon.errors import ConfigError
from tryon.measured import Figure, at_least, at_most, machine, ratios
from tryon.training.loop import Metrics
from tryon.training.run import check_run, run

Kind = Literal["plain", "ray", "two", "streamed"]
PARTS = 5  # lines that count; those before them are warm-up
COPIES = 6  # of each simulated sample in the data set: reading and decoding one costs the same as another
NUM_SIMULATED = 64


class BenchConfig(Config):
    """What is measured."""

    recipe: str = Field("gmm", description="a name of `tryon.training.recipes.registry`")
    size: Size = Field((256, 192), description="(height, width) px")
    batch_size: int = Field(8, ge=2, le=4096, description="samples a step, over all workers; even")
    steps: int = Field(40, ge=5, le=100_000, description="measured in each run, after warm-up")
    repeats: int = Field(5, ge=1, le=100, description="of each kind of run")
    threads: int = Field(0, ge=0, le=256, description="of one worker, and of two together; 0: the machine's")

    @field_validator("batch_size", "threads")
    @classmethod
    def _even(cls, value: int) -> int:
        if value % 2:
            raise ValueError("two workers share it: an even number is needed")
        return value


class Leg(Config):
    """What one run gave."""

    kind: Kind = Field(description="of run")
    repeat: int = Field(description="from 0")
    samples_per_s: float = Field(description="over the steps after warm-up, wall-clock")
    data_wait_share: float = Field(description="of the steps' time, without a batch to compute on")


class BenchResult(Config):
    """What a bench found; written as JSON."""

    config: BenchConfig = Field(description="resolved")
    machine: Mapping[str, Any] = Field(description="processor, cores, threads, memory, versions")
    data: str = Field(description="URI of the data set")
    legs: tuple[Leg, ...] = Field(description="in the order they ran")
    figures: tuple[Figure, ...] = Field(description="against what is asked")


def resolve(config: BenchConfig) -> BenchConfig:
    """The config with the machine's threads.

    Raises:
        ConfigError: the machine has fewer cores than are to be used.
    """
    cores = physical_cpus()
    threads = config.threads or cores - cores % 2
    if not 2 <= threads <= cores:
        text = f"threads = {threads} is not allowed: two workers need 2, and this machine has {cores} cores"
        raise ConfigError(text, code="config-invalid", field="--threads")
    return config.model_copy(update={"threads": threads})


def bench(config: BenchConfig, data: str, bundle: str | None, on_leg: Callable[[Leg], None]) -> BenchResult:
    """Measures; takes a few seconds beyond its steps for each run on Ray.

    Args:
        config: of `resolve`.
        data: URI of an annotated data set.
        bundle: that frozen networks come from, or None.
        on_leg: told each run when it is done.

    Raises:
        TryonError: see `tryon.training.run.check_run`.
    """
    legs: list[Leg] = []
    with tempfile.TemporaryDirectory(prefix="tryon-bench-") as folder:
        for repeat in range(config.repeats):
            for kind in _in_turn():
                legs.append(_leg(kind, repeat, config, data, bundle, f"{folder}/{kind}-{repeat}"))
                on_leg(legs[-1])
    return BenchResult(
        config=config, machine={**machine(), "threads": config.threads}, data=data, legs=legs, figures=figures_of(legs)
    )


def figures_of(legs: Sequence[Leg]) -> tuple[Figure, ...]:
    """The figures that something is asked of, from runs of all kinds."""
    speeds: dict[str, list[float]] = {}
    for leg in legs:
        speeds.setdefault(leg.kind, []).append(leg.samples_per_s)
    waits = [leg.data_wait_share for leg in legs if leg.kind == "streamed"]
    return (
        at_least("one Ray worker / plain loop", ratios(speeds["ray"], speeds["plain"]), 0.95),
        at_most("data wait, streamed shards", waits, 0.05),
        at_least("two workers / one of as many threads", ratios(speeds["two"], speeds["ray"]), 0.9),
    )


def speed_of(lines: Sequence[Metrics], batch_size: int, warm: int = 1) -> tuple[float, float]:
    """Samples a second and share of time without data over a run's lines, the first `warm` of them left out."""
    counted = lines[warm:]
    seconds = sum(line["seconds"] for line in counted)
    waited = sum(line["data_wait_share"] * line["seconds"] for line in counted)
    return batch_size * (lines[-1]["step"] - lines[warm - 1]["step"]) / seconds, waited / seconds


def multiply(data: str, out: str, copies: int) -> None:
    """Copies a local data set's shards several times, so that an epoch is long enough to be streamed."""
    manifest = read_manifest(data)
    for i in range(copies * manifest.num_shards):
        source, target = shard_uri(data, i % manifest.num_shards), Path(shard_uri(out, i))
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    counts = {name: getattr(manifest, name) * copies for name in ("rows", "rows_in", "quarantined", "num_shards")}
    told = manifest.model_copy(update={**counts, "sha256": storage.sha256(f"{manifest.sha256} x {copies}".encode())})
    storage.write_bytes(storage.join(out, MANIFEST), told.model_dump_json(indent=2).encode())


def _in_turn() -> Iterator[Kind]:
    """The kinds of run of one repeat; the plain loop has the machine without a Ray beside it."""
    yield "plain"
    with ray_session():
        yield "ray"
        yield "two"
        yield "streamed"


def _leg(kind: Kind, repeat: int, config: BenchConfig, data: str, bundle: str | None, out: str) -> Leg:
    every = max(1, config.steps // PARTS)
    epoch = read_manifest(data).rows // config.batch_size
    warm = 1 if kind == "streamed" else max(1, math.ceil(epoch / every))
    steps = (warm + PARTS) * every
    workers = {"plain": 0, "ray": 1, "two": 2, "streamed": 1}[kind]
    values = {
        "size": config.size, "batch_size": config.batch_size, "steps": steps, "report_every": every,
        "checkpoint_every": steps, "val_fraction": 0.0, "num_workers": workers,
        "cpus_per_worker": config.threads // max(1, workers), "cache": "none" if kind == "streamed" else "memory",
    }  # fmt: skip
    lines: list[Metrics] = []
    with _threads():
        run(check_run(config.recipe, data, out, values, bundle), lines.append)
    shutil.rmtree(out, ignore_errors=True)
    speed, wait = speed_of(lines, config.batch_size, warm)
    return Leg(kind=kind, repeat=repeat, samples_per_s=speed, data_wait_share=wait)


@contextmanager
def _threads() -> Iterator[None]:
    """Puts torch's threads of this process back to what they were."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)
