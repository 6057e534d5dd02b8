"""The stage protocol: rows keep their place, errors are passed by, what is there is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from tryon.errors import SampleError
from tryon.sample import Row
from tryon.stages.base import RowStage, Stage


class Doubled(RowStage):
    """Adds twice the id; an id of 13 is an error."""

    name = "doubled"
    reads = ("id",)
    adds = ("person", "garment")

    def process(self, row: Row) -> Row:
        if row["id"] == 13:
            raise SampleError("13 brings bad luck", code="unlucky")
        return {"person": 2 * row["id"], "garment": -row["id"]}


class Raised(RowStage):
    """Replaces what it reads."""

    name = "raised"
    reads = ("person",)
    adds = ("person",)

    def process(self, row: Row) -> Row:
        return {"person": row["person"] + 1}


class Short(Stage):
    """Gives back a row too few."""

    name = "short"
    reads = ("id",)
    adds = ("person",)

    def run(self, batch: Mapping[str, list[Any]], num: int) -> Sequence[Row | SampleError]:
        return [{"person": 0}] * (num - 1)


class Boom(Stage):
    """Must not be called."""

    name = "boom"
    reads = ("id",)
    adds = ("person",)

    def run(self, batch: Mapping[str, list[Any]], num: int) -> Sequence[Row | SampleError]:
        raise AssertionError(f"called with {num} rows")


def test_rows_in_error_keep_their_place_and_reason() -> None:
    batch = Doubled()({"id": [1, 13, 3], "category": ["a", "b", "c"]})
    assert batch["person"] == [2, None, 6]
    assert batch["garment"] == [-1, None, -3]
    assert batch["error_code"] == [None, "unlucky", None]
    assert batch["error"] == [None, "13 brings bad luck", None]
    assert batch["error_stage"] == [None, "doubled", None]
    assert batch["category"] == ["a", "b", "c"]


def test_rows_in_error_are_passed_by_and_keep_the_first_reason() -> None:
    before = {"id": [13, 4], "error_code": ["old", None], "error": ["was so", None], "error_stage": ["decode", None]}
    after = Doubled()(before)
    assert after["error_code"] == ["old", None]
    assert after["error_stage"] == ["decode", None]
    assert after["person"] == [None, 8]


def test_a_batch_of_errors_only_does_not_run_the_stage() -> None:
    batch = {"id": [1], "error_code": ["old"], "error": ["was so"], "error_stage": ["decode"]}
    assert Boom()(batch)["person"] == [None]
    assert Boom()({"id": []})["person"] == []


def test_the_given_batch_is_not_changed() -> None:
    before = {"id": [1, 13], "error_code": [None, None], "error": [None, None], "error_stage": [None, None]}
    Doubled()(before)
    assert before == {"id": [1, 13], "error_code": [None] * 2, "error": [None] * 2, "error_stage": [None] * 2}


def test_without_fill_missing_a_stage_writes_anew() -> None:
    assert Doubled()({"id": [1], "person": ["mine"]})["person"] == [2]


def test_fill_missing_keeps_what_is_there() -> None:
    batch = Doubled()(
        {"id": [1, 2, 3, None], "person": ["p1", "p2", None, None], "garment": ["g1", None, None, None]},
        fill_missing=True,
    )
    assert batch["person"] == ["p1", "p2", 6, None]
    assert batch["garment"] == ["g1", -2, -3, None]
    assert batch["error_code"] == [None] * 4


def test_fill_missing_does_not_run_complete_rows_nor_rows_that_lack_what_is_read() -> None:
    assert Boom()({"id": [1, None], "person": ["kept", None]}, fill_missing=True)["person"] == ["kept", None]
    assert Boom()({"category": ["upper"]}, fill_missing=True)["person"] == [None]


def test_a_field_that_is_read_and_added_is_replaced_with_fill_missing_too() -> None:
    errors = {"error_code": [None, "old"], "error": [None, "was so"], "error_stage": [None, "decode"]}
    assert Raised()({"person": [5, 6], **errors}, fill_missing=True)["person"] == [6, 6]
    assert Raised()({"person": [5, 6], **errors})["person"] == [6, None]


def test_a_stage_must_answer_for_every_row() -> None:
    with pytest.raises(ValueError, match="longer than"):
        Short()({"id": [1, 2]})
