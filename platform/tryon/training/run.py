"""A training run from data set to bundle: in this process, or on Ray Train."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from tryon import storage
from tryon.config import parse_config
from tryon.data.ingest import LocalBatches, check_fields
from tryon.data.shards import Manifest, read_manifest
from tryon.engines.cluster import stop_on_sigterm
from tryon.errors import ConfigError
from tryon.models import bundle as bundles
from tryon.models.contract import load_saved_state
from tryon.models.device import autocast_dtype, pick_device
from tryon.models.versions import check_writable, pinned
from tryon.training.checkpoints import retried
from tryon.training.config import TrainConfig
from tryon.training.judge import judges_of, with_files
from tryon.training.loop import Metrics
from tryon.training.optimizers import optimizer_class
from tryon.training.recipes.base import Recipe
from tryon.training.recipes.registry import recipe_class
from tryon.training.state import load_checkpoint
from tryon.training.trackers import check_trackers
from tryon.training.worker import OnMetrics, Place, build_recipe, store_of, train_here

# What says how a run goes, not what it makes.
NOT_DECISIVE = {
    "num_workers", "cpus_per_worker", "report_every", "checkpoint_every", "checkpoint_minutes", "keep_best",
    "best_metric", "max_failures", "max_bad_steps", "cache", "lpips_weights", "lpips_heads", "fid_weights",
    "judge_every", "trackers", "min_workers", "strategy",
}  # fmt: skip


@dataclass(frozen=True)
class RunSpec:
    """A run that was checked: config resolved, data set and starting bundle found.

    Attributes:
        config: resolved.
        data: URI of the annotated data set.
        out: URI of the bundle to write into.
        start: URI of the bundle frozen networks come from, or None.
        manifest: of the data set.
        columns: fields that are read.
        at: URI of the run's folder; None: beside the bundle, named after what decides the weights.
        history: configs that a search trained these weights with before, each with the step it began at.
    """

    config: TrainConfig
    data: str
    out: str
    start: str | None
    manifest: Manifest
    columns: tuple[str, ...]
    at: str | None = None
    history: tuple[Mapping[str, Any], ...] = ()

    def provenance(self) -> dict[str, Any]:
        """What decides the weights; kept in the bundle, and compared to see whether a run is still to do."""
        frozen: dict[str, str] = {}
        if self.start is not None:
            entries = bundles.read_manifest(self.start).networks
            needed = recipe_class(self.config.recipe).needed_roles(self.config.options)
            frozen = {role: entries[role].sha256 for role in needed}
        told = self.config.model_dump(mode="json", exclude=NOT_DECISIVE)
        history = {"history": [dict(before) for before in self.history]} if self.history else {}
        return {"config": told, "data_sha256": self.manifest.sha256, "frozen": frozen, **history}

    def name(self) -> str:
        """Unique to the provenance and to what the run goes on from: Ray Train continues a run of the same name.

        The latter is no part of the provenance: the run itself replaces it in the bundle, and is finished then.
        """
        if self.at is not None:
            return self.at.rstrip("/").rpartition("/")[2]
        told = self.provenance()
        cls = recipe_class(self.config.recipe)
        if self.start is not None and cls.goes_on(self.config.options):
            told["goes_on_from"] = bundles.read_manifest(self.start).networks[cls.role].sha256
        digest = storage.sha256(repr(sorted(told.items())).encode())[:10]
        return f"{self.config.recipe}-{digest}"

    def folder(self) -> str:
        """URI of what the run leaves: checkpoints, lines, pictures."""
        return self.at or storage.join(f"{self.out}-runs", self.name())


def check_run(recipe: str, data: str, out: str, values: Mapping[str, Any], start: str | None = None) -> RunSpec:
    """Checks everything that can be checked before the first step.

    Args:
        recipe: name.
        data: URI of an annotated data set.
        out: URI of the bundle to write into.
        values: fields of `TrainConfig` that differ from the recipe's defaults.
        start: bundle the frozen networks come from; None takes `out` if it is there.

    Raises:
        ConfigError: unknown recipe or config key, a value out of bounds.
        DataError: no data set, empty, or fields missing.
        BundleError: a frozen network that the recipe builds on is missing, or `out` is a version in a registry.
        StorageError: `out` cannot be written.
    """
    cls = recipe_class(recipe)
    config = parse_config(TrainConfig, {**cls.defaults, **values, "recipe": recipe}, f"config of {recipe!r}")
    if config.size[0] % 16 or config.size[1] % 16:
        text = f"size = {config.size} is not allowed: height and width must be multiples of 16"
        raise ConfigError(text, code="config-invalid", field="size")
    manifest = read_manifest(data)
    reads = cls.needed_fields(config.options)
    check_fields(data, manifest, reads)
    out = storage.absolute(out)
    check_writable(out)
    if start is None and storage.exists(storage.join(out, bundles.MANIFEST)):
        start = out
    start = pinned(storage.absolute(start)) if start else None
    _check_place(f"{out}-runs")
    optimizer_class(config.optimizer)
    _check_strategy(config, cls)
    check_trackers(config.trackers)
    config = with_files(config)
    judges_of(config)
    # Config, options and needs fit.
    built = cls(config.network, config.size, bundles.load_bundle(start) if start else None, config.options)
    best = config.best_metric or cls.best_metric  # resolved, so that who reads run.json need not load the recipe
    config = config.model_copy(update={**built.settled(), "best_metric": best})
    columns = ("id", *reads, *(name for name in cls.optional_fields(config.options) if name in manifest.fields))
    return RunSpec(config, storage.absolute(data), out, start, manifest, tuple(dict.fromkeys(columns)))


def _check_place(uri: str) -> None:
    check = partial(storage.check_writable, uri)
    if "://" in uri:
        retried(check)  # a fault that passes does not end a run, nor keep it from beginning
    else:
        check()


def _check_strategy(config: TrainConfig, cls: type[Recipe]) -> None:
    if config.strategy != "fsdp":
        return
    half = autocast_dtype(pick_device(), config.precision) is torch.float16
    reasons = {
        f"recipe {config.recipe!r}, whose weights are used outside its network's pass, or which is small: it is for "
        "latent_diffusion, inpaint and concat_inpaint": not cls.shards,
        f"optimizer {config.optimizer!r}, which needs whole weights: adamw does": config.optimizer != "adamw",
        "compile = true": config.compile,
        "precision fp16, whose scale each worker would choose by itself: fp32 and bf16 do": half,
    }
    for reason, holds in reasons.items():
        if holds:
            text = f"strategy = 'fsdp' does not go with {reason}; ddp does"
            raise ConfigError(text, code="config-invalid", field="strategy")


def finished(spec: RunSpec) -> bundles.NetworkEntry | None:
    """The bundle's entry if this very run (config, data, frozen networks) is already in it."""
    if not storage.exists(storage.join(spec.out, bundles.MANIFEST)):
        return None
    entry = bundles.read_manifest(spec.out).networks.get(recipe_class(spec.config.recipe).role)
    return entry if entry is not None and entry.training == spec.provenance() else None


def run(spec: RunSpec, on_metrics: OnMetrics) -> bundles.NetworkEntry:
    """Trains and writes the network into the bundle; a run that was cut off goes on.

    Args:
        spec: of `check_run`.
        on_metrics: told each line of metrics.

    Returns:
        The bundle's new entry.

    Raises:
        Stopped: SIGTERM came; what was reached is saved, and the same call goes on from there.
        TrainError: the loss is not finite, memory ran out, or workers kept dying.
    """
    last: Metrics = {}

    def told(line: Metrics) -> None:
        last.update(line)
        on_metrics(line)

    if spec.config.num_workers == 0:
        figures = run_in_process(spec, told)
    else:
        from tryon.training.ray import run_on_ray

        figures = run_on_ray(spec, told)
    store = store_of(spec)
    data = store.latest()
    assert data is not None
    entry = write_bundle(spec, load_checkpoint(data), validation_figures({**last, **figures}))
    store.clear_local()
    return entry


def write_bundle(spec: RunSpec, state: Mapping[str, Any], figures: Metrics) -> bundles.NetworkEntry:
    """Writes the weights of a saved state, averaged where they are, into the bundle after those it was trained on."""
    recipe = build_recipe(spec)
    load_saved_state(recipe.network, state.get("ema", state["network"]))
    cls = type(recipe)
    if spec.start and spec.start != spec.out and not storage.exists(storage.join(spec.out, bundles.MANIFEST)):
        bundles.copy_bundle(spec.start, spec.out)
    for made in recipe.made():
        training = spec.provenance()
        if made.role != cls.role:  # fine-tuned along: what made it first stays on record
            training = {**bundles.read_manifest(spec.out).networks[made.role].training, "then": training}
        manifest = bundles.write_network(
            spec.out, made.role, made.name, made.network, config=made.config, size=spec.config.size,
            training=training, metrics=figures if made.role == cls.role else {}, data_licence=spec.manifest.licence,
        )  # fmt: skip
    return manifest.networks[cls.role]


def local_batches(spec: RunSpec) -> LocalBatches:
    """What a run in this process reads."""
    config = spec.config
    return LocalBatches(spec.data, spec.manifest, spec.columns, config.size, config.val_fraction, config.cache)


def run_in_process(spec: RunSpec, on_metrics: OnMetrics, local: LocalBatches | None = None) -> Metrics:
    """The plain loop over the shards, without the bundle at its end.

    Args:
        spec: of `check_run`.
        on_metrics: told each line of metrics.
        local: of `local_batches`, from an earlier run over the same data; None reads it anew.

    Returns:
        The last validation figures.

    Raises:
        Stopped, TrainError: see `run`.
    """
    config = spec.config
    local = local or local_batches(spec)

    def batches(epoch: int) -> Iterable[Mapping[str, Any]]:
        return local("train", config.rows_a_batch, config.seed * 100_003 + epoch)

    def val_batches(_: int) -> Iterable[Mapping[str, Any]]:
        return local("val", config.rows_a_batch, None)

    with stop_on_sigterm() as stop:
        return train_here(spec, batches, val_batches, on_metrics, Place(should_stop=stop.is_set))


def validation_figures(metrics: Mapping[str, float]) -> Metrics:
    """The metrics that say how good, not how fast; only finite ones."""
    return {k: v for k, v in metrics.items() if k.startswith(("val_", "loss")) and math.isfinite(v)}
