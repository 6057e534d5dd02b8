"""A data job on two nodes writes the bytes that one process writes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.ray_nodes import ray_head, ray_worker
from tryon.codec import encode_jpeg
from tryon.data.annotate import AnnotateConfig, annotate_job
from tryon.data.job import run_job
from tryon.data.simulator import simulate
from tryon.data.sources.open import open_source

pytestmark = [pytest.mark.ray, pytest.mark.slow]
TRYON = str(Path(sys.executable).with_name("tryon"))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """100 person photos and one that is none."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(100):
        (folder / f"{i:03d}.jpg").write_bytes(encode_jpeg(simulate(6, i, 128, 96)["person"]))
    (folder / "050x.jpg").write_bytes(b"no photo")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.parquet"))}


def test_two_nodes(photos: Path, tmp_path: Path) -> None:
    alone, together = tmp_path / "alone", tmp_path / "together"
    run_job(annotate_job(open_source(str(photos), "person"), AnnotateConfig(), str(photos)), str(alone), num_actors=0)
    # One actor fits on each node beside what is left to readers, so both take part.
    with ray_head(tmp_path / "head.log", num_cpus=2) as head, ray_worker(head, tmp_path / "worker.log", num_cpus=2):
        command = [
            TRYON,
            "data",
            "annotate",
            str(photos),
            "--out",
            str(together),
            "--photos",
            "person",
            "--actors",
            "3",
        ]
        env = {**head.env, "RAY_ADDRESS": head.gcs}
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=True, timeout=500)
    assert "101 rows in = " in done.stdout
    assert "not-an-image 1" in done.stdout
    assert contents(together) == contents(alone)
