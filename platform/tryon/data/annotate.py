"""Annotation: the stages that photos go through on their way into shards."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from tryon.config import Config, Size, StageSpec
from tryon.data.job import Job, given_fields
from tryon.data.shards import Parent
from tryon.data.sources.base import Source
from tryon.engines.in_process import check_needs
from tryon.errors import ConfigError
from tryon.stages.registry import stage_class

ANNOTATION_STAGES = (
    "decode_person", "decode_garment", "fit_person", "fit_garment", "pose", "parse", "garment_mask", "agnostic",
)  # fmt: skip
LAYERS = ("person", "garment", "pose", "person_mask", "parse", "garment_mask", "agnostic", "agnostic_mask")


class AnnotateConfig(Config):
    """What an annotation run does."""

    size: Size | None = Field(None, description="(height, width) px photos are letterboxed to; None keeps their own")
    parser: str = Field("geometric", pattern="^geometric$", description="which parser; geometric needs no weights")


def annotation_specs(size: tuple[int, int] | None) -> list[StageSpec]:
    """The annotation stages with their options; photos are letterboxed to `size` (None: left at their own)."""
    options: dict[str, dict[str, Any]] = {
        "decode_person": {"label": "person photo"},
        "decode_garment": {"label": "garment photo"},
        "fit_person": {"size": size},
        "fit_garment": {"size": size},
    }
    return [StageSpec(name=name, options=options.get(name, {})) for name in ANNOTATION_STAGES]


def annotate_job(source: Source, config: AnnotateConfig, uri: str) -> Job:
    """A job that annotates a source; `uri` names the source in the manifest.

    Raises:
        ConfigError: a size is asked for, but the source brings layers that lie on its photos at their own size.
    """
    brought = [name for name in source.fields if name in LAYERS]
    if config.size is not None and brought:
        text = f"size = {config.size} cannot be had: {uri} brings {', '.join(brought)} at its own size"
        raise ConfigError(text, code="size-invalid", field="--size")
    specs = annotation_specs(config.size)
    check_needs([stage_class(spec.name) for spec in specs], given_fields(source))
    extra = tuple(name for name in source.fields if name.startswith(("true_", "unoccluded_")))
    has_garment = "garment" in source.fields or "garment_file" in source.fields
    layers = tuple(name for name in LAYERS if has_garment or not name.startswith("garment"))
    told = {"annotate": config.model_dump(mode="json")}
    return Job(
        source, specs, ("id", "category", *layers, *extra), told, (Parent(uri=uri, sha256=source.content_hash()),)
    )
