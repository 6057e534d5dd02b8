from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.models.checks import seeded
from tryon.data.annotate import ANNOTATION_STAGES
from tryon.errors import BundleError, PipelineError
from tryon.models.bundle import copy_bundle, read_manifest, write_network
from tryon.sample import ERROR_FIELDS
from tryon.serving.config import DEFAULT_GROUPS, GroupConfig, ServeConfig
from tryon.serving.graph import EXTRACTION, LAYERS, REQUEST, TRYON, TRYON_LAYERS, GroupPlan, plan_groups

TRYONS = {"tryon", "tryon_mask", "tryon_layers"}
ALL = (*ANNOTATION_STAGES, "warp", "synthesize", "refine", "preserve", "paste", "encode")


def group(name: str, *stages: str) -> GroupConfig:
    return GroupConfig(name=name, stages=stages)


def plan(bundle: str, *groups: GroupConfig) -> list[GroupPlan]:
    return plan_groups(ServeConfig(bundle=bundle, groups=groups))


def names(plans: list[GroupPlan]) -> list[str]:
    return [spec.name for one in plans for spec in one.specs]


def test_fused_and_split_run_the_same_stages_with_the_same_options(small_bundle: str) -> None:
    fused = plan(small_bundle, group("all", *ALL))
    split = plan(small_bundle, *DEFAULT_GROUPS)
    single = plan(small_bundle, *(group(name, name) for name in ALL))
    assert [len(plans) for plans in (fused, split, single)] == [1, 4, len(ALL)]
    assert names(fused) == names(split) == names(single) == list(ALL)
    flat = [[spec for one in plans for spec in one.specs] for plans in (fused, split, single)]
    assert flat[0] == flat[1] == flat[2]


def test_the_answer_and_the_errors_leave_the_last_group(small_bundle: str) -> None:
    for plans in (plan(small_bundle, group("all", *ALL)), plan(small_bundle, *DEFAULT_GROUPS)):
        assert set(plans[-1].parts["tryon"].keep) == {*TRYON.wanted, *ERROR_FIELDS}
        taken = {name for one in plans for name in one.parts["tryon"].takes.get(REQUEST, ())}
        assert taken == set(TRYON.given) - {"id"}


def test_no_group_passes_on_what_nobody_reads(small_bundle: str) -> None:
    annotation, warp, synthesis, refinement = (one.parts["tryon"] for one in plan(small_bundle, *DEFAULT_GROUPS))
    assert "person_photo" in annotation.keep  # paste lays the result back into it
    assert "person_photo" in refinement.takes["annotation"]
    assert "person_photo" not in (*warp.given, *warp.keep, *synthesis.given, *synthesis.keep)
    for useless in ("garment_photo", "person_file", "garment_file"):
        assert useless not in annotation.keep
    assert {"warped_garment", "warped_mask"} <= set(warp.keep)
    assert "warped_garment" not in annotation.keep
    assert "garment_mask" in annotation.keep
    assert "garment_mask" not in synthesis.keep
    parts = {"annotation": annotation, "warp": warp, "synthesis": synthesis}
    for part in (warp, synthesis, refinement):
        for source, taken in part.takes.items():
            assert set(taken) <= set(parts[source].keep if source else TRYON.given)


def test_each_group_finds_what_it_reads(small_bundle: str) -> None:
    from tryon.engines.in_process import check_needs
    from tryon.stages.registry import stage_class

    for plans in (plan(small_bundle, *DEFAULT_GROUPS), plan(small_bundle, *(group(name, name) for name in ALL))):
        for one in plans:
            for part in one.parts.values():
                check_needs([stage_class(name) for name in part.stages], part.given)


def test_the_bundle_and_its_size_reach_the_stages(small_bundle: str) -> None:
    options = {spec.name: spec.options for one in plan(small_bundle, group("all", *ALL)) for spec in one.specs}
    assert options["warp"]["bundle"] == options["synthesize"]["bundle"] == options["refine"]["bundle"] == small_bundle
    assert options["fit_person"]["size"] == options["fit_garment"]["size"]


def test_limits_reach_both_decoders(small_bundle: str) -> None:
    config = ServeConfig.model_validate({"bundle": small_bundle, "limits": {"max_side_px": 99}})
    options = {spec.name: spec.options for one in plan_groups(config) for spec in one.specs}
    for name in ("decode_person", "decode_garment"):
        assert options[name]["limits"]["max_side_px"] == 99  # type: ignore[index]


@pytest.mark.parametrize("twice", [("pose", "pose"), ("pose", "warp")])
def test_a_stage_twice_is_refused(twice: tuple[str, str], small_bundle: str) -> None:
    with pytest.raises(PipelineError, match="two groups") as caught:
        plan(small_bundle, group("a", *ALL), group("b", *twice))
    assert caught.value.code == "stage-twice"


def test_a_missing_stage_is_named_with_who_would_help(small_bundle: str) -> None:
    with pytest.raises(PipelineError, match="parse") as caught:
        plan(small_bundle, group("all", *(name for name in ALL if name != "parse")))
    assert caught.value.code == "field-missing"


def test_stages_in_the_wrong_order_are_refused(small_bundle: str) -> None:
    with pytest.raises(PipelineError, match="before it"):
        plan(small_bundle, group("late", *ALL[8:]), group("early", *ALL[:8]))


def test_groups_without_a_result_are_refused(small_bundle: str) -> None:
    with pytest.raises(PipelineError, match=r"'result_file' \(put 'encode'"):
        plan(small_bundle, group("all", *ALL[:-1]))


def test_an_unknown_stage_is_named(small_bundle: str) -> None:
    with pytest.raises(PipelineError, match="did you mean 'paste'"):
        plan(small_bundle, group("all", *ALL[:-2], "pasted", "encode"))


def test_a_bundle_need_not_refine(small_bundle: str, tmp_path: Path) -> None:
    folder = without(small_bundle, tmp_path, "refinement")
    plans = plan(folder, *DEFAULT_GROUPS)
    assert names(plans) == [name for name in ALL if name != "refine"]
    alone = plan(
        folder, group("most", *ALL[:-4]), group("refinement", "refine"), group("end", "preserve", "paste", "encode")
    )
    assert [one.group.name for one in alone] == ["most", "end"]


def test_programs_are_those_the_stages_allow(small_bundle: str, extract_bundle: str) -> None:
    annotation, *others = plan(small_bundle, *DEFAULT_GROUPS)
    assert set(annotation.parts) == {*TRYONS, "annotate_person", "annotate_garment"}
    assert [set(one.parts) for one in others] == [TRYONS] * 3
    assert set(others[-1].parts["tryon_layers"].keep) == {*TRYON_LAYERS.wanted, *LAYERS, *ERROR_FIELDS}
    annotation, *_, extraction = plan(extract_bundle, *DEFAULT_GROUPS)
    assert extraction.group.name == "extraction"
    assert set(extraction.parts) == {"extract"}
    assert set(extraction.parts["extract"].keep) == {*EXTRACTION.wanted, *ERROR_FIELDS}
    assert set(extraction.parts["extract"].takes["annotation"]) <= set(annotation.parts["extract"].keep)
    assert "garment_mask" not in annotation.parts["extract"].stages
    fused = plan(extract_bundle, group("all", *ALL, "extract"))
    assert set(fused[0].parts) == {*TRYONS, "annotate_person", "annotate_garment", "extract"}
    assert "extract" not in fused[0].parts["tryon"].stages


def test_a_bundles_parsing_network_parses(extract_bundle: str, tmp_path: Path) -> None:
    bundle = str(tmp_path / "bundle")
    copy_bundle(extract_bundle, bundle)
    network = seeded("segment", {"width": 4, "levels": 2})
    manifest = write_network(
        bundle, "parsing", "segment", network, config=network.config, size=(64, 48), training={}, metrics={}
    )
    assert manifest.working_size == read_manifest(extract_bundle).working_size
    fused = plan(bundle, group("all", *ALL, "extract"))
    assert names(fused) == ["parse_segment" if name == "parse" else name for name in (*ALL, "extract")]
    (parse,) = (spec for spec in fused[0].specs if spec.name == "parse_segment")
    assert parse.options == {"weights": bundle, "sha256": manifest.networks["parsing"].sha256}
    assert set(fused[0].parts) == {*TRYONS, "annotate_person", "annotate_garment", "extract"}
    assert all("parse_segment" in fused[0].parts[name].stages for name in ("tryon", "annotate_person", "extract"))


def test_a_bundle_without_synthesis_is_refused(small_bundle: str, tmp_path: Path) -> None:
    with pytest.raises((BundleError, PipelineError), match=r"synthes|tryon"):
        plan(without(small_bundle, tmp_path, "synthesis"), *DEFAULT_GROUPS)


def test_a_missing_bundle_is_named() -> None:
    with pytest.raises(BundleError, match="nowhere"):
        plan("nowhere", *DEFAULT_GROUPS)


def without(bundle: str, tmp_path: Path, role: str) -> str:
    folder = tmp_path / f"no-{role}"
    shutil.copytree(bundle, folder)
    manifest = json.loads((folder / "bundle.json").read_text())
    del manifest["networks"][role]
    (folder / "bundle.json").write_text(json.dumps(manifest))
    return str(folder)
