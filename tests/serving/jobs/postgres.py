"""A PostgreSQL cluster for tests: in a folder of its own, on a free loopback port, ended by its pid."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

START_S = 200.0


def find_programs() -> Path | None:
    """Folder with initdb and postgres."""
    on_path = shutil.which("initdb")
    places = [Path(on_path).resolve().parent] if on_path else []
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((place for place in places if (place / "postgres").exists() and (place / "initdb").exists()), None)


class Cluster:
    """A server that can be stopped hard and started again on the same port."""

    def __init__(self, programs: Path, folder: Path, user: dict[str, Any]) -> None:
        self._programs = programs
        self._folder = folder
        self._user = user
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._server: subprocess.Popen[bytes] | None = None
        command = [programs / "initdb", "-D", folder / "data", "-U", "tryon", "--auth=trust", "--no-sync", "-E", "UTF8"]
        subprocess.run(command, check=True, capture_output=True, cwd=folder, timeout=START_S, **user)

    def start(self) -> None:
        settings = ["fsync=off", "shared_buffers=16MB", "max_connections=60", f"unix_socket_directories={self._folder}"]
        command = [str(self._programs / "postgres"), "-D", str(self._folder / "data"), "-h", "127.0.0.1"]
        command += ["-p", str(self.port), *(part for setting in settings for part in ("-c", setting))]
        log = (self._folder / "log").open("ab")
        self._server = subprocess.Popen(command, stdout=log, stderr=log, cwd=self._folder, **self._user)
        log.close()
        give_up = time.monotonic() + START_S
        while True:
            try:
                self._run("SELECT 1")
                return
            except Exception:
                if time.monotonic() > give_up or self._server.poll() is not None:
                    raise
                time.sleep(0.1)

    def crash(self) -> None:
        """Ends it at once: what was in flight is rolled back by recovery at the next start."""
        assert self._server is not None
        self._server.send_signal(signal.SIGQUIT)
        self._server.wait(START_S)

    def new_database(self) -> str:
        """URL that leads to an empty schema: a database of its own would cost 300 files."""
        name = f"t{uuid.uuid4().hex[:12]}"
        self._run(f"CREATE SCHEMA {name}")
        return f"postgresql://tryon@127.0.0.1:{self.port}/postgres?options=-csearch_path%3D{name}"

    def _run(self, sql: str) -> None:
        import psycopg

        url = f"postgresql://tryon@127.0.0.1:{self.port}/postgres"
        with psycopg.connect(url, autocommit=True, connect_timeout=5) as connection:
            connection.execute(sql.encode())


@contextlib.contextmanager
def cluster() -> Iterator[Cluster]:
    """A running cluster; skips the test where PostgreSQL or its driver is not installed."""
    pytest.importorskip("psycopg", reason="psycopg is not installed: pip install 'tryon[postgres]'")
    programs = find_programs()
    if programs is None:
        pytest.skip("no PostgreSQL server is installed: apt-get install postgresql")
    user: dict[str, Any] = {}
    folder = Path(tempfile.mkdtemp(prefix="tryon-pg-"))
    if os.geteuid() == 0:  # postgres refuses root
        try:
            account = pwd.getpwnam("postgres")
        except KeyError:
            pytest.skip("PostgreSQL refuses to run as root, and there is no user postgres")
        user = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
        os.chown(folder, account.pw_uid, account.pw_gid)
    try:
        server = Cluster(programs, folder, user)
        server.start()
        try:
            yield server
        finally:
            server.crash()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
