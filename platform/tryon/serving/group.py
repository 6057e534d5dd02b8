"""Stages that share a process, and the calls that they answer. No Ray here."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tryon.config import StageSpec
from tryon.engines.in_process import Pipeline
from tryon.engines.photo_cache import CachingPipeline, PhotoCache
from tryon.sample import Batch, num_rows
from tryon.serving.graph import Part
from tryon.serving.metrics import StageMetrics
from tryon.serving.traces import Carrier, Traces
from tryon.stages.registry import build_stage


@dataclass(frozen=True)
class Call:
    """What a group is asked for.

    Attributes:
        batch: the fields that it is given.
        program: by name.
        until_s: Unix time after which nobody waits for the result.
        bundle: URI.
        trace: the request's place in a trace; empty without one.
        gone: set once nobody waits any more.
    """

    batch: Batch
    program: str
    until_s: float
    bundle: str
    trace: Carrier = field(default_factory=dict)
    gone: threading.Event = field(default_factory=threading.Event)

    @property
    def is_awaited(self) -> bool:
        """Whether somebody may still want the result."""
        return not self.gone.is_set() and time.time() < self.until_s


def too_late(batch: Batch) -> Batch:
    """The batch with every row in error."""
    told = {"error_code": "deadline", "error": "the request waited for longer than it may take", "error_stage": ""}
    return {**batch, **{name: [value] * num_rows(batch) for name, value in told.items()}}


class StageGroup:
    """One bundle's stages; what they find out about a photo alone is kept for the next request with it."""

    def __init__(
        self,
        specs: Sequence[StageSpec],
        parts: Mapping[str, Part],
        cache_mb: int = 0,
        traces: Traces | None = None,
    ) -> None:
        """Builds the stages, which loads their networks.

        Args:
            specs: of all programs' stages.
            parts: of the programs, by name.
            cache_mb: see `ServeConfig`.
            traces: told of each stage; None: no traces.
        """
        stages = {spec.name: build_stage(spec) for spec in specs}
        cache = PhotoCache(cache_mb * 1_000_000)
        self._metrics = StageMetrics()
        self._traces = traces or Traces(None, "")
        self._parts = parts
        self._pipelines = {
            name: CachingPipeline(
                Pipeline([stages[stage] for stage in part.stages], part.given), cache, self._metrics.lookup
            )
            for name, part in parts.items()
        }
        self._lock = threading.Lock()  # MediaPipe and in-place buffers are not thread-safe

    def run(self, calls: Sequence[Call]) -> list[Batch | Exception]:
        """Runs a program's stages once over all calls, which are for the same program.

        Returns:
            For each call its own rows, without the fields that nobody needs any more; or the exception it ended with.
        """
        program = calls[0].program
        with self._lock:
            late = {i: too_late(call.batch) for i, call in enumerate(calls) if not call.is_awaited}
            rest = [call for i, call in enumerate(calls) if i not in late]
            outs = iter(self._run(program, rest) if rest else ())
        made = [late[i] if i in late else next(outs) for i in range(len(calls))]
        keep = self._parts[program].keep
        return [
            out if isinstance(out, Exception) else {name: out[name] for name in keep if name in out} for out in made
        ]

    def _run(self, program: str, calls: Sequence[Call]) -> list[Batch | Exception]:
        """One batch of all; where that fails each by itself, so that one call's photo costs no other call."""
        self._metrics.gathered(len(calls))
        batches = [call.batch for call in calls]
        on_stage = self._traces.stages([call.trace for call in calls], self._metrics.stage)
        try:
            return list(split(self._pipelines[program](joined(batches), on_stage), batches))
        except Exception as error:  # noqa: BLE001 - given back
            return [error] if len(calls) == 1 else [self._run(program, [call])[0] for call in calls]


def joined(batches: Sequence[Batch]) -> Batch:
    """Batches with the same fields as one."""
    return {name: [value for batch in batches for value in batch[name]] for name in batches[0]}


def split(whole: Batch, batches: Sequence[Batch]) -> list[Batch]:
    """What was `joined`, apart again."""
    parts, start = [], 0
    for batch in batches:
        end = start + num_rows(batch)
        parts.append({name: column[start:end] for name, column in whole.items()})
        start = end
    return parts
