"""Rows streamed from Parquet files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.data.assets import clean_rows, write_clean
from tryon.data.rows import iter_decoded, iter_rows, open_parquet
from tryon.data.shards import shard_uri
from tryon.errors import DataError, StorageError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_clean(str(tmp_path))
    return Path(shard_uri(str(tmp_path), 0))


def test_rows_come_in_order_with_the_columns_asked_for(path: Path) -> None:
    rows = list(iter_rows(str(path), ("category", "id", "nothing")))
    assert [row["id"] for row in rows] == [row["id"] for row in clean_rows()[:3]]
    assert set(rows[0]) == {"id", "category"}
    assert list(iter_rows(str(path), ("nothing",))) == [{}] * 3


def test_decoded_rows_are_what_was_written(path: Path) -> None:
    for row, written in zip(iter_decoded(str(path)), clean_rows(), strict=False):
        for name in ("person", "parse", "pose", "agnostic_mask", "dense"):
            np.testing.assert_array_equal(row[name], written[name])


@pytest.mark.parametrize("cut", [0, 3, 5000])
def test_files_that_are_no_parquet(path: Path, cut: int) -> None:
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(DataError, match="is damaged") as caught:
        list(iter_rows(str(path)))
    assert caught.value.code == "shard-corrupt"


def test_faults_inside_the_block_keep_their_name(path: Path) -> None:
    with pytest.raises(ZeroDivisionError), open_parquet(str(path)):
        _ = 1 / 0
    with pytest.raises(StorageError, match="nowhere"):
        list(iter_rows(str(path.parent / "nowhere")))
