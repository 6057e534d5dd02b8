"""Traces: a span a request, below it one for each stage in whichever process it ran, sent to a collector.

Spans are OpenTelemetry's, sent as OTLP over HTTP in JSON, which every collector takes; its protobuf form wants a newer
protobuf than mediapipe's. Needs the `otel` extra, and only where `traces` of the service's config names a collector.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from typing import Any

from fastapi import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tryon import __version__
from tryon.errors import ConfigError

EXPORTER = "opentelemetry.exporter.otlp.json.http.trace_exporter"
PATH = "/v1/traces"
Carrier = Mapping[str, str]  # a place in a trace, as W3C headers


def check_traces(endpoint: str | None) -> None:
    """Finds out before anything starts whether traces can be sent.

    Raises:
        ConfigError: a collector is named and the extra is not installed.
    """
    if endpoint is None:
        return
    try:
        found = find_spec(EXPORTER) is not None
    except ModuleNotFoundError:
        found = False
    if not found:
        text = f"traces = {endpoint!r} needs OpenTelemetry's exporter: pip install 'tryon[otel]'"
        raise ConfigError(text, code="extra-missing", field="traces")


class Traces:
    """What one process tells of its part of a trace; without a collector it does nothing.

    Args:
        endpoint: base URL of the collector, e.g. ``http://127.0.0.1:4318``; None: no traces.
        part: the process's name, e.g. of its deployment.
    """

    def __init__(self, endpoint: str | None, part: str) -> None:
        self._tracer: Any = _tracer(endpoint, part) if endpoint is not None else None

    def here(self) -> Carrier:
        """The place in the trace that is being told, for another process; empty without one."""
        if self._tracer is None:
            return {}
        from opentelemetry.propagate import inject

        carrier: dict[str, str] = {}
        inject(carrier)
        return carrier

    @contextlib.contextmanager
    def request(self, name: str, carrier: Carrier, **attributes: str) -> Iterator[Callable[[int, str], None]]:
        """A span around a request.

        Args:
            name: of the span.
            carrier: the request's headers: where they name a trace, the span is part of it.
            attributes: of the span.

        Yields:
            What is told the status of the answer, and a better name.
        """
        if self._tracer is None:
            yield lambda status, name: None
            return
        from opentelemetry.propagate import extract
        from opentelemetry.trace import SpanKind, Status, StatusCode

        with self._tracer.start_as_current_span(name, extract(carrier), SpanKind.SERVER, attributes) as span:

            def answered(status: int, name: str) -> None:
                span.update_name(name)
                span.set_attribute("http.response.status_code", status)
                if status >= 500:
                    span.set_status(Status(StatusCode.ERROR))

            yield answered

    def stages(
        self, carriers: Sequence[Carrier], on_stage: Callable[[str, float], None]
    ) -> Callable[[str, float], None]:
        """Wraps what is told of each stage and its seconds: also a span for each of the requests it ran for."""
        if self._tracer is None:
            return on_stage
        from opentelemetry.propagate import extract

        def told(name: str, seconds: float) -> None:
            on_stage(name, seconds)
            end = time.time_ns()
            for carrier in carriers:
                start = end - round(seconds * 1e9)
                told = {"tryon.batch_requests": len(carriers)}
                span = self._tracer.start_span(name, extract(carrier), attributes=told, start_time=start)
                span.end(end)

        return told


@cache
def _tracer(endpoint: str, part: str) -> Any:
    from importlib import import_module

    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    exporter = import_module(EXPORTER).OTLPSpanExporter(endpoint=endpoint.rstrip("/") + PATH)
    named = {"service.name": "tryon", "service.version": __version__, "service.instance.id": part}
    # Not the global provider: Ray has one of its own for its metrics.
    provider = TracerProvider(resource=Resource.create(named))
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider.get_tracer("tryon", __version__)


class Traced:
    """Plain ASGI middleware: a span around each request of the API."""

    def __init__(self, app: ASGIApp, traces: Traces) -> None:
        self._app = app
        self._traces = traces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Request(scope).headers
        told = {"http.request.method": scope["method"], "url.path": scope["path"]}
        if "x-request-id" in headers:
            told["tryon.request_id"] = headers["x-request-id"]
        with self._traces.request(scope["method"], dict(headers), **told) as answered:

            async def send_seen(message: Message) -> None:
                if message["type"] == "http.response.start":
                    # The route's pattern: a path would be a name for each job.
                    route = getattr(scope.get("route"), "path", "other")
                    answered(message["status"], f"{scope['method']} {route}")
                await send(message)

            await self._app(scope, receive, send_seen)
