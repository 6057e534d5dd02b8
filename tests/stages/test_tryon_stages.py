"""Warp, synthesize and refine with a bundle's networks: shapes, sizes, and what must not change."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tryon.data.shards import read_shard, resize_row
from tryon.errors import BundleError
from tryon.sample import Batch, Row
from tryon.stages.refine import Refine
from tryon.stages.synthesize import Synthesize
from tryon.stages.warp import Warp

READS = ("id", "garment", "garment_mask", "agnostic", "agnostic_mask", "parse", "pose", "category")
SIZES = [(128, 96), (201, 151), (64, 48)]


@pytest.fixture(scope="module")
def rows(small_data: str) -> list[Row]:
    batch = read_shard(f"{small_data}/shard-00000.parquet", READS)
    return [{name: batch[name][i] for name in READS} for i in range(4)]


@pytest.fixture(scope="module")
def stages(small_bundle: str) -> list[Any]:
    return [Warp(small_bundle), Synthesize(small_bundle), Refine(small_bundle)]


def tried_on(stages: list[Any], rows: list[Row]) -> Batch:
    batch: Batch = {name: [row[name] for row in rows] for name in READS}
    for stage in stages:
        batch = stage(batch)
    assert batch["error"] == [None] * len(rows)
    return batch


def worst(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> int:
    return int(np.abs(a.astype(int) - b.astype(int)).max())


@pytest.mark.parametrize("size", SIZES)
def test_layers_have_the_images_own_size(stages: list[Any], rows: list[Row], size: tuple[int, int]) -> None:
    batch = tried_on(stages, [resize_row(rows[0], size)])
    for name in ("warped_garment", "tryon"):
        assert batch[name][0].shape == (*size, 3)
        assert batch[name][0].dtype == np.uint8
    for name in ("warped_mask", "composition_mask"):
        assert batch[name][0].shape == size
        assert batch[name][0].dtype == np.uint8
    assert (batch["composition_mask"][0] <= batch["warped_mask"][0]).all(), "no garment is shown where none lies"
    assert batch["warped_mask"][0].max() == 255


@pytest.mark.parametrize("size", SIZES)
def test_outside_the_agnostic_mask_nothing_changes(stages: list[Any], rows: list[Row], size: tuple[int, int]) -> None:
    batch = tried_on(stages, [resize_row(row, size) for row in rows])
    for tryon, agnostic, mask in zip(batch["tryon"], batch["agnostic"], batch["agnostic_mask"], strict=True):
        assert 0 < mask.sum() < mask.size
        assert np.array_equal(tryon[mask == 0], agnostic[mask == 0])
        assert not np.array_equal(tryon[mask == 1], agnostic[mask == 1])


def test_a_batch_of_two_is_two_batches_of_one(stages: list[Any], rows: list[Row]) -> None:
    pair = [rows[0], resize_row(rows[1], (201, 151))]
    together = tried_on(stages[:2], pair)
    for i, row in enumerate(pair):
        alone = tried_on(stages[:2], [row])
        for name in ("warped_garment", "warped_mask", "tryon", "composition_mask"):
            assert worst(together[name][i], alone[name][0]) <= 1


def test_refinement_of_a_batch_is_that_of_its_rows(stages: list[Any], rows: list[Row]) -> None:
    batch = tried_on(stages[:2], rows[:2])
    together = stages[2](batch)["tryon"]
    for i in range(2):
        alone = stages[2]({name: column[i : i + 1] for name, column in batch.items()})["tryon"][0]
        assert worst(together[i], alone) <= 1


def test_refinement_changes_the_image_and_only_inside(stages: list[Any], rows: list[Row]) -> None:
    batch = tried_on(stages[:2], rows[:1])
    before, after = batch["tryon"][0], stages[2](batch)["tryon"][0]
    changed = (before != after).any(axis=-1)
    assert changed.any()
    assert not changed[batch["agnostic_mask"][0] == 0].any()


def test_rows_in_error_are_passed_by(stages: list[Any], rows: list[Row]) -> None:
    batch: Batch = {name: [None, rows[0][name]] for name in READS}
    batch |= {"error_code": ["no-person", None], "error": ["nobody", None], "error_stage": ["pose", None]}
    for stage in stages:
        batch = stage(batch)
    assert batch["error_code"] == ["no-person", None]
    assert batch["tryon"][0] is None
    assert batch["tryon"][1].shape == (128, 96, 3)


@pytest.mark.parametrize(
    ("name", "value", "stage", "said"),
    [
        ("garment_mask", 0, "warp", "garment_mask is empty: there is no garment"),
        ("garment_mask", 1, "warp", "garment_mask is 1 everywhere: the garment's outline is not known"),
        ("agnostic_mask", 0, "synthesize", "agnostic_mask is empty: there is nothing to generate"),
        ("agnostic_mask", 1, "synthesize", "agnostic_mask is 1 everywhere: nothing of the person is left"),
    ],
)
def test_a_row_with_an_unusable_mask_does_not_take_the_others_with_it(
    stages: list[Any], rows: list[Row], name: str, value: int, stage: str, said: str
) -> None:
    bad = {**rows[1], name: np.full_like(rows[1][name], value)}
    batch: Batch = {key: [rows[0][key], bad[key], rows[2][key]] for key in READS}
    whole = tried_on(stages, [rows[0], rows[2]])
    for step in stages:
        batch = step(batch)
    assert batch["error_code"] == [None, "mask-unusable", None]
    assert batch["error_stage"][1] == stage
    assert batch["error"][1] == said
    assert batch["tryon"][1] is None
    assert worst(batch["tryon"][0], whole["tryon"][0]) <= 1
    assert worst(batch["tryon"][2], whole["tryon"][1]) <= 1


@pytest.mark.parametrize("stage", [Warp, Synthesize, Refine])
def test_a_bundle_that_is_not_there_is_named(stage: type[Warp]) -> None:
    with pytest.raises(BundleError, match="nowhere") as caught:
        stage("/nowhere/at/all")
    assert caught.value.code == "bundle-missing"
