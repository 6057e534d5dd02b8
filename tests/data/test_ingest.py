"""From shards to training batches: a fixed split, every sample once an epoch, faults named before the first step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tryon.data import ingest
from tryon.data.annotate import TRAINING_LAYERS, AnnotateConfig, annotate_job
from tryon.data.curate.splits import SplitConfig, read_split, split_data
from tryon.data.ingest import LocalBatches, check_fields, decode_columns, in_split, ray_dataset, sides_of
from tryon.data.job import run_job
from tryon.data.shards import read_encoded, read_manifest
from tryon.data.sources.open import open_source
from tryon.errors import DataError
from tryon.training.bench import multiply

IDS = [f"sample-{i}" for i in range(2000)]
COLUMNS = ("id", "category", "person", "parse", "pose")


def epoch(data: str, split: str, seed: int | None, batch_size: int = 4, val_fraction: float = 0.25) -> list[list[str]]:
    local = LocalBatches(data, read_manifest(data), ("id",), (64, 48), val_fraction)
    return [batch["id"] for batch in local(split, batch_size, seed)]  # type: ignore[arg-type]


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


def test_a_set_that_fits_in_memory_is_read_once(small_data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[str] = []
    monkeypatch.setattr(ingest, "read_encoded", lambda uri, names: reads.append(uri) or read_encoded(uri, names))
    for limit, expected in ((ingest.MATERIALIZE_BYTES, 2), (0, 4)):
        reads.clear()
        monkeypatch.setattr(ingest, "MATERIALIZE_BYTES", limit)
        local = LocalBatches(small_data, read_manifest(small_data), ("id", "person"), (64, 48), 0.25)
        first, again = ([batch["id"] for batch in local("train", 4, 3)] for _ in range(2))
        assert first == again
        assert len(reads) == expected


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
    table["path"] = ["shard-00001.parquet"] * len(table["id"])
    out = decode_columns(table, (64, 48), "train", sides_of(small_data, 0.3))
    assert list(out["id"]) == kept
    assert out["person"].shape == (len(kept), 64, 48, 3)
    assert out["parse"].shape == (len(kept), 64, 48)
    assert out["pose"].shape == (len(kept), 25, 3)
    assert out["pose"][..., 0].max() < 96
    assert 0 < len(kept) < len(table["id"])


def test_missing_fields_and_empty_data_sets_are_named(small_data: str) -> None:
    manifest = read_manifest(small_data)
    check_fields(small_data, manifest, COLUMNS)
    with pytest.raises(DataError, match=r"lacks result, tryon.*tryon data annotate") as caught:
        check_fields(small_data, manifest, ("id", "result", "tryon"))
    assert caught.value.code == "data-fields"
    empty = manifest.model_copy(update={"rows": 0, "quarantined": 9})
    with pytest.raises(DataError, match=r"no rows \(9 quarantined\)") as caught:
        check_fields(small_data, empty, COLUMNS)
    assert caught.value.code == "data-empty"


def test_what_was_made_from_a_sample_is_on_its_side() -> None:
    for row_id in IDS[:200]:
        assert (
            in_split(f"{row_id}#a3", "val", 0.3)
            == in_split(row_id, "val", 0.3)
            == in_split(f"{row_id}#a1#g2", "val", 0.3)
        )


def test_a_row_s_own_split_wins_over_the_hash(small_data: str) -> None:
    columns = {"id": ["a", "b", "c", "d"], "split": ["train", "val", "test", None], "pose": [1, 2, 3, 4]}
    sides = sides_of(small_data, 0.0)
    assert sides.rows(0, columns, "train") == [0, 3]
    assert sides.rows(0, columns, "val") == [1]
    assert sides.rows(0, {**columns, "pose": [None, 2, 3, None]}, "train") == []


@pytest.fixture
def split_copy(small_data: str, tmp_path: Path) -> str:
    """The small data set with hashes, split by `tryon data split`'s function."""
    config = AnnotateConfig(layers=(*TRAINING_LAYERS, "person_hash", "garment_hash"))
    out = str(tmp_path / "data")
    run_job(annotate_job(open_source(small_data), config, small_data), out, num_actors=0)
    split_data(out, SplitConfig(val_fraction=0.4, seed=1), num_actors=0)
    return out


@pytest.mark.ray
def test_training_reads_the_split_that_was_made(split_copy: str, ray_local: None) -> None:
    manifest = read_manifest(split_copy)
    check_fields(split_copy, manifest, COLUMNS)
    told = {
        key: side for shard in range(manifest.num_shards) for key, side in (read_split(split_copy, shard) or {}).items()
    }
    val = {row_id for row_id, side in told.items() if side == "val"}
    assert 0 < len(val) < manifest.rows
    assert {row_id for ids in epoch(split_copy, "val", None) for row_id in ids} == val
    dataset = ray_dataset(split_copy, manifest, ("id", "parse"), (64, 48), "val", 0.0)
    assert {row["id"] for row in dataset.iter_rows()} == val


@pytest.mark.ray
def test_what_is_kept_in_memory_keeps_its_order(small_data: str, ray_local: None, tmp_path: Path) -> None:
    data = str(tmp_path / "data")
    multiply(small_data, data, 8)
    manifest = read_manifest(data)
    assert manifest.num_shards == 16
    dataset = ray_dataset(data, manifest, ("id", "person"), (64, 48), "val", 0.5, "memory")
    expected = [row_id for ids in epoch(data, "val", None, val_fraction=0.5) for row_id in ids]
    assert [row["id"] for row in dataset.iter_rows()] == expected


def test_a_split_of_older_shards_is_refused(split_copy: str, small_data: str) -> None:
    config = AnnotateConfig(layers=(*TRAINING_LAYERS, "person_hash", "garment_hash", "person_digest"))
    run_job(annotate_job(open_source(small_data), config, small_data), split_copy, num_actors=0)
    with pytest.raises(DataError, match="tryon data split"):
        sides_of(split_copy, 0.1)


def test_a_data_set_that_is_all_for_testing_is_refused(split_copy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tryon.data.ingest.read_split_manifest", lambda uri: None)
    monkeypatch.setattr("tryon.data.ingest.read_shard", lambda uri, columns: {"split": ["test", "val"]})
    manifest = read_manifest(split_copy)
    with pytest.raises(DataError, match=r"no row of data set .* is for training"):
        check_fields(split_copy, manifest.model_copy(update={"fields": (*manifest.fields, "split")}), COLUMNS)


def test_a_column_that_no_row_has_is_named(small_data: str) -> None:
    manifest = read_manifest(small_data).model_copy(update={"nulls": {"garment": 40}})
    with pytest.raises(DataError, match=r"no row .* has garment: it holds 40 person photos and 0 garment photos"):
        check_fields(small_data, manifest, ("id", "garment"))
