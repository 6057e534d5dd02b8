"""How the service's programs are cut into deployments: configuration in, checked plans out. No Ray here.

A program is what one kind of request runs: some of the stages, in the order of the groups. All programs share the
groups' stages, so a network is loaded once however many programs use it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tryon import storage
from tryon.config import StageSpec
from tryon.engines.in_process import check_needs, hand_overs, who_adds
from tryon.errors import PipelineError
from tryon.models.bundle import (
    PARSE,
    PARSE_BY_NETWORK,
    PRESERVE,
    STAGE_ROLES,
    BundleManifest,
    default_bundle,
    parse_stage,
    read_manifest,
    role_stages,
    shows_warp,
)
from tryon.models.versions import pinned
from tryon.serving.config import DEFAULT_MODEL, BundlesConfig, GroupConfig, ServeConfig
from tryon.stages.registry import stage_class

EXTRACT = "extract"  # the stage
REQUEST = ""  # where fields of the request come from, beside the groups' names


@dataclass(frozen=True)
class Program:
    """What one kind of request runs.

    Attributes:
        name: of it.
        given: fields that a request brings.
        wanted: fields that its answer needs.
        stages: that it runs, of those the groups have; None: all but extraction.
        extra: fields that the answer has where a stage adds them.
    """

    name: str
    given: tuple[str, ...]
    wanted: tuple[str, ...]
    stages: frozenset[str] | None = None
    extra: tuple[str, ...] = ()

    def runs(self, stage: str) -> bool:
        """Whether a stage is part of it."""
        return stage != EXTRACT if self.stages is None else _as_named(stage) in self.stages

    def is_offered(self, stages: Iterable[str]) -> bool:
        """Whether all that it runs is among these."""
        return self.stages is None or self.stages <= set(map(_as_named, stages))


def _as_named(stage: str) -> str:
    """The name under which a program knows a stage."""
    return PARSE if stage == PARSE_BY_NETWORK else stage


PERSON_STAGES = frozenset({"decode_person", "fit_person", "pose", "parse"})
TRYON = Program(
    "tryon",
    (
        "id", "category", "person_file", "garment_file", "sampling_seed", "sampling_steps", "output_format",
        "output_quality",
    ),
    ("result_file", "person_notices", "garment_notices"),
)  # fmt: skip
TRYON_MASK = Program("tryon_mask", TRYON.given, (*TRYON.wanted, "result_mask"))
LAYERS = ("agnostic", "warped_garment")
TRYON_LAYERS = Program("tryon_layers", TRYON.given, (*TRYON_MASK.wanted, "person_placement"), extra=LAYERS)
ANNOTATE_PERSON = Program(
    "annotate_person",
    ("id", "category", "person_file"),
    ("person_photo", "person_placement", "parse", "pose", "person_mask", "agnostic_mask", "person_notices"),
    PERSON_STAGES | {"agnostic"},
)
ANNOTATE_GARMENT = Program(
    "annotate_garment",
    ("id", "garment_file"),
    ("garment_photo", "garment_mask", "garment_notices"),
    frozenset({"decode_garment", "fit_garment", "garment_mask"}),
)
EXTRACTION = Program(
    "extract",
    ("id", "category", "person_file"),
    ("garment", "garment_mask", "person_notices"),
    PERSON_STAGES | {EXTRACT},
)
PROGRAMS = (TRYON, TRYON_MASK, TRYON_LAYERS, ANNOTATE_PERSON, ANNOTATE_GARMENT, EXTRACTION)


@dataclass(frozen=True)
class Part:
    """What a group does of a program.

    Attributes:
        stages: names, in order.
        takes: fields by the name of the group that they come from, earlier ones first; `REQUEST`: from the request.
        keep: fields that leave it.
    """

    stages: tuple[str, ...]
    takes: Mapping[str, tuple[str, ...]]
    keep: tuple[str, ...]

    @property
    def given(self) -> tuple[str, ...]:
        """Fields that reach it."""
        return tuple(sorted({name for names in self.takes.values() for name in names}))


@dataclass(frozen=True)
class GroupPlan:
    """One deployment: its stages with options, and its part of each program that it has one of."""

    group: GroupConfig
    specs: list[StageSpec]
    parts: Mapping[str, Part]


def bundle_uris(config: BundlesConfig) -> dict[str, str]:
    """Where the bundles are, by name, the default one first: absolute, and of a registry one version.

    Raises:
        BundleError: an alias or a version that is not there.
    """
    told = {DEFAULT_MODEL: config.bundle or default_bundle(), **config.bundles}
    return {name: pinned(storage.absolute(uri)) for name, uri in told.items()}


def plan_groups(config: ServeConfig, bundle: str | None = None) -> list[GroupPlan]:
    """Cuts the programs as configured.

    Args:
        config: of the service.
        bundle: URI of one of `bundle_uris`; None: the default one.

    Stages of networks that the bundle does not have (a bundle need not refine) are left out; `parse`, `synthesize`
    and `refine` stand for the stages that the bundle's networks run in. Groups that lack a program's stages do not
    offer it; all must try on.

    Raises:
        BundleError: no bundle, or one without warp or synthesis.
        PipelineError: a stage is unknown, twice, or does not find what it reads.
    """
    bundle = bundle or bundle_uris(config)[DEFAULT_MODEL]
    manifest = read_manifest(bundle)
    options = _stage_options(config, bundle, manifest)
    parse = parse_stage(bundle)
    runs = {**_stages_run(manifest), PARSE: parse.name}
    cut: list[tuple[GroupConfig, list[str]]] = []
    for group in config.groups:
        names = [name for name in (runs.get(name, name) for name in group.stages) if name is not None]
        if names:
            cut.append((group, names))
    flat = [name for _, names in cut for name in names]
    twice = next((name for name in flat if flat.count(name) > 1), None)
    if twice:
        raise PipelineError(f"stage {twice!r} is in two groups", code="stage-twice")
    programs = [program for program in PROGRAMS if program.is_offered(flat)]
    parts: list[dict[str, Part]] = [{} for _ in cut]
    for program in programs:
        for place, part in _cut_program(program, [(group.name, names) for group, names in cut]).items():
            parts[place][program.name] = part
    options[parse.name] = dict(parse.options)
    return [
        GroupPlan(group, [StageSpec(name=name, options=options.get(name, {})) for name in names], part)
        for (group, names), part in zip(cut, parts, strict=True)
    ]


def programs_of(plans: Sequence[GroupPlan]) -> dict[str, dict[str, Part]]:
    """The groups' parts of each program, in order, by the program's name."""
    names = list(dict.fromkeys(name for plan in plans for name in plan.parts))
    return {name: {plan.group.name: plan.parts[name] for plan in plans if name in plan.parts} for name in names}


def _cut_program(program: Program, groups: list[tuple[str, list[str]]]) -> dict[int, Part]:
    """A program's parts, by the place of their group.

    Raises:
        PipelineError: a stage does not find what it reads, or nothing adds what the answer needs.
    """
    kept = [(place, [name for name in names if program.runs(name)]) for place, (_, names) in enumerate(groups)]
    kept = [(place, names) for place, names in kept if names]
    check_needs([stage_class(name) for _, names in kept for name in names], program.given)
    specs = [[StageSpec(name=name) for name in names] for _, names in kept]
    added = {field for _, names in kept for name in names for field in stage_class(name).adds}
    missing = [name for name in program.wanted if name not in added]
    if missing:
        text = f"no stage of the groups adds {missing[0]!r}{who_adds(missing[0])}"
        raise PipelineError(text, code="field-missing")
    wanted = (*program.wanted, *(field for field in program.extra if field in added))
    sources = [groups[place][0] for place, _ in kept] + [REQUEST]  # the last: place -1
    return {
        place: Part(tuple(names), {sources[at]: fields for at, fields in hand.takes.items()}, hand.keep)
        for (place, names), hand in zip(kept, hand_overs(specs, program.given, wanted), strict=True)
    }


def _stages_run(manifest: BundleManifest) -> dict[str, str | None]:
    """What runs for a stage that a group names: another one, or None where the bundle has no network for it."""
    stages = role_stages(manifest)
    runs: dict[str, str | None] = {stage: stages.get(role) for stage, role in STAGE_ROLES.items()}
    runs[PRESERVE] = PRESERVE if shows_warp(stages) else None
    return runs | {EXTRACT: EXTRACT if "extraction" in manifest.networks else None}


def _stage_options(config: ServeConfig, bundle: str, manifest: BundleManifest) -> dict[str, dict[str, object]]:
    size = manifest.working_size
    limits = config.limits.model_dump()
    return {
        "decode_person": {"limits": limits},
        "decode_garment": {"limits": limits},
        "fit_person": {"size": size},
        "fit_garment": {"size": size},
        **{stage: {"bundle": bundle, "backend": config.backend} for stage in STAGE_ROLES},
        EXTRACT: {"bundle": bundle},
    }
