"""The extract stage: sizes, categories, batches, and rows whose person wears no such garment."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tryon.config import StageSpec
from tryon.data.shards import read_shard, resize_row
from tryon.engines.in_process import build_pipeline
from tryon.errors import BundleError
from tryon.sample import Batch, Label, Row
from tryon.stages.extract import ExtractGarment

READS = ("id", "person", "parse", "pose", "category")


@pytest.fixture(scope="module")
def rows(small_data: str) -> list[Row]:
    batch = read_shard(f"{small_data}/shard-00000.parquet", READS)
    return [{name: batch[name][i] for name in READS} for i in range(3)]


@pytest.fixture(scope="module")
def stage(extract_bundle: str) -> ExtractGarment:
    return ExtractGarment(extract_bundle)


def extracted(stage: ExtractGarment, rows: list[Row]) -> Batch:
    return stage({name: [row.get(name) for row in rows] for name in READS})


@pytest.mark.parametrize("size", [(128, 96), (201, 151), (64, 48)])
def test_the_garment_has_the_photos_size(stage: ExtractGarment, rows: list[Row], size: tuple[int, int]) -> None:
    batch = extracted(stage, [resize_row(rows[0], size)])
    assert batch["error"] == [None]
    garment, mask = batch["garment"][0], batch["garment_mask"][0]
    assert (garment.shape, garment.dtype) == ((*size, 3), np.uint8)
    assert (mask.shape, mask.dtype) == (size, np.uint8)
    assert set(np.unique(mask)) == {0, 1}
    assert garment[mask == 0].mean() > garment[mask == 1].mean(), "white outside"


def test_a_batch_of_two_sizes_is_two_batches_of_one(stage: ExtractGarment, rows: list[Row]) -> None:
    pair = [rows[0], resize_row(rows[1], (201, 151))]
    together = extracted(stage, pair)
    for i, row in enumerate(pair):
        alone = extracted(stage, [row])
        difference = np.abs(together["garment"][i].astype(int) - alone["garment"][0].astype(int))
        assert difference.max() <= 1
        assert (together["garment_mask"][i] != alone["garment_mask"][0]).mean() < 1e-3


def test_what_is_worn_most_plainly_is_taken_where_nobody_said(stage: ExtractGarment, rows: list[Row]) -> None:
    told = extracted(stage, [{**rows[0], "category": "upper"}])["garment"][0]
    assert np.array_equal(extracted(stage, [{**rows[0], "category": None}])["garment"][0], told)
    batch: Batch = {name: [rows[0][name]] for name in READS if name != "category"}
    assert np.array_equal(stage(batch)["garment"][0], told)
    lower = extracted(stage, [{**rows[0], "category": "lower"}])
    assert lower["error"] == [None]
    assert not np.array_equal(lower["garment"][0], told), "the category is obeyed"


def full(row: Row, label: Label) -> Row:
    return {**row, "parse": np.full_like(row["parse"], label)}


@pytest.mark.parametrize(
    ("label", "category", "code", "said"),
    [
        (Label.PANTS, "upper", "garment-not-worn", "wears no upper garment to extract: it takes 0.0%"),
        (Label.UPPER_CLOTHES, "lower", "garment-not-worn", "wears no lower garment"),
        (Label.UPPER_CLOTHES, "upper", "garment-not-worn", "upper garment takes all of the photo"),
        (Label.BACKGROUND, None, "garment-not-worn", "shows no clothes"),
        (Label.UPPER_CLOTHES, "hat", "category-unknown", "category 'hat' is not one of upper, lower, dress"),
    ],
)
def test_such_rows_end_with_a_reason_and_the_others_do_not(
    stage: ExtractGarment, rows: list[Row], label: Label, category: str | None, code: str, said: str
) -> None:
    bad = {**full(rows[1], label), "category": category}
    batch = extracted(stage, [rows[0], bad, rows[2]])
    assert batch["error_code"] == [None, code, None]
    assert said in batch["error"][1]
    assert batch["error_stage"][1] == "extract"
    assert batch["garment"][1] is None
    assert all(batch["garment"][i] is not None for i in (0, 2))


def test_a_few_scattered_pixels_are_no_garment(stage: ExtractGarment, rows: list[Row]) -> None:
    parse = np.zeros((512, 384), dtype=np.uint8)
    parse[::12, ::12] = Label.UPPER_CLOTHES  # 0.7 % of the photo, and under half of any pixel of the network's
    row = {**resize_row(rows[0], (512, 384)), "parse": parse, "category": "upper"}
    assert extracted(stage, [row])["error_code"] == ["garment-not-worn"]


def test_a_network_that_makes_nothing_says_so(
    stage: ExtractGarment, rows: list[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tryon.stages.extract.MIN_GARMENT_SHARE", 1.0)
    assert extracted(stage, rows[:1])["error_code"] == ["garment-not-extracted"]


def test_it_stands_in_for_the_garment_photo(extract_bundle: str) -> None:
    specs: list[Any] = [
        StageSpec(name="extract", options={"bundle": extract_bundle}),
        StageSpec(name="agnostic"),
        StageSpec(name="warp", options={"bundle": extract_bundle}),
    ]
    pipeline = build_pipeline(specs, ("person", "parse", "pose", "person_mask", "category"))
    assert {"garment", "garment_mask", "warped_garment"} <= set(pipeline.adds)


def test_a_bundle_without_extraction_is_named(small_bundle: str) -> None:
    with pytest.raises(BundleError, match=r"has no extraction network \(it has: ") as caught:
        ExtractGarment(small_bundle)
    assert caught.value.code == "bundle-incomplete"
