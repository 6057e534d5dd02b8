"""A space file: what a search varies, how it chooses trials, and when it stops one.

space:
  learning_rate: {log_uniform: [1.0e-4, 1.0e-2]}
  network.width: {choice: [16, 32]}
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, model_validator

from tryon.config import Config, parse_config
from tryon.errors import ConfigError

Scalar = bool | int | float | str | None
Pair = tuple[float, float]
Scheduler = Literal["asha", "pbt", "none"]
Search = Literal["random", "optuna"]
KINDS = ("uniform", "log_uniform", "int", "log_int", "choice")


class Range(Config):
    """The values one key may take: exactly one of the kinds. Bounds are included."""

    uniform: Pair | None = Field(None, description="any number from low to high")
    log_uniform: Pair | None = Field(None, description="the same, each power of ten as likely as another; low > 0")
    whole: tuple[int, int] | None = Field(None, alias="int", description="any whole number from low to high")
    log_whole: tuple[int, int] | None = Field(None, alias="log_int", description="the same by powers of ten; low > 0")
    choice: tuple[Scalar, ...] | None = Field(None, min_length=2, description="one of these, each as likely")

    @model_validator(mode="after")
    def _one_kind(self) -> Range:
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"exactly one of {', '.join(KINDS)} is needed, not {len(given)}")
        if self.choice is None:
            low, high = self.bounds
            if not (math.isfinite(low) and math.isfinite(high) and low < high):
                raise ValueError(f"{low} to {high} is no range: the first number must be the lower one")
            if self.is_log and low <= 0:
                raise ValueError(f"a range by powers of ten must begin above 0, not at {low}")
        elif len(set(map(repr, self.choice))) < len(self.choice):
            raise ValueError("a choice must not name a value twice")
        return self

    @property
    def is_log(self) -> bool:
        """By powers of ten."""
        return self.log_uniform is not None or self.log_whole is not None

    @property
    def is_whole(self) -> bool:
        """Whole numbers only."""
        return self.whole is not None or self.log_whole is not None

    @property
    def bounds(self) -> Pair:
        """Lowest and highest value; not of a choice."""
        found = self.uniform or self.log_uniform or self.whole or self.log_whole
        assert found is not None
        return found

    @property
    def corners(self) -> tuple[Scalar, ...]:
        """The values that are checked before a search: both bounds, or all choices."""
        return self.choice if self.choice is not None else self.bounds

    def __str__(self) -> str:
        if self.choice is not None:
            return f"one of {', '.join(map(str, self.choice))}"
        low, high = self.bounds
        return f"{'log ' if self.is_log else ''}{low:g} to {high:g}"


class SearchConfig(Config):
    """One search of one recipe."""

    title: str = Field("", description="for people")
    set: Mapping[str, Any] = Field(default_factory=dict, description="training options that all trials share")
    space: Mapping[str, Range] = Field(min_length=1, description="ranges by training option, e.g. `network.width`")
    metric: str = Field("", description="what trials are compared by, with - in front where less is better; "
                                        "empty: the recipe's own")  # fmt: skip
    num_trials: int = Field(12, ge=2, le=10_000, description="configs that are tried; the population of pbt")
    scheduler: Scheduler = Field("asha", description="asha stops bad trials early; pbt moves them on to the weights of "
                                                     "good ones and perturbs the config; none: all run on")  # fmt: skip
    search: Search = Field("random", description="optuna: TPE, which learns from the trials before; not with pbt")
    seed: int = Field(0, ge=0, le=2**31 - 1, description="of what is sampled")
    max_concurrent: int = Field(0, ge=0, le=10_000, description="trials at a time; 0: as many as CPUs or GPUs allow")
    grace_steps: int = Field(0, ge=0, description="asha: steps before a trial may be stopped; 0: a ninth of them")
    reduction_factor: float = Field(3.0, gt=1, le=100, description="asha: one in so many goes on past a rung, and "
                                                                   "rungs are as many times apart")  # fmt: skip
    perturb_steps: int = Field(0, ge=0, description="pbt: steps between two exchanges; 0: a ninth of them")
    quantile: float = Field(0.25, gt=0, le=0.5, description="pbt: share that is replaced by as many of the best")

    @model_validator(mode="after")
    def _fits(self) -> SearchConfig:
        if self.scheduler == "pbt" and self.search != "random":
            raise ValueError("search must be random where scheduler is pbt: it perturbs configs itself")
        return self


def read_space(file: Path, given: Mapping[str, Any]) -> SearchConfig:
    """Reads a space file.

    Args:
        file: YAML.
        given: fields that win over the file's; None where not given.

    Raises:
        ConfigError: no such file, no YAML, or no space; the message names key, value and what is allowed.
    """
    try:
        told = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"--space {file}: {error.strerror}", code="config-missing", field="--space") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"--space {file} is no YAML: {reason}", code="config-invalid", field="--space") from error
    if not isinstance(told, dict) or not isinstance(told.get("space"), dict):
        text = f"--space {file} must be a mapping with `space`: ranges by training option"
        raise ConfigError(text, code="config-invalid", field="--space")
    return parse_config(SearchConfig, {**told, **{k: v for k, v in given.items() if v is not None}}, str(file))


def corner_values(space: Mapping[str, Range], most: int) -> Iterator[dict[str, Scalar]]:
    """Combinations of corners: all where they are at most so many, else each key's own with the others at their first.

    Args:
        space: ranges by key.
        most: combinations.
    """
    if math.prod(len(values.corners) for values in space.values()) <= most:
        for combination in itertools.product(*(values.corners for values in space.values())):
            yield dict(zip(space, combination, strict=True))
    else:
        yield from (values for _, values in one_by_one(space))


def one_by_one(space: Mapping[str, Range]) -> Iterator[tuple[str, dict[str, Scalar]]]:
    """Each key's corners with the other keys at their first one: the key that is at a corner, and all values."""
    first: dict[str, Scalar] = {key: values.corners[0] for key, values in space.items()}
    for key, values in space.items():
        for value in values.corners:
            yield key, {**first, key: value}


def shown(value: object) -> str:
    """A value of a config for people: four digits are enough to tell trials apart."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def pairs(values: Mapping[str, Any], keys: Sequence[str] | None = None) -> str:
    """Values as ``key=value`` beside one another."""
    return " ".join(f"{key}={shown(values[key])}" for key in keys or values if key in values)
