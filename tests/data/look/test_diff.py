"""Diff: every difference between two data sets is told, and nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.data.assets import clean_rows, write_rows
from tryon.data.look import diff as module
from tryon.data.look.diff import diff
from tryon.data.look.measure import mean_iou
from tryon.errors import DataError
from tryon.sample import Label


@pytest.fixture
def a(tmp_path: Path) -> str:
    uri = str(tmp_path / "a")
    write_rows(uri, clean_rows(), config={"size": [128, 96], "parser": {"name": "geometric"}})
    return uri


def test_the_same_rows_in_another_order_and_other_shards(a: str, tmp_path: Path) -> None:
    b = str(tmp_path / "b")
    write_rows(b, clean_rows()[::-1], per_shard=2, config={"size": [128, 96], "parser": {"name": "geometric"}})
    found = diff(a, b, num_actors=0)
    assert found.equal
    assert (found.same, found.added, found.removed, found.changed) == (5, 0, 0, 0)
    assert found.told == {}
    assert found.layers == {}


def test_rows_fields_and_layers(a: str, tmp_path: Path) -> None:
    rows = clean_rows()
    gone = rows.pop(0)["id"]
    rows[0]["parse"][rows[0]["parse"] == Label.HAIR] = 0
    rows[0]["person"] = rows[0]["person"] // 2 * 2
    rows[1]["pose"][:, 0] += 3
    rows[2]["agnostic_mask"] = None
    rows[3]["category"] = "dress"
    rows.append(rows[3] | {"id": "new"})
    for row in rows:
        row["split"] = None
        del row["true_amodal_mask"]
    b = str(tmp_path / "b")
    write_rows(b, rows, config={"size": [128, 96], "parser": {"name": "schp"}})
    found = diff(a, b, num_actors=0)
    assert not found.equal
    assert (found.same, found.added, found.removed, found.changed) == (0, 1, 1, 4)
    assert found.first["added"] == ("new",)
    assert found.first["removed"] == (gone,)
    assert found.fields_removed == ("true_amodal_mask",)
    assert found.fields_changed == {
        "category": 1, "person": 1, "pose": 1, "parse": 1, "agnostic_mask": 1, "split": 4,
    }  # fmt: skip
    assert found.told == {"config.parser.name": ("geometric", "schp")}
    assert found.measured == 4
    assert found.layers["pose"].mean == pytest.approx(3.0)
    assert found.layers["parse"].rows == 1
    assert 0 < found.layers["parse"].worst < 1
    assert 0.2 < found.layers["person"].mean < 0.8  # the lowest bit is 1 in about half of the values
    assert (found.layers["agnostic_mask"].rows, found.layers["agnostic_mask"].incomparable) == (0, 1)
    assert "split" not in found.layers


def test_more_changed_rows_than_are_measured(a: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = clean_rows()
    for row in rows:
        row["pose"][:, 1] += 1
    b = str(tmp_path / "b")
    write_rows(b, rows)
    monkeypatch.setattr(module, "MEASURED", 2)
    found = diff(a, b, num_actors=0)
    assert (found.changed, found.measured, found.layers["pose"].rows) == (5, 2, 2)
    assert found.told["config.size"] == ([128, 96], None)


def test_an_id_that_occurs_twice(a: str, tmp_path: Path) -> None:
    rows = clean_rows()
    b = str(tmp_path / "b")
    write_rows(b, [*rows, rows[0]])
    with pytest.raises(DataError, match="2 rows of the id"):
        diff(a, b, num_actors=0)


def test_iou_of_labels() -> None:
    a = np.array([[0, 1, 1, 2]], np.uint8)
    b = np.array([[0, 1, 2, 2]], np.uint8)
    assert mean_iou(a, b) == pytest.approx(0.5)
    assert mean_iou(a, a) == 1
    assert mean_iou(a * 0, a * 0) == 1
    assert mean_iou(a, a * 0) == 0


@pytest.mark.ray
def test_actors_find_the_same(a: str, tmp_path: Path, ray_local: None) -> None:
    rows = clean_rows()
    for row in rows[1:]:
        row["parse"] = np.roll(row["parse"], 2, axis=1)
    b = str(tmp_path / "b")
    write_rows(b, rows)
    assert diff(a, b, num_actors=2) == diff(a, b, num_actors=0)
