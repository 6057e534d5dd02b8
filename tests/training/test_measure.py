"""Measuring a bundle's network: every row, by category, as in training."""

from __future__ import annotations

import json

import pytest

from tests.test_cli import run_main
from tryon.data.ingest import LocalBatches
from tryon.data.shards import read_manifest
from tryon.errors import BundleError, DataError
from tryon.models.bundle import load_bundle
from tryon.training.measure import measure
from tryon.training.recipes.gmm import GmmRecipe

SIZE = (128, 96)


def test_the_figures_are_the_recipes_own(small_data: str, small_bundle: str) -> None:
    seen: list[tuple[int, int]] = []
    result = measure(small_bundle, "warp", small_data, lambda done, total: seen.append((done, total)))
    rows = read_manifest(small_data).rows
    assert result.recipe == "gmm"
    assert result.rows == {"all": rows, "upper": rows}
    assert seen[-1] == (rows, rows)
    recipe = GmmRecipe({"width": 8}, SIZE, None)
    columns = ("id", *GmmRecipe.reads, *GmmRecipe.optional)
    (batch,) = LocalBatches(small_data, read_manifest(small_data), columns, SIZE, 0.0)("train", rows, None)
    _, figures = recipe.evaluate(load_bundle(small_bundle).network("warp")[0], recipe.prepare(batch))
    for name, values in figures.items():
        assert result.means["all"][name] == pytest.approx(float(values.mean()), rel=1e-4)
        assert result.means["upper"][name] == result.means["all"][name]


@pytest.mark.parametrize(("role", "figure"), [("synthesis", "val_psnr"), ("refinement", "val_psnr_before")])
def test_frozen_networks_come_from_the_bundle(small_data: str, small_bundle: str, role: str, figure: str) -> None:
    assert measure(small_bundle, role, small_data).means["all"][figure] > 5  # type: ignore[arg-type]


def test_what_is_not_there_is_named(small_data: str, small_bundle: str) -> None:
    with pytest.raises(BundleError, match="no parsing network"):
        measure(small_bundle, "parsing", small_data)
    with pytest.raises(DataError, match="nowhere"):
        measure(small_bundle, "warp", "/nowhere")


def test_the_verb_prints_a_table_or_json(
    small_data: str, small_bundle: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_main(monkeypatch, "measure", "warp", "--data", small_data, "--bundle", small_bundle, "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["means"] == measure(small_bundle, "warp", small_data).means
    assert run_main(monkeypatch, "measure", "warp", "--data", small_data, "--bundle", small_bundle) == 0
    assert "flow_epe_px" in capsys.readouterr().out
    assert run_main(monkeypatch, "measure", "hats", "--data", small_data, "--bundle", small_bundle) == 2
    assert "'hats' is not one of warp" in capsys.readouterr().err
