"""The API's calls without a connection: what is sent, what comes back, when it is sent again.

Each call is a generator that yields what has to be done (`Send`, `Wait`) and is given the reply; `Client` and
`AsyncClient` do it in their own way.
"""

from __future__ import annotations

import json
import random
import time
import uuid
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx

from tryon.client.replies import (
    BusyServiceError,
    Extraction,
    Health,
    Job,
    PairInput,
    Photo,
    RefusedError,
    ServiceError,
    TryOn,
    UnreachableError,
)
from tryon.errors import ConfigError
from tryon.serving.api import AnnotateResponse, ModelsResponse
from tryon.serving.jobs.bodies import ItemResponse, ProgressResponse, ResultResponse, ResultsResponse

T = TypeVar("T")
API = "/api/v1"
RETRIED = (408, 429, 500, 502, 503)  # 500: a replica that died with requests in flight; a 504 has used up its time
BUSY = (429, 503)
PAGE = 1000


@dataclass(frozen=True)
class Retries:
    """How often, and for how long, a call is tried.

    Attributes:
        timeout_s: for a call with all its tries.
        tries: at most.
        first_pause_s: before the second try, doubled for each further one, drawn from half of it to all.
        longest_pause_s: bound of that; a `Retry-After` of the service's is kept to whatever it says.
    """

    timeout_s: float = 120.0
    tries: int = 8
    first_pause_s: float = 0.25
    longest_pause_s: float = 8.0

    def pause_s(self, tried: int, reply: httpx.Response | None) -> float:
        """Before the next try, after so many."""
        pause_s = min(self.first_pause_s * 2.0 ** (tried - 1), self.longest_pause_s) * random.uniform(0.5, 1.0)
        told = reply.headers.get("retry-after", "") if reply is not None else ""
        return max(pause_s, float(told)) if told.isdigit() else pause_s


@dataclass(frozen=True)
class Send:
    """A request to send, of which the reply is wanted: `httpx.Response`, or `httpx.TransportError`."""

    method: str
    path: str
    timeout_s: float
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Wait:
    """A pause, seconds."""

    seconds: float


Call = Generator[Send | Wait, httpx.Response | httpx.TransportError | None, T]


def send(retries: Retries, method: str, path: str, **values: Any) -> Call[httpx.Response]:
    """A request with its tries; all of them have one request id.

    Raises:
        RefusedError: 4xx.
        BusyServiceError: 429 or 503 at the last try.
        UnreachableError: no answer at the last try.
        ServiceError: another 5xx at the last try.
    """
    headers = {"x-request-id": uuid.uuid4().hex, **values.pop("headers", {})}
    end = time.monotonic() + retries.timeout_s
    tried = 0
    while True:
        left_s = max(0.001, end - time.monotonic())
        # What the service does for longer than the client waits is no use.
        told = {**headers, "x-request-timeout-seconds": f"{left_s:.3f}"}
        reply = yield Send(method, API + path, left_s, {**values, "headers": told})
        tried += 1
        response = reply if isinstance(reply, httpx.Response) else None
        if response is not None and response.is_success:
            return response
        again = response is None or response.status_code in RETRIED
        pause_s = retries.pause_s(tried, response)
        if not again or tried >= retries.tries or time.monotonic() + pause_s >= end:
            raise fault(path, response, reply, tried)
        yield Wait(pause_s)


def fault(path: str, response: httpx.Response | None, reply: object, tried: int) -> ServiceError:
    """The error for a reply that is not 2xx, or for none."""
    if response is None:
        reason = str(reply) or type(reply).__name__
        text = f"{API}{path}: no answer after {tried} tries: {reason}"
        return UnreachableError(text, code="unreachable")
    try:
        body = response.json()
        code, message, at = str(body["code"]), str(body["message"]), body.get("field")
    except (ValueError, KeyError, TypeError):  # of a proxy's
        code, at = "http-status", None
        message = f"{API}{path}: the answer is {response.status_code} {response.reason_phrase}"
    status = response.status_code
    kind = BusyServiceError if status in BUSY else RefusedError if status < 500 else ServiceError
    told = response.headers.get("x-request-id")
    return kind(message, code=code, field=at, status=status, request_id=told)


def tryon(retries: Retries, person: Photo, garment: Photo | Sequence[Photo], options: Mapping[str, Any]) -> Call[TryOn]:
    """`POST /tryon`."""
    reply = yield from send(retries, "POST", "/tryon", **form({"person": person, "garment": garment}, options))
    return TryOn.of(reply.json(), reply.headers.get("x-request-id"))


def extract(retries: Retries, person: Photo, options: Mapping[str, Any]) -> Call[Extraction]:
    """`POST /extract`."""
    reply = yield from send(retries, "POST", "/extract", **form({"person": person}, options))
    return Extraction.of(reply.json(), reply.headers.get("x-request-id"))


def annotate(
    retries: Retries, person: Photo | None, garment: Photo | None, options: Mapping[str, Any]
) -> Call[AnnotateResponse]:
    """`POST /annotate`."""
    photos = {name: photo for name, photo in (("person", person), ("garment", garment)) if photo is not None}
    reply = yield from send(retries, "POST", "/annotate", **form(photos, options))
    return AnnotateResponse.model_validate(reply.json())


def models(retries: Retries) -> Call[ModelsResponse]:
    """`GET /models`."""
    reply = yield from send(retries, "GET", "/models")
    return ModelsResponse.model_validate(reply.json())


def health(retries: Retries) -> Call[Health]:
    """`GET /health`."""
    reply = yield from send(retries, "GET", "/health")
    return Health.model_validate(reply.json())


def upload(retries: Retries, data: bytes) -> Call[str]:
    """`POST /uploads`; gives the image's id."""
    reply = yield from send(retries, "POST", "/uploads", files={"image": ("image", data)})
    return str(reply.json()["upload_id"])


def submit(
    retries: Retries,
    pairs: Sequence[PairInput],
    options: Mapping[str, Any],
    webhook_url: str | None,
    idempotency_key: str | None,
) -> Call[Job]:
    """`POST /batch`, after the uploads it needs; sent twice it is one job."""
    ids: dict[Photo, str] = {}
    for photo in dict.fromkeys(photo for pair in pairs for photo in (pair.person, pair.garment)):
        if not is_url(photo):
            ids[photo] = yield from upload(retries, read(photo))
    told = []
    for pair in pairs:
        one: dict[str, Any] = {} if pair.id is None else {"id": pair.id}
        one |= {} if pair.category is None else {"category": pair.category}
        for name, photo in (("person", pair.person), ("garment", pair.garment)):
            one |= {f"{name}_url": photo} if is_url(photo) else {f"{name}_id": ids[photo]}
        told.append(one)
    body = {"pairs": told, "options": dict(options), "webhook_url": webhook_url}
    headers = {"idempotency-key": idempotency_key or uuid.uuid4().hex}
    reply = yield from send(retries, "POST", "/batch", json=body, headers=headers)
    return Job.model_validate(reply.json())


def job(retries: Retries, job_id: str) -> Call[Job]:
    """`GET /batch/{id}`, without its pairs."""
    reply = yield from send(retries, "GET", f"/batch/{job_id}", params={"limit": 1})
    return Job.model_validate(reply.json())


def items(retries: Retries, job_id: str) -> Call[list[ItemResponse]]:
    """`GET /batch/{id}`, every page."""
    found: list[ItemResponse] = []
    after: int | None = -1
    while after is not None:
        reply = yield from send(retries, "GET", f"/batch/{job_id}", params={"after": after, "limit": PAGE})
        page = ProgressResponse.model_validate(reply.json())
        found += page.items
        after = page.next_after
    return found


def results(retries: Retries, job_id: str) -> Call[list[ResultResponse]]:
    """`GET /batch/{id}/results`, every page."""
    found: list[ResultResponse] = []
    after: int | None = -1
    while after is not None:
        reply = yield from send(retries, "GET", f"/batch/{job_id}/results", params={"after": after, "limit": PAGE})
        page = ResultsResponse.model_validate(reply.json())
        found += page.results
        after = page.next_after
    return found


def result(retries: Retries, job_id: str, index: int) -> Call[bytes]:
    """`GET /batch/{id}/results/{index}`: the image's file."""
    reply = yield from send(retries, "GET", f"/batch/{job_id}/results/{index}")
    return reply.content


def cancel(retries: Retries, job_id: str, remove_results: bool) -> Call[Job]:
    """`DELETE /batch/{id}`."""
    reply = yield from send(retries, "DELETE", f"/batch/{job_id}", params={"results": str(remove_results).lower()})
    return Job.model_validate(reply.json())


def wait(retries: Retries, job_id: str, timeout_s: float | None, poll_s: float) -> Call[Job]:
    """Asks until the job has ended.

    Raises:
        ServiceError: it has not within the time.
    """
    end = time.monotonic() + timeout_s if timeout_s is not None else None
    while True:
        found = yield from job(retries, job_id)
        if found.ended_at is not None:
            return found
        if end is not None and time.monotonic() + poll_s > end:
            ended = found.completed + found.failed + found.cancelled
            text = f"job {job_id} has not ended in {timeout_s:g} s: {ended} of {found.total} pairs have"
            raise ServiceError(text, code="deadline")
        yield Wait(poll_s)


def form(photos: Mapping[str, Photo | Sequence[Photo]], options: Mapping[str, Any]) -> dict[str, Any]:
    """The form of a request with photos; of a sequence its field is there several times."""
    given = [(name, photo) for name, told in photos.items() for photo in _each(told)]
    files = [(f"{name}_image", (name, read(photo))) for name, photo in given if not is_url(photo)]
    data: dict[str, Any] = {"options": json.dumps(dict(options))}
    for name, photo in given:
        if is_url(photo):
            data.setdefault(f"{name}_url", []).append(photo)
    return {"files": files, "data": data}


def _each(told: Photo | Sequence[Photo]) -> Sequence[Photo]:
    return (told,) if isinstance(told, bytes | str | Path) else told


def is_url(photo: Photo) -> bool:
    """Whether the service fetches it."""
    return isinstance(photo, str) and photo.startswith(("http://", "https://"))


def read(photo: Photo) -> bytes:
    """The file of a photo that is no URL.

    Raises:
        ConfigError: it cannot be read.
    """
    if isinstance(photo, bytes):
        return photo
    try:
        return Path(photo).read_bytes()
    except OSError as error:
        raise ConfigError(f"{photo}: {error.strerror}", code="uri-missing") from error


def chosen(**options: Any) -> dict[str, Any]:
    """Options that were told; the service has defaults for the others."""
    return {name: value for name, value in options.items() if value is not None}
