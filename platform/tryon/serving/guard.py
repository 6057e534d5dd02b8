"""Who may do what, and how often: API keys, scopes and limits in front of every route.

ASGI middleware and no FastAPI dependency, since FastAPI reads the whole form before it asks dependencies: 64 MB could
be sent without a key. What needs none is listed here; all else needs one, so a route that is added later is closed.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import math
import os
from typing import Any

from fastapi import FastAPI, Request, Security
from fastapi.responses import JSONResponse
from fastapi.security import APIKeyHeader, HTTPBearer
from starlette.types import ASGIApp, Receive, Scope, Send

from tryon.errors import ConfigError, TryonError
from tryon.serving import keys
from tryon.serving.config import ServeConfig
from tryon.serving.faults import answer
from tryon.serving.headers import route_path
from tryon.serving.keys import SCOPES, AccessError, Key, KeyRing
from tryon.serving.limits import Decision, Limits, open_limits

PREFIX = "/api/v1/"
OPEN = ("/", "/docs", "/docs/oauth2-redirect", "/redoc", "/openapi.json", "/favicon.ico", "/api/v1/health")
OPEN_BELOW = ("/static/",)
SHARED = {"uploads": "batch"}  # a path's first part where it is not the scope's name
HA_PROXY = "RAY_SERVE_ENABLE_HA_PROXY"  # Ray's own setting: HAProxy in place of its proxy
GRACE_S = 60.0  # a lease outlives a request's time by this: uploading and answering take time too
SCHEMES = [  # for the OpenAPI document; `Guard` is what checks
    Security(HTTPBearer(auto_error=False, description="`Authorization: Bearer KEY`, where the service has keys")),
    Security(APIKeyHeader(name="X-API-Key", auto_error=False, description="the same, in a header of its own")),
]
LIMITED = {
    "rate": ("rate-limited", "the API key {key} may send {rate:g} requests a minute; the next in {wait} s"),
    "concurrency": ("too-many-at-once", "the API key {key} has {slots} requests in flight, which is what it may"),
}
logger = logging.getLogger("ray.serve")


def protect(api: FastAPI, config: ServeConfig) -> None:
    """Puts the guard in front of an app's routes; before `faults.install`, whose request id its answers carry.

    Raises:
        ConfigError: the Redis URL is none.
    """
    api.add_middleware(Guard, config=config)


def check_open(config: ServeConfig, host: str) -> None:
    """Refuses to start a service that anybody could use, unless that is what was asked for.

    Args:
        config: of the service.
        host: to listen on.

    Raises:
        ConfigError: no keys, and the address is not a loopback one, or HAProxy hides who asks; or the file of keys
            is none.
        StorageError: the file of keys cannot be read.
    """
    if config.keys is not None:
        keys.read_keys(config.keys)
        return
    if config.open_to_all:
        return
    way_out = "make some with `tryon keys create` and name their file under `keys`, or say `open_to_all: true`"
    if not is_loopback(host):
        text = f"--host {host or '(every address)'} without keys would serve anybody who can reach it: {way_out}"
        raise ConfigError(text, code="open-without-keys", field="--host")
    if _behind_haproxy():
        text = f"{HA_PROXY}=1 without keys would refuse everybody, for HAProxy hides who asks: unset it, or {way_out}"
        raise ConfigError(text, code="haproxy-without-keys", field=HA_PROXY)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address to listen on."""
    try:
        return host.lower() == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def scope_of(path: str) -> keys.Scope | None:
    """What a key must be allowed for a path; None: no key is needed. A path that is not known is an admin's."""
    if path in OPEN or path.startswith(OPEN_BELOW):
        return None
    part = path.removeprefix(PREFIX).partition("/")[0] if path.startswith(PREFIX) else ""
    name = SHARED.get(part, part)
    return next((scope for scope in SCOPES if scope == name), "admin")


class Guard:
    """Plain ASGI middleware: lets a request in, or answers 401, 403, 429 or 503.

    The key that let it in is `request.state.key`, where the service has keys.
    """

    def __init__(self, app: ASGIApp, config: ServeConfig) -> None:
        self._app = app
        self._ring = KeyRing(config.keys) if config.keys else None
        self._limits: Limits = open_limits(config.redis, config.request_timeout_s + GRACE_S)
        self._open_to_all = config.open_to_all

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # no route is a web socket, so none comes in past the keys
            await send({"type": "websocket.close", "code": 1008})
            return
        wanted = scope_of(route_path(scope))
        if wanted is None:
            await self._app(scope, receive, send)
        elif self._ring is None:
            await self._without_keys(scope, receive, send)
        else:
            await self._with_key(self._ring, wanted, scope, receive, send)

    async def _without_keys(self, scope: Scope, receive: Receive, send: Send) -> None:
        """On a service without keys: from this machine, or from all if that was said.

        `check_open` keeps `tryon serve` from listening elsewhere; `serve deploy` does not ask it, so this does.
        """
        if self._open_to_all or _from_here(scope):
            await self._app(scope, receive, send)
            return
        text = "this service has no keys and answers its own machine only: give it `keys`, or say `open_to_all: true`"
        await answer(Request(scope), 403, "open-without-keys", text)(scope, receive, send)

    async def _with_key(self, ring: KeyRing, wanted: keys.Scope, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        try:
            key = await ring.find(shown_key(request))
        except AccessError as error:
            challenge = {"www-authenticate": 'Bearer realm="tryon"'}
            await answer(request, 401, error.code, error.message, headers=challenge)(scope, receive, send)
            return
        except TryonError as error:
            logger.error("no key can be checked: %s", error.message)
            text = "the service cannot read its keys; its log has the reason"
            await answer(request, 503, "keys-unreadable", text)(scope, receive, send)
            return
        if not key.allows(wanted):
            text = f"the API key {key.shown} may {', '.join(key.scopes)}; this needs {wanted!r}"
            await answer(request, 403, "scope-missing", text)(scope, receive, send)
            return
        decision = await self._limits.take(key.id, key.rule)
        if decision.reason:
            await _limited(request, key, decision)(scope, receive, send)
            return
        request.state.key = key
        try:
            await self._app(scope, receive, send)
        finally:  # also where the client has gone: a cancelled task still gives its slot back
            await asyncio.shield(asyncio.ensure_future(self._limits.release(key.id, decision.lease)))


def owner_of(request: Request) -> str:
    """Id of the key that let a request in, which owns what it makes; empty on a service without keys."""
    key: Key | None = getattr(request.state, "key", None)
    return key.id if key else ""


def shown_key(request: Request) -> str:
    """The key that a request brings, in `Authorization: Bearer` or `X-API-Key`.

    Raises:
        AccessError: it brings none.
    """
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    found = token.strip() if scheme.lower() == "bearer" else request.headers.get("x-api-key", "").strip()
    if not found:
        text = "an API key is needed: `Authorization: Bearer KEY`, or `X-API-Key: KEY`"
        raise AccessError(text, code="key-missing")
    return found


def _limited(request: Request, key: Key, decision: Decision) -> JSONResponse:
    wait = max(1, math.ceil(decision.wait_s))
    code, text = LIMITED[decision.reason]
    rule = key.rule
    message = text.format(key=key.shown, rate=rule.rate_per_min or 0.0, slots=rule.concurrency, wait=wait)
    return answer(request, 429, code, message, headers={"retry-after": str(wait)})


def _behind_haproxy() -> bool:
    return os.environ.get(HA_PROXY) == "1"


def _from_here(scope: Scope) -> bool:
    """Whether a request comes from this machine: over loopback, a socket file, or from its own address.

    Behind HAProxy every request does, so there none is taken to.
    """
    if _behind_haproxy():
        return False
    client: Any = scope.get("client")
    server: Any = scope.get("server")
    return not client or is_loopback(client[0]) or (bool(server) and client[0] == server[0])
