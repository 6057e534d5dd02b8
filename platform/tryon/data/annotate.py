"""Data jobs: simulate or annotate samples into shards. One worker, one driver for both."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from pydantic import Field

from tryon import storage
from tryon.config import Config, Size, StageSpec
from tryon.data.shards import Manifest, finished_shard, write_manifest, write_shard
from tryon.data.sources.base import Source
from tryon.engines.dataset import ShardReport, run_shards
from tryon.engines.in_process import build_pipeline, check_needs
from tryon.errors import ConfigError
from tryon.sample import ERROR_FIELDS, Batch, Row
from tryon.stages.registry import stage_class

ANNOTATION_STAGES = (
    "decode_person", "decode_garment", "fit_person", "fit_garment", "pose", "parse", "garment_mask", "agnostic",
)  # fmt: skip
LAYERS = ("person", "garment", "pose", "person_mask", "parse", "garment_mask", "agnostic", "agnostic_mask")
OnReport = Callable[[ShardReport, int], None]


class AnnotateConfig(Config):
    """What an annotation run does."""

    size: Size | None = Field(None, description="(height, width) px photos are letterboxed to; None keeps their own")
    parser: str = Field("geometric", pattern="^geometric$", description="which parser; geometric needs no weights")


class SynthConfig(Config):
    """What a simulation run draws."""

    num: int = Field(ge=1, le=100_000_000, description="samples")
    size: Size = Field((256, 192), description="(height, width) px")
    seed: int = Field(0, ge=0, le=2**31 - 1, description="same seed, same bytes")


def annotation_specs(size: tuple[int, int] | None) -> list[StageSpec]:
    """The annotation stages with their options; photos are letterboxed to `size` (None: left at their own)."""
    options: dict[str, dict[str, Any]] = {
        "decode_person": {"label": "person photo"},
        "decode_garment": {"label": "garment photo"},
        "fit_person": {"size": size},
        "fit_garment": {"size": size},
    }
    return [StageSpec(name=name, options=options.get(name, {})) for name in ANNOTATION_STAGES]


@dataclass(frozen=True)
class Job:
    """A data job: a source, the stages its rows go through, and the columns that are written.

    Attributes:
        source: where rows come from.
        specs: stages, each run only where it adds something a row lacks.
        fields: columns of the shards.
        config: what is written into the manifest, and decides whether an earlier run's shard can be taken.
    """

    source: Source
    specs: Sequence[StageSpec]
    fields: tuple[str, ...]
    config: dict[str, Any]

    def task_hash(self, task: Any) -> str:
        """Over everything that decides a shard's bytes: config, stages, columns and the task itself."""
        stages = [spec.model_dump(mode="json") for spec in self.specs]
        text = json.dumps([self.config, stages, self.fields, repr(task)], sort_keys=True, default=str)
        return storage.sha256(text.encode())[:16]


def synth_job(config: SynthConfig) -> Job:
    """A job that draws samples."""
    from tryon.data.sources.simulator import SimulatorSource

    source = SimulatorSource(config.num, config.size, config.seed)
    # The number of samples does not decide a shard's bytes: a longer run takes over the full shards of a shorter one.
    return Job(source, [], source.fields, {"simulator": config.model_dump(mode="json", exclude={"num"})})


def annotate_job(source: Source, config: AnnotateConfig, uri: str) -> Job:
    """A job that annotates a source; `uri` names the source in the manifest.

    Raises:
        ConfigError: a size is asked for, but the source brings layers that lie on its photos at their own size.
    """
    brought = [name for name in source.fields if name in LAYERS]
    if config.size is not None and brought:
        text = f"size = {config.size} cannot be had: {uri} brings {', '.join(brought)} at its own size"
        raise ConfigError(text, code="size-invalid", field="--size")
    specs = annotation_specs(config.size)
    given = (*source.fields, *(name for name in ("person_file", "garment_file") if name not in source.fields))
    check_needs([stage_class(spec.name) for spec in specs], given)
    extra = tuple(name for name in source.fields if name.startswith(("true_", "unoccluded_")))
    has_garment = "garment" in source.fields or "garment_file" in source.fields
    layers = tuple(name for name in LAYERS if has_garment or not name.startswith("garment"))
    told = {"annotate": config.model_dump(mode="json"), "source": uri, "source_sha256": source.content_hash()}
    return Job(source, specs, ("id", "category", *layers, *extra), told)


class JobWorker:
    """Reads, annotates and writes one shard at a time."""

    def __init__(self, job: Job, out: str) -> None:
        self._job = job
        self._out = out
        self._pipeline = build_pipeline(job.specs, given_fields(job.source), fill_missing=True)

    def process(self, shard: int, task: Any) -> ShardReport:
        """Makes the shard, unless an earlier run with this config did."""
        task_hash = self._job.task_hash(task)
        done = finished_shard(self._out, shard, task_hash)
        if done is not None:
            return done
        batch = to_batch(self._job.source.read(task), given_fields(self._job.source))
        return write_shard(self._out, shard, self._pipeline(batch), self._job.fields, task_hash)


def given_fields(source: Source) -> tuple[str, ...]:
    """The columns a batch of this source has; photo files are there for all, if only as None."""
    return tuple(dict.fromkeys((*source.fields, "person_file", "garment_file")))


def to_batch(rows: Sequence[Row], fields: Sequence[str]) -> Batch:
    """Rows to columns; what a row lacks is None."""
    return {name: [row.get(name) for row in rows] for name in (*fields, *ERROR_FIELDS)}


def run_job(job: Job, out: str, *, num_actors: int | None = None, on_report: OnReport | None = None) -> Manifest:
    """Runs a job over all shards and writes the manifest last.

    A killed run, started again, takes the shards that are there and makes the others.

    Args:
        job: of `synth_job` or `annotate_job`.
        out: URI of the data set to write.
        num_actors: see `run_shards`.
        on_report: told each shard's report and the number of shards.

    Raises:
        DataError: rows went missing between input and output (never expected).
    """
    out = storage.absolute(out)
    tasks = job.source.tasks()
    reports = []
    for report in run_shards(tasks, partial(JobWorker, job, out), num_actors=num_actors):
        reports.append(report)
        if on_report is not None:
            on_report(report, len(tasks))
    assert all(r.rows_in == r.rows_out + r.quarantined for r in reports), "rows in = rows out + quarantined"
    return write_manifest(out, reports, job.fields, job.config, job.source.licence)
