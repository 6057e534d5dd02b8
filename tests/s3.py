"""An S3 server for tests: moto on a loopback port, named by the environment as a user would name one."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import urlsplit

import pytest
import requests


@contextmanager
def s3_bucket(name: str) -> Iterator[str]:
    """URI of an empty bucket; inside the block every `s3://` URI goes to the test's own server."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("AWS_ENDPOINT_URL_S3", raising=False)
        patch.setenv("AWS_ENDPOINT_URL", endpoint)
        patch.setenv("AWS_ACCESS_KEY_ID", "testing")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        # Servers of one process share what they hold.
        requests.post(f"{endpoint}/moto-api/reset", timeout=10).raise_for_status()
        requests.put(f"{endpoint}/{name}", timeout=10).raise_for_status()
        try:
            yield f"s3://{name}"
        finally:
            server.stop()


@contextmanager
def denying_bucket(name: str) -> Iterator[str]:
    """URI of a bucket whose server answers every request with AccessDenied."""
    body = b"<?xml version='1.0'?><Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(403)
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_HEAD = do_PUT = do_POST = do_GET  # noqa: N815

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("AWS_ENDPOINT_URL_S3", raising=False)
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "testing")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        try:
            yield f"s3://{name}"
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


Fault = Literal["error", "slow", "cut", "half"]
OnRequest = Callable[[str, str], Fault | None]
SLOW_S = 0.2


@contextmanager
def faulty_bucket(name: str, on_request: OnRequest) -> Iterator[str]:
    """URI of a bucket behind a proxy that fails as it is told.

    Args:
        name: of the bucket.
        on_request: given method and path, says what goes wrong: ``error`` answers 500, ``slow`` waits and goes on,
            ``cut`` closes the connection and does nothing, ``half`` does what is asked and closes the connection in
            the middle of the answer.
    """
    with s3_bucket(name) as uri:
        server = ThreadingHTTPServer(("127.0.0.1", 0), _proxy(os.environ["AWS_ENDPOINT_URL"], on_request))
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
            try:
                yield uri
            finally:
                server.shutdown()
                server.server_close()
                thread.join()


def _proxy(endpoint: str, on_request: OnRequest) -> type[BaseHTTPRequestHandler]:
    host = urlsplit(endpoint).netloc

    class Proxy(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = self._body()
            fault = on_request(self.command, urlsplit(self.path).path)
            if fault == "slow":
                time.sleep(SLOW_S)
            if fault == "cut":
                self.close_connection = True
                return None
            if fault == "error":
                return self._answer(
                    500, {"Content-Type": "application/xml"}, b"<Error><Code>InternalError</Code></Error>"
                )
            headers = {k: v for k, v in self.headers.items() if k.lower() != "transfer-encoding"} | {"Host": host}
            done = requests.request(self.command, endpoint + self.path, headers=headers, data=body, timeout=10)
            kept = {k: v for k, v in done.headers.items() if k.lower() not in HOP_HEADERS}
            return self._answer(done.status_code, kept, done.content, half=fault == "half")

        do_HEAD = do_PUT = do_POST = do_DELETE = do_GET  # noqa: N815

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))
            chunks = []
            while size := int(self.rfile.readline(), 16):
                chunks.append(self.rfile.read(size))
                self.rfile.readline()
            while self.rfile.readline().strip():  # trailers
                pass
            return b"".join(chunks)

        def _answer(self, status: int, headers: dict[str, str], body: bytes, *, half: bool = False) -> None:
            self.send_response(status)
            length = headers.pop("Content-Length", str(len(body))) if self.command == "HEAD" else str(len(body))
            for key, value in {**headers, "Content-Length": length}.items():
                self.send_header(key, value)
            if half:
                self.close_connection = True
                self.flush_headers()
                self.wfile.write(body[: len(body) // 2])
                return
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    return Proxy


INTERNAL_ERROR = b"<Error><Code>InternalError</Code></Error>"
HOP_HEADERS = ("connection", "transfer-encoding", "content-encoding", "server", "date")
