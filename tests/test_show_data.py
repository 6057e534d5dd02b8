"""What the data verbs print: tables that tell the faults, JSON that is nothing but JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.data.assets import clean_rows, write_clean, write_rows
from tests.s3 import s3_bucket
from tryon import storage
from tryon.data.look.info import info
from tryon.show_data import diff_shown, export_shown, info_shown, report_shown, validate_shown

Out = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tryon.console.console._width", 220)


@pytest.fixture
def clean(tmp_path: Path) -> str:
    uri = str(tmp_path / "clean")
    write_clean(uri)
    return uri


@pytest.fixture
def spoilt(tmp_path: Path) -> str:
    uri = str(tmp_path / "spoilt")
    rows = clean_rows()
    rows[1] |= {"id": "[bold]x[/bold]", "category": "hat"}
    write_rows(uri, rows)
    return uri


def test_info(clean: str, capsys: Out) -> None:
    info_shown(clean)
    told = capsys.readouterr().out
    for text in ("6 in = 5 kept + 1 set aside", "image-truncated 1", "128x96 2", "true_flow", "CC0-1.0", "train 4"):
        assert text in told, text
    info_shown(clean, as_json=True)
    assert json.loads(capsys.readouterr().out)["rows"] == 5


def test_validate(clean: str, spoilt: str, capsys: Out) -> None:
    assert validate_shown(clean, num_actors=0).ok
    assert "all passed" in capsys.readouterr().out
    assert not validate_shown(spoilt, num_actors=0).ok
    told = capsys.readouterr().out
    assert "failed: category-known" in told
    assert "[bold]x[/bold]: category 'hat'" in told
    validate_shown(spoilt, as_json=True, num_actors=0)
    told = json.loads(capsys.readouterr().out)
    assert told["ok"] is False
    assert [check["failed"] for check in told["checks"] if check["name"] == "category-known"] == [1]


def test_report(clean: str, tmp_path: Path, capsys: Out) -> None:
    report_shown(clean, str(tmp_path / "r.html"), num_actors=0)
    assert "5 samples, 1 set aside" in capsys.readouterr().out
    assert (tmp_path / "r.html").stat().st_size > 10_000


def test_export(clean: str, tmp_path: Path, capsys: Out) -> None:
    export_shown(clean, str(tmp_path / "out"), num_actors=0)
    told = capsys.readouterr().out
    assert "5 rows = 5 written + 0 left out (train 4, test 1)" in told
    assert "5 x not 768x1024 px" in told


def test_diff(clean: str, spoilt: str, tmp_path: Path, capsys: Out) -> None:
    assert diff_shown(clean, clean, num_actors=0).equal
    assert "the samples are the same" in capsys.readouterr().out
    rows = clean_rows()
    rows[0]["pose"][:, 0] += 2
    moved = str(tmp_path / "moved")
    write_rows(moved, rows, config={"a": {"b": 1}})
    assert not diff_shown(clean, moved, num_actors=0).equal
    told = capsys.readouterr().out
    assert "mean distance, px" in told
    assert "config.a.b" in told
    diff_shown(clean, spoilt, as_json=True, num_actors=0)
    told = json.loads(capsys.readouterr().out)
    assert told["equal"] is False
    assert told["first"]["added"] == ["[bold]x[/bold]"]


def test_all_of_it_on_s3(clean: str, tmp_path: Path) -> None:
    with s3_bucket("data") as bucket:
        uri = f"{bucket}/set"
        write_clean(uri)
        here, there = info(clean, num_actors=0), info(uri, num_actors=0)
        assert here.model_copy(update={"uri": uri}) == there
        assert validate_shown(uri, num_actors=0).ok
        assert diff_shown(clean, uri, num_actors=0).equal
        report_shown(uri, f"{bucket}/r.html", num_actors=0)
        assert storage.read_bytes(f"{bucket}/r.html").startswith(b"<!doctype html>")
        export_shown(uri, f"{bucket}/out", num_actors=0)
        assert storage.read_bytes(f"{bucket}/out/test_pairs.txt") == b"sim-3-00000000.jpg sim-3-00000000.jpg\n"
