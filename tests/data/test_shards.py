"""Shards: every row is accounted for, a run can be killed and continued, and bytes decide what is the same."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from tryon.data.job import run_job
from tryon.data.shards import Manifest, read_manifest, read_shard, resize_row, shard_uris, write_shard
from tryon.data.simulator import simulate
from tryon.data.synth import SynthConfig, synth_job
from tryon.engines.dataset import ShardReport
from tryon.errors import DataError
from tryon.sample import SCHEMA_VERSION


def synth(out: Path, num: int = 40, seed: int = 1) -> tuple[Manifest, list[ShardReport]]:
    reports: list[ShardReport] = []
    job = synth_job(SynthConfig(num=num, size=(64, 48), seed=seed))
    manifest = run_job(job, str(out), num_actors=0, on_report=lambda report, _: reports.append(report))
    return manifest, reports


def files(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(out.glob("*.parquet"))}


@pytest.fixture
def data(tmp_path: Path, made: Path) -> Path:
    """A copy of a data set of 40 rows in two shards."""
    out = tmp_path / "data"
    out.mkdir()
    for path in made.iterdir():
        (out / path.name).write_bytes(path.read_bytes())
    return out


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("made") / "data"
    synth(out)
    return out


def test_manifest_says_what_is_there(made: Path) -> None:
    manifest = read_manifest(str(made))
    assert (manifest.rows_in, manifest.rows, manifest.quarantined, manifest.num_shards) == (40, 40, 0, 2)
    assert manifest.licence == "Apache-2.0"
    assert {**manifest.config["simulator"], "simulator": None} == {"size": [64, 48], "seed": 1, "simulator": None}
    assert manifest.config["simulator"]["simulator"]["categories"] == ["upper", "lower", "dress"]
    shards = [read_shard(uri) for uri in shard_uris(str(made), manifest)]
    assert [len(shard["id"]) for shard in shards] == [32, 8]
    assert tuple(shards[0]) == manifest.fields


def test_rows_come_back_as_they_were_drawn(made: Path) -> None:
    batch = read_shard(f"{made}/shard-00001.parquet")
    drawn = simulate(1, 33, 64, 48)
    for name, value in drawn.items():
        again = batch[name][1]
        if name == "true_flow":
            assert np.array_equal(np.isnan(again), np.isnan(value))
            assert np.nanmax(np.abs(again - value)) <= 1 / 128
        elif isinstance(value, np.ndarray):
            assert np.array_equal(again, value), name
        else:
            assert again == value


def test_columns_can_be_chosen(made: Path) -> None:
    assert list(read_shard(f"{made}/shard-00001.parquet", ("category", "id"))) == ["category", "id"]


def test_a_rerun_makes_only_what_is_missing_with_the_same_bytes(data: Path) -> None:
    before = files(data)
    (data / "shard-00001.parquet").unlink()
    (data / "_manifest.json").unlink()
    manifest, reports = synth(data)
    assert [report.reused for report in reports] == [True, False]
    assert files(data) == before
    assert manifest.rows == 40
    assert synth(data)[0] == manifest
    assert all(report.reused for report in synth(data)[1])


def test_a_longer_run_takes_over_full_shards_and_a_shorter_one_removes_the_rest(data: Path) -> None:
    before = files(data)
    manifest, reports = synth(data, num=64)
    assert [(report.reused, report.rows_out) for report in reports] == [(True, 32), (False, 32)]
    manifest, reports = synth(data, num=32)
    assert [report.reused for report in reports] == [True]
    assert files(data) == {"shard-00000.parquet": before["shard-00000.parquet"]}
    assert (manifest.rows, manifest.num_shards) == (32, 1)


def test_another_config_makes_every_shard_anew(data: Path) -> None:
    before = read_manifest(str(data)).sha256
    manifest, reports = synth(data, seed=2)
    assert [report.reused for report in reports] == [False, False]
    assert manifest.sha256 != before
    assert read_shard(f"{data}/shard-00000.parquet", ("id",))["id"][0] == "sim-2-00000000"


def test_rows_in_error_go_to_quarantine_with_their_reason(tmp_path: Path) -> None:
    rows = [simulate(1, i, 64, 48) for i in range(3)]
    batch = {name: [row[name] for row in rows] for name in rows[0]}
    batch |= {
        "error_code": [None, "no-person", None],
        "error": [None, "nobody", None],
        "error_stage": [None, "pose", None],
    }
    batch["person"][1] = None
    report = write_shard(str(tmp_path), 4, batch, ("id", "person"), "hash")
    assert (report.shard, report.rows_in, report.rows_out, report.quarantined) == (4, 3, 2, 1)
    assert read_shard(f"{tmp_path}/shard-00004.parquet")["id"] == [rows[0]["id"], rows[2]["id"]]
    bad = pq.read_table(tmp_path / "_quarantine" / "shard-00004.parquet").to_pylist()
    nothing = {"person_uri": None, "garment_uri": None, "quality": None}
    assert bad == [
        {"id": rows[1]["id"], **nothing, "error_code": "no-person", "error": "nobody", "error_stage": "pose"}
    ]
    again = write_shard(str(tmp_path / "again"), 4, batch, ("id", "person"), "hash")
    assert again == report


def test_a_shard_of_errors_only_is_an_empty_shard(tmp_path: Path) -> None:
    batch = {"id": ["a"], "person": [None], "error_code": ["x"], "error": ["y"], "error_stage": ["z"]}
    assert write_shard(str(tmp_path), 0, batch, ("id", "person"), "hash").rows_out == 0
    assert read_shard(f"{tmp_path}/shard-00000.parquet") == {"id": [], "person": []}


def rewrite(data: Path, **changes: object) -> None:
    path = data / "_manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_another_schema_version_is_refused(data: Path) -> None:
    rewrite(data, schema_version=SCHEMA_VERSION + 1)
    with pytest.raises(DataError, match=f"schema version {SCHEMA_VERSION + 1}.*reads {SCHEMA_VERSION}") as caught:
        read_manifest(str(data))
    assert caught.value.code == "data-schema"


def test_a_manifest_with_a_fault_is_named(data: Path) -> None:
    rewrite(data, rows=-1)
    with pytest.raises(DataError, match=r"_manifest\.json.*rows = -1 is not allowed") as caught:
        read_manifest(str(data))
    assert caught.value.code == "data-corrupt"
    (data / "_manifest.json").write_text("{")
    with pytest.raises(DataError, match=r"_manifest\.json"):
        read_manifest(str(data))


def test_what_is_no_data_set_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere.*does not exist"):
        read_manifest(str(tmp_path / "nowhere"))
    (tmp_path / "photo.jpg").touch()
    with pytest.raises(DataError, match="no annotated data set") as caught:
        read_manifest(str(tmp_path))
    assert caught.value.code == "data-missing"


def test_resizing_a_row_scales_keypoints_and_flow_with_it() -> None:
    row = simulate(1, 0, 64, 48)
    large = resize_row(row, (128, 144))
    assert large["person"].shape == (128, 144, 3)
    assert large["parse"].shape == (128, 144)
    assert set(np.unique(large["parse"])) <= set(np.unique(row["parse"]))
    assert set(np.unique(large["garment_mask"])) <= {0, 1}
    assert np.allclose(large["pose"], row["pose"] * (3, 2, 1))
    assert np.array_equal(large["true_flow"][::2, ::3], row["true_flow"] * np.float32([3, 2]), equal_nan=True)
    assert large["id"] == row["id"]


def test_resizing_keeps_what_is_missing_and_needs_an_image_for_keypoints() -> None:
    assert resize_row({"id": "a", "parse": None}, (64, 48)) == {"id": "a", "parse": None}
    with pytest.raises(DataError, match="no image layer"):
        resize_row({"pose": np.zeros((25, 3), np.float32)}, (64, 48))
