"""`tryon bench scale`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from tests.test_bad_input_cli import one_sentence
from tests.test_cli import run_main
from tryon.models.bundle import copy_bundle
from tryon.serving.bench.scale import Cost, ScaleBenchConfig, Thumbnails, figures_of


def test_rows_are_all_different() -> None:
    source = Thumbnails(250, (96, 72))
    rows = [row for task in source.tasks() for row in source.read(task)]
    assert len(rows) == 250
    for name in ("id", "person_file", "garment_file"):
        assert len({row[name] for row in rows}) == 250


def test_figures_are_of_the_largest_and_the_smallest() -> None:
    def cost(rows: int, ms: float, memory: float) -> Cost:
        return Cost(work="tryon", rows=rows, ms_a_row=ms, seconds=1, memory_mb=memory)

    flat, grown = figures_of([cost(1000, 10, 500), cost(10_000, 99, 1), cost(100_000, 10.5, 800)])
    assert flat.passed
    assert "100000 rows / 1000" in flat.name
    assert not grown.passed
    assert grown.value == 1.6


@pytest.mark.parametrize(
    "told", [{"rows": (1000, 100)}, {"rows": (10, 1000)}, {"rows": (300, 300)}, {"works": ("train",)}]
)
def test_what_cannot_be_measured_is_refused(told: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=r"must rise|train reads"):
        ScaleBenchConfig.model_validate({"bundle": "b", **told})


def test_the_verb_refuses_in_a_sentence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_main(monkeypatch, "bench", "scale", "--rows", "1000,200") == 2
    one_sentence(capsys.readouterr().err, "rows", "rise")


def test_each_work_is_measured_on_each_data_set(
    small_bundle: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    bundle, out = tmp_path / "bundle", tmp_path / "a.json"
    copy_bundle(small_bundle, str(bundle))
    manifest = bundle / "bundle.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "working_size": [96, 72]}))
    told = ("--rows", "40,80", "--size", "96x72", "--actors", "0", "--bundle", str(bundle), "--out", str(out))
    assert not run_main(monkeypatch, "bench", "scale", *told)
    assert "train, 80 rows" in capsys.readouterr().out
    found = json.loads(out.read_text())
    assert [(cost["work"], cost["rows"]) for cost in found["costs"]] == [
        (work, rows) for rows in (40, 80) for work in ("annotate", "train", "tryon")
    ]
    assert all(cost["ms_a_row"] > 0 and cost["memory_mb"] > 100 for cost in found["costs"])
    assert len(found["figures"]) == 6
