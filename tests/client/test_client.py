"""Both clients against a server on loopback that answers as a test says; the whole service is in tests/serving."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tryon.client import AsyncClient, BusyServiceError, Client, RefusedError, ServiceError, TryOn, UnreachableError
from tryon.client.calls import Retries
from tryon.errors import ConfigError
from tryon.serving.run import free_port

DONE = {
    "status": "success",
    "result_image": base64.b64encode(b"result").decode(),
    "mask_image": None,
    "processing_time": 0.5,
    "metadata": {
        "input_resolution": {"width": 3, "height": 4},
        "output_resolution": {"width": 3, "height": 4},
        "notices": ["person_image was turned upright"],
    },
}
BUSY = {"status": "error", "code": "busy", "message": "all replicas are busy", "field": None, "request_id": "r"}
NO_PERSON = {**BUSY, "code": "no-person", "message": "no person is seen", "field": "person_image"}
Answer = tuple[int, dict[str, str], bytes] | None  # None: hangs up


class Server:
    """Gives its answers one after the other, the last one for ever."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.heads: list[tuple[str, dict[str, str]]] = []
        self.bodies: list[bytes] = []
        self.times: list[float] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                outer.times.append(time.monotonic())
                outer.heads.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
                outer.bodies.append(self.rfile.read(int(self.headers.get("content-length", 0))))
                answer = outer.answers.pop(0) if len(outer.answers) > 1 else outer.answers[0]
                if answer is None:
                    self.close_connection = True
                    return
                status, headers, body = answer
                self.send_response(status)
                for name, value in {**headers, "content-length": str(len(body)), "x-request-id": "r"}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


def as_json(status: int, body: Any, **headers: str) -> Answer:
    told = {name.replace("_", "-"): value for name, value in headers.items()}
    return status, {"content-type": "application/json", **told}, json.dumps(body).encode()


def run_sync(url: str, **options: Any) -> TryOn:
    with Client(url, **options) as client:
        return client.tryon(b"person", b"garment", category="dress")


def run_async(url: str, **options: Any) -> TryOn:
    async def run() -> TryOn:
        async with AsyncClient(url, **options) as client:
            return await client.tryon(b"person", b"garment", category="dress")

    return asyncio.run(run())


both = pytest.mark.parametrize("run", [run_sync, run_async])
Run = Callable[..., TryOn]


@both
def test_what_is_sent_and_given_back(server: Server, run: Run) -> None:
    server.answers = [as_json(200, DONE)]
    made = run(server.url, key="tryon_a_b")
    assert made == TryOn(b"result", None, 0.5, (3, 4), ("person_image was turned upright",), "r")
    path, headers = server.heads[0]
    assert path == "/api/v1/tryon"
    assert headers["authorization"] == "Bearer tryon_a_b"
    assert headers["content-type"].startswith("multipart/form-data")
    assert 100 < float(headers["x-request-timeout-seconds"]) <= 120
    assert all(part in server.bodies[0] for part in (b'name="person_image"', b'"category": "dress"', b"garment"))


@both
def test_a_busy_service_is_asked_again_when_it_says(server: Server, run: Run) -> None:
    server.answers = [as_json(503, BUSY, retry_after="1"), as_json(429, BUSY), as_json(200, DONE)]
    assert run(server.url).image == b"result"
    assert server.times[1] - server.times[0] >= 1
    assert len({headers["x-request-id"] for _, headers in server.heads}) == 1
    left = [float(headers["x-request-timeout-seconds"]) for _, headers in server.heads]
    assert left[0] > left[1] > left[2]
    assert server.bodies[0] != b""
    assert len(server.bodies[2]) == len(server.bodies[0]), "the photos are sent again"


@both
def test_what_dies_in_between_is_asked_again(server: Server, run: Run) -> None:
    server.answers = [None, (500, {}, b"Internal Server Error"), (502, {}, b""), as_json(200, DONE)]
    assert run(server.url).image == b"result"
    assert len(server.times) == 4


@both
def test_a_refusal_is_final_and_typed(server: Server, run: Run) -> None:
    server.answers = [as_json(422, NO_PERSON)]
    with pytest.raises(RefusedError, match="no person is seen") as caught:
        run(server.url)
    told = caught.value
    assert (told.code, told.field, told.status, told.request_id) == ("no-person", "person_image", 422, "r")
    assert len(server.times) == 1


@both
def test_a_service_that_stays_busy(server: Server, run: Run) -> None:
    server.answers = [as_json(503, BUSY)]
    with pytest.raises(BusyServiceError) as caught:
        run(server.url, tries=3)
    assert caught.value.status == 503
    assert len(server.times) == 3


@both
def test_no_pause_goes_beyond_the_time(server: Server, run: Run) -> None:
    server.answers = [as_json(503, BUSY, retry_after="60")]
    start = time.monotonic()
    with pytest.raises(BusyServiceError):
        run(server.url, timeout_s=5)
    assert time.monotonic() - start < 3


@both
def test_nobody_there(run: Run) -> None:
    with pytest.raises(UnreachableError, match="no answer after 2 tries") as caught:
        run(f"http://127.0.0.1:{free_port()}", tries=2)
    assert caught.value.code == "unreachable"


@both
def test_an_answer_of_a_proxy(server: Server, run: Run) -> None:
    server.answers = [(504, {}, b"<html>")]
    with pytest.raises(ServiceError, match="504 Gateway Timeout") as caught:
        run(server.url)
    assert caught.value.code == "http-status"
    assert len(server.times) == 1


def test_photos_are_bytes_paths_or_urls(server: Server, tmp_path: Path) -> None:
    server.answers = [as_json(200, DONE)]
    file = tmp_path / "p.jpg"
    file.write_bytes(b"from a file")
    with Client(server.url) as client:
        client.tryon(file, "https://shop.example/g.jpg")
        client.tryon("http://a/p", "http://a/g")
        with pytest.raises(ConfigError, match=r"nowhere\.jpg"):
            client.tryon("nowhere.jpg", b"g")
    assert b"from a file" in server.bodies[0]
    assert b"https://shop.example/g.jpg" in server.bodies[0]
    assert b"garment_image" not in server.bodies[0]
    assert server.heads[1][1]["content-type"] == "application/x-www-form-urlencoded"
    assert len(server.bodies) == 2


def test_pauses_grow_and_are_bounded() -> None:
    retries = Retries(first_pause_s=1, longest_pause_s=5)
    for tried, (low, high) in enumerate(((0.5, 1), (1, 2), (2, 4), (2.5, 5), (2.5, 5)), 1):
        assert all(low <= retries.pause_s(tried, None) <= high for _ in range(50))
