"""Client of the service: `Client` and `AsyncClient`, with retries and typed errors; needs neither torch nor Ray."""

from tryon.client.asynchronous import AsyncClient
from tryon.client.replies import (
    BusyServiceError,
    Extraction,
    Health,
    Job,
    PairInput,
    RefusedError,
    ServiceError,
    TryOn,
    UnreachableError,
)
from tryon.client.synchronous import Client

__all__ = [
    "AsyncClient",
    "BusyServiceError",
    "Client",
    "Extraction",
    "Health",
    "Job",
    "PairInput",
    "RefusedError",
    "ServiceError",
    "TryOn",
    "UnreachableError",
]
