"""A deployment that runs some stages of each program."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence

from tryon.config import StageSpec
from tryon.engines.in_process import Pipeline
from tryon.sample import Batch, num_rows
from tryon.serving.cache import CachingPipeline, PhotoCache
from tryon.serving.graph import Part
from tryon.serving.metrics import StageMetrics
from tryon.stages.registry import build_stage


def too_late(batch: Batch) -> Batch:
    """The batch with every row in error."""
    told = {"error_code": "deadline", "error": "the request waited for longer than it may take", "error_stage": ""}
    return {**batch, **{name: [value] * num_rows(batch) for name, value in told.items()}}


class StageGroup:
    """Stages that share a process; what they find out about a photo alone is kept for the next request with it."""

    def __init__(self, specs: Sequence[StageSpec], parts: Mapping[str, Part], cache_mb: int = 0) -> None:
        """Builds the stages, which loads their networks.

        Args:
            specs: of all programs' stages.
            parts: of the programs, by name.
            cache_mb: see `ServeConfig`.
        """
        stages = {spec.name: build_stage(spec) for spec in specs}
        cache = PhotoCache(cache_mb * 1_000_000)
        self._metrics = StageMetrics()
        self._parts = parts
        self._pipelines = {
            name: CachingPipeline(
                Pipeline([stages[stage] for stage in part.stages], part.given), cache, self._metrics.lookup
            )
            for name, part in parts.items()
        }
        self._lock = threading.Lock()  # MediaPipe and in-place buffers are not thread-safe

    def run(self, batch: Batch, program: str, until_s: float) -> Batch:
        """Runs a program's stages and drops the fields that nobody needs any more.

        Args:
            batch: the fields that the group is given.
            program: by name.
            until_s: Unix time after which nobody waits for the result: then nothing is done.
        """
        with self._lock:
            out = self._pipelines[program](batch, self._metrics.stage) if time.time() < until_s else too_late(batch)
        return {name: out[name] for name in self._parts[program].keep if name in out}

    def ready(self) -> bool:
        """True once the constructor, which loads the networks, has returned."""
        return True
