"""Every stage can be found by its name and says in known words what it reads and adds."""

from __future__ import annotations

import pytest

from tryon.config import StageSpec
from tryon.errors import PipelineError
from tryon.sample import ERROR_FIELDS, FIELDS
from tryon.stages.base import Stage
from tryon.stages.registry import STAGES, build_stage, stage_class


@pytest.mark.parametrize("name", STAGES)
def test_every_stage_says_what_it_reads_and_adds(name: str) -> None:
    cls = stage_class(name)
    assert issubclass(cls, Stage)
    assert cls.name == name
    assert cls.reads or cls.optional
    assert cls.adds
    assert {*cls.reads, *cls.adds} <= set(FIELDS) - set(ERROR_FIELDS)


@pytest.mark.parametrize(("name", "near"), [("parsee", "parse"), ("garment-mask", "garment_mask"), ("warpp", "warp")])
def test_unknown_names_are_answered_with_the_nearest(name: str, near: str) -> None:
    with pytest.raises(PipelineError, match=f"unknown stage '{name}'.*did you mean '{near}'") as caught:
        stage_class(name)
    assert caught.value.code == "stage-unknown"


def test_a_name_unlike_all_others_gets_the_list() -> None:
    with pytest.raises(PipelineError, match="known: sort, decode_person") as caught:
        stage_class("quux")
    assert "did you mean" not in caught.value.message


def test_options_a_stage_does_not_take_are_named() -> None:
    with pytest.raises(PipelineError, match=r"stage 'paste': .*argument") as caught:
        build_stage(StageSpec(name="paste", options={"sise": 3}))
    assert caught.value.code == "stage-options"


def test_options_reach_the_constructor() -> None:
    spec = StageSpec(name="decode_person", options={"label": "photo.jpg"})
    batch = build_stage(spec)({"person_file": [b""]})
    assert batch["error"] == ["photo.jpg is empty (0 bytes)"]
    assert batch["error_stage"] == ["decode_person"]
