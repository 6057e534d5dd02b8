"""From shards to training batches: a fixed split, every sample once an epoch, faults named before the first step."""

from __future__ import annotations

import numpy as np
import pytest

from tryon.data.ingest import check_fields, decode_columns, in_split, local_batches
from tryon.data.shards import read_manifest
from tryon.errors import DataError

IDS = [f"sample-{i}" for i in range(2000)]
COLUMNS = ("id", "category", "person", "parse", "pose")


def epoch(data: str, split: str, seed: int | None, batch_size: int = 4, val_fraction: float = 0.25) -> list[list[str]]:
    batches = local_batches(
        data, read_manifest(data), ("id",), (64, 48), split, val_fraction, batch_size, seed,  # type: ignore[arg-type]
    )  # fmt: skip
    return [batch["id"] for batch in batches]


def test_every_id_is_on_one_side_and_always_the_same() -> None:
    for row_id in IDS:
        assert in_split(row_id, "train", 0.2) != in_split(row_id, "val", 0.2)
    assert [in_split(row_id, "val", 0.2) for row_id in ("sim-0-00000000", "sim-0-00000001", "00006_00")] == [
        in_split(row_id, "val", 0.2) for row_id in ("sim-0-00000000", "sim-0-00000001", "00006_00")
    ]


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.5])
def test_the_held_out_share_is_what_was_asked_for(fraction: float) -> None:
    assert np.mean([in_split(row_id, "val", fraction) for row_id in IDS]) == pytest.approx(fraction, abs=0.06)


def test_a_larger_share_holds_out_the_same_and_more() -> None:
    small = {row_id for row_id in IDS if in_split(row_id, "val", 0.1)}
    assert small < {row_id for row_id in IDS if in_split(row_id, "val", 0.3)}


def test_an_epoch_and_the_held_out_samples_are_the_data_set(small_data: str) -> None:
    train = [row_id for ids in epoch(small_data, "train", None) for row_id in ids]
    val = [row_id for ids in epoch(small_data, "val", None) for row_id in ids]
    assert len(train) + len(val) == len({*train, *val}) == read_manifest(small_data).rows
    assert val


def test_shuffled_epochs_have_full_batches_and_no_sample_twice(small_data: str) -> None:
    batches = epoch(small_data, "train", 3)
    assert all(len(ids) == 4 for ids in batches)
    flat = [row_id for ids in batches for row_id in ids]
    assert len(set(flat)) == len(flat)
    assert set(flat) <= {row_id for ids in epoch(small_data, "train", None) for row_id in ids}


def test_the_seed_decides_the_order(small_data: str) -> None:
    assert epoch(small_data, "train", 3) == epoch(small_data, "train", 3)
    assert epoch(small_data, "train", 3) != epoch(small_data, "train", 4)
    assert epoch(small_data, "val", None) == epoch(small_data, "val", None)


def test_blocks_are_decoded_to_stacks_of_one_size(small_data: str) -> None:
    import pyarrow.parquet as pq

    table = pq.read_table(f"{small_data}/shard-00001.parquet", columns=list(COLUMNS)).to_pydict()
    kept = [row_id for row_id in table["id"] if in_split(row_id, "train", 0.3)]
    out = decode_columns(table, (64, 48), "train", 0.3)
    assert list(out["id"]) == kept
    assert out["person"].shape == (len(kept), 64, 48, 3)
    assert out["parse"].shape == (len(kept), 64, 48)
    assert out["pose"].shape == (len(kept), 25, 3)
    assert out["pose"][..., 0].max() < 96
    assert 0 < len(kept) < len(table["id"])


def test_missing_fields_and_empty_data_sets_are_named(small_data: str) -> None:
    manifest = read_manifest(small_data)
    check_fields(small_data, manifest, COLUMNS)
    with pytest.raises(DataError, match=r"lacks dense, tryon.*tryon data annotate") as caught:
        check_fields(small_data, manifest, ("id", "dense", "tryon"))
    assert caught.value.code == "data-fields"
    empty = manifest.model_copy(update={"rows": 0, "quarantined": 9})
    with pytest.raises(DataError, match=r"no rows \(9 quarantined\)") as caught:
        check_fields(small_data, empty, COLUMNS)
    assert caught.value.code == "data-empty"
