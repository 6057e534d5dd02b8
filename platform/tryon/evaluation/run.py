"""Evaluation over Ray Data: the pipeline over every sample, metrics beside baselines, pictures for the report."""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from pydantic import Field

from tryon import __version__, storage
from tryon.codec import encode_jpeg
from tryon.config import Config
from tryon.data.annotate import annotation_specs
from tryon.data.job import OnReport, TaskCount, given_fields, to_batch
from tryon.data.sources.base import Source
from tryon.engines.dataset import ShardReport, run_shards
from tryon.engines.in_process import build_pipeline
from tryon.errors import DataError
from tryon.evaluation.baselines import BASELINES
from tryon.images import resize
from tryon.models.bundle import load_bundle, tryon_stages
from tryon.models.metrics import paired_metrics
from tryon.sample import Batch, num_rows

METHOD = "bundle"
PICTURES = ("person", "garment", "agnostic", "warped_garment", "tryon", "truth")
PICTURE_HEIGHT = 384
METRICS = ("ssim", "ms_ssim", "psnr")


class EvaluateConfig(Config):
    """What an evaluation does; written into its result."""

    num_pictures: int = Field(12, ge=0, le=1000, description="samples shown in the report")
    baselines: tuple[str, ...] = Field(tuple(BASELINES), description="compared with, on the same samples")


@dataclass(frozen=True)
class Evaluation:
    """Figures of an evaluation.

    Attributes:
        means: method to metric to mean over the samples.
        samples: samples measured.
        quarantined: samples that could not be used.
        protocol: sizes, versions, bundle and data, as written into ``metrics.json``.
    """

    means: dict[str, dict[str, float]]
    samples: int
    quarantined: int
    protocol: dict[str, Any]


class EvaluateWorker:
    """Runs the pipeline over one shard; writes per-sample figures and pictures, reports sums."""

    def __init__(self, source: Source, bundle: str, out: str, config: EvaluateConfig, picture_shards: int) -> None:
        specs = [*annotation_specs(None), *tryon_stages(bundle)]
        self._source = source
        self._out = out
        self._config = config
        self._picture_shards = picture_shards
        self._pipeline = build_pipeline(specs, given_fields(source), fill_missing=True)

    def process(self, shard: int, task: Any) -> ShardReport:
        """Measures one shard."""
        batch = self._pipeline(to_batch(self._source.read(task), given_fields(self._source)))
        total = num_rows(batch)
        good = [i for i in range(total) if batch["error_code"][i] is None]
        figures: dict[str, list[Any]] = {"id": [batch["id"][i] for i in good]}
        for method, result in self._results(batch, good).items():
            measured = paired_metrics(result, [batch["person"][i] for i in good])
            figures |= {f"{method}/{metric}": values for metric, values in measured.items()}
        _write_table(storage.join(self._out, "samples", f"shard-{shard:05d}.parquet"), figures)
        if shard < self._picture_shards:
            self._write_pictures(batch, good, shard)
        sums = {name: sum(values) for name, values in figures.items() if name != "id"}
        return ShardReport(shard, total, len(good), total - len(good), payload=json.dumps(sums))

    def _results(self, batch: Batch, good: Sequence[int]) -> dict[str, list[Any]]:
        results = {METHOD: [batch["tryon"][i] for i in good]}
        for name in self._config.baselines:
            results[name] = [BASELINES[name](batch, i) for i in good]
        return results

    def _write_pictures(self, batch: Batch, good: Sequence[int], shard: int) -> None:
        each = -(-self._config.num_pictures // self._picture_shards)
        for i in good[:each]:
            for name in PICTURES:
                image = batch["person" if name == "truth" else name][i]
                height = min(PICTURE_HEIGHT, image.shape[0])
                small = resize(image, height, round(height * image.shape[1] / image.shape[0]))
                path = storage.join(self._out, "pictures", f"{shard:05d}-{i:05d}-{name}.jpg")
                storage.write_bytes(path, encode_jpeg(small, 90))


def evaluate(
    source: Source,
    data: str,
    bundle: str,
    out: str,
    config: EvaluateConfig | None = None,
    *,
    num_actors: int | None = None,
    on_report: OnReport | None = None,
) -> Evaluation:
    """Measures a bundle on a source and writes ``metrics.json``, ``report.html`` and per-sample tables.

    Args:
        source: samples; their person photo is the truth (paired).
        data: what to call the source.
        bundle: URI.
        out: URI of the folder to write.
        config: options.
        num_actors: see `run_shards`.
        on_report: told each shard's report and the number of shards.

    Raises:
        BundleError: no bundle, or one without a synthesis network.
        DataError: no sample could be measured.
    """
    from tryon.evaluation.report import write_report

    config = config or EvaluateConfig()
    bundle, out = storage.absolute(bundle), storage.absolute(out)
    manifest = load_bundle(bundle).manifest
    storage.delete(storage.join(out, "pictures"))
    picture_shards = max(1, len(list(itertools.islice(source.tasks(), config.num_pictures))))
    make = partial(EvaluateWorker, source, bundle, out, config, picture_shards)
    reports, count = [], TaskCount(source)
    for report in run_shards(source.tasks(), make, num_actors=num_actors):
        reports.append(report)
        if on_report is not None:
            on_report(report, count.total)
    sizes = {role: list(entry.size) for role, entry in manifest.networks.items()}
    protocol = {
        "data": data,
        "bundle": bundle,
        "tryon_version": __version__,
        "pairing": "paired",
        "network_sizes": sizes,
    }
    result = _aggregate(reports, protocol)
    written = {"protocol": result.protocol, "samples": result.samples, "quarantined": result.quarantined}
    storage.write_bytes(
        storage.join(out, "metrics.json"), json.dumps({**written, "means": result.means}, indent=2).encode()
    )
    write_report(out, result)
    return result


def _aggregate(reports: Sequence[ShardReport], protocol: dict[str, Any]) -> Evaluation:
    samples = sum(report.rows_out for report in reports)
    quarantined = sum(report.quarantined for report in reports)
    if samples == 0:
        text = f"no sample could be measured ({quarantined} could not be used)"
        raise DataError(text, code="data-empty", field="--data")
    means: dict[str, dict[str, float]] = {}
    for report in sorted(reports, key=lambda r: r.shard):
        for key, value in json.loads(report.payload).items():
            method, _, metric = key.partition("/")
            figures = means.setdefault(method, {})
            figures[metric] = figures.get(metric, 0.0) + value / samples
    return Evaluation(means, samples, quarantined, protocol)


def _write_table(uri: str, columns: dict[str, list[Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    storage.write_bytes(uri, sink.getvalue())
