"""What the client takes and gives back, and the errors it raises."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from tryon.errors import TryonError
from tryon.serving.api import ExtractResponse, HealthResponse, TryOnResponse
from tryon.serving.jobs.bodies import JobResponse

Photo = bytes | Path | str  # a file's bytes, its path, or a URL that the service fetches
Health = HealthResponse
Job = JobResponse


class ServiceError(TryonError):
    """The service did not do what was asked.

    Attributes:
        status: of HTTP; None where no answer came.
        request_id: to find the request in the service's log, or None.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str,
        field: str | None = None,
        status: int | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message, code=code, field=field)
        self.status = status
        self.request_id = request_id


class RefusedError(ServiceError):
    """4xx: what was sent cannot be used; `code` and `field` say what. Sending it again meets the same."""


class BusyServiceError(ServiceError):
    """429 or 503, at every try: the service or the API key is at its bound."""


class UnreachableError(ServiceError):
    """No answer came, at any try within the time."""


@dataclass(frozen=True)
class Made:
    """An image that the service made.

    Attributes:
        image: its file.
        mask: PNG file, where it was asked for: of a try-on the agnostic mask, of an extraction the garment's.
        seconds: inside the service.
        size: (width, height) px.
        notices: what was converted on decoding.
        request_id: of the request.
    """

    image: bytes
    mask: bytes | None
    seconds: float
    size: tuple[int, int]
    notices: tuple[str, ...] = ()
    request_id: str | None = None


@dataclass(frozen=True)
class TryOn(Made):
    """A finished try-on.

    Attributes:
        samples: files of all pictures, where more than one was asked for; `image` is the first.
    """

    samples: tuple[bytes, ...] = ()

    @classmethod
    def of(cls, body: Mapping[str, Any], request_id: str | None) -> Self:
        """From the answer's JSON."""
        told = TryOnResponse.model_validate(body)
        size = (told.metadata.output_resolution.width, told.metadata.output_resolution.height)
        image, mask = base64.b64decode(told.result_image), _decoded(told.mask_image)
        samples = tuple(base64.b64decode(one) for one in told.samples or ())
        return cls(image, mask, told.processing_time, size, tuple(told.metadata.notices), request_id, samples)


class Extraction(Made):
    """An extracted garment."""

    @classmethod
    def of(cls, body: Mapping[str, Any], request_id: str | None) -> Self:
        """From the answer's JSON."""
        told = ExtractResponse.model_validate(body)
        size = (told.resolution.width, told.resolution.height)
        image, mask = base64.b64decode(told.garment_image), _decoded(told.mask_image)
        return cls(image, mask, told.processing_time, size, tuple(told.notices), request_id)


def _decoded(text: str | None) -> bytes | None:
    return base64.b64decode(text) if text is not None else None


@dataclass(frozen=True)
class PairInput:
    """A pair of a batch job.

    Attributes:
        person: photo; files are uploaded once however many pairs share them.
        garment: photo.
        id: the caller's own name of the pair, given back with it.
        category: of the garment; None: that of the job.
    """

    person: Photo
    garment: Photo
    id: str | None = None
    category: str | None = field(default=None)
