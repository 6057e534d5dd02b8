"""Headers that keep a browser from doing more with an answer than showing it."""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_NOWHERE = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
CSP_DATA = _NOWHERE  # an answer of the API, opened in a tab, loads and runs nothing
CSP_PAGE = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
# FastAPI's pages of the API's documentation are Swagger UI and ReDoc from their CDN, started by a script in the page.
CSP_DOCS = (
    "default-src 'none'; script-src 'self' 'unsafe-inline' https://cdn.jsdelivr.net; worker-src blob:; "
    "style-src 'self' 'unsafe-inline' https://cdn.jsdelivr.net https://fonts.googleapis.com; "
    "font-src https://fonts.gstatic.com; img-src 'self' data: https://fastapi.tiangolo.com https://cdn.redoc.ly; "
    "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
ALWAYS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",  # for browsers that know no frame-ancestors
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}
DOCS = ("/docs", "/redoc")
API = "/api/"


def secure(headers: MutableHeaders, path: str) -> None:
    """Adds the headers that an answer lacks.

    Args:
        headers: of the answer.
        path: that was asked for. What is below `API` is somebody's photos: no cache keeps it.
    """
    policy = CSP_DATA if path.startswith(API) else CSP_DOCS if path.startswith(DOCS) else CSP_PAGE
    told = {**ALWAYS, "content-security-policy": policy}
    if path.startswith(API):
        told["cache-control"] = "no-store"
    for name, value in told.items():
        headers.setdefault(name, value)


def route_path(scope: Scope) -> str:
    """The path as the app's routes see it, without the prefix that the app is served under."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


class SecurityHeaders:
    """Plain ASGI middleware around all the others, so that their answers have the headers too."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""

        async def send_secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                secure(MutableHeaders(scope=message), route_path(scope))
            await send(message)

        await self._app(scope, receive, send_secured if scope["type"] == "http" else send)
