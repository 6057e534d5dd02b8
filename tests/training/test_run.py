"""A run is checked before its first step, and done only once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.s3 import denying_bucket
from tryon.data.shards import MANIFEST
from tryon.errors import BundleError, ConfigError, DataError, StorageError
from tryon.models.bundle import copy_bundle, load_bundle
from tryon.sample import SCHEMA_VERSION
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
        ({"stepz": 3}, "unknown key 'stepz'; did you mean 'steps'?"),
        ({"colour": "red"}, "unknown key 'colour'; known: recipe, size, .*num_workers"),
        ({"options": {"beta": 1}}, "options of GmmRecipe: unknown key 'beta'; known: none"),
        ({"steps": 0}, "steps = 0 is not allowed: input should be greater than or equal to 1"),
        ({"learning_rate": 2}, "learning_rate = 2 is not allowed: input should be less than or equal to 1"),
        ({"steps": "many"}, "steps = 'many' is not allowed: input should be a valid integer"),
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


def test_an_empty_data_set_and_one_of_another_version_are_refused(small_data: str, tmp_path: Path) -> None:
    def altered(name: str, **changes: Any) -> str:
        folder = tmp_path / name
        folder.mkdir()
        told = {**json.loads(Path(small_data, MANIFEST).read_text()), **changes}
        (folder / MANIFEST).write_text(json.dumps(told))
        return str(folder)

    empty = altered("empty", rows=0, num_shards=0, rows_in=3, quarantined=3)
    with pytest.raises(DataError, match=r"data set '.*empty' has no rows \(3 quarantined\)") as caught:
        checked(empty, tmp_path / "bundle")
    assert caught.value.code == "data-empty"
    later = altered("later", schema_version=SCHEMA_VERSION + 1)
    with pytest.raises(DataError, match=f"schema version {SCHEMA_VERSION + 1}; this release reads {SCHEMA_VERSION}"):
        checked(later, tmp_path / "bundle")
    assert not (tmp_path / "bundle-runs").exists()


def test_a_bundle_without_the_network_that_is_built_on_is_refused(
    small_data: str, small_bundle: str, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    copy_bundle(small_bundle, str(other))
    told = json.loads((other / "bundle.json").read_text())
    del told["networks"]["warp"]
    (other / "bundle.json").write_text(json.dumps(told))
    options = {**OPTIONS, "network": {"width": 8}}
    with pytest.raises(BundleError, match=r"other'? has no warp network.*synthesis"):
        check_run("tom", small_data, str(tmp_path / "bundle"), options, str(other))
    with pytest.raises(BundleError, match=r"nowhere"):
        check_run("tom", small_data, str(tmp_path / "bundle"), options, str(tmp_path / "nowhere"))


def test_an_output_that_cannot_be_written_is_refused(small_data: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match=r"file/bundle-runs cannot be written: .*/file is a file") as caught:
        checked(small_data, tmp_path / "file" / "bundle")
    assert caught.value.code == "uri-unwritable"
    with pytest.raises(StorageError, match=r"/proc/bundle-runs cannot be written"):
        checked(small_data, Path("/proc/bundle"))
    with denying_bucket("closed") as uri, pytest.raises(StorageError, match=r"bundle.* cannot be (read|written)"):
        check_run("gmm", small_data, f"{uri}/bundle", OPTIONS)


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
