"""Stages by name, imported only when one is built."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from importlib import import_module

from tryon.config import StageSpec
from tryon.errors import PipelineError
from tryon.stages.base import Stage

STAGES: Mapping[str, str] = {
    "sort": "tryon.stages.sort:Sort",
    "decode_person": "tryon.stages.decode:DecodePerson",
    "decode_garment": "tryon.stages.decode:DecodeGarment",
    "fit_person": "tryon.stages.fit:FitPerson",
    "fit_garment": "tryon.stages.fit:FitGarment",
    "pose": "tryon.stages.pose:Pose",
    "parse": "tryon.stages.parse:GeometricParse",
    "parse_segformer": "tryon.stages.parse_segformer:SegformerParse",
    "parse_schp": "tryon.stages.parse_schp:SchpParse",
    "parse_segment": "tryon.stages.parse_segment:SegmentParse",
    "garment_mask": "tryon.stages.garment_mask:GarmentMask",
    "category": "tryon.stages.category:Category",
    "agnostic": "tryon.stages.agnostic:Agnostic",
    "dense": "tryon.stages.dense:Dense",
    "quality": "tryon.stages.quality:Quality",
    "fingerprint": "tryon.stages.fingerprint:Fingerprint",
    "warp": "tryon.stages.warp:Warp",
    "warp_clip": "tryon.stages.warp_clip:WarpClip",
    "synthesize": "tryon.stages.synthesize:Synthesize",
    "synthesize_unwarped": "tryon.stages.synthesize:SynthesizeUnwarped",
    "refine": "tryon.stages.refine:Refine",
    "refine_by_garment": "tryon.stages.refine:RefineByGarment",
    "preserve": "tryon.stages.preserve:Preserve",
    "paste": "tryon.stages.paste:Paste",
    "encode": "tryon.stages.encode:Encode",
    "extract": "tryon.stages.extract:ExtractGarment",
}


def stage_class(name: str) -> type[Stage]:
    """The class of a stage.

    Raises:
        PipelineError: no stage has this name; the nearest names are offered.
    """
    if name not in STAGES:
        near = difflib.get_close_matches(name, STAGES, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise PipelineError(f"unknown stage {name!r} (known: {', '.join(STAGES)}){hint}", code="stage-unknown")
    module, _, attribute = STAGES[name].partition(":")
    cls: type[Stage] = getattr(import_module(module), attribute)
    return cls


def build_stage(spec: StageSpec) -> Stage:
    """Constructs a stage from its spec.

    Raises:
        PipelineError: unknown name, or options that the stage does not take.
    """
    cls = stage_class(spec.name)
    try:
        return cls(**spec.options)
    except TypeError as error:
        raise PipelineError(f"stage {spec.name!r}: {error}", code="stage-options") from error
