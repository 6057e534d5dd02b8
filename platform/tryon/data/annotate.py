"""Annotation: the stages that photos go through on their way into shards."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from tryon import storage
from tryon.config import Config, Size, StageSpec
from tryon.data.job import Job, given_fields
from tryon.data.shards import Parent
from tryon.data.sources.base import Source
from tryon.engines.in_process import check_needs
from tryon.errors import ConfigError
from tryon.stages.parsers import parser_spec
from tryon.stages.registry import stage_class

# What a try-on needs of its two photos.
ANNOTATION_STAGES = (
    "decode_person", "decode_garment", "fit_person", "fit_garment", "pose", "parse", "garment_mask", "agnostic",
)  # fmt: skip
# What a data set is given beyond that, in the order the stages run.
DATA_STAGES = (
    "sort", "decode_person", "decode_garment", "fit_person", "fit_garment", "pose", "parse", "garment_mask", "category",
    "dense", "agnostic", "quality", "fingerprint",
)  # fmt: skip
ORIGIN = (
    "split", "person_id", "garment_id", "person_uri", "garment_uri", "photo_kind", "metadata", "lip_parse",
    "densepose_image",
)  # fmt: skip
LAYERS = (
    "person", "garment", "pose", "pose_world", "person_mask", "parse", "garment_mask", "dense", "agnostic",
    "agnostic_mask", "quality", "person_hash", "garment_hash", "person_digest", "garment_digest",
)  # fmt: skip
# What the recipes read; all lie on the photos at the photos' size.
TRAINING_LAYERS = (
    "person", "garment", "pose", "person_mask", "parse", "garment_mask", "agnostic", "agnostic_mask",
)  # fmt: skip
GARMENT_LAYERS = ("garment", "garment_mask", "garment_hash", "garment_digest")


class AnnotateConfig(Config):
    """What an annotation run does."""

    size: Size | None = Field(None, description="(height, width) px photos are letterboxed to; None keeps their own")
    layers: tuple[str, ...] | None = Field(None, description="layers to add, by field name; None: all of `LAYERS`")
    parser: str = Field("geometric", description="geometric (no weights), segformer, schp or segment")
    parser_weights: str | None = Field(None, description="of all but geometric: path, s3:// or hub id")
    parser_options: Mapping[str, Any] = Field(default_factory=dict, description="more arguments of the parse stage")
    quality: Mapping[str, Any] | None = Field(
        default_factory=dict, description="thresholds of `QualityConfig` that differ; None: nothing is turned away"
    )
    sorting: Mapping[str, Any] = Field(default_factory=dict, description="arguments of the sort stage")


def annotation_specs(size: tuple[int, int] | None) -> list[StageSpec]:
    """What a try-on needs of its photos; they are letterboxed to `size` (None: left at their own)."""
    options = _options(AnnotateConfig(size=size))
    return [StageSpec(name=name, options=options.get(name, {})) for name in ANNOTATION_STAGES]


def data_specs(config: AnnotateConfig, given: tuple[str, ...]) -> list[StageSpec]:
    """The stages that add the layers a data set wants, and those they need.

    Args:
        config: which layers, and how.
        given: fields that every row has already; a stage that would only add such fields is left out.

    Raises:
        ConfigError: a layer that no stage adds; the message lists those that can be had.
    """
    wanted = _wanted(config) - set(given)
    options = _options(config)
    specs: list[StageSpec] = []
    for name in reversed(DATA_STAGES):
        spec = StageSpec(name=name, options=options.get(name, {}))
        if name == "parse":
            spec = parser_spec(config.parser, config.parser_weights, config.parser_options)
        cls = stage_class(spec.name)
        if wanted & set(cls.adds):
            specs.append(spec)
            wanted = (wanted | set(cls.reads) | set(cls.optional)) - set(given)
    return specs[::-1]


def _wanted(config: AnnotateConfig) -> set[str]:
    unknown = sorted(set(config.layers or ()) - set(LAYERS))
    if unknown:
        text = f"layers = {', '.join(unknown)}: no such layer; there are {', '.join(LAYERS)}"
        raise ConfigError(text, code="layer-unknown", field="--layers")
    wanted = {"category", *(config.layers or LAYERS)}
    return wanted - {"quality"} if config.quality is None else wanted


def _options(config: AnnotateConfig) -> dict[str, dict[str, Any]]:
    """Constructor arguments by stage."""
    return {
        "sort": dict(config.sorting),
        "decode_person": {"label": "person photo"},
        "decode_garment": {"label": "garment photo"},
        "fit_person": {"size": config.size},
        "fit_garment": {"size": config.size},
        "quality": {"config": dict(config.quality or {})},
    }


def annotate_job(source: Source, config: AnnotateConfig, uri: str) -> Job:
    """A job that annotates a source; `uri` names the source in the manifest.

    Raises:
        ConfigError: a layer that is not known, or a size is asked for, but the source brings layers that lie on its
            photos at their own size.
    """
    brought = [name for name in source.fields if name in TRAINING_LAYERS]
    if config.size is not None and brought:
        text = f"size = {config.size} cannot be had: {uri} brings {', '.join(brought)} at its own size"
        raise ConfigError(text, code="size-invalid", field="--size")
    specs = data_specs(config, source.complete)
    check_needs([stage_class(spec.name) for spec in specs], given_fields(source))
    told = {"annotate": config.model_dump(mode="json")}
    parents = (Parent(uri=storage.absolute(uri), sha256=source.content_hash()),)
    return Job(source, specs, _columns(source, config), told, parents)


def _columns(source: Source, config: AnnotateConfig) -> tuple[str, ...]:
    """Columns of the data set: where a row is from, what was wanted, and what truth the source brings."""
    has_garment = any(name in source.fields for name in ("garment", "garment_file", "photo_file"))
    wanted = _wanted(config)
    layers = [name for name in LAYERS if name in source.fields or (name in wanted and _may_have(name, has_garment))]
    origin = [name for name in ORIGIN if name in source.fields]
    if "photo_file" in source.fields and "photo_kind" not in origin:
        origin.append("photo_kind")
    extra = [name for name in source.fields if name.startswith(("true_", "unoccluded_"))]
    return ("id", "category", *origin, *layers, *extra)


def _may_have(name: str, has_garment: bool) -> bool:
    return has_garment or name not in GARMENT_LAYERS
