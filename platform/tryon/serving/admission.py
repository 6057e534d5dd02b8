"""The bound of a process of the service: past it a request is told so at once, before its photos are read."""

from __future__ import annotations

from fastapi import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from tryon.serving.faults import answer
from tryon.serving.headers import route_path

PICTURES = frozenset({"/api/v1/tryon", "/api/v1/extract", "/api/v1/annotate"})


class Admission:
    """Plain ASGI middleware: lets in so many requests for pictures at once, and answers 503 to the others."""

    def __init__(self, app: ASGIApp, most: int) -> None:
        self._app = app
        self._most = most
        self._num = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http" or scope["method"] != "POST" or route_path(scope) not in PICTURES:
            await self._app(scope, receive, send)
            return
        if self._num >= self._most:
            text = f"{self._num} requests are waiting or at work, which is what is taken; try again in a few seconds"
            await answer(Request(scope), 503, "busy", text)(scope, receive, send)
            return
        self._num += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._num -= 1
