"""A search that was checked: every corner of its space is a config that trains, before the first trial starts."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from tryon import storage
from tryon.config import parse_config
from tryon.engines.cluster import physical_cpus
from tryon.errors import ConfigError, DataError
from tryon.models import bundle as bundles
from tryon.options import dotted, put
from tryon.training.config import TrainConfig
from tryon.training.loop import validate
from tryon.training.recipes.base import Recipe
from tryon.training.recipes.registry import recipe_class
from tryon.training.run import NOT_DECISIVE, RunSpec, check_run, local_batches
from tryon.training.tune.space import SearchConfig, corner_values, one_by_one
from tryon.training.worker import build_recipe

KEPT = 100  # checkpoints of a trial of pbt: another may be told to go on from one after the trial has left it behind
VALIDATIONS = 9  # of a trial, unless `checkpoint_every` says otherwise: three rungs of asha at a factor of 3
MOST_COMBINATIONS = 512
# Trials are compared at the same step, by the same figure over the same pictures.
NOT_SEARCHED = NOT_DECISIVE | {"recipe", "size", "steps", "val_fraction"}
NOT_PERTURBED = {"optimizer", "seed", "precision", "compile", "network"}


@dataclass(frozen=True)
class SearchSpec:
    """A search that was checked.

    Attributes:
        recipe: by name.
        data: URI of the annotated data set.
        out: URI of the bundle that the best trial becomes.
        start: bundle frozen networks come from, or None for the one at `out`.
        search: with metric, steps between decisions and trials at a time settled.
        options: training options that all trials share.
        base: the run at the first corner of the space.
        found: URI of the folder of a search that has finished, whose best trial replaced what it went on from.
    """

    recipe: str
    data: str
    out: str
    start: str | None
    search: SearchConfig
    options: Mapping[str, Any]
    base: RunSpec
    found: str | None = None

    @property
    def steps(self) -> int:
        """Of a trial that is not stopped."""
        return self.base.config.steps

    @property
    def metric(self) -> str:
        """The figure that trials are compared by."""
        return self.search.metric.removeprefix("-")

    @property
    def higher_is_better(self) -> bool:
        """Of the figure."""
        return not self.search.metric.startswith("-")

    @property
    def in_process(self) -> bool:
        """Whether a trial trains in its own process, without Ray Train."""
        return self.base.config.num_workers == 0

    def identity(self) -> str:
        """A hash of what decides the trials; the same command has the same."""
        search = self.search.model_dump(mode="json", exclude={"title", "set", "max_concurrent"}, by_alias=True)
        told = {"run": self.base.provenance(), "every": self.base.config.checkpoint_every, "search": search}
        if (before := self.goes_on_from()) is not None:
            told["goes_on_from"] = before
        return storage.sha256(repr(sorted(told.items())).encode())[:10]

    def goes_on_from(self) -> str | None:
        """The sha256 of the network that trials begin with, where the recipe goes on with one."""
        cls = recipe_class(self.recipe)
        if self.base.start is None or not cls.goes_on(self.base.config.options):
            return None
        return bundles.read_manifest(self.base.start).networks[cls.role].sha256

    @property
    def folder(self) -> str:
        """URI of what the search leaves."""
        return self.found or storage.join(f"{self.base.out}-tune", f"{self.recipe}-{self.identity()}")

    def place(self, number: int) -> str:
        """URI of a trial's folder."""
        return storage.join(self.folder, f"trial-{number:02d}")

    def run_of(self, number: int, values: Mapping[str, Any], history: tuple[Mapping[str, Any], ...] = ()) -> RunSpec:
        """A trial's run.

        Args:
            number: of the trial, from 1.
            values: by key of the space.
            history: see `RunSpec`.

        Raises:
            TryonError: see `check_run`.
        """
        spec = check_run(self.recipe, self.data, self.out, _merged(self.options, values), self.start)
        return dataclasses.replace(spec, at=self.place(number), history=history)


def check_search(
    recipe: str,
    data: str,
    out: str,
    search: SearchConfig,
    options: Mapping[str, Any],
    start: str | None = None,
) -> SearchSpec:
    """Checks everything that can be checked before the first trial.

    Args:
        recipe: name.
        data: URI of an annotated data set.
        out: URI of the bundle that the best trial becomes.
        search: of `read_space`.
        options: training options over the space file's.
        start: bundle the frozen networks come from; None takes `out` if it is there.

    Raises:
        ConfigError: a key that the recipe, its network or a search does not have, a value out of bounds, a metric
            that the recipe does not measure.
        DataError: no data set, empty, fields missing, or nothing held out.
        BundleError: see `check_run`.
    """
    cls = recipe_class(recipe)
    shared = _merged(search.set, dotted(options))
    shared.setdefault("num_workers", 0)
    _check_keys(search)
    first = {key: values.corners[0] for key, values in search.space.items()}
    base = _check_corner(recipe, data, out, shared, first, start, next(iter(search.space)))
    steps = base.config.steps
    search = search.model_copy(
        update={
            "metric": search.metric or base.config.best_metric or cls.best_metric,
            "grace_steps": search.grace_steps or math.ceil(steps / VALIDATIONS),
            "perturb_steps": search.perturb_steps or math.ceil(steps / VALIDATIONS),
            "max_concurrent": min(search.num_trials, search.max_concurrent or _concurrent(base.config)),
        }
    )
    _check_steps(search, steps)
    shared.setdefault("checkpoint_every", math.ceil(steps / VALIDATIONS))
    shared["best_metric"] = search.metric
    if search.scheduler == "pbt":
        shared["keep_best"] = KEPT
    base = check_run(recipe, data, out, _merged(shared, first), start)
    spec = SearchSpec(recipe, base.data, base.out, start, search, shared, base)
    _check_corners(spec)
    _check_metric(spec)
    return spec


def _merged(options: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Options with values under dotted keys over them."""
    merged = copy.deepcopy(dict(options))
    for key, value in values.items():
        put(merged, key, value)
    return merged


def _check_keys(search: SearchConfig) -> None:
    kept = NOT_SEARCHED | (NOT_PERTURBED if search.scheduler == "pbt" else set())
    for key in search.space:
        if key.partition(".")[0] in kept:
            why = "pbt changes it on weights that are there" if key not in NOT_SEARCHED else "it is one for all trials"
            text = f"space: {key} cannot be searched, because {why}; not allowed are {', '.join(sorted(kept))}"
            raise ConfigError(text, code="space-invalid", field=key)


def _check_steps(search: SearchConfig, steps: int) -> None:
    for key in ("grace_steps", "perturb_steps"):
        if getattr(search, key) >= steps and steps > 1:
            text = f"{key} = {getattr(search, key)} is not allowed: it must be less than steps, {steps}"
            raise ConfigError(text, code="config-invalid", field=key)


def _check_corner(
    recipe: str,
    data: str,
    out: str,
    options: Mapping[str, Any],
    values: Mapping[str, Any],
    start: str | None,
    key: str,
) -> RunSpec:
    try:
        return check_run(recipe, data, out, _merged(options, values), start)
    except ConfigError as error:
        text = f"space: {key} = {values[key]!r} is no config that trains: {error.message}"
        raise ConfigError(text, code=error.code, field=key) from error


def _check_corners(spec: SearchSpec) -> None:
    """Combinations by the config alone; each key's own corners with network and recipe built."""
    cls, space = recipe_class(spec.recipe), spec.search.space
    for values in corner_values(space, MOST_COMBINATIONS):
        told = {**cls.defaults, **_merged(spec.options, values), "recipe": spec.recipe}
        parse_config(TrainConfig, told, "space")
    shapes: dict[str, Any] | None = None
    for key, values in one_by_one(space):
        checked = _check_corner(spec.recipe, spec.data, spec.out, spec.options, values, spec.start, key)
        if spec.search.scheduler == "pbt":
            found = _shapes(build_recipe(checked))
            if shapes is not None and found != shapes:
                text = (
                    f"space: {key} = {values[key]!r} changes the network, and pbt goes on with weights that are there"
                )
                raise ConfigError(f"{text}; scheduler asha can search it", code="space-invalid", field=key)
            shapes = found


def _shapes(recipe: Recipe) -> dict[str, Any]:
    critic = recipe.critic.state_dict() if recipe.critic is not None else {}
    items = itertools.chain(recipe.network.state_dict().items(), ((f"critic.{k}", v) for k, v in critic.items()))
    return {name: tuple(value.shape) for name, value in items}


def _check_metric(spec: SearchSpec) -> None:
    """One held-out batch is measured with untrained weights: what the recipe measures is not written anywhere else.

    Raises:
        DataError: nothing is held out.
        ConfigError: there is no such figure.
    """
    config = spec.base.config
    batch = next(iter(local_batches(spec.base)("val", min(2, config.rows_a_batch), None)), None)
    if batch is None:
        text = f"trials are compared on held-out samples, and none of {spec.data!r} is: val_fraction ="
        raise DataError(f"{text} {config.val_fraction}, give more, e.g. 0.1", code="data-empty", field="val_fraction")
    recipe = build_recipe(spec.base)
    figures, _ = validate(recipe, recipe.network, [batch], torch.device("cpu"), config)
    if spec.metric not in figures:
        known = ", ".join(sorted(figures)) or "none"
        text = f"metric = {spec.search.metric!r} is not allowed: {spec.recipe} measures {known}, with - in front where"
        raise ConfigError(f"{text} less is better", code="config-invalid", field="metric")


def _concurrent(config: TrainConfig) -> int:
    """Trials that the GPUs, else the CPUs, of this machine hold."""
    workers = max(1, config.num_workers)
    if torch.cuda.is_available():
        return max(1, torch.cuda.device_count() // workers)
    return max(1, physical_cpus() // (workers * max(1, config.cpus_per_worker)))


def explain_conflict(search: SearchConfig, fixed: Mapping[str, Any]) -> None:
    """Refuses what is both searched and set.

    Raises:
        ConfigError: it names the key.
    """
    for key, value in dotted(fixed).items():
        if key in search.space:
            text = f"--set {key}={value} is not allowed: the space has {key}, {search.space[key]}; leave one of the two"
            raise ConfigError(text, code="option-invalid", field="--set")
