"""A training run from data set to bundle: in this process, or on Ray Train."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from tryon import storage
from tryon.config import parse_config
from tryon.data.ingest import check_fields, local_batches
from tryon.data.shards import Manifest, read_manifest
from tryon.errors import ConfigError
from tryon.models import bundle as bundles
from tryon.models.device import pick_device
from tryon.training.config import TrainConfig
from tryon.training.loop import Metrics, TrainState, make_optimizer, seed_all, train
from tryon.training.recipes.base import Recipe
from tryon.training.recipes.registry import recipe_class

OnMetrics = Callable[[Metrics], None]


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
    """

    config: TrainConfig
    data: str
    out: str
    start: str | None
    manifest: Manifest
    columns: tuple[str, ...]

    def provenance(self) -> dict[str, Any]:
        """What decides the weights; kept in the bundle, and compared to see whether a run is still to do."""
        frozen: dict[str, str] = {}
        if self.start is not None:
            entries = bundles.read_manifest(self.start).networks
            frozen = {role: entries[role].sha256 for role in recipe_class(self.config.recipe).needs}
        told = self.config.model_dump(mode="json", exclude={"num_workers", "cpus_per_worker", "report_every"})
        return {"config": told, "data_sha256": self.manifest.sha256, "frozen": frozen}

    def name(self) -> str:
        """Unique to the provenance: Ray Train continues a run of the same name."""
        digest = storage.sha256(repr(sorted(self.provenance().items())).encode())[:10]
        return f"{self.config.recipe}-{digest}"


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
        BundleError: a frozen network that the recipe builds on is missing.
    """
    cls = recipe_class(recipe)
    config = parse_config(TrainConfig, {**cls.defaults, **values, "recipe": recipe}, f"config of {recipe!r}")
    if config.size[0] % 16 or config.size[1] % 16:
        text = f"size = {config.size} is not allowed: height and width must be multiples of 16"
        raise ConfigError(text, code="config-invalid", field="size")
    manifest = read_manifest(data)
    check_fields(data, manifest, cls.reads)
    out = storage.absolute(out)
    if start is None and storage.exists(storage.join(out, bundles.MANIFEST)):
        start = out
    start = storage.absolute(start) if start else None
    cls(config.network, config.size, bundles.load_bundle(start) if start else None)  # config and needs fit
    columns = ("id", *cls.reads, *(name for name in cls.optional if name in manifest.fields))
    return RunSpec(config, storage.absolute(data), out, start, manifest, tuple(dict.fromkeys(columns)))


def finished(spec: RunSpec) -> bundles.NetworkEntry | None:
    """The bundle's entry if this very run (config, data, frozen networks) is already in it."""
    if not storage.exists(storage.join(spec.out, bundles.MANIFEST)):
        return None
    entry = bundles.read_manifest(spec.out).networks.get(recipe_class(spec.config.recipe).role)
    return entry if entry is not None and entry.training == spec.provenance() else None


def run(spec: RunSpec, on_metrics: OnMetrics) -> bundles.NetworkEntry:
    """Trains and writes the network into the bundle.

    Args:
        spec: of `check_run`.
        on_metrics: told each line of metrics.

    Returns:
        The bundle's new entry.
    """
    if spec.config.num_workers == 0:
        state, figures = _run_in_process(spec, on_metrics)
    else:
        from tryon.training.ray import run_on_ray

        state, figures = run_on_ray(spec, on_metrics)
    return write_bundle(spec, state, figures)


def build_recipe(spec: RunSpec) -> Recipe:
    """The recipe with its network freshly seeded."""
    seed_all(spec.config.seed)
    start = bundles.load_bundle(spec.start) if spec.start else None
    return recipe_class(spec.config.recipe)(spec.config.network, spec.config.size, start)


def write_bundle(spec: RunSpec, network_state: Mapping[str, Any], figures: Metrics) -> bundles.NetworkEntry:
    """Writes trained weights into the bundle, after the networks it was trained on."""
    recipe = build_recipe(spec)
    recipe.network.load_state_dict(network_state)
    cls = type(recipe)
    if spec.start and spec.start != spec.out and not storage.exists(storage.join(spec.out, bundles.MANIFEST)):
        bundles.copy_bundle(spec.start, spec.out)
    manifest = bundles.write_network(
        spec.out, cls.role, cls.network_name, recipe.network, config=recipe.network_config,
        size=spec.config.size, training=spec.provenance(), metrics=figures, data_licence=spec.manifest.licence,
    )  # fmt: skip
    return manifest.networks[cls.role]


def _run_in_process(spec: RunSpec, on_metrics: OnMetrics) -> tuple[Mapping[str, Any], Metrics]:
    """The plain loop over the shards, with a checkpoint file beside the bundle to continue from."""
    config, device = spec.config, pick_device()
    recipe = build_recipe(spec)
    place_networks(recipe, device)
    state = TrainState(recipe.network, make_optimizer(recipe.network, config))
    path = storage.join(f"{spec.out}-runs", spec.name(), "checkpoint.pt")
    if storage.exists(path):
        state.load_state_dict(load_checkpoint(storage.read_bytes(path)))
    last: Metrics = {}

    def batches(epoch: int) -> Iterable[Mapping[str, Any]]:
        seed = config.seed * 100_003 + epoch
        return local_batches(
            spec.data, spec.manifest, spec.columns, config.size, "train", config.val_fraction, config.batch_size, seed
        )

    def val_batches() -> Iterable[Mapping[str, Any]]:
        return local_batches(
            spec.data, spec.manifest, spec.columns, config.size, "val", config.val_fraction, config.batch_size, None
        )

    def on_report(metrics: Metrics, checkpoint: TrainState | None) -> None:
        last.update(metrics)
        if checkpoint is not None:
            storage.write_bytes(path, dump_checkpoint(checkpoint))
        on_metrics(metrics)

    figures = train(recipe, state, config, batches, val_batches, device, on_report)
    return state.network.state_dict(), validation_figures({**last, **figures})


def place_networks(recipe: Recipe, device: torch.device) -> None:
    """Moves the network and the frozen ones to the device, channels last."""
    for network in (recipe.network, *recipe.frozen.values()):
        bundles.place(network, device)


def validation_figures(metrics: Mapping[str, float]) -> Metrics:
    """The metrics that say how good, not how fast; only finite ones."""
    return {k: v for k, v in metrics.items() if k.startswith(("val_", "loss")) and math.isfinite(v)}


def dump_checkpoint(state: TrainState) -> bytes:
    """State of a run as bytes."""
    buffer = io.BytesIO()
    torch.save(state.state_dict(), buffer)
    return buffer.getvalue()


def load_checkpoint(data: bytes) -> dict[str, Any]:
    """State of a run from bytes; tensors and plain values only, no code."""
    loaded: dict[str, Any] = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    return loaded
