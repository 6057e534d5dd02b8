"""What the service's tests share."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

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
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


class Collector:
    """An OpenTelemetry collector that keeps the spans it is sent."""

    def __init__(self) -> None:
        self.spans: list[dict[str, Any]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                for resource in body["resourceSpans"] if self.path == "/v1/traces" else ():
                    named = {one["key"]: one["value"] for one in resource["resource"]["attributes"]}
                    for scope in resource["scopeSpans"]:
                        outer.spans += [{**span, "resource": named} for span in scope["spans"]]
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"


@pytest.fixture(scope="package")
def collector() -> Iterator[Collector]:
    made = Collector()
    threading.Thread(target=made.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    yield made
    made.server.shutdown()
    made.server.server_close()


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
    collector: Collector,
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
        traces=collector.url,
    )
    with running_service(config, "127.0.0.1", free_port()) as base:
        yield base
