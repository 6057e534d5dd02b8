"""What is measured, running: the pipeline alone, the service in several shapes, its peers."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from typing import Any

import httpx

from tryon.engines.cluster import physical_cpus, ray_session
from tryon.errors import TryonError
from tryon.serving.bench.inputs import Pair
from tryon.serving.bench.load import PATH, Address, Send
from tryon.serving.bench.pipeline import FUSED, LocalTryOn
from tryon.serving.config import DEFAULT_GROUPS, AutoscalingConfig, GroupConfig, ServeConfig
from tryon.serving.keys import create_key
from tryon.serving.run import free_port, prefer_haproxy, prefer_serving

PEERS = {"fastapi": "fastapi", "litserve": "litserve"}  # and the package each needs
START_S = 180.0
BY_LOAD = AutoscalingConfig(
    min_replicas=0, max_replicas=2, target_ongoing_requests=1, upscale_delay_s=0.5, downscale_delay_s=5,
    downscale_to_zero_delay_s=5,
)  # fmt: skip


def shapes() -> dict[str, tuple[GroupConfig, ...]]:
    """Groups of the service by the name of the shape; reservations are small, so that all fit one machine at once."""
    shared = {"num_cpus": 0.05, "num_threads": 0}
    one = FUSED.model_copy(update=shared)
    return {
        "fused": (one,),
        "split": tuple(group.model_copy(update=shared) for group in DEFAULT_GROUPS),
        "replicas": (one.model_copy(update={"num_replicas": physical_cpus(), "num_threads": 1}),),
        "scaled": (one.model_copy(update={"autoscaling": BY_LOAD, "num_threads": 1}),),
        "batching": (one.model_copy(update={"max_batch_size": 4, "batch_wait_s": 0.02}),),
    }


@contextmanager
def running_shapes(bundle: str, names: Sequence[str], **options: Any) -> Iterator[Mapping[str, Address]]:
    """The service in some shapes at once, on one Ray and one port: with a key, as it is where others can reach it.

    Args:
        bundle: URI.
        names: of `shapes`.
        options: further fields of `ServeConfig`.

    Yields:
        Addresses by shape.
    """
    port = free_port()
    quiet: dict[str, Any] = {"log_level": "ERROR", "enable_access_log": False}
    with tempfile.TemporaryDirectory() as folder:
        keys = f"{folder}/keys.json"
        key, _ = create_key(keys, "bench", ["tryon"])
        shared = ServeConfig(bundle=bundle, num_cpus=0.05, keys=keys, **options)
        prefer_haproxy(shared)  # before Ray is imported
        prefer_serving()
        from ray import serve

        from tryon.serving.app import build

        with ray_session():
            serve.start(http_options={"host": "127.0.0.1", "port": port}, logging_config=quiet)
            for name in names:
                config = shared.model_copy(update={"groups": shapes()[name]})
                serve.run(build(config), name=name, route_prefix=f"/{name}", logging_config=quiet)
            yield {name: Address(f"http://127.0.0.1:{port}/{name}", key) for name in names}


@contextmanager
def running_peers(bundle: str) -> Iterator[Mapping[str, Address]]:
    """The peers that are installed, by name."""
    with ExitStack() as stack:
        servers = {}
        for name, package in PEERS.items():
            if find_spec(package) is not None:
                servers[name] = stack.enter_context(_running_peer(name, bundle))
        yield servers


@contextmanager
def _running_peer(name: str, bundle: str) -> Iterator[Address]:
    port = free_port()
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [sys.executable, "-m", f"tryon.serving.bench.peer_{name}", bundle, str(port)],
            stdout=subprocess.DEVNULL,
            stderr=log,
            start_new_session=True,  # LitServe has processes of its own
        )
        try:
            if not _comes_up(f"http://127.0.0.1:{port}", process):
                log.seek(0)
                lines = log.read().decode(errors="replace").strip().splitlines() or ["it said nothing"]
                raise TryonError(f"{name} did not come up: {lines[-1]}", code="peer-failed")
            yield Address(f"http://127.0.0.1:{port}")
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _comes_up(url: str, process: subprocess.Popen[bytes]) -> bool:
    """Whether a server answers in time, whatever it says to a request without photos."""
    end = time.monotonic() + START_S
    while time.monotonic() < end and process.poll() is None:
        try:
            httpx.post(url + PATH, timeout=10)
        except httpx.TransportError:
            time.sleep(0.5)
            continue
        return True
    return False


_worker: LocalTryOn | None = None


def _start_worker(bundle: str) -> None:
    global _worker
    _worker = LocalTryOn(bundle, num_threads=1)


def _work(pair: Pair) -> int:
    assert _worker is not None
    return len(_worker(pair.person, pair.garment))


@contextmanager
def local_workers(bundle: str, pairs: Sequence[Pair]) -> Iterator[Send]:
    """The pipeline in a process a core, one thread each: the most that this machine reaches without a server."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(physical_cpus(), context, _start_worker, (bundle,)) as pool:

        def send(number: int) -> int:
            return 200 if pool.submit(_work, pairs[number % len(pairs)]).result() else 500

        yield send
