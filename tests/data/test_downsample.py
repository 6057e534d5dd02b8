"""Downsampling: as many samples as asked for, the same ones always, and layers that still fit at another size."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tryon.config import parse_config
from tryon.data.augment.fit import fit_row
from tryon.data.downsample import DownsampleConfig, _quotas, choose, downsample_job, hash_of
from tryon.data.job import run_job
from tryon.data.shards import Manifest, read_shard, shard_uris, write_shard
from tryon.data.simulator import simulate, warp_by_flow
from tryon.errors import ConfigError, DataError
from tryon.images import letterbox
from tryon.sample import FIELDS, SCHEMA_VERSION, Row
from tryon.stages.agnostic import Agnostic

CATEGORIES = ["upper"] * 6 + ["lower"] * 3 + ["dress"]


def data_set(folder: Path, shards: list[list[Row]], fields: tuple[str, ...]) -> str:
    """Writes rows as they are."""
    for number, rows in enumerate(shards):
        batch = {name: [row.get(name) for row in rows] for name in (*FIELDS,)}
        write_shard(str(folder), number, batch, fields, "hash")
    total = sum(map(len, shards))
    manifest = Manifest(
        schema_version=SCHEMA_VERSION, tryon_version="0", fields=fields, rows_in=total, rows=total, quarantined=0,
        num_shards=len(shards), licence="Apache-2.0", sha256="0" * 64,
    )  # fmt: skip
    (folder / "_manifest.json").write_text(manifest.model_dump_json())
    return str(folder)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> str:
    """1,200 rows of text in 40 shards of uneven length."""
    starts = [0, *np.cumsum([10, 50] * 20).tolist()]
    shards = [
        [{"id": f"row {i}", "category": CATEGORIES[i % 10]} for i in range(start, stop)]
        for start, stop in pairwise(starts)
    ]
    return data_set(tmp_path_factory.mktemp("many"), shards, ("id", "category"))


def run(data: str, out: Path, **values: Any) -> tuple[Manifest, list[str]]:
    manifest = run_job(downsample_job(data, DownsampleConfig.model_validate(values)), str(out), num_actors=0)
    return manifest, [row_id for uri in shard_uris(str(out), manifest) for row_id in read_shard(uri, ["id"])["id"]]


# Choice


def test_the_number_is_exact_in_order_and_in_full_shards(many: str, tmp_path: Path) -> None:
    manifest, ids = run(many, tmp_path, num=100)
    assert manifest.rows == len(ids) == len(set(ids)) == 100
    assert ids == sorted(ids, key=lambda text: int(text.split()[1]))
    assert [len(read_shard(uri, ["id"])["id"]) for uri in shard_uris(str(tmp_path), manifest)] == [32, 32, 32, 4]
    smallest = sorted((hash_of(f"row {i}", 0), f"row {i}") for i in range(1200))[:100]
    assert set(ids) == {row_id for _, row_id in smallest}


@pytest.mark.parametrize("stratify", ["none", "proportional", "equal"])
def test_a_larger_number_contains_a_smaller_one(many: str, tmp_path: Path, stratify: str) -> None:
    before: set[str] = set()
    for num in (1, 7, 40, 41, 333, 1199):
        _, ids = run(many, tmp_path / str(num), num=num, stratify=stratify)
        assert len(ids) == num
        assert before <= set(ids)
        before = set(ids)


def test_all_rows_pass_where_no_fewer_are_asked_for(many: str, tmp_path: Path) -> None:
    for values in ({}, {"num": 1200}, {"num": 5000}):
        assert run(many, tmp_path, **values)[1] == [f"row {i}" for i in range(1200)]


def test_another_seed_is_another_choice_and_another_layout_is_not(many: str, tmp_path: Path) -> None:
    first = run(many, tmp_path / "a", num=50)[1]
    assert len(set(first) & set(run(many, tmp_path / "b", num=50, seed=1)[1])) < 15
    rows = [{"id": f"row {i}", "category": "upper"} for i in reversed(range(1200))]
    (tmp_path / "c").mkdir()
    other = data_set(tmp_path / "c", [rows], ("id", "category"))
    assert set(run(other, tmp_path / "d", num=50)[1]) == set(first)


def test_the_choice_is_uniform(many: str) -> None:
    taken: Counter[int] = Counter()
    shards = [f"{many}/shard-{i:05d}.parquet" for i in range(40)]
    for seed in range(12):
        counts = choose(shards, 600, "none", seed).counts
        assert counts.sum() == 600
        taken.update(dict(enumerate(counts.tolist())))
    shares = [taken[i] / (12 * (10 if i % 2 == 0 else 50)) for i in range(40)]
    assert np.mean(shares) == pytest.approx(0.5, abs=0.03)
    assert max(shares) < 0.75
    assert min(shares) > 0.25


def test_strata(many: str, tmp_path: Path) -> None:
    def count(**values: Any) -> dict[str, int]:
        _, ids = run(many, tmp_path / str(values), **values)
        return dict(Counter(CATEGORIES[int(row_id.split()[1]) % 10] for row_id in ids))

    assert count(num=100, stratify="proportional") == {"upper": 60, "lower": 30, "dress": 10}
    assert count(num=99, stratify="equal") == {"upper": 33, "lower": 33, "dress": 33}
    assert count(num=500, stratify="equal") == {"upper": 190, "lower": 190, "dress": 120}


def test_quotas_never_fall_when_the_number_grows() -> None:
    sizes = {"a": 6, "b": 6, "c": 2}
    for stratify in ("proportional", "equal"):
        old = dict.fromkeys(sizes, 0)
        for num in range(15):
            new = _quotas(sizes, num, stratify)
            assert sum(new.values()) == num
            assert all(new[name] >= old[name] for name in sizes), (stratify, num)
            assert all(new[name] <= sizes[name] for name in sizes)
            old = new


def test_an_id_that_is_there_twice_is_named_where_it_decides(tmp_path: Path) -> None:
    data = data_set(tmp_path, [[{"id": "same"}, {"id": "same"}, {"id": "same"}]], ("id",))
    with pytest.raises(DataError, match="twice") as caught:
        downsample_job(data, DownsampleConfig(num=2))
    assert caught.value.code == "id-twice"


def test_an_empty_data_set_is_refused(tmp_path: Path) -> None:
    data = data_set(tmp_path, [[]], ("id",))
    with pytest.raises(DataError, match="no rows"):
        downsample_job(data, DownsampleConfig(num=2))


@pytest.mark.parametrize("values", [{"num": 0}, {"size": (8, 8)}, {"stratify": "colour"}, {"share": 0.1}])
def test_bounds_of_the_config(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="downsample"):
        parse_config(DownsampleConfig, values, "downsample")


def test_a_killed_run_goes_on_with_the_same_bytes(many: str, tmp_path: Path) -> None:
    manifest, _ = run(many, tmp_path, num=100)
    before = {path.name: path.read_bytes() for path in tmp_path.glob("*.parquet")}
    (tmp_path / "shard-00002.parquet").unlink()
    assert run(many, tmp_path, num=100)[0] == manifest
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.parquet")} == before


# Size


@pytest.fixture(scope="module")
def row() -> Row:
    drawn = simulate(4, 2, 256, 192)
    return {**drawn, **Agnostic().process(drawn), "person_placement": np.float32([0, 0, 192, 256])}


@pytest.mark.parametrize("size", [(128, 96), (96, 96), (128, 64), (320, 240)])
def test_every_layer_is_fitted_as_the_photo_is(row: Row, size: tuple[int, int]) -> None:
    small = fit_row(row, size)
    assert np.array_equal(small["person"], letterbox(row["person"], *size)[0])
    assert np.array_equal(small["garment"], letterbox(row["garment"], *size)[0])
    for name, value in small.items():
        if isinstance(value, np.ndarray) and value.ndim >= 2 and name != "pose":
            assert value.shape[:2] == size, name
            assert value.dtype == row[name].dtype, name
    assert set(np.unique(small["parse"])) <= set(np.unique(row["parse"]))
    assert np.array_equal(np.isfinite(small["true_flow"]).all(-1), small["true_amodal_mask"] == 1)
    outside = small["agnostic_mask"] == 0
    assert np.array_equal(small["agnostic"][outside], small["person"][outside])
    assert small["person_placement"] is None
    assert (small["id"], small["category"]) == (row["id"], row["category"])


@pytest.mark.parametrize("size", [(128, 96), (96, 96), (512, 384)])
def test_flow_and_keypoints_are_scaled_along(row: Row, size: tuple[int, int]) -> None:
    # Blurred, so that being sampled twice does not show, and a wrong place does.
    blurred = {**row, "garment": cv2.GaussianBlur(row["garment"], (0, 0), 3)}
    small = fit_row(blurred, size)
    drawn = letterbox(warp_by_flow(blurred["garment"], row["true_flow"], row["true_mask"]), *size)[0].astype(int)
    inner = cv2.erode(small["true_mask"], np.ones((5, 5), np.uint8)) > 0
    off = [
        np.abs(warp_by_flow(small["garment"], small["true_flow"] + np.float32(by), small["true_mask"]) - drawn)[inner]
        for by in (0, 2)
    ]
    assert off[0].mean() < 1.5
    assert off[1].mean() > 2 * off[0].mean(), "the test would not notice"
    scale = min(size[0] / 256, size[1] / 192)
    x = (row["pose"][1, 0] + 0.5) * scale - 0.5 + (size[1] - 192 * scale) / 2
    assert small["pose"][1] == pytest.approx([x, (row["pose"][1, 1] + 0.5) * scale - 0.5, 1], abs=1e-3)


def test_photos_of_different_sizes_end_at_one(row: Row) -> None:
    large = cv2.resize(row["garment"], (384, 512))
    flow = row["true_flow"] + np.stack(np.meshgrid(np.arange(192), np.arange(256)), axis=-1)
    flow = (flow + 0.5) * 2 - 0.5 - np.stack(np.meshgrid(np.arange(192), np.arange(256)), axis=-1)
    mask = cv2.resize(row["garment_mask"], (384, 512), interpolation=cv2.INTER_NEAREST)
    other = {**row, "garment": large, "garment_mask": mask, "true_flow": flow.astype(np.float32)}
    a, b = fit_row(row, (128, 96)), fit_row(other, (128, 96))
    assert np.nanmax(np.abs(a["true_flow"] - b["true_flow"])) < 0.1


def test_a_job_writes_samples_at_the_size(tmp_path: Path) -> None:
    rows = [simulate(4, i, 64, 48) for i in range(5)]
    rows[3]["parse"] = rows[3]["parse"][1:]
    fields = ("id", "person", "parse", "pose")
    (tmp_path / "in").mkdir()
    data = data_set(tmp_path / "in", [rows], fields)
    manifest, ids = run(data, tmp_path / "out", size=(128, 96))
    assert (manifest.rows, manifest.quarantined) == (4, 1)
    assert len(ids) == 4
    assert read_shard(f"{tmp_path}/out/shard-00000.parquet")["person"][0].shape == (128, 96, 3)
    assert manifest.config == {"downsample": {"num": None, "size": [128, 96], "stratify": "none", "seed": 0}}
