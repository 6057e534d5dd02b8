"""What the service's tests share."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.conftest import ROOT, SMALL
from tests.serving.redis_server import redis_server
from tryon.serving.config import FetchConfig, ServeConfig
from tryon.serving.jobs.config import JobsConfig
from tryon.serving.run import free_port, read_serve_file, running_service


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port = free_port()
    with redis_server(tmp_path_factory.mktemp("redis"), port):
        yield f"redis://127.0.0.1:{port}/0"


@pytest.fixture(scope="package")
def photo_port(photo_files: tuple[Path, Path]) -> Iterator[int]:
    """Where a web server on loopback has person.png and garment.png."""
    handler = partial(QuietHandler, directory=str(photo_files[0].parent))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="package")
def sampled_bundle(tmp_path_factory: pytest.TempPathFactory, small_bundle: str) -> str:
    """The small bundle with a diffusion network of random weights for its synthesis. Not to be written to."""
    from tests.models.checks import seeded
    from tryon.models.bundle import copy_bundle, write_network
    from tryon.models.latent_diffusion import LatentDiffusion

    out = str(tmp_path_factory.mktemp("sampled") / "bundle")
    copy_bundle(small_bundle, out)
    autoencoder = {"patch": 4, "widths": (8, 12), "latent_channels": 3}
    sizes = {"widths": (16, 24), "num_heads": 2, "token_width": 16, "sampling": {"steps": 2}}
    network = seeded("latent_diffusion", {**sizes, "autoencoder": autoencoder})
    assert isinstance(network, LatentDiffusion)
    config = network.config
    write_network(out, "synthesis", "latent_diffusion", network, config=config, size=SMALL, training={}, metrics={})
    return out


@pytest.fixture(scope="package")
def url(
    extract_bundle: str,
    sampled_bundle: str,
    photo_port: int,
    ray_local: None,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[str]:
    """A real Ray Serve application, split into deployments, with a second bundle and batch jobs."""
    groups = read_serve_file(ROOT / "serve_configs/cpu_split.yaml").config.groups
    folder = tmp_path_factory.mktemp("jobs")
    places = {name: str(folder / name) for name in ("store", "results", "uploads")}
    fetch = FetchConfig(private_hosts=("127.0.0.1",), ports=(80, photo_port))
    config = ServeConfig(
        bundle=extract_bundle,
        bundles={"sampled": sampled_bundle},
        groups=groups,
        jobs=JobsConfig.model_validate(places),
        fetch=fetch,
    )
    with running_service(config, "127.0.0.1", free_port()) as base:
        yield base
