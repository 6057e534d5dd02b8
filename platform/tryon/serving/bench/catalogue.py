"""`tryon bench catalogue`: many garments on one person, and one garment on many persons, beside as many strangers.

What is found out about one photo alone is found once (`tryon.engines.photo_cache`), as a service's replica and a batch
job do it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import Field

from tryon.config import Backend, Config, Size
from tryon.engines.cluster import physical_cpus
from tryon.engines.in_process import Pipeline
from tryon.engines.photo_cache import CachingPipeline, PhotoCache
from tryon.errors import TryonError
from tryon.measured import Figure, at_least, machine, ratios
from tryon.serving.bench.inputs import Pair, another_file, make_pairs
from tryon.serving.bench.pipeline import batch_of, tryon_pipeline
from tryon.serving.threads import use_threads

CACHE_BYTES = 1_000_000_000
BAR = 1.8  # times the throughput of strangers
MODES = ("strangers", "one person", "one garment")


class CatalogueBenchConfig(Config):
    """What is measured."""

    bundle: str = Field(description="URI")
    backend: Backend = Field("auto", description="that runs the networks")
    size: Size = Field((1024, 768), description="(height, width) px of photos")
    num: int = Field(100, ge=2, le=10_000, description="try-ons of each kind")
    batch: int = Field(8, ge=1, le=256, description="that go through the stages together")
    repeats: int = Field(5, ge=1, le=1000, description="of each; medians count")
    threads: int = Field(0, ge=0, le=1024, description="that compute; 0: a thread a core")


class CatalogueBenchResult(Config):
    """What a bench found; written as JSON."""

    config: CatalogueBenchConfig = Field(description="resolved")
    machine: Mapping[str, Any] = Field(description="processor, cores, versions")
    per_s: Mapping[str, tuple[float, ...]] = Field(description="try-ons a second of each repeat, by kind")
    figures: tuple[Figure, ...] = Field(description="against what is asked")


def bench_catalogue(config: CatalogueBenchConfig, on_run: Callable[[int, int], None]) -> CatalogueBenchResult:
    """Measures.

    Args:
        config: what.
        on_run: told how many of how many runs are done.

    Raises:
        TryonError: the bundle cannot be used, or a photo cannot.
    """
    config = config.model_copy(update={"threads": config.threads or physical_cpus()})
    use_threads(config.threads)
    pipeline = tryon_pipeline(config.bundle, config.backend)
    pairs = many_pairs(config.num, config.size)
    _per_s(pipeline, pairs[: config.batch], config.batch)  # warm-up
    kinds = dict(zip(MODES, (pairs, [Pair(pairs[0].person, one.garment) for one in pairs],
                             [Pair(one.person, pairs[0].garment) for one in pairs]), strict=True))  # fmt: skip
    found: dict[str, list[float]] = {name: [] for name in MODES}
    for repeat in range(config.repeats):
        for i, (name, some) in enumerate(kinds.items()):
            found[name].append(_per_s(pipeline, some, config.batch))
            on_run(repeat * len(MODES) + i + 1, config.repeats * len(MODES))
    figures = [
        at_least(f"{name} / strangers, try-ons a second", ratios(found[name], found["strangers"]), BAR)
        for name in MODES[1:]
    ]
    return CatalogueBenchResult(
        config=config, machine=machine(), per_s={name: tuple(values) for name, values in found.items()},
        figures=tuple(figures),
    )  # fmt: skip


def many_pairs(num: int, size: Size) -> list[Pair]:
    """Pairs of files none of which is another's; of some pictures there are several."""
    drawn = make_pairs(min(num, 16), size)
    return [
        Pair(another_file(drawn[i % len(drawn)].person, i), another_file(drawn[i % len(drawn)].garment, i))
        for i in range(num)
    ]


def _per_s(pipeline: Pipeline, pairs: Sequence[Pair], batch: int) -> float:
    cached = CachingPipeline(pipeline, PhotoCache(CACHE_BYTES))
    start = time.perf_counter()
    for i in range(0, len(pairs), batch):
        out = cached(batch_of(pairs[i : i + batch]))
        fault = next((error for error in out["error"] if error is not None), None)
        if fault is not None:
            raise TryonError(f"a simulated photo cannot be tried on: {fault}", code="bench-failed")
    return len(pairs) / (time.perf_counter() - start)
