"""Augmentation over a data set: every sample and variant accounted for, the same bytes on every way there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tryon.codec import encode_jpeg
from tryon.data.augment import AugmentConfig, augment_job
from tryon.data.augment.photometric import through_jpeg
from tryon.data.job import run_job
from tryon.data.shards import Manifest, read_manifest, read_shard, shard_uris, write_shard
from tryon.data.simulator import simulate
from tryon.sample import SCHEMA_VERSION


def config_of(**changes: Any) -> AugmentConfig:
    return AugmentConfig.model_validate(changes)


FIELDS_WRITTEN = (
    "id", "category", "split", "person", "person_digest", "garment", "garment_mask", "parse", "true_flow", "true_mask",
)  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Ten samples of 64x48: the fourth held out, the fifth broken; photos are kept as JPEG."""
    out = str(tmp_path_factory.mktemp("data") / "parent")
    rows = [{**simulate(3, i, 64, 48), "split": "val" if i == 3 else None, "person_digest": f"d{i}"} for i in range(10)]
    rows[4]["parse"] = rows[4]["parse"][:50]
    for row in rows:
        jpeg = encode_jpeg(row["person"], 90)
        row |= {"person": through_jpeg(row["person"], 90), "person_file": jpeg, "person_notices": ""}
    job_fields = (*FIELDS_WRITTEN, "person_file", "person_notices", "error_code", "error", "error_stage")
    batch = {name: [row.get(name) for row in rows] for name in job_fields}
    write_shard(out, 0, batch, FIELDS_WRITTEN, "hash")
    manifest = Manifest(
        schema_version=SCHEMA_VERSION, tryon_version="0", fields=FIELDS_WRITTEN, rows_in=10, rows=10, quarantined=0,
        num_shards=1, licence="Apache-2.0", sha256="0" * 64,
    )  # fmt: skip
    Path(out, "_manifest.json").write_text(manifest.model_dump_json())
    return out


def files(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*.*"))}


def test_a_job_writes_samples_and_variants_and_sets_broken_ones_aside(data: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    manifest = run_job(augment_job(data, config_of(variants=5)), str(out), num_actors=0)
    # 8 whole samples with 5 variants each, 1 held out, 1 broken.
    assert (manifest.rows_in, manifest.rows, manifest.quarantined, manifest.num_shards) == (50, 49, 1, 2)
    assert manifest.licence == "Apache-2.0"
    assert manifest.parents[0].uri == data
    assert manifest.parents[0].sha256 == read_manifest(data).sha256
    batches = [read_shard(uri) for uri in shard_uris(str(out), manifest)]
    ids = [row_id for batch in batches for row_id in batch["id"]]
    assert len(set(ids)) == 49
    assert ids[:7] == ["sim-3-00000000", *(f"sim-3-00000000#a{k}" for k in range(1, 6)), "sim-3-00000001"]
    assert [row_id for row_id in ids if row_id.startswith("sim-3-00000003")] == ["sim-3-00000003"]
    assert batches[0]["person_id"][:7] == [*["d0"] * 6, "d1"]
    assert batches[0]["garment_id"][:7] == [*["sim-3-00000000"] * 6, "sim-3-00000001"]
    assert batches[0]["person_digest"][:2] == ["d0", None]
    original = read_shard(f"{data}/shard-00000.parquet")
    for name in FIELDS_WRITTEN:
        assert np.array_equal(batches[0][name][0], original[name][0], equal_nan=name == "true_flow"), name


def test_originals_stay_the_jpeg_they_were(data: str, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    run_job(augment_job(data, config_of(variants=1)), str(tmp_path), num_actors=0)
    people = pq.read_table(tmp_path / "shard-00000.parquet", columns=["person"])["person"].to_pylist()
    assert [person[:2] == b"\xff\xd8" for person in people[:4]] == [True, False, True, False]


def test_a_killed_job_goes_on_with_the_same_bytes_and_originals_may_be_left_out(data: str, tmp_path: Path) -> None:
    job = augment_job(data, config_of(variants=5, keep_original=False, held_out=True))
    manifest = run_job(job, str(tmp_path), num_actors=0)
    assert manifest.rows == 9 * 5
    before = files(tmp_path)
    (tmp_path / "shard-00001.parquet").unlink()
    (tmp_path / "_manifest.json").unlink()
    assert run_job(job, str(tmp_path), num_actors=0) == manifest
    assert files(tmp_path) == before


@pytest.mark.ray
@pytest.mark.usefixtures("ray_local")
def test_the_number_of_workers_does_not_show(data: str, tmp_path: Path) -> None:
    for name, actors in (("one", 0), ("two", 2)):
        run_job(augment_job(data, config_of(variants=5)), str(tmp_path / name), num_actors=actors)
    assert files(tmp_path / "one") == files(tmp_path / "two")
