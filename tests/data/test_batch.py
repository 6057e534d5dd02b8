"""Batch try-on as a data job: a table of pairs in, shards of results out."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.conftest import ROOT
from tests.test_cli import digests
from tests.test_interrupt import session, wait_for
from tryon.codec import encode_png
from tryon.data.batch import batch_tryon_job
from tryon.data.job import run_job
from tryon.data.shards import MANIFEST, quarantine_uri, read_manifest, read_shard
from tryon.data.simulator import simulate
from tryon.data.sources.open import open_source
from tryon.errors import DataError
from tryon.infer import tryon_pipeline

SIZE = (256, 192)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five pairs, of which one has no garment, one no person in its photo, one no photo at its URL."""
    folder = tmp_path_factory.mktemp("pairs")
    for i in range(3):
        row = simulate(5, i, *SIZE)
        for name in ("person", "garment"):
            (folder / f"{name}{i}.png").write_bytes(encode_png(row[name]))
    rows = [
        {"id": "a", "person_url": "person0.png", "garment_url": "garment1.png", "category": "upper"},
        {"id": "b", "person_url": "person1.png", "garment_url": "garment0.png", "category": None},
        {"id": "no-garment", "person_url": "person0.png", "garment_url": None, "category": "upper"},
        {"id": "no-person", "person_url": "garment0.png", "garment_url": "garment1.png", "category": "upper"},
        {"id": "no-photo", "person_url": "nowhere.png", "garment_url": "garment1.png", "category": "upper"},
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "pairs.parquet")
    return folder / "pairs.parquet"


def test_each_pair_has_its_result_or_its_reason(table: Path, small_bundle: str, tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    manifest = run_job(batch_tryon_job(open_source(str(table)), small_bundle, str(table), mask=True), out, num_actors=0)
    assert (manifest.rows_in, manifest.rows, manifest.quarantined) == (5, 2, 3)
    reasons = {row["id"]: row["error_code"] for row in pq.read_table(quarantine_uri(out, 0)).to_pylist()}
    assert reasons.keys() == {"no-garment", "no-person", "no-photo"}
    assert (reasons["no-garment"], reasons["no-person"]) == ("field-missing", "no-person")
    batch = read_shard(f"{out}/shard-00000.parquet", ("id", "category", "result", "result_mask", "person_uri"))
    assert list(batch["id"]) == ["a", "b"]
    assert batch["category"][1] in ("upper", "lower", "dress")  # of the garment's outline
    files = {name: (table.parent / f"{name}{i}.png").read_bytes() for name, i in (("person", 0), ("garment", 1))}
    pipeline = tryon_pipeline(small_bundle)
    alone = pipeline.run_row({"id": "a", "category": "upper", **{f"{k}_file": v for k, v in files.items()}})
    assert np.array_equal(batch["result_mask"][0], alone["result_mask"])
    # A convolution over a batch may round another way.
    assert np.abs(batch["result"][0].astype(int) - alone["result"].astype(int)).max() <= 2
    assert any(parent.uri == small_bundle for parent in read_manifest(out).parents)


def test_a_table_without_pairs_is_refused(table: Path, small_bundle: str, small_data: str, tmp_path: Path) -> None:
    persons = tmp_path / "persons.csv"
    persons.write_text(f"person_url\n{table.parent}/person0.png\n")
    with pytest.raises(DataError, match="no garment photos: give a table"):
        batch_tryon_job(open_source(str(persons)), small_bundle, str(persons))
    with pytest.raises(DataError, match="no person photos and no garment photos"):
        batch_tryon_job(open_source(small_data), small_bundle, small_data)


@pytest.mark.slow
def test_a_killed_run_goes_on(table: Path, small_bundle: str, tmp_path: Path) -> None:
    rows = pq.read_table(table).to_pylist()[:2]
    many = [{**rows[i % 2], "id": str(i)} for i in range(40)]  # two shards
    pairs = table.parent / "many.parquet"
    pq.write_table(pa.Table.from_pylist(many), pairs)
    unbroken, out = tmp_path / "unbroken", tmp_path / "out"
    command = [sys.executable, str(ROOT / "jobs/batch_tryon.py"), str(pairs), "--bundle", small_bundle, "--actors", "0"]
    with session([*command, "--out", str(out)], tmp_path / "killed.log") as process:
        wait_for(lambda: list(out.glob("shard-*.parquet")) or process.poll() is not None, 300, "a first shard")
        process.send_signal(signal.SIGKILL)
    done = {path.name: path.stat().st_mtime_ns for path in out.glob("shard-*.parquet")}
    assert len(done) == 1
    assert not (out / MANIFEST).exists()
    for target in (out, unbroken):
        with session([*command, "--out", str(target)], tmp_path / "whole.log") as process:
            assert process.wait(240) == 0, (tmp_path / "whole.log").read_text()
    assert {name: (out / name).stat().st_mtime_ns for name in done} == done
    assert read_manifest(str(out)).rows == 40
    assert digests(out) == digests(unbroken)
