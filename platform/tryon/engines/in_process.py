"""The in-process engine: stages called in order. The other two engines run this one inside actors."""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Iterable, Sequence
from typing import Any

from tryon.config import StageSpec
from tryon.errors import PipelineError, SampleError
from tryon.sample import ERROR_FIELDS, FIELDS, Batch, Row
from tryon.stages.base import Stage
from tryon.stages.registry import STAGES, build_stage, stage_class

OnStage = Callable[[str, float], None]


class Pipeline:
    """Stages in order, checked when they are put together.

    Attributes:
        stages: in the order they run.
        given: fields the caller promises to bring.
        adds: every field that some stage adds.
    """

    def __init__(self, stages: Sequence[Stage], given: Iterable[str], *, fill_missing: bool = False) -> None:
        """Checks that each stage finds what it reads.

        Args:
            stages: in the order they run.
            given: fields the caller promises to bring.
            fill_missing: rows may bring some layers themselves; stages add only what a row lacks.

        Raises:
            PipelineError: a field is missing; the message names it, the stage, and who would add it.
        """
        self.stages = tuple(stages)
        self.given = tuple(given)
        self._fill_missing = fill_missing
        check_needs(self.stages, self.given)
        self.adds = tuple(dict.fromkeys(name for stage in self.stages for name in stage.adds))

    def __call__(self, batch: Batch, on_stage: OnStage | None = None, keeps: Container[str] = ()) -> Batch:
        """Runs all stages over a batch; rows in error stay in it with their reason.

        Args:
            batch: at least the `given` columns.
            on_stage: told each stage's name and its time in seconds.
            keeps: names of stages that add only what a row lacks, beside all where `fill_missing` is set.
        """
        missing = [name for name in self.given if name not in batch]
        if missing:
            raise PipelineError(f"the batch lacks the promised field {missing[0]!r}", code="field-missing")
        for stage in self.stages:
            start = time.perf_counter()
            batch = stage(batch, fill_missing=self._fill_missing or stage.name in keeps)
            if on_stage is not None:
                on_stage(stage.name, time.perf_counter() - start)
        return batch

    def run_row(self, row: Row, on_stage: OnStage | None = None) -> Row:
        """Runs all stages over one sample.

        Raises:
            SampleError: the sample cannot be used; code and message are the stage's.
        """
        batch = self({name: [value] for name, value in row.items()}, on_stage)
        out: dict[str, Any] = {name: column[0] for name, column in batch.items()}
        if out.get("error_code") is not None:
            raise SampleError(out["error"], code=out["error_code"], field=out["error_stage"])
        return out


def build_pipeline(specs: Sequence[StageSpec], given: Iterable[str], *, fill_missing: bool = False) -> Pipeline:
    """Builds stages from specs; needs are checked on the classes before any stage is constructed.

    Args:
        specs: stages by name, in order.
        given: fields the caller promises to bring.
        fill_missing: see `Pipeline`.

    Raises:
        PipelineError: unknown stage, options it does not take, or a field that nobody brings.
    """
    given = tuple(given)
    check_needs([stage_class(spec.name) for spec in specs], given)
    return Pipeline([build_stage(spec) for spec in specs], given, fill_missing=fill_missing)


def check_needs(stages: Sequence[Stage | type[Stage]], given: Sequence[str]) -> None:
    """Walks the stages and makes sure each finds its fields.

    Raises:
        PipelineError: names the missing field, the stage that reads it and the stages that add it.
    """
    known = {*given, *ERROR_FIELDS}
    for stage in stages:
        for name in stage.reads:
            if name not in FIELDS:
                raise PipelineError(f"stage {stage.name!r} reads unknown field {name!r}", code="field-unknown")
            if name not in known:
                text = f"stage {stage.name!r} reads {name!r}, which no stage before it adds and the input does not have"
                raise PipelineError(text + who_adds(name), code="field-missing")
        known.update(stage.adds)


def who_adds(field: str) -> str:
    """A hint at the stages that add a field, to end a sentence with; empty where there is none."""
    makers = [name for name in STAGES if field in stage_class(name).adds]
    return f" (put {' or '.join(repr(m) for m in makers)} before it)" if makers else ""


def live_fields(groups: Sequence[Sequence[StageSpec]], wanted: Iterable[str]) -> list[tuple[str, ...]]:
    """For pipelines cut into groups: the fields that must leave each group.

    A field leaves a group only if a later group reads it or the caller wants it in the end, so that no hop
    carries an image nobody needs.

    Args:
        groups: stage specs, group by group, in the order they run.
        wanted: fields the caller wants at the end.

    Returns:
        For each group the fields to keep on leaving it (the error fields always among them).
    """
    need = {*wanted, *ERROR_FIELDS}
    keep: list[tuple[str, ...]] = []
    for group in reversed(groups):
        keep.append(tuple(sorted(need)))
        for spec in reversed(group):
            cls = stage_class(spec.name)
            need -= set(cls.adds) - set(cls.reads)
            need |= {*cls.reads, *cls.optional}
    return keep[::-1]
