"""`tryon bench pipeline` and `tryon bench compare`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.test_cli import run_main
from tryon.models.bundle import read_manifest
from tryon.serving.bench.catalogue import MODES, many_pairs
from tryon.serving.bench.stages import copy_speed, network_macs, peak_flops

Capture = pytest.CaptureFixture[str]
STAGES = {
    "decode_person", "decode_garment", "fit_person", "fit_garment", "pose", "parse", "garment_mask", "agnostic", "warp",
    "synthesize", "refine", "preserve", "paste", "encode",
}  # fmt: skip


def run(monkeypatch: pytest.MonkeyPatch, bundle: str, out: Path, *options: str) -> None:
    told = ("--sizes", "256x192", "--batches", "1,2", "--repeats", "2", *options)
    assert not run_main(monkeypatch, "bench", "pipeline", "--bundle", bundle, *told, "--out", str(out))


def test_each_stage_is_timed_beside_its_floor(
    small_bundle: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    run(monkeypatch, small_bundle, tmp_path / "a.json")
    text = capsys.readouterr().out
    assert "256x192, 2 at a time: " in text
    assert "GFLOP/s" in text
    found = json.loads((tmp_path / "a.json").read_text())
    for batch in (1, 2):
        rows = {row["stage"]: row for row in found["rows"] if row["batch"] == batch}
        assert set(rows) == {*STAGES, "all"}
        for row in rows.values():
            assert 0 < row["least_s"] <= row["median_s"] <= row["most_s"]
            assert row["floor_s"] is not None
        assert 0 < rows["warp"]["floor_s"] < rows["warp"]["median_s"]
        parts = sum(row["median_s"] for stage, row in rows.items() if stage != "all")
        assert parts == pytest.approx(rows["all"]["median_s"], rel=0.5)
    assert found["peak_memory_mb"] > 100


def test_the_machines_speeds_are_measured() -> None:
    assert peak_flops(3) > 1e9
    assert copy_speed(3) > 1e8


def test_networks_are_counted_at_their_own_size(small_bundle: str) -> None:
    macs = network_macs(small_bundle)
    assert set(macs) == {"warp", "synthesize", "refine"}
    parameters = read_manifest(small_bundle).networks["refinement"].num_parameters
    assert macs["refine"] is not None
    assert macs["refine"] > parameters


def test_two_results_are_held_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    row = {"size": [512, 384], "batch": 1, "stage": "warp", "median_s": 0.05}
    leg = {"kind": "fused", "clients": 8, "repeat": 0, "p50_s": 2.0, "p95_s": 3.0, "per_s": 4.0}
    figure = {"name": "fused p50 / pipeline p50", "value": 1.1}
    a, b = tmp_path / "a.json", tmp_path / "b.json"
    a.write_text(json.dumps({"rows": [row], "legs": [leg, {**leg, "p50_s": 4.0}], "figures": [figure]}))
    b.write_text(json.dumps({"rows": [{**row, "median_s": 0.025}], "legs": [leg], "figures": []}))
    assert not run_main(monkeypatch, "bench", "compare", str(a), str(b))
    lines = capsys.readouterr().out.splitlines()
    (warp,) = (line for line in lines if "warp, ms" in line)
    assert ("50" in warp, "25" in warp, "0.500" in warp) == (True, True, True)
    (p50,) = (line for line in lines if "8 at once, p50 s" in line)
    assert "0.667" in p50  # of the median 3
    assert not any("pipeline p50" in line for line in lines)


@pytest.mark.parametrize("text", ["{", "[1]", '{"legs": [{}]}'])
def test_a_file_that_is_no_result_is_named(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    good.write_text('{"figures": [{"name": "x", "value": 1}]}')
    bad.write_text(text)
    assert run_main(monkeypatch, "bench", "compare", str(good), str(bad)) == 2
    assert "bad.json" in capsys.readouterr().err
    bad.write_text('{"figures": [{"name": "y", "value": 1}]}')
    assert run_main(monkeypatch, "bench", "compare", str(good), str(bad)) == 2
    assert "no figure in common" in capsys.readouterr().err


def test_a_catalogue_is_timed_beside_strangers(
    small_bundle: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    out = tmp_path / "a.json"
    told = ("--size", "256x192", "--num", "6", "--batch", "3", "--repeats", "2", "--out", str(out))
    assert not run_main(monkeypatch, "bench", "catalogue", "--bundle", small_bundle, *told)
    assert "one person / strangers" in capsys.readouterr().out
    found = json.loads(out.read_text())
    assert set(found["per_s"]) == set(MODES)
    assert all(len(values) == 2 and min(values) > 0 for values in found["per_s"].values())
    one_person, one_garment = (figure["value"] for figure in found["figures"])
    assert one_person > one_garment > 0.8, "a person costs more to look at than a garment"
    assert not run_main(monkeypatch, "bench", "compare", str(out), str(out))
    assert "one garment, try-ons/s" in capsys.readouterr().out


def test_no_pair_of_a_catalogue_is_anothers() -> None:
    pairs = many_pairs(20, (256, 192))
    assert len({pair.person for pair in pairs} | {pair.garment for pair in pairs}) == 40


def test_annotation_is_timed_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    told = ("--sizes", "256x192", "--batches", "2", "--repeats", "2", "--out", str(tmp_path / "a.json"))
    assert not run_main(monkeypatch, "bench", "annotate", *told)
    assert "256x192, 2 at a time: " in capsys.readouterr().out
    rows = {row["stage"]: row for row in json.loads((tmp_path / "a.json").read_text())["rows"]}
    assert {"pose", "parse", "garment_mask", "agnostic", "all"} <= set(rows)
    assert "warp" not in rows
    assert all(0 < row["least_s"] <= row["median_s"] for row in rows.values())
