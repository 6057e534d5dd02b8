"""`tryon serve` as an operator starts it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.test_interrupt import session, wait_for
from tryon.client import Client, ServiceError

START_S = 300


@contextmanager
def served(bundle: str, port: int, log: Path, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """The service in a session of its own, once it answers; killed at the end with all it started."""
    command = [str(Path(sys.executable).with_name("tryon")), "serve", "--bundle", bundle, "--port", str(port)]
    with session([*command, *options], log) as process:
        wait_for(lambda: process.poll() is not None or is_up(port), START_S, "the service")
        assert process.poll() is None, log.read_text()
        yield process


def is_up(port: int) -> bool:
    """Whether the service says that it is healthy."""
    with Client(f"http://127.0.0.1:{port}", tries=1, timeout_s=5) as client:
        try:
            return client.health().status == "healthy"
        except ServiceError:
            return False
