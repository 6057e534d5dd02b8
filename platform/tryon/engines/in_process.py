"""The in-process engine: stages called in order. The other two engines run this one inside actors."""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
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

    def part(self, start: int, stop: int | None = None) -> Pipeline:
        """Some of the stages, the same objects, for a batch that has been through those before them."""
        before = (name for stage in self.stages[:start] for name in stage.adds)
        given = dict.fromkeys((*self.given, *before))
        return Pipeline(self.stages[start:stop], given, fill_missing=self._fill_missing)

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
    """A hint at the stages, their variants aside, that add a field, to end a sentence with; empty if none does."""
    makers = [kind for kind in map(stage_class, STAGES) if field in kind.adds]
    names = [repr(kind.name) for kind in makers if not any(base in makers for base in kind.__mro__[1:])]
    return f" (put {' or '.join(names)} before it)" if names else ""


@dataclass(frozen=True)
class HandOver:
    """What a group of a pipeline that is cut into groups is given, and what it gives on.

    Attributes:
        takes: fields by where they come from: the place of an earlier group, or -1 for the caller.
        keep: fields that it adds and a later group takes, the error fields among them; of the last group all that the
            caller wants.
    """

    takes: Mapping[int, tuple[str, ...]]
    keep: tuple[str, ...]


def hand_overs(groups: Sequence[Sequence[StageSpec]], given: Iterable[str], wanted: Iterable[str]) -> list[HandOver]:
    """For a pipeline cut into groups: who gives which field to whom.

    A group hands on only what it adds itself, so that no image is copied at each hop until it is read; and only what
    a later group reads or the caller wants in the end.

    Args:
        groups: stage specs, group by group, in the order they run.
        given: fields that the caller brings.
        wanted: fields that the caller wants at the end.

    Returns:
        For each group what it takes and keeps. Each takes the error fields of the one before it.
    """
    origin = dict.fromkeys(given, -1)
    takes: list[dict[int, set[str]]] = []
    for place, group in enumerate(groups):
        needed, made = dict.fromkeys(ERROR_FIELDS, place - 1) if place else {}, set(ERROR_FIELDS)
        for cls in (stage_class(spec.name) for spec in group):
            reads = [*cls.reads, *cls.optional]
            needed |= {name: origin[name] for name in reads if name not in made and name in origin}
            made |= set(cls.adds)
        if place + 1 == len(groups):
            needed |= {name: origin[name] for name in wanted if name not in made and name in origin}
        takes.append({})
        for name, source in needed.items():
            takes[-1].setdefault(source, set()).add(name)
        origin |= dict.fromkeys(made, place)
    keeps = [
        {*ERROR_FIELDS}.union(*(one.get(place, ()) for one in takes[place + 1 :])) for place in range(len(groups) - 1)
    ]
    keeps.append({*ERROR_FIELDS, *(name for name in wanted if name in origin)})
    return [
        HandOver({place: tuple(sorted(names)) for place, names in sorted(one.items())}, tuple(sorted(keep)))
        for one, keep in zip(takes, keeps, strict=True)
    ]
