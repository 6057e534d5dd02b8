"""Configuration: frozen pydantic models with bounds and a description on each field."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tryon.errors import ConfigError

Category = Literal["upper", "lower", "dress"]
Size = tuple[Annotated[int, Field(ge=64, le=4096)], Annotated[int, Field(ge=48, le=4096)]]


class Config(BaseModel):
    """Base of all configuration: immutable, and a key that is not known is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ImageLimits(Config):
    """What is taken of a photo that someone sent; checked on the header before decoding."""

    max_bytes: int = Field(30_000_000, ge=1, description="largest file, bytes")
    max_side_px: int = Field(12_000, ge=1, description="longest side, px")
    max_pixels: int = Field(60_000_000, ge=1, description="width x height, px")
    min_side_px: int = Field(32, ge=1, description="shortest side, px")


Backend = Literal["auto", "eager", "compile", "onnx", "int8"]  # what runs a network: `tryon.models.backends`


class StageSpec(Config):
    """One stage of a pipeline by name, with its options."""

    name: str = Field(description="a stage of `tryon.stages.registry`, e.g. 'pose'")
    options: Mapping[str, Any] = Field(default_factory=dict, description="constructor arguments")


C = TypeVar("C", bound=BaseModel)


def parse_config(model: type[C], values: Mapping[str, Any], where: str) -> C:
    """Builds a config from values of the user's.

    Args:
        model: the config class.
        values: keys and values as given.
        where: what to call the source in the message, e.g. ``"options"`` or a file's name.

    Raises:
        ConfigError: a key is unknown or a value is out of bounds; the message names key, value and bound.
    """
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        raise ConfigError(explain(error, where) + _known(error, model), code="config-invalid", field=where) from error


def explain(error: ValidationError, where: str) -> str:
    """One sentence for the first fault in a pydantic error: key, what is wrong, the value given."""
    first = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in first["loc"]) or where
    if first["type"] == "extra_forbidden":
        return f"{where}: unknown key {key!r}"
    if first["type"] == "missing":
        return f"{where}: {key!r} is missing"
    return f"{where}: {key} = {first['input']!r} is not allowed: {first['msg'][:1].lower()}{first['msg'][1:]}"


def _known(error: ValidationError, model: type[BaseModel]) -> str:
    """What an unknown key was meant to be, or could be."""
    first = error.errors(include_url=False)[0]
    if first["type"] != "extra_forbidden" or len(first["loc"]) != 1:
        return ""
    near = difflib.get_close_matches(str(first["loc"][0]), model.model_fields, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(model.model_fields) or 'none'}"


def parse_choice(text: str, choices: Any, where: str) -> Any:
    """Reads one of a `Literal`'s values.

    Raises:
        ConfigError: another value; the message lists them.
    """
    known = get_args(choices)
    if text not in known:
        raise ConfigError(f"{where} {text!r} is not one of {', '.join(known)}", code="choice-invalid", field=where)
    return text


def parse_size(text: str, where: str = "--size") -> tuple[int, int]:
    """Reads ``HxW`` (e.g. ``256x192``) as (height, width) px.

    Raises:
        ConfigError: not two whole numbers, or outside 64..4096 by 48..4096.
    """
    height, _, width = text.lower().partition("x")
    try:
        size = int(height), int(width)
    except ValueError:
        size = (0, 0)
    if not (64 <= size[0] <= 4096 and 48 <= size[1] <= 4096):
        sentence = f"{where} {text!r} is not HEIGHTxWIDTH in px, such as 256x192 (64 to 4096 by 48 to 4096)"
        raise ConfigError(sentence, code="size-invalid", field=where)
    return size
