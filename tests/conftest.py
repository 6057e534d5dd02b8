"""What the tests share: simulated photos, a small annotated data set, a bundle trained for a few steps, one Ray."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

# Before anything imports Ray: its workers inherit these.
RAY_ENV = {
    "RAY_AUTH_MODE": "disabled",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DATA_EXECUTION_NO_PROGRESS_TIMEOUT_S": "180",
    "RAY_worker_niceness": "0",  # else another test, which computes beside them, leaves them no time
}
os.environ.pop("RAY_ADDRESS", None)
os.environ.pop("TRYON_BUNDLE", None)
if "PYTEST_XDIST_WORKER" in os.environ:  # several processes compute at once, and OpenMP's threads wait by spinning
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# Services behind HAProxy in several processes at once: each with ports of its own.
_worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
RAY_ENV |= {
    "RAY_SERVE_HAPROXY_METRICS_PORT": str(9101 + 10 * _worker),
    "RAY_SERVE_HAPROXY_STATS_PORT": str(8404 + 10 * _worker),
    "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(30000 + 500 * _worker),
    "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(30499 + 500 * _worker),
}
os.environ.update(RAY_ENV)

SERVE = "RAY_SERVE_"
SMALL = (128, 96)
ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def serve_settings() -> Iterator[None]:
    """What a test sets for the Ray Serve that is started next ends with it: HAProxy would refuse one without keys.

    `monkeypatch` cannot: what `tryon serve` itself puts into the environment it does not see.
    """
    before = {name: value for name, value in os.environ.items() if name.startswith(SERVE)}
    yield
    for name in [name for name in os.environ if name.startswith(SERVE) and name not in before]:
        del os.environ[name]
    os.environ.update(before)


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder with real photos and published layouts, for measuring; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("TRYON_SHARED", ROOT.parent / "shared"))
    if not (folder / "vitonhd").is_dir():
        pytest.skip(f"no photos for measuring in {folder} (set TRYON_SHARED)")
    return folder


@pytest.fixture(scope="session")
def photo_files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A person photo in which the annotators find the person, and a garment photo: simulated, 512x384, PNG."""
    from tryon.codec import encode_png
    from tryon.data.simulator import simulate

    folder = tmp_path_factory.mktemp("photos")
    row = simulate(5, 0, 512, 384)
    person, garment = folder / "person.png", folder / "garment.png"
    person.write_bytes(encode_png(row["person"]))
    garment.write_bytes(encode_png(simulate(5, 1, 512, 384)["garment"]))
    return person, garment


@pytest.fixture(scope="session")
def small_data(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Annotated simulator samples: 40 of 128x96, two shards."""
    from tryon.data.annotate import TRAINING_LAYERS, AnnotateConfig, annotate_job
    from tryon.data.job import run_job
    from tryon.data.simulator.config import EASY_TOPS
    from tryon.data.sources.open import open_source
    from tryon.data.synth import SynthConfig, synth_job

    folder = tmp_path_factory.mktemp("data")
    raw, out = str(folder / "raw"), str(folder / "annotated")
    run_job(
        synth_job(SynthConfig(num=40, size=SMALL, seed=7, simulator=EASY_TOPS)),
        raw,
        num_actors=0,
    )
    run_job(annotate_job(open_source(raw), AnnotateConfig(layers=TRAINING_LAYERS), raw), out, num_actors=0)
    return out


@pytest.fixture(scope="session")
def small_bundle(tmp_path_factory: pytest.TempPathFactory, small_data: str) -> str:
    """A bundle with all three networks, small and trained for a few steps in process. Not to be written to."""
    from tryon.training.run import check_run, run

    out = str(tmp_path_factory.mktemp("bundle") / "bundle")
    networks = {"gmm": {"width": 8}, "tom": {"width": 16}, "scm": {"width": 8}}
    for recipe, network in networks.items():
        options = {"size": SMALL, "steps": 4, "batch_size": 4, "num_workers": 0, "network": network}
        run(check_run(recipe, small_data, out, options), lambda _: None)
    return out


@pytest.fixture(scope="session")
def extract_bundle(tmp_path_factory: pytest.TempPathFactory, small_bundle: str) -> str:
    """The small bundle with an extraction network of random weights beside its own. Not to be written to."""
    from tests.models.checks import seeded
    from tryon.models.bundle import copy_bundle, write_network
    from tryon.models.extract import Extract

    out = str(tmp_path_factory.mktemp("extract") / "bundle")
    copy_bundle(small_bundle, out)
    network = seeded("extract", {"width": 8, "fused": 16})
    assert isinstance(network, Extract)
    write_network(out, "extraction", "extract", network, config=network.config, size=SMALL, training={}, metrics={})
    return out


@pytest.fixture(scope="session")
def ray_local() -> Iterator[None]:
    """One local Ray for the session."""
    from tryon.engines.cluster import ray_session

    with ray_session():
        yield
