"""Evaluation over Ray Data: the pipeline over every sample, metrics beside baselines, pictures for the report."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from tryon import storage
from tryon.codec import encode_jpeg
from tryon.data.annotate import annotation_specs
from tryon.data.job import OnReport, TaskCount, given_fields, to_batch
from tryon.data.sources.base import Source
from tryon.engines.dataset import ShardReport, run_shards
from tryon.engines.in_process import build_pipeline
from tryon.errors import DataError
from tryon.evaluation.baselines import BASELINES
from tryon.evaluation.config import EvaluateConfig, resolve
from tryon.evaluation.figures import METHOD, UNPAIRED_FIGURES, badness, of_category
from tryon.evaluation.garment import PRINT_FIELDS, print_correlation, unpaired_figures, worn_region
from tryon.evaluation.judges import Images, Judges
from tryon.evaluation.protocol import changed_outside, extent_of, findings, measured_ids, merge_extents, settings
from tryon.evaluation.report import samples_uri, write_report
from tryon.evaluation.sets import FOLDER as FEATURES
from tryon.evaluation.sets import set_figures, write_features
from tryon.images import resize
from tryon.models.bundle import load_bundle, tryon_stages
from tryon.models.metrics import paired_metrics, region_metrics
from tryon.models.versions import pinned
from tryon.sample import CATEGORIES, Batch, num_rows

PICTURES = ("person", "garment", "agnostic", "warped_garment", "tryon")  # and the truth, where there is one
PICTURE_HEIGHT = 384


@dataclass(frozen=True)
class Evaluation:
    """Figures of an evaluation.

    Attributes:
        means: method to figure to mean over the samples that have it.
        samples: samples measured.
        quarantined: samples that could not be used.
        protocol: sizes, resizing, versions, bundle, weights and pairs, as written into ``metrics.json``.
        sets: method to figure of all its results together; empty without the weights that takes.
    """

    means: dict[str, dict[str, float]]
    samples: int
    quarantined: int
    protocol: dict[str, Any]
    sets: dict[str, dict[str, float]] = field(default_factory=dict)

    @property
    def figures(self) -> dict[str, dict[str, float]]:
        """Method to all its figures."""
        methods = dict.fromkeys((*self.means, *self.sets))
        return {method: {**self.means.get(method, {}), **self.sets.get(method, {})} for method in methods}


class EvaluateWorker:
    """Runs the pipeline over one shard; writes per-sample figures and pictures, reports sums."""

    def __init__(self, source: Source, bundle: str, out: str, config: EvaluateConfig) -> None:
        specs = [*annotation_specs(None), *tryon_stages(bundle)]
        self._source = source
        self._out = out
        self._config = config
        self._pipeline = build_pipeline(specs, given_fields(source), fill_missing=True)
        self._judges = Judges(config)

    def process(self, shard: int, task: Any) -> ShardReport:
        """Measures one shard."""
        batch = self._pipeline(to_batch(self._source.read(task), given_fields(self._source)))
        total = num_rows(batch)
        good = [i for i in range(total) if batch["error_code"][i] is None]
        truths, results = [batch["person"][i] for i in good], self._results(batch, good)
        figures = self._figures(batch, good, results, truths)
        _write_table(samples_uri(self._out, shard), [batch["id"][i] for i in good], figures)
        if self._judges.judges_sets:
            write_features(self._out, shard, self._judges, truths, results)
        self._write_pictures(batch, good, shard, figures)
        masks = [batch["agnostic_mask"][i] for i in good]
        told = {
            "sums": {
                **{name: _sum(values) for name, values in figures.items()},
                **_category_sums([batch["category"][i] for i in good], figures),
            },
            "extent": extent_of(truths, map(changed_outside, results[METHOD], truths, masks)),
        }
        return ShardReport(shard, total, len(good), total - len(good), payload=json.dumps(told))

    def _figures(
        self, batch: Batch, good: Sequence[int], results: Mapping[str, Images], truths: Images
    ) -> dict[str, list[float | None]]:
        """Figures of each sample by method and name: against the truth where there is one."""
        figures: dict[str, list[float | None]] = {}
        is_paired = self._config.pairing == "paired"
        regions = [worn_region(batch, i) for i in good] if is_paired else []
        for method, images in results.items():
            measured: dict[str, list[float | None]] = {}
            if is_paired:
                measured = paired_metrics(images, truths)
                if self._judges.judges_pairs:
                    measured["lpips"] = self._judges.distances(images, truths)
                of_garment = region_metrics(images, truths, regions)
                measured |= {f"garment_{name}": values for name, values in of_garment.items()}
            else:
                rows = [unpaired_figures(batch, i, image) for i, image in zip(good, images, strict=True)]
                measured = {name: [row[name] for row in rows] for name in UNPAIRED_FIGURES}
            figures |= {f"{method}/{name}": values for name, values in measured.items()}
        if is_paired and all(name in batch for name in PRINT_FIELDS):
            figures[f"{METHOD}/print"] = [print_correlation(*(batch[name][i] for name in PRINT_FIELDS)) for i in good]
        return figures

    def _results(self, batch: Batch, good: Sequence[int]) -> dict[str, Images]:
        results: dict[str, Images] = {METHOD: [batch["tryon"][i] for i in good]}
        for name in self._config.baselines:
            results[name] = [BASELINES[name](batch, i) for i in good]
        return results

    def _write_pictures(
        self, batch: Batch, good: Sequence[int], shard: int, figures: Mapping[str, Sequence[float | None]]
    ) -> None:
        """Of the shard's worst samples; the report shows the worst of all shards'."""
        rows = [{name: values[k] for name, values in figures.items()} for k in range(len(good))]
        worst = sorted(range(len(good)), key=lambda k: badness(rows[k]), reverse=True)[: self._config.num_pictures]
        shown = [name for name in PICTURES if name in batch]
        shown += ["truth"] if self._config.pairing == "paired" else []
        for k in worst:
            for name in shown:
                image = batch["person" if name == "truth" else name][good[k]]
                height = min(PICTURE_HEIGHT, image.shape[0])
                small = resize(image, height, round(height * image.shape[1] / image.shape[0]))
                path = storage.join(self._out, "pictures", f"{shard:05d}-{k:05d}-{name}.jpg")
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
        source: samples; of paired ones the person photo is the truth.
        data: what to call the source.
        bundle: URI.
        out: URI of the folder to write.
        config: options.
        num_actors: see `run_shards`.
        on_report: told each shard's report and the number of shards.

    Raises:
        ConfigError: options that do not go together.
        BundleError: no bundle, or one without a synthesis network; weights that are missing or of another network.
        DataError: no sample could be measured.
    """
    config = resolve(config or EvaluateConfig())
    bundle, out = pinned(storage.absolute(bundle)), storage.absolute(out)
    manifest = load_bundle(bundle).manifest
    protocol = settings(data, bundle, manifest, config, Judges(config))
    for folder in ("pictures", FEATURES):
        storage.delete(storage.join(out, folder))
    make = partial(EvaluateWorker, source, bundle, out, config)
    reports, count = [], TaskCount(source)
    for report in run_shards(source.tasks(), make, num_actors=num_actors):
        reports.append(report)
        if on_report is not None:
            on_report(report, count.total)
    reports.sort(key=lambda report: report.shard)
    result = _aggregate(reports, protocol, out, config)
    figures = {"means": result.means, "sets": result.sets}
    written = {"protocol": result.protocol, "samples": result.samples, "quarantined": result.quarantined, **figures}
    storage.write_bytes(storage.join(out, "metrics.json"), json.dumps(written, indent=2).encode())
    write_report(out, result, config.num_pictures)
    return result


def _aggregate(
    reports: Sequence[ShardReport], protocol: dict[str, Any], out: str, config: EvaluateConfig
) -> Evaluation:
    """The reports, in order, to figures."""
    samples = sum(report.rows_out for report in reports)
    quarantined = sum(report.quarantined for report in reports)
    if samples == 0:
        text = f"no sample could be measured ({quarantined} could not be used)"
        raise DataError(text, code="data-empty", field="--data")
    told = [json.loads(report.payload) for report in reports]
    means = _means(shard["sums"] for shard in told)
    ids = measured_ids(samples_uri(out, report.shard) for report in reports)
    found = findings(ids, samples, merge_extents(shard["extent"] for shard in told), config)
    rows = {report.shard: report.rows_out for report in reports}
    sets = set_figures(out, rows, (METHOD, *config.baselines), config) if config.fid_weights is not None else {}
    return Evaluation(means, samples, quarantined, {**protocol, **found}, sets)


def _means(shards: Iterable[Mapping[str, tuple[float, int]]]) -> dict[str, dict[str, float]]:
    """Means by method and name from each shard's sums and counts; those that no sample has are left out."""
    sums: dict[str, tuple[float, int]] = {}
    for shard in shards:
        for key, (value, num) in shard.items():
            before = sums.get(key, (0.0, 0))
            sums[key] = before[0] + value, before[1] + num
    means: dict[str, dict[str, float]] = {}
    for key, (value, num) in sums.items():
        if num:
            method, _, name = key.partition("/")
            means.setdefault(method, {})[name] = value / num
    by_category = [of_category(category) for category in CATEGORIES if of_category(category) in means]
    if len(by_category) == 1:  # then it is what the whole is
        del means[by_category[0]]
    return means


def _category_sums(
    categories: Sequence[str], figures: Mapping[str, Sequence[float | None]]
) -> dict[str, tuple[float, int]]:
    """The bundle's sums and counts of each category."""
    sums: dict[str, tuple[float, int]] = {}
    for key, values in figures.items():
        method, _, name = key.partition("/")
        for category in dict.fromkeys(categories) if method == METHOD else ():
            those = [value for value, own in zip(values, categories, strict=True) if own == category]
            sums[f"{of_category(category)}/{name}"] = _sum(those)
    return sums


def _sum(values: Sequence[float | None]) -> tuple[float, int]:
    there = [value for value in values if value is not None]
    return sum(there), len(there)


def _write_table(uri: str, ids: Sequence[str], figures: Mapping[str, Sequence[float | None]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {"id": pa.array(ids, pa.string())}
    columns |= {name: pa.array(values, pa.float64()) for name, values in figures.items()}
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    storage.write_bytes(uri, sink.getvalue())
