"""What one training process does, with or without Ray: build, continue, train, save, log."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from tryon import storage
from tryon.models import bundle as bundles
from tryon.models.device import pick_device
from tryon.training.checkpoints import CheckpointStore
from tryon.training.judge import judges_of
from tryon.training.log import RunLog
from tryon.training.loop import Metrics, Report, train
from tryon.training.recipes.base import Batches, Recipe
from tryon.training.recipes.registry import recipe_class
from tryon.training.sharding import Sharded
from tryon.training.state import TrainState, dump_checkpoint, load_checkpoint, seed_all

if TYPE_CHECKING:
    from tryon.training.run import RunSpec

OnMetrics = Callable[[Metrics], None]


@dataclass(frozen=True)
class Place:
    """Where this process stands among the run's.

    Attributes:
        rank: 0 saves and logs.
        num_workers: processes.
        wrap: makes the network one that all of them train (DDP).
        should_stop: asked after each step, on any rank.
    """

    rank: int = 0
    num_workers: int = 1
    wrap: Callable[[nn.Module], nn.Module] = lambda network: network
    should_stop: Callable[[], bool] = lambda: False


def build_recipe(spec: RunSpec) -> Recipe:
    """The recipe with its network freshly seeded."""
    seed_all(spec.config.seed)
    start = bundles.load_bundle(spec.start) if spec.start else None
    return recipe_class(spec.config.recipe)(spec.config.network, spec.config.size, start, spec.config.options)


def place_networks(recipe: Recipe, device: torch.device) -> None:
    """Moves the network, the frozen ones and the critic to the device, channels last."""
    for network in (recipe.network, *recipe.frozen.values(), *([recipe.critic] if recipe.critic else [])):
        bundles.place(network, device)


def store_of(spec: RunSpec) -> CheckpointStore:
    """The run's checkpoints."""
    metric = spec.config.best_metric or recipe_class(spec.config.recipe).best_metric
    return CheckpointStore(storage.join(spec.folder(), "checkpoints"), spec.config.keep_best, metric)


def train_here(spec: RunSpec, batches: Batches, val_batches: Batches, on_metrics: OnMetrics, place: Place) -> Metrics:
    """Trains from the run's last checkpoint, or from the start, to the end.

    Args:
        spec: of `check_run`.
        batches: gives an epoch's batches for this process.
        val_batches: gives the held-out ones; its argument means nothing.
        on_metrics: told each line of metrics, on rank 0.
        place: of this process.

    Returns:
        The last validation figures.

    Raises:
        Stopped: `place.should_stop` said so; what was reached is saved.
        TrainError: see `tryon.training.loop.train`.
    """
    config, device = spec.config, pick_device()
    if config.cpus_per_worker:
        torch.set_num_threads(config.cpus_per_worker)  # whatever OMP_NUM_THREADS says
    recipe = build_recipe(spec)
    place_networks(recipe, device)
    sharded = None
    if config.strategy == "fsdp" and place.num_workers > 1:
        sharded = Sharded(recipe.network, averaged=config.ema > 0)
    state = TrainState.fresh(recipe, config, sharded)
    store = store_of(spec)
    _continue(state, store, config.seed, place)
    network = torch.compile(recipe.network) if config.compile else recipe.network
    state.network = place.wrap(network)  # type: ignore[arg-type]
    with RunLog.open(spec, state.step) if place.rank == 0 else contextlib.nullcontext() as log:

        def on_report(report: Report) -> None:
            if log is None:
                if report.state is not None and sharded is not None:
                    report.state.state_dict()  # its part of what rank 0 gathers
                return
            log.line(report.metrics)
            if report.state is not None:
                # Lines first: a run that is killed between the two drops those that go beyond its checkpoint.
                log.save(report.state.step, report.shown)
                store.save(dump_checkpoint(report.state, place.num_workers), report.state.step, report.metrics)
            on_metrics(report.metrics)

        judges = judges_of(config) if place.rank == 0 else None
        return train(
            recipe, state, config, batches, lambda: val_batches(0), device, on_report, place.should_stop, judges
        )


def _continue(state: TrainState, store: CheckpointStore, seed: int, place: Place) -> None:
    """Takes over the run's last checkpoint, and random numbers of this process's own where there are several."""
    data = store.latest()
    if data is not None:
        saved = load_checkpoint(data)
        state.load_state_dict(saved)
        before = int(saved["num_workers"])
        if before != place.num_workers:
            text = f"the run goes on at step {state.step} with {place.num_workers} workers instead of {before}"
            warnings.warn(f"{text}: epoch {state.epoch} begins anew, and random numbers are others", stacklevel=2)
            state.batch = 0
    if place.num_workers > 1 or (data is not None and int(saved["num_workers"]) != place.num_workers):
        seed_all(seed + 1_000_003 * (place.rank + 1) + 7919 * state.step)
