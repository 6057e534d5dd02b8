"""An S3 server for tests: moto on a loopback port, named by the environment as a user would name one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

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
        requests.put(f"{endpoint}/{name}", timeout=10).raise_for_status()
        try:
            yield f"s3://{name}"
        finally:
            server.stop()
