"""`tryon bench pipeline` and `bench annotate`: what each stage takes in this process, beside the least it could take.

The floor of a stage that runs a network is its multiplications and additions at the speed that a large convolution
reaches here; of any other stage it is the bytes that it reads and writes at the speed of a copy. Both speeds are
measured in the same run, with the same threads.
"""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from pydantic import Field

from tryon.config import Backend, Config, Size
from tryon.data.annotate import AnnotateConfig, data_specs
from tryon.engines.cluster import physical_cpus
from tryon.engines.in_process import Pipeline, build_pipeline
from tryon.errors import TryonError
from tryon.measured import machine
from tryon.models.bundle import read_manifest, role_stages
from tryon.models.contract import Runnable
from tryon.models.registry import build_network
from tryon.models.table import count_macs
from tryon.sample import Batch
from tryon.serving.bench.inputs import Pair, make_pairs
from tryon.serving.bench.pipeline import batch_of, tryon_pipeline
from tryon.serving.threads import use_threads

ALL = "all"  # the row of the whole
GIVEN = ("id", "category", "person_file", "garment_file")
ANNOTATED = ("person", "garment", "pose", "person_mask", "parse", "garment_mask", "agnostic", "agnostic_mask")
PEAK_CHANNELS, PEAK_PX = 128, 64  # of the convolution that the peak is measured with
COPY_BYTES = 64_000_000  # more than a core's cache holds


class PipelineBenchConfig(Config):
    """What is measured."""

    work: Literal["tryon", "annotate"] = Field("tryon", description="a try-on, or a data set's layers of two photos")
    bundle: str = Field("", description="URI; of a try-on")
    backend: Backend = Field("auto", description="that runs the networks")
    sizes: tuple[Size, ...] = Field(((512, 384), (1024, 768)), min_length=1, description="(height, width) px of photos")
    batches: tuple[int, ...] = Field((1, 8), min_length=1, description="photos at a time")
    repeats: int = Field(5, ge=1, le=1000, description="of each; medians count")
    threads: int = Field(0, ge=0, le=1024, description="that compute; 0: a thread a core")


class StageTime(Config):
    """What a stage took."""

    size: Size = Field(description="(height, width) px of the photos")
    batch: int = Field(description="photos at a time")
    stage: str = Field(description="its name; 'all' is the whole")
    median_s: float = Field(description="of a photo, seconds")
    least_s: float = Field(description="of a photo in the quickest repeat, seconds")
    most_s: float = Field(description="of a photo in the slowest repeat, seconds")
    floor_s: float | None = Field(None, description="the least that it could take, seconds; None: not known")


class PipelineBenchResult(Config):
    """What a bench found; written as JSON."""

    config: PipelineBenchConfig = Field(description="resolved")
    machine: Mapping[str, Any] = Field(description="processor, cores, versions")
    flops_per_s: float = Field(description="that a convolution of 128 channels reaches, float32")
    bytes_per_s: float = Field(description="that a copy reads and writes")
    peak_memory_mb: float = Field(description="of this process, at the most")
    rows: tuple[StageTime, ...] = Field(description="by size, batch and stage")


def bench_pipeline(config: PipelineBenchConfig, on_row: Callable[[StageTime], None]) -> PipelineBenchResult:
    """Measures.

    Args:
        config: what.
        on_row: told the whole of each size and batch when it is done.

    Raises:
        TryonError: the bundle cannot be used, or a photo cannot.
    """
    config = config.model_copy(update={"threads": config.threads or physical_cpus()})
    use_threads(config.threads)
    flops_per_s, bytes_per_s = peak_flops(), copy_speed()
    if config.work == "annotate":
        specs = data_specs(AnnotateConfig(layers=ANNOTATED), GIVEN)
        pipeline, macs = build_pipeline(specs, GIVEN), dict[str, int | None]()
    else:
        pipeline, macs = tryon_pipeline(config.bundle, config.backend), network_macs(config.bundle)
    rows: list[StageTime] = []
    for size in config.sizes:
        for batch in config.batches:
            found = _measured(pipeline, make_pairs(batch, size), size, config.repeats, macs, flops_per_s, bytes_per_s)
            rows += found
            on_row(found[-1])
    return PipelineBenchResult(
        config=config, machine=machine(), flops_per_s=flops_per_s, bytes_per_s=bytes_per_s,
        peak_memory_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3, rows=rows,
    )  # fmt: skip


def _measured(
    pipeline: Pipeline, pairs: Sequence[Pair], size: Size, repeats: int, macs: Mapping[str, int | None],
    flops_per_s: float, bytes_per_s: float,
) -> list[StageTime]:  # fmt: skip
    given = batch_of(pairs)
    out = pipeline(given)  # warm-up
    fault = next((error for error in out["error"] if error is not None), None)
    if fault is not None:
        raise TryonError(f"a simulated photo cannot be used: {fault}", code="bench-failed")
    times: dict[str, list[float]] = {}
    for _ in range(repeats):
        start = time.perf_counter()
        pipeline(given, lambda name, seconds: times.setdefault(name, []).append(seconds / len(pairs)))
        times.setdefault(ALL, []).append((time.perf_counter() - start) / len(pairs))
    floors: dict[str, float | None] = {}
    for stage in pipeline.stages:
        if stage.name in macs:
            count = macs[stage.name]
            floors[stage.name] = None if count is None else 2 * count / flops_per_s
        else:
            floors[stage.name] = _bytes(out, (*stage.reads, *stage.adds)) / len(pairs) / bytes_per_s
    known = [floor for floor in floors.values() if floor is not None]
    floors[ALL] = sum(known) if len(known) == len(floors) else None
    return [
        StageTime(
            size=size, batch=len(pairs), stage=name, median_s=statistics.median(found), least_s=min(found),
            most_s=max(found), floor_s=floors[name],
        )
        for name, found in times.items()
    ]  # fmt: skip


def network_macs(bundle: str) -> dict[str, int | None]:
    """Multiply-adds of each stage that runs a network, at its size; None where they cannot be counted."""
    import torch

    found: dict[str, int | None] = {}
    manifest = read_manifest(bundle)
    for role, stage in role_stages(manifest).items():
        entry = manifest.networks[role]
        with torch.device("meta"):
            network = build_network(entry.network, entry.config).eval()
        found[stage] = count_macs(network, *entry.size) if isinstance(network, Runnable) else None
    return found


def peak_flops(repeats: int = 9) -> float:
    """Float operations a second of a 3 x 3 convolution, float32, channels last; two a multiply-add."""
    import torch
    from torch import nn

    conv = nn.Conv2d(PEAK_CHANNELS, PEAK_CHANNELS, 3, padding=1).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = torch.randn(4, PEAK_CHANNELS, PEAK_PX, PEAK_PX).to(memory_format=torch.channels_last)
    flops = 2 * 4 * PEAK_PX**2 * 9 * PEAK_CHANNELS**2
    with torch.inference_mode():
        return flops / _quickest(lambda: conv(x), repeats)


def copy_speed(repeats: int = 9) -> float:
    """Bytes a second that a copy reads and writes together."""
    source = np.ones(COPY_BYTES, dtype=np.uint8)
    target = np.zeros_like(source)
    return 2 * COPY_BYTES / _quickest(lambda: np.copyto(target, source), repeats)


def _quickest(work: Callable[[], object], repeats: int) -> float:
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    return best


def _bytes(batch: Batch, fields: Sequence[str]) -> int:
    """Of these fields, all rows."""
    values = [value for name in fields for value in batch.get(name, ())]
    arrays = sum(value.nbytes for value in values if isinstance(value, np.ndarray))
    return arrays + sum(len(value) for value in values if isinstance(value, bytes))
