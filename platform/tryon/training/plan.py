"""Plans: recipes one after another into one bundle, measured after each; a plan that was cut off goes on.

<out>                      the bundle
<out>-plan/plan.json       which steps are done, with their figures
triplets/       the data set that a `triplets` step makes
eval-02-tom/    what the bundle was worth after a step
report.html     all of it on a page
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import yaml
from pydantic import Field, model_validator

from tryon import storage
from tryon.config import Config, parse_config
from tryon.data.job import run_job
from tryon.data.shards import read_manifest
from tryon.data.sources.open import open_source
from tryon.data.triplets.job import TripletsConfig, triplets_job
from tryon.errors import ConfigError, StorageError
from tryon.evaluation.config import EvaluateConfig
from tryon.evaluation.figures import METHOD
from tryon.evaluation.run import evaluate
from tryon.models import bundle as bundles
from tryon.training.loop import Metrics
from tryon.training.run import RunSpec, check_run, run

STATE = "plan.json"
TRIPLETS = "triplets"


class Step(Config):
    """One step: a recipe to train, or triplets to make with the bundle as it is then."""

    train: str | None = Field(None, description="a recipe")
    triplets: Mapping[str, Any] | None = Field(None, description="options of `tryon data triplets` but the bundle")
    uses: str = Field("data", pattern=f"^(data|{TRIPLETS})$", description="what a recipe is trained on")
    set: Mapping[str, Any] = Field(default_factory=dict, description="options of the training, over the plan's")

    @model_validator(mode="after")
    def _one_thing(self) -> Step:
        if (self.train is None) == (self.triplets is None):
            raise ValueError("a step has either train or triplets")
        if self.triplets is not None and "bundle" in self.triplets:
            raise ValueError("triplets of a plan are made with its own bundle")
        return self

    @property
    def name(self) -> str:
        """For people and folders."""
        return self.train or TRIPLETS


class Plan(Config):
    """A chain of steps."""

    title: str = Field("", description="for people")
    set: Mapping[str, Any] = Field(default_factory=dict, description="options of all trainings")
    steps: tuple[Step, ...] = Field(min_length=1, description="in order")

    @model_validator(mode="after")
    def _triplets_first(self) -> Plan:
        made = False
        for step in self.steps:
            made = made or step.triplets is not None
            if step.uses == TRIPLETS and not made:
                raise ValueError(f"{step.name} is to be trained on triplets, which no step before it makes")
        return self


class Done(Config):
    """A step that is done."""

    name: str = Field(description="of the step")
    key: str = Field(description="hash of the step, the data and all steps before it")
    took_s: float = Field(ge=0, description="s, of its last part where it was continued")
    training: Mapping[str, float] = Field(default_factory=dict, description="the recipe's figures")
    measured: Mapping[str, float] = Field(default_factory=dict, description="of the whole bundle on held-out samples")


class Watch(Protocol):
    """Told how a plan goes."""

    def step(self, i: int, of: int, name: str, done: Done | None) -> None:
        """A step begins; `done`: it was done before and is passed by."""

    def metrics(self, spec: RunSpec, line: Metrics) -> None:
        """A line of a training."""

    def finished(self, i: int, done: Done) -> None:
        """A step has ended."""


def read_plan(file: Path) -> Plan:
    """Reads a plan file.

    Raises:
        ConfigError: no such file, no YAML, or no plan; the message names key, value and what is allowed.
    """
    try:
        told = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"--plan {file} cannot be read: {reason}", code="config-invalid", field="--plan") from error
    if not isinstance(told, dict):
        raise ConfigError(f"--plan {file} must be a mapping with steps", code="config-invalid", field="--plan")
    return parse_config(Plan, told, str(file))


def run_plan(
    plan: Plan, data: str, out: str, val: str, watch: Watch, *, num_actors: int | None = None
) -> tuple[Done, ...]:
    """Does what is left of a plan.

    Args:
        plan: of `read_plan`.
        data: URI of the annotated data set to train on.
        out: URI of the bundle.
        val: URI of what the bundle is measured on after each step.
        watch: told how it goes.
        num_actors: of data jobs and evaluation; see `tryon.engines.dataset.run_shards`.

    Returns:
        All steps with their figures.

    Raises:
        TryonError: of the step that failed; what was done before it is kept.
        Stopped: SIGTERM came; the same call goes on.
    """
    folder = f"{storage.absolute(out)}-plan"
    before = _read_state(folder)
    done: list[Done] = []
    key = read_manifest(data).sha256
    for i, step in enumerate(plan.steps):
        key = storage.sha256(f"{key} {step.model_dump_json()} {json.dumps(dict(plan.set), sort_keys=True)}".encode())
        old = next((d for d in before if d.key == key), None) if len(done) == i else None
        watch.step(i, len(plan.steps), step.name, old)
        if old is None:
            start = time.monotonic()
            figures = _do(plan, step, data, out, folder, watch, num_actors)
            measured = _measure(out, val, f"{folder}/eval-{i + 1:02d}-{step.name}", num_actors) if step.train else {}
            old = Done(name=step.name, key=key, took_s=time.monotonic() - start, training=figures, measured=measured)
        done.append(old)
        _write_state(folder, plan, done)
        watch.finished(i, old)
    return tuple(done)


def _do(
    plan: Plan, step: Step, data: str, out: str, folder: str, watch: Watch, num_actors: int | None
) -> Mapping[str, float]:
    """One step; the figures of its training."""
    triplets = f"{folder}/{TRIPLETS}"
    if step.triplets is not None:
        told = {**step.triplets, "bundle": storage.absolute(out)}
        run_job(triplets_job(data, parse_config(TripletsConfig, told, "triplets")), triplets, num_actors=num_actors)
        return {}
    assert step.train is not None
    spec = check_run(step.train, triplets if step.uses == TRIPLETS else data, out, {**plan.set, **step.set})
    return run(spec, lambda line: watch.metrics(spec, line)).metrics


def _measure(out: str, val: str, folder: str, num_actors: int | None) -> Mapping[str, float]:
    """What the bundle is worth; nothing before it has a synthesis."""
    if "synthesis" not in bundles.read_manifest(out).networks:
        return {}
    config = EvaluateConfig(num_pictures=8, baselines=())  # which no step changes
    result = evaluate(open_source(val), val, out, folder, config, num_actors=num_actors)
    return {name: value for name, value in result.means[METHOD].items() if value is not None}


def _read_state(folder: str) -> list[Done]:
    try:
        told = json.loads(storage.read_bytes(storage.join(folder, STATE)))
    except (StorageError, ValueError):
        return []
    return [Done.model_validate(step) for step in told["steps"]]


def _write_state(folder: str, plan: Plan, done: list[Done]) -> None:
    from tryon.training.plan_report import plan_page

    told = {"title": plan.title, "steps": [step.model_dump(mode="json") for step in done]}
    storage.write_bytes(storage.join(folder, STATE), json.dumps(told, indent=2).encode())
    storage.write_bytes(storage.join(folder, "report.html"), plan_page(plan.title, done, len(plan.steps)).encode())
