"""Configuration: what is unknown or out of bounds is said with its key and value."""

from __future__ import annotations

import pickle

import pytest
from pydantic import ValidationError

from tryon.config import ImageLimits, StageSpec, parse_config, parse_size
from tryon.data.synth import SynthConfig
from tryon.errors import ConfigError, ImageError, TryonError
from tryon.training.config import TrainConfig


def test_unknown_key_is_named() -> None:
    with pytest.raises(ConfigError, match=r"limits: unknown key 'max_byts'") as caught:
        parse_config(ImageLimits, {"max_byts": 3}, "limits")
    assert caught.value.code == "config-invalid"
    assert caught.value.field == "limits"


def test_value_out_of_bounds_is_quoted_with_its_key_and_bound() -> None:
    with pytest.raises(ConfigError, match=r"max_side_px = -7 is not allowed.*greater than or equal to 1"):
        parse_config(ImageLimits, {"max_side_px": -7}, "limits")
    with pytest.raises(ConfigError, match=r"learning_rate = 5 is not allowed.*less than or equal to 1"):
        parse_config(TrainConfig, {"recipe": "gmm", "learning_rate": 5}, "options")


def test_nested_key_is_named_by_its_path() -> None:
    with pytest.raises(ConfigError, match=r"size\.1 = 10 is not allowed"):
        parse_config(SynthConfig, {"num": 1, "size": (64, 10)}, "options")


def test_missing_key_is_named() -> None:
    with pytest.raises(ConfigError, match=r"options: 'num' is missing"):
        parse_config(SynthConfig, {}, "options")


def test_wrong_type_is_said() -> None:
    with pytest.raises(ConfigError, match=r"steps = 'many' is not allowed"):
        parse_config(TrainConfig, {"recipe": "gmm", "steps": "many"}, "options")


def test_configs_are_frozen() -> None:
    limits = ImageLimits()
    with pytest.raises(ValidationError, match="frozen"):
        limits.max_bytes = 1  # type: ignore[misc]
    assert limits == ImageLimits()


def test_stage_specs_do_not_share_options() -> None:
    assert StageSpec(name="pose").options is not StageSpec(name="pose").options


@pytest.mark.parametrize("config", [ImageLimits, TrainConfig, SynthConfig])
def test_every_field_has_a_description(config: type[ImageLimits]) -> None:
    assert all(field.description for field in config.model_fields.values())


@pytest.mark.parametrize(
    ("text", "size"),
    [("256x192", (256, 192)), ("4096X4096", (4096, 4096)), (" 64 x 48", (64, 48))],
)
def test_sizes_are_read(text: str, size: tuple[int, int]) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "256", "x", "256x", "192,256", "63x48", "64x47", "4097x96", "-256x192", "1e3x96", "256x192x3"]
)
def test_sizes_that_are_none_are_quoted(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_size(text, "--size")
    assert repr(text) in caught.value.message
    assert caught.value.code == "size-invalid"


def test_errors_survive_pickling_with_code_and_field() -> None:
    error = pickle.loads(pickle.dumps(ImageError("too wide", code="image-too-large", field="person_image")))
    assert type(error) is ImageError
    assert (error.message, error.code, error.field) == ("too wide", "image-too-large", "person_image")
    assert str(error) == "too wide"
    assert isinstance(error, TryonError)
