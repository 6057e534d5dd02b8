"""A run is checked before its first step, and done only once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tryon.errors import BundleError, ConfigError, DataError
from tryon.models.bundle import load_bundle
from tryon.training.run import RunSpec, check_run, finished, run

OPTIONS: dict[str, Any] = {
    "size": (64, 48), "steps": 2, "batch_size": 4, "num_workers": 0, "network": {"width": 4}, "val_fraction": 0.2,
}  # fmt: skip


def checked(data: str, out: Path, recipe: str = "gmm", **changes: Any) -> RunSpec:
    return check_run(recipe, data, str(out), {**OPTIONS, **changes})


def test_unknown_recipes_are_answered_with_the_nearest(small_data: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"unknown recipe 'gmn'.*did you mean 'gmm'") as caught:
        checked(small_data, tmp_path, "gmn")
    assert caught.value.code == "recipe-unknown"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"stepz": 3}, "unknown key 'stepz'"),
        ({"steps": 0}, "steps = 0 is not allowed"),
        ({"size": (64, 50)}, r"size = \(64, 50\).*multiples of 16"),
        ({"size": (16, 16)}, "not allowed"),
        ({"network": {"depth": 3}}, "network 'gmm': unknown key 'depth'"),
        ({"network": {"width": 1}}, "width = 1 is not allowed"),
    ],
)
def test_config_faults_are_named(small_data: str, tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        checked(small_data, tmp_path, **changes)
    assert not list(tmp_path.iterdir())


def test_a_recipe_that_builds_on_another_network_says_so(small_data: str, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="builds on a trained warp network"):
        checked(small_data, tmp_path, "tom", network={"width": 8})


def test_data_faults_are_named(small_data: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere.*does not exist"):
        checked(str(tmp_path / "nowhere"), tmp_path)
    raw = small_data.replace("annotated", "raw")
    with pytest.raises(DataError, match=r"lacks agnostic, agnostic_mask; `tryon data annotate") as caught:
        checked(raw, tmp_path)
    assert caught.value.code == "data-fields"


def test_a_run_is_finished_until_something_that_decides_it_changes(small_data: str, tmp_path: Path) -> None:
    spec = checked(small_data, tmp_path / "bundle")
    assert finished(spec) is None
    lines: list[Any] = []
    entry = run(spec, lines.append)
    assert [line["step"] for line in lines] == [2]
    assert entry.size == (64, 48)
    assert {"val_mask_iou", "val_l1"} <= set(entry.metrics)
    assert load_bundle(spec.out).network("warp")[1] == (64, 48)
    assert finished(checked(small_data, tmp_path / "bundle")) == entry
    assert finished(checked(small_data, tmp_path / "bundle", report_every=1)) == entry
    for changes in ({"steps": 3}, {"seed": 1}, {"network": {"width": 8}}, {"size": (80, 48)}):
        assert finished(checked(small_data, tmp_path / "bundle", **changes)) is None


def test_the_same_run_gives_the_same_weights(small_data: str, tmp_path: Path) -> None:
    entries = [run(checked(small_data, tmp_path / name), lambda _: None) for name in ("a", "b")]
    assert entries[0].sha256 == entries[1].sha256


def test_frozen_networks_come_along_into_a_new_bundle(small_data: str, small_bundle: str, tmp_path: Path) -> None:
    options = {**OPTIONS, "steps": 1, "network": {"width": 8}}
    spec = check_run("tom", small_data, str(tmp_path / "bundle"), options, small_bundle)
    run(spec, lambda _: None)
    start, made = load_bundle(small_bundle).manifest, load_bundle(str(tmp_path / "bundle")).manifest
    assert made.networks["warp"] == start.networks["warp"]
    assert made.networks["synthesis"].training["frozen"] == {"warp": start.networks["warp"].sha256}
    assert made.networks["synthesis"].sha256 != start.networks["synthesis"].sha256
    assert made.data_licence == "Apache-2.0"
