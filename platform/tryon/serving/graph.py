"""How the pipeline is cut into deployments: configuration in, checked plans out. No Ray here."""

from __future__ import annotations

from dataclasses import dataclass

from tryon import storage
from tryon.config import StageSpec
from tryon.engines.in_process import check_needs, live_fields
from tryon.errors import PipelineError
from tryon.models.bundle import STAGE_ROLES, default_bundle, read_manifest, role_stages
from tryon.models.versions import pinned
from tryon.serving.config import GroupConfig, ServeConfig
from tryon.stages.registry import stage_class


@dataclass(frozen=True)
class GroupPlan:
    """One deployment: its stages with options, what it is given, and what leaves it."""

    group: GroupConfig
    specs: list[StageSpec]
    given: tuple[str, ...]
    keep: tuple[str, ...]


def plan_groups(config: ServeConfig, given: tuple[str, ...], wanted: tuple[str, ...]) -> list[GroupPlan]:
    """Cuts the pipeline as configured.

    Stages of networks that the bundle does not have (a bundle need not refine) are left out; `synthesize` and
    `refine` stand for the stages that the bundle's networks run in.

    Args:
        config: of the service.
        given: fields a request brings.
        wanted: fields the answer needs.

    Raises:
        BundleError: no bundle, or one without warp or synthesis.
        PipelineError: a stage is unknown, twice, or does not find what it reads.
    """
    bundle = pinned(storage.absolute(config.bundle or default_bundle()))
    options = _stage_options(config, bundle)
    stages = role_stages(read_manifest(bundle))
    runs = {stage: stages.get(role) for stage, role in STAGE_ROLES.items()}
    cut: list[tuple[GroupConfig, list[StageSpec]]] = []
    for group in config.groups:
        names = [name for name in (runs.get(name, name) for name in group.stages) if name is not None]
        specs = [StageSpec(name=name, options=options.get(name, {})) for name in names]
        if specs:
            cut.append((group, specs))
    flat = [spec.name for _, specs in cut for spec in specs]
    twice = next((name for name in flat if flat.count(name) > 1), None)
    if twice:
        raise PipelineError(f"stage {twice!r} is in two groups", code="stage-twice")
    check_needs([stage_class(name) for name in flat], given)
    plans = []
    known = set(given)
    for (group, specs), keep in zip(cut, live_fields([specs for _, specs in cut], wanted), strict=True):
        known_before = tuple(sorted(known))
        known |= {name for spec in specs for name in stage_class(spec.name).adds}
        known &= set(keep)
        plans.append(GroupPlan(group, specs, known_before, keep))
    missing = [name for name in wanted if name not in known]
    if missing:
        raise PipelineError(f"no stage of the groups adds {missing[0]!r}", code="field-missing")
    return plans


def _stage_options(config: ServeConfig, bundle: str) -> dict[str, dict[str, object]]:
    size = read_manifest(bundle).working_size
    limits = config.limits.model_dump()
    return {
        "decode_person": {"limits": limits},
        "decode_garment": {"limits": limits},
        "fit_person": {"size": size},
        "fit_garment": {"size": size},
        **{stage: {"bundle": bundle} for stage in STAGE_ROLES},
    }
