"""Records grouped by key on disk."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tryon.data import buckets as module
from tryon.data.buckets import Buckets


@pytest.mark.parametrize("a_bucket", [7, 1000])
def test_every_record_is_with_its_key_whatever_the_order(a_bucket: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RECORDS_A_BUCKET", a_bucket)
    records = [(f"k{i % 50}\n\u00e9", [i, "x"]) for i in range(200)]
    seen = []
    for order in (records, random.Random(0).sample(records, len(records))):
        with Buckets(len(records)) as spilled:
            for key, record in order:
                spilled.add(key, record)
            seen.append(list(spilled.groups()))
    assert seen[0] == seen[1]
    assert len(seen[0]) == 50
    assert dict(seen[0])["k7\n\u00e9"] == [[7, "x"], [57, "x"], [107, "x"], [157, "x"]]


def test_files_go_with_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with Buckets(10) as spilled:
        spilled.add("", 1)
        assert list(tmp_path.iterdir())
    assert not list(tmp_path.iterdir())


def test_nothing_in_it() -> None:
    with Buckets(0) as spilled:
        assert list(spilled.groups()) == []
