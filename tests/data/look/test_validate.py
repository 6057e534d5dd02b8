"""Validation: a clean data set passes, and every planted fault is found by the check that is there for it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.data.assets import SPOILED, Spoil, clean_rows, write_clean, write_rows
from tryon.data.curate.splits import split_data
from tryon.data.look.checks import CHECKS, SIZES, TEXT
from tryon.data.look.validate import FILE_CHECKS, CheckResult, ValidationResult, validate
from tryon.data.shards import MANIFEST, quarantine_uri, shard_uri
from tryon.errors import DataError
from tryon.sample import Joint, Label, Row


def failed(result: ValidationResult) -> dict[str, CheckResult]:
    return {check.name: check for check in result.checks if check.failed}


def look(uri: str) -> ValidationResult:
    return validate(uri, num_actors=0)


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> str:
    uri = str(tmp_path_factory.mktemp("clean") / "data")
    write_clean(uri)
    return uri


@pytest.fixture
def copy(clean: str, tmp_path: Path) -> str:
    uri = str(tmp_path / "copy")
    shutil.copytree(clean, uri)
    return uri


def set_to(**values: object) -> Spoil:
    return lambda row: row.update(values)


def put(field: str, index: object, value: object) -> Spoil:
    return lambda row: row[field].__setitem__(index, value)


def invert(field: str) -> Spoil:
    return lambda row: row.update({field: np.uint8(1) - row[field]})


def shrink(field: str) -> Spoil:
    return lambda row: row.update({field: np.ascontiguousarray(row[field][:-2])})


def far_from(field: str) -> Spoil:
    """Moves the shoulders and hips into a corner where nothing of the layer is."""

    def spoil(row: Row) -> None:
        for joint in (Joint.LEFT_SHOULDER, Joint.RIGHT_SHOULDER, Joint.LEFT_HIP, Joint.RIGHT_HIP):
            row["pose"][joint] = (1, 1, 0.9)
        row[field][:30, :30] = 0

    return spoil


def uncover(row: Row) -> None:
    """The agnostic shows the garment again, and its mask says so."""
    row["agnostic_mask"][:] = 0
    row["agnostic"] = row["person"].copy()


def cover_all(row: Row) -> None:
    row["agnostic_mask"][:] = 1
    row["agnostic"][:] = 128


def change_outside(row: Row) -> None:
    y, x = np.argwhere(row["agnostic_mask"] == 0)[0]
    row["agnostic"][y, x] = 255 - row["person"][y, x]


def change_inside(row: Row) -> None:
    y, x = np.argwhere(row["agnostic_mask"] == 1)[0]
    row["agnostic"][y, x] = 255


def undefined_flow(row: Row) -> None:
    y, x = np.argwhere(row["true_mask"] == 1)[0]
    row["true_flow"][y, x] = np.nan


def no_garment(row: Row) -> None:
    row["parse"][np.isin(row["parse"], (Label.UPPER_CLOTHES, Label.DRESS, Label.SKIRT, Label.PANTS))] = Label.BAG


FAULTS: dict[str, Spoil] = {
    SIZES: shrink("parse"),
    TEXT: set_to(quality="[1]"),
    "category-known": set_to(category="hat"),
    "split-known": set_to(split="trian"),
    "parse-labels": put("parse", (0, 0), 18),
    "lip-labels": lambda row: row.update(lip_parse=np.full_like(row["parse"], 20)),
    "keypoints-inside": put("pose", Joint.NOSE, (300, 10, 0.5)),
    "pose-on-mask": lambda row: row["person_mask"].__setitem__(slice(0, 100), 0),
    "pose-on-parse": far_from("parse"),
    "garment-mask": invert("garment_mask"),
    "person-mask": invert("person_mask"),
    "mask-parse": lambda row: row["person_mask"].__setitem__(slice(0, 80), 0),
    "garment-worn": no_garment,
    "agnostic-covers": uncover,
    "agnostic-face": cover_all,
    "agnostic-outside": change_outside,
    "agnostic-inside": change_inside,
    "dense-parts": put("dense", (60, 48, 0), 25),
    "dense-on-mask": lambda row: row["dense"].__setitem__((slice(None), slice(None), 0), 3),
    "flow-finite": undefined_flow,
    "flow-lands": lambda row: row["true_flow"].__iadd__(40),
    "masks-nested": lambda row: row["true_amodal_mask"].__imul__(0),
}


def test_clean_data_passes_every_check(clean: str) -> None:
    result = look(clean)
    assert result.ok, failed(result)
    names = {check.name for check in result.checks}
    assert names == {*FILE_CHECKS, SIZES, TEXT, *(check.name for check in CHECKS)} - {"lip-labels", "splits"}
    assert result.rows == 5
    by_name = {check.name: check.checked for check in result.checks}
    assert by_name["agnostic-covers"] == 5
    assert by_name["ids-unique"] == 5
    assert by_name["quarantine"] == 2


def test_annotated_simulator_data_passes(small_data: str) -> None:
    result = look(small_data)
    assert result.ok, failed(result)
    assert result.rows > 30


def test_every_check_has_a_fault() -> None:
    assert set(FAULTS) == {SIZES, TEXT, *(check.name for check in CHECKS)}


@pytest.mark.parametrize("name", FAULTS)
def test_planted_fault_is_found(name: str, tmp_path: Path) -> None:
    uri = str(tmp_path / "data")
    write_clean(uri, FAULTS[name])
    result = look(uri)
    assert not result.ok
    check = failed(result)[name]
    assert check.failed == 1
    assert check.first[0].where == SPOILED
    assert len(check.first[0].what) > 10


def test_wrong_hash_digits_and_json_are_told_apart(tmp_path: Path) -> None:
    uri = str(tmp_path / "data")
    write_clean(uri, set_to(person_hash="xyz"))
    assert "96 hex digits" in failed(look(uri))[TEXT].first[0].what


def test_missing_layers_are_no_fault(tmp_path: Path) -> None:
    rows = clean_rows()
    for name in ("garment", "garment_mask", "pose", "dense", "true_flow", "split"):
        rows[1][name] = None
    uri = str(tmp_path / "data")
    write_rows(uri, rows)
    result = look(uri)
    assert result.ok, failed(result)
    assert {check.name: check.checked for check in result.checks}["flow-finite"] == 4


def test_missing_shard(copy: str) -> None:
    os.remove(shard_uri(copy, 1))
    found = failed(look(copy))
    assert found["shards-present"].first[0].where == "shard-00001.parquet"
    assert {"counts", "content-hash"} <= set(found)


@pytest.mark.parametrize("folder", ["", "_quarantine"])
def test_extra_file(copy: str, folder: str) -> None:
    name = Path(folder) / "shard-00009.parquet"
    shutil.copy(shard_uri(copy, 0), Path(copy) / name)
    found = failed(look(copy))
    assert set(found) == {"shards-present"}
    assert found["shards-present"].first[0].where == str(name)


def test_truncated_shard(copy: str) -> None:
    path = Path(shard_uri(copy, 0))
    path.write_bytes(path.read_bytes()[:-1000])
    found = failed(look(copy))
    assert found["shards-readable"].first[0].where == "shard-00000.parquet"


def test_damaged_bytes_in_the_middle(copy: str) -> None:
    path = Path(shard_uri(copy, 0))
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 400] = b"\x55" * 400
    path.write_bytes(bytes(data))
    assert set(failed(look(copy))) & {"shards-readable", "decodes", "content-hash"}


def rewrite(uri: str, change: Callable[[dict[str, list[object]]], object]) -> None:
    """Changes a shard's values behind the back of its report."""
    table = pq.read_table(uri)
    columns = table.to_pydict()
    change(columns)
    pq.write_table(pa.table(columns, schema=table.schema), uri)


def test_changed_value_breaks_the_hash(copy: str) -> None:
    rewrite(shard_uri(copy, 0), lambda columns: columns["category"].__setitem__(0, "dress"))
    found = failed(look(copy))
    assert found["content-hash"].failed == 2  # the shard's and the manifest's
    assert found["content-hash"].first[0].where == "_manifest.json"


def test_lost_row(copy: str) -> None:
    rewrite(shard_uri(copy, 0), lambda columns: [column.pop() for column in columns.values()])
    assert failed(look(copy))["counts"].failed == 2


def test_image_that_is_none(copy: str) -> None:
    rewrite(shard_uri(copy, 0), lambda columns: columns["parse"].__setitem__(1, b"no image"))
    assert failed(look(copy))["decodes"].first[0].what.startswith("parse cannot be decoded")


def test_column_that_is_missing(copy: str) -> None:
    path = shard_uri(copy, 0)
    table = pq.read_table(path)
    pq.write_table(table.drop_columns(["parse"]), path)
    assert "manifest says" in failed(look(copy))["shards-readable"].first[0].what


def test_ids_are_unique_across_shards(tmp_path: Path) -> None:
    rows = clean_rows()
    rows[4]["id"] = rows[0]["id"]
    uri = str(tmp_path / "data")
    write_rows(uri, rows)
    check = failed(look(uri))["ids-unique"]
    assert check.first[0].where == rows[0]["id"]
    assert "shards 0, 1" in check.first[0].what


def test_row_without_id(tmp_path: Path) -> None:
    rows = clean_rows()
    rows[3]["id"] = ""
    uri = str(tmp_path / "data")
    write_rows(uri, rows)
    assert "without an id" in failed(look(uri))["ids-unique"].first[0].what


def test_manifest_that_counts_wrong(copy: str) -> None:
    path = Path(copy) / MANIFEST
    told = json.loads(path.read_text())
    told["rows"] += 1
    path.write_text(json.dumps(told))
    check = failed(look(copy))["counts"]
    assert "rows is 6, the shards add up to 5" in check.first[0].what


def test_quarantine_without_reason(copy: str) -> None:
    rewrite(quarantine_uri(copy, 1), lambda columns: columns["error"].__setitem__(0, ""))
    assert "no reason" in failed(look(copy))["quarantine"].first[0].what


def test_quarantine_that_is_gone(copy: str) -> None:
    os.remove(quarantine_uri(copy, 1))
    assert "missing" in failed(look(copy))["quarantine"].first[0].what


def test_splits_of_these_shards_and_of_others(copy: str, tmp_path: Path) -> None:
    split_data(copy, num_actors=0)
    result = look(copy)
    assert result.ok, failed(result)
    assert {check.name: check.checked for check in result.checks}["splits"] == 3
    os.remove(Path(copy) / "_splits" / "shard-00000.parquet")
    assert failed(look(copy))["splits"].first[0].where == "shard-00000.parquet"
    rows = clean_rows()
    rows[4]["id"] = "another"
    write_rows(copy, rows)
    found = failed(look(copy))["splits"]
    assert found.failed == 3
    assert found.first[0].where == "_splits/_manifest.json"


def test_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        look(str(tmp_path / "none"))


@pytest.mark.ray
def test_actors_find_the_same(copy: str, ray_local: None) -> None:
    rewrite(shard_uri(copy, 0), lambda columns: columns["category"].__setitem__(0, "hat"))
    assert validate(copy, num_actors=2) == look(copy)
