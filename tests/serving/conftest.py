"""What the service's tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.serving.redis_server import redis_server
from tryon.serving.run import free_port


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port = free_port()
    with redis_server(tmp_path_factory.mktemp("redis"), port):
        yield f"redis://127.0.0.1:{port}/0"
