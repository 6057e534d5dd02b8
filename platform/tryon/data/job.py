"""Data jobs: rows of a source, through stages, into shards. One worker and one driver for all of them."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from tryon import storage
from tryon.config import StageSpec
from tryon.data.probe import deadly_items
from tryon.data.shards import Manifest, ManifestWriter, Parent, finished_shard, write_shard
from tryon.data.sources.base import Source
from tryon.engines.dataset import ShardReport, counted_stages, run_shards
from tryon.engines.in_process import Pipeline, build_pipeline
from tryon.engines.photo_cache import CachingPipeline, PhotoCache
from tryon.errors import TryonError
from tryon.sample import ERROR_FIELDS, Batch, Row, num_rows
from tryon.stages.registry import stage_class

OnReport = Callable[[ShardReport, "int | None"], None]
CACHE_BYTES = 1_000_000_000  # of what is known about a shard's photos
FAILED, CRASHED = "stage-failed", "worker-crashed"


@dataclass(frozen=True)
class Job:
    """A data job: a source, the stages its rows go through, and the columns that are written.

    Attributes:
        source: where rows come from.
        specs: stages, each run only where it adds something a row lacks.
        fields: columns of the shards.
        config: what is written into the manifest, and decides whether an earlier run's shard can be taken.
        parents: data sets and folders the rows come from.
        shared: so many of the stages see the rows, too, that a task reads for the sake of those beside them
            (`Source.owns`); after these stages they are dropped.
        photos_recur: what stages find out about one photo alone is found once a shard, however many rows show it.
    """

    source: Source
    specs: Sequence[StageSpec]
    fields: tuple[str, ...]
    config: dict[str, Any]
    parents: tuple[Parent, ...] = field(default=())
    shared: int = 0
    photos_recur: bool = False

    @property
    def annotators(self) -> dict[str, int]:
        """Version of each stage."""
        return {spec.name: stage_class(spec.name).version for spec in self.specs}

    def task_hash(self, task: Any) -> str:
        """Over everything that decides a shard's bytes: config, stages, their versions, columns, the task itself."""
        stages = [spec.model_dump(mode="json") for spec in self.specs]
        parents = [parent.sha256 for parent in self.parents]
        told = [self.config, stages, self.annotators, self.fields, parents, repr(task)]  # `shared` follows from stages
        return storage.sha256(json.dumps(told, sort_keys=True, default=str).encode())[:16]


class JobWorker:
    """Reads, annotates and writes one shard at a time.

    Attributes:
        name: URI of the data set that is written.
    """

    def __init__(self, job: Job, out: str) -> None:
        self.name = out
        self._on_stage = counted_stages(out)
        self._job = job
        self._out = out
        self._pipeline = build_pipeline(job.specs, given_fields(job.source), fill_missing=True)
        self._shared = self._pipeline.part(0, job.shared)
        self._rest = self._pipeline.part(job.shared)
        self._deadly: dict[str, str] = {}

    def process(self, shard: int, task: Any) -> ShardReport:
        """Makes the shard, unless an earlier run with this config did."""
        task_hash = self._job.task_hash(task)
        done = finished_shard(self._out, shard, task_hash)
        if done is not None:
            return done
        batch = self._run(self._batch(task), task)
        return write_shard(self._out, shard, batch, self._job.fields, task_hash)

    def suspect(self, shard: int, task: Any) -> None:
        """Finds the rows that end the process, each tried in a child; `process` then sets them aside."""
        if finished_shard(self._out, shard, self._job.task_hash(task)) is not None:
            return
        rows = self._job.source.read(task)
        for i, ending in deadly_items(RowCheck(self._job), rows).items():
            self._deadly[rows[i]["id"]] = f"processing this sample {ending}"

    def _batch(self, task: Any) -> Batch:
        batch = to_batch(self._job.source.read(task), given_fields(self._job.source))
        for i, row_id in enumerate(batch["id"]):
            if row_id in self._deadly:
                _set_error(batch, i, CRASHED, self._deadly[row_id])
        return batch

    def _run(self, batch: Batch, task: Any) -> Batch:
        """The pipeline over a batch. Where a stage fails, for which no row is blamed, the rows are tried one by one."""
        try:
            return self._stages(batch, task)
        except (TryonError, MemoryError):
            raise
        except Exception as error:
            if not self._blame(batch):
                raise error from None
            return self._stages(batch, task)

    def _stages(self, batch: Batch, task: Any) -> Batch:
        batch = self._shared(batch, self._on_stage)
        own = [self._job.source.owns(task, row_id) for row_id in batch["id"]]
        batch = {name: list(itertools.compress(column, own)) for name, column in batch.items()}
        if self._job.photos_recur:
            # Nothing is kept for the next shard: bytes must not depend on which shards a worker had before.
            return CachingPipeline(self._rest, PhotoCache(CACHE_BYTES))(batch, self._on_stage)
        return self._rest(batch, self._on_stage)

    def _blame(self, batch: Batch) -> bool:
        found = False
        for i in range(num_rows(batch)):
            try:
                self._pipeline({name: [column[i]] for name, column in batch.items()})
            except (TryonError, MemoryError):
                raise
            except Exception as error:  # noqa: BLE001
                _set_error(batch, i, FAILED, f"a stage failed on this sample: {type(error).__name__}: {error}")
                found = True
        return found


class RowCheck:
    """Runs a job's stages over one row for nothing but to see whether that can be done."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._pipeline: Pipeline | None = None  # built where it is used, in another process

    def __call__(self, row: Row) -> None:
        """Runs the stages; whatever they raise comes through."""
        given = given_fields(self._job.source)
        self._pipeline = self._pipeline or build_pipeline(self._job.specs, given, fill_missing=True)
        self._pipeline(to_batch([row], given))


def _set_error(batch: Batch, i: int, code: str, sentence: str) -> None:
    for name, value in zip(ERROR_FIELDS, (code, sentence, "pipeline"), strict=True):
        batch[name][i] = value


def given_fields(source: Source) -> tuple[str, ...]:
    """The columns a batch of this source has; those that sorting fills are there for all, if only as None."""
    return tuple(dict.fromkeys((*source.fields, "photo_file", "person_file", "garment_file")))


def to_batch(rows: Sequence[Row], fields: Sequence[str]) -> Batch:
    """Rows to columns; what a row lacks is None."""
    return {name: [row.get(name) for row in rows] for name in (*fields, *ERROR_FIELDS)}


class TaskCount:
    """Counts a source's tasks beside the run, so that a time left can be told without waiting for a long listing."""

    def __init__(self, source: Source) -> None:
        self.total: int | None = None
        self._source = source
        threading.Thread(target=self._count, daemon=True).start()

    def _count(self) -> None:
        try:
            self.total = sum(1 for _ in self._source.tasks())
        except TryonError:  # the run itself meets the same fault, and tells it
            return


def run_job(job: Job, out: str, *, num_actors: int | None = None, on_report: OnReport | None = None) -> Manifest:
    """Runs a job over all shards and writes the manifest last.

    A killed run, started again, takes the shards that are there and makes the others. Nothing that grows with the
    number of rows is held here: reports are added up as they come.

    Args:
        job: e.g. of `synth_job` or `annotate_job`.
        out: URI of the data set to write.
        num_actors: see `run_shards`.
        on_report: told each shard's report and the number of shards; None until that is known.

    Raises:
        TryonError: the source or the output cannot be read or written.
    """
    out = storage.absolute(out)
    writer = ManifestWriter(out, job.fields, job.config, job.annotators, job.parents, job.source.licence)
    count = TaskCount(job.source)
    for report in run_shards(job.source.tasks(), partial(JobWorker, job, out), num_actors=num_actors):
        writer.add(report)
        if on_report is not None:
            on_report(report, count.total)
    return writer.finish()
