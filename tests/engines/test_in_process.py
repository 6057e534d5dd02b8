"""The in-process engine: needs are checked before anything runs, errors end where the caller sees them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tryon.config import StageSpec
from tryon.data.annotate import ANNOTATION_STAGES, annotation_specs
from tryon.engines.in_process import Pipeline, build_pipeline, check_needs, hand_overs
from tryon.errors import PipelineError, SampleError
from tryon.sample import ERROR_FIELDS
from tryon.stages.fit import FitGarment
from tryon.stages.registry import stage_class

GIVEN = ("id", "category", "person_file", "garment_file")
SPECS = annotation_specs((128, 96))


def test_a_missing_field_is_named_with_its_stage_and_who_adds_it() -> None:
    with pytest.raises(PipelineError) as caught:
        build_pipeline([spec for spec in SPECS if spec.name != "parse"], GIVEN)
    assert caught.value.code == "field-missing"
    for word in ("'agnostic'", "'parse'", "put 'parse' or"):
        assert word in caught.value.message


def test_needs_are_checked_before_a_stage_is_built() -> None:
    missing_bundle = StageSpec(name="warp", options={"bundle": "/nowhere"})
    with pytest.raises(PipelineError, match="'warp' reads 'garment'"):
        build_pipeline([missing_bundle], GIVEN)


def test_a_field_that_only_the_caller_can_bring() -> None:
    with pytest.raises(PipelineError, match="reads 'photo_file'") as caught:
        check_needs([stage_class("sort")], ("id",))
    assert "before it)" not in caught.value.message


def test_order_matters() -> None:
    check_needs([stage_class(name) for name in ANNOTATION_STAGES], GIVEN)
    with pytest.raises(PipelineError):
        check_needs([stage_class(name) for name in reversed(ANNOTATION_STAGES)], GIVEN)


def test_a_batch_without_a_promised_column() -> None:
    pipeline = Pipeline([FitGarment((64, 48))], ("garment_photo",))
    with pytest.raises(PipelineError, match="promised field 'garment_photo'"):
        pipeline({"id": ["a"]})


def test_the_annotators_run_on_photo_files(photo_files: tuple[Path, Path]) -> None:
    person, garment = photo_files
    told: list[str] = []
    pipeline = build_pipeline(SPECS, GIVEN)
    row = {"id": "x", "category": "upper", "person_file": person.read_bytes(), "garment_file": garment.read_bytes()}
    out = pipeline.run_row(row, lambda stage, seconds: told.append(stage) if seconds >= 0 else None)
    assert tuple(told) == ANNOTATION_STAGES
    assert set(pipeline.adds) <= set(out)
    assert out["person"].shape == (128, 96, 3)
    assert (out["agnostic"][out["agnostic_mask"] == 1] == 128).all()
    assert np.array_equal(out["agnostic"][out["agnostic_mask"] == 0], out["person"][out["agnostic_mask"] == 0])
    assert out["id"] == "x"


def test_run_row_raises_what_the_stage_found(photo_files: tuple[Path, Path]) -> None:
    files = {"person_file": photo_files[0].read_bytes()[:500], "garment_file": photo_files[1].read_bytes()}
    with pytest.raises(SampleError, match="truncated") as caught:
        build_pipeline(SPECS, GIVEN).run_row({"id": "x", "category": "upper", **files})
    assert caught.value.code == "image-truncated"
    assert caught.value.field == "decode_person"


def test_a_group_takes_what_it_reads_from_whoever_made_it() -> None:
    names = (*ANNOTATION_STAGES, "paste")
    specs = {name: StageSpec(name=name) for name in names}
    tryon = [StageSpec(name="warp"), StageSpec(name="synthesize")]
    groups = [[specs[name] for name in ANNOTATION_STAGES], tryon, [specs["paste"]]]
    first, second, last = hand_overs(groups, (*GIVEN, "sampling_seed"), ("result",))
    assert first.takes == {-1: ("category", "garment_file", "person_file")}
    networks = {"garment", "garment_mask", "agnostic", "agnostic_mask", "parse", "pose"}
    assert {place: set(taken) for place, taken in second.takes.items()} == {
        -1: {"category", "sampling_seed"}, 0: {*networks, *ERROR_FIELDS}
    }  # fmt: skip
    assert {place: set(taken) for place, taken in last.takes.items()} == {
        0: {"person_photo", "person_placement", "agnostic_mask"}, 1: {"tryon", *ERROR_FIELDS}
    }  # fmt: skip
    assert set(first.keep) == {*networks, "person_photo", "person_placement", *ERROR_FIELDS}
    assert set(second.keep) == {"tryon", *ERROR_FIELDS}
    assert set(last.keep) == {"result", *ERROR_FIELDS}


def test_a_field_that_stages_replace_comes_from_the_last_of_them() -> None:
    groups = [[StageSpec(name=name)] for name in ("synthesize", "refine", "paste")]
    given = ("warped_garment", "warped_mask", "agnostic_mask", "person_photo", "person_placement")
    first, second, last = hand_overs(groups, given, ("result", "tryon", "warped_mask"))
    assert second.takes[0] == tuple(sorted((*ERROR_FIELDS, "tryon")))
    assert last.takes[1] == tuple(sorted((*ERROR_FIELDS, "tryon")))
    assert 0 not in last.takes
    assert "warped_mask" in last.takes[-1]
    assert set(first.keep) == set(second.keep) == {"tryon", *ERROR_FIELDS}
    assert set(last.keep) == {"result", "tryon", "warped_mask", *ERROR_FIELDS}


def test_one_group_hands_nothing_over() -> None:
    (only,) = hand_overs([[StageSpec(name=name) for name in ANNOTATION_STAGES]], GIVEN, ("parse", "person_notices"))
    assert set(only.takes) == {-1}
    assert set(only.keep) == {"parse", "person_notices", *ERROR_FIELDS}
