"""A data job from one S3 prefix to another."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.s3 import s3_bucket
from tryon import storage
from tryon.data.annotate import AnnotateConfig, annotate_job
from tryon.data.ingest import LocalBatches
from tryon.data.job import run_job
from tryon.data.shards import read_manifest, read_shard
from tryon.data.sources.open import open_source
from tryon.engines.dataset import ShardReport


@pytest.fixture
def bucket() -> Iterator[str]:
    with s3_bucket("annotate-test") as uri:
        yield uri


def test_photos_are_annotated_from_s3_to_s3(bucket: str, photo_files: tuple[Path, Path]) -> None:
    photo = photo_files[0].read_bytes()
    storage.write_bytes(f"{bucket}/in/deep/person.png", photo)
    storage.write_bytes(f"{bucket}/in/broken.png", photo[:300])
    out = f"{bucket}/out/data"
    reports: list[ShardReport] = []
    for _ in range(2):
        source = open_source(f"{bucket}/in")
        job = annotate_job(source, AnnotateConfig(size=(128, 96)), f"{bucket}/in")
        manifest = run_job(job, out, num_actors=0, on_report=lambda report, _: reports.append(report))
    assert [report.reused for report in reports] == [False, True]
    assert reports[0].sha256 == reports[1].sha256
    assert read_manifest(out) == manifest
    assert (manifest.rows, manifest.quarantined) == (1, 1)
    assert read_shard(f"{out}/shard-00000.parquet", ("id",)) == {"id": ["deep/person.png"]}
    assert storage.exists(f"{out}/_quarantine/shard-00000.parquet")
    batch = next(LocalBatches(out, manifest, ("id", "agnostic"), (64, 48), 0.0)("train", 1, None))
    assert batch["agnostic"][0].shape == (64, 48, 3)


def test_where_it_is_written_changes_no_byte(bucket: str, photo_files: tuple[Path, Path], tmp_path: Path) -> None:
    folder = str(photo_files[0].parent)
    for out in (f"{bucket}/data", str(tmp_path / "data")):
        run_job(annotate_job(open_source(folder), AnnotateConfig(size=(128, 96)), folder), out, num_actors=0)
    assert read_manifest(f"{bucket}/data") == read_manifest(str(tmp_path / "data"))
    for name in ("shard-00000.parquet", "_manifest.json"):
        assert storage.read_bytes(f"{bucket}/data/{name}") == (tmp_path / "data" / name).read_bytes()
