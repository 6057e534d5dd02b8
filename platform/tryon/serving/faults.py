"""Every fault as one typed body: what the user sent gets a 4xx that names it, the rest a 5xx without internals."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tryon.errors import SampleError, TryonError
from tryon.serving.api import ErrorResponse
from tryon.serving.headers import SecurityHeaders, route_path, secure

REQUEST_ID = "x-request-id"
STATUS = {
    "image-too-large": 413,
    "not-an-image": 415,
    "no-person": 422,
    "no-garment": 422,
    "garment-not-worn": 422,
    "garment-not-extracted": 422,
    "field-missing": 422,
    "field-invalid": 422,
    "field-conflict": 422,
    "option-unused": 422,
    "not-offered": 404,
    "url-missing": 422,
    "url-unreachable": 422,
    "url-timeout": 422,
    "http-status": 422,
    "too-many-redirects": 422,
    "url-encoding": 422,
    "body-cut": 422,
    "model-missing": 404,
    "job-missing": 404,
    "result-missing": 404,
    "upload-missing": 404,
    "idempotency-key-reused": 422,
    "busy": 503,
    "store-unavailable": 503,
    "deadline": 504,
}
MAX_BODY_BYTES = 64_000_000
logger = logging.getLogger("ray.serve")


class BusyError(SampleError):
    """The service is at its bound; the request can be sent again."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="busy")


class DeadlineError(SampleError):
    """The request took longer than it may."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="deadline")


def install(api: FastAPI) -> None:
    """Registers the handlers and the body limit on an app."""
    api.add_exception_handler(TryonError, _user_fault)
    api.add_exception_handler(RequestValidationError, _validation_fault)
    api.add_exception_handler(HTTPException, _http_fault)
    api.add_exception_handler(Exception, _internal_fault)
    api.add_middleware(_Bounds)
    api.add_middleware(SecurityHeaders)


class _Bounds:
    """Plain ASGI middleware: gives each request an id and takes no body past the limit.

    A body that says its length is refused before it is read, one that comes in chunks when it gets there.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        request.state.id = request_id = request.headers.get(REQUEST_ID) or uuid.uuid4().hex

        async def send_with_id(message: Message) -> None:
            # Serve's proxy puts an id into requests that lack one, and appends it to every answer: a second is no use.
            if message["type"] == "http.response.start" and REQUEST_ID not in request.headers:
                MutableHeaders(scope=message)[REQUEST_ID] = request_id
            await send(message)

        length = request.headers.get("content-length", "0")
        if length.isdigit() and int(length) > MAX_BODY_BYTES:
            refusal = await _http_fault(request, _too_large(f"{int(length):,}"))
            await refusal(scope, receive, send_with_id)
            return
        taken = 0

        async def receive_bounded() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > MAX_BODY_BYTES:
                raise _too_large(f"more than {MAX_BODY_BYTES:,}")
            return message

        await self._app(scope, receive_bounded, send_with_id)


def _too_large(seen: str) -> HTTPException:
    return HTTPException(413, f"the body has {seen} bytes; at most {MAX_BODY_BYTES:,} are taken")


def answer(
    request: Request,
    status: int,
    code: str,
    message: str,
    field: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """The typed body of a refusal, with the headers of all answers: a 500 is made outside of every middleware."""
    request_id = getattr(request.state, "id", None)
    body = ErrorResponse(code=code, message=message, field=field, request_id=request_id)
    told = {"retry-after": "2"} if status == 503 else {}
    response = JSONResponse(body.model_dump(), status_code=status, headers={**told, **(headers or {})})
    request.state.fault = code  # for the metrics
    secure(response.headers, route_path(request.scope))
    return response


async def _user_fault(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, TryonError)
    status = STATUS.get(error.code, 400)
    return answer(request, status, error.code, error.message, error.field)


async def _validation_fault(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"][1:]) or str(first["loc"][-1])
    missing = first["type"] == "missing"
    message = f"the form field {field!r} is missing" if missing else f"{field}: {first['msg']}"
    return answer(request, 422, "field-missing" if missing else "field-invalid", message, field)


async def _http_fault(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    code = {404: "not-found", 405: "method-not-allowed", 413: "body-too-large"}.get(error.status_code, "http-error")
    message = f"{request.method} {request.url.path}: {error.detail}"
    return answer(request, error.status_code, code, message)


async def _internal_fault(request: Request, error: Exception) -> JSONResponse:
    logger.error("request %s failed", getattr(request.state, "id", "-"), exc_info=error)
    return answer(request, 500, "internal", "the service failed on this request; its log has the reason")
