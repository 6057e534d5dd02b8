"""The client for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import TracebackType
from typing import Self, TypeVar

import httpx

from tryon.client import calls
from tryon.client.calls import Call, Retries, Send, chosen
from tryon.client.replies import Extraction, Health, Job, PairInput, Photo, TryOn
from tryon.serving.api import AnnotateResponse, ModelsResponse
from tryon.serving.jobs.bodies import ItemResponse, ResultResponse

T = TypeVar("T")


class AsyncClient:
    """The service at an address, for asyncio. Use it as a context manager, or call `close`.

    Args:
        url: of the service, e.g. ``http://127.0.0.1:8000``.
        key: API key, where the service has keys.
        timeout_s: for a call with all its tries.
        tries: of a call at most. What may be met again by another try is tried again: no answer, a busy service (after
            the time it names), a replica that died. Everything the API does may be sent twice.
    """

    def __init__(self, url: str, *, key: str | None = None, timeout_s: float = 120.0, tries: int = 8) -> None:
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        self._http = httpx.AsyncClient(base_url=url.rstrip("/"), headers=headers)
        self._retries = Retries(timeout_s=timeout_s, tries=tries)

    async def tryon(
        self,
        person: Photo,
        garment: Photo | Sequence[Photo],
        *,
        category: str | Sequence[str] | None = None,
        output_format: str = "png",
        quality: int | None = None,
        return_mask: bool | None = None,
        seed: int | None = None,
        steps: int | None = None,
        num_samples: int | None = None,
        model: str | None = None,
    ) -> TryOn:
        """Tries a garment on a person, or several together.

        Args:
            person: photo of one person: a file's bytes, its path, or a URL that the service fetches.
            garment: photo of the garment alone; several are put on one after the other, and each needs its category.
            category: upper, lower or dress; None: the service's default, upper.
            output_format: png or jpeg.
            quality: of a JPEG, 85 to 100.
            return_mask: also give the agnostic mask.
            seed: of the noise, where the service's network samples.
            steps: of its solver.
            num_samples: pictures, of seed, seed + 1, ...
            model: which of the service's bundles; None: its default one.

        Raises:
            RefusedError: a photo or an option cannot be used.
            BusyServiceError, UnreachableError, ServiceError: see `tryon.client.calls.send`.
        """
        told = chosen(
            category=category,
            output_format=output_format,
            quality=quality,
            return_mask=return_mask,
            seed=seed,
            steps=steps,
            num_samples=num_samples,
            model=model,
        )
        return await self._do(calls.tryon(self._retries, person, garment, told))

    async def extract(
        self,
        person: Photo,
        *,
        category: str | None = None,
        output_format: str = "png",
        quality: int | None = None,
        return_mask: bool | None = None,
    ) -> Extraction:
        """The garment of a person photo, as `tryon`; category None: what is worn most plainly."""
        told = chosen(category=category, output_format=output_format, quality=quality, return_mask=return_mask)
        return await self._do(calls.extract(self._retries, person, told))

    async def annotate(
        self, person: Photo | None = None, garment: Photo | None = None, *, category: str | None = None
    ) -> AnnotateResponse:
        """Parse, keypoints and masks of a person photo, a garment photo, or both; errors as of `tryon`."""
        return await self._do(calls.annotate(self._retries, person, garment, chosen(category=category)))

    async def models(self) -> ModelsResponse:
        """The service's bundles; errors as of `tryon`."""
        return await self._do(calls.models(self._retries))

    async def health(self) -> Health:
        """State of the service; errors as of `tryon`."""
        return await self._do(calls.health(self._retries))

    async def submit(
        self,
        pairs: Sequence[PairInput],
        *,
        category: str | None = None,
        output_format: str | None = None,
        quality: int | None = None,
        webhook_url: str | None = None,
        idempotency_key: str | None = None,
    ) -> Job:
        """Hands in a batch job, with the photos that are files.

        Args:
            pairs: at least one.
            category: of the pairs that name none.
            output_format: jpeg, the service's default, or png.
            quality: of JPEGs.
            webhook_url: called once the job has ended.
            idempotency_key: with the same one, and the same pairs, there is one job however often this is called;
                None: one of this call's own.

        Raises:
            ConfigError: a file cannot be read.
            RefusedError, BusyServiceError, UnreachableError, ServiceError: see `tryon`.
        """
        told = chosen(category=category, output_format=output_format, quality=quality)
        return await self._do(calls.submit(self._retries, pairs, told, webhook_url, idempotency_key))

    async def job(self, job_id: str) -> Job:
        """How a job stands; errors as of `tryon`."""
        return await self._do(calls.job(self._retries, job_id))

    async def wait(self, job_id: str, *, timeout_s: float | None = None, poll_s: float = 1.0) -> Job:
        """Waits until a job has ended.

        Raises:
            ServiceError: with the code ``deadline``: it has not in `timeout_s`; others as of `tryon`.
        """
        return await self._do(calls.wait(self._retries, job_id, timeout_s, poll_s))

    async def items(self, job_id: str) -> list[ItemResponse]:
        """Every pair of a job with its state and error; errors as of `tryon`."""
        return await self._do(calls.items(self._retries, job_id))

    async def results(self, job_id: str) -> list[ResultResponse]:
        """Where the results of a job are; errors as of `tryon`."""
        return await self._do(calls.results(self._retries, job_id))

    async def result(self, job_id: str, index: int) -> bytes:
        """A result image's file; errors as of `tryon`."""
        return await self._do(calls.result(self._retries, job_id, index))

    async def cancel(self, job_id: str, *, remove_results: bool = False) -> Job:
        """Cancels what waits of a job, with `remove_results` all of it; errors as of `tryon`."""
        return await self._do(calls.cancel(self._retries, job_id, remove_results))

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _do(self, call: Call[T]) -> T:
        """Does what a call asks for, until it has its result."""
        reply: httpx.Response | httpx.TransportError | None = None
        while True:
            try:
                step = call.send(reply)
            except StopIteration as end:
                result: T = end.value
                return result
            reply = None
            if not isinstance(step, Send):
                await asyncio.sleep(step.seconds)
                continue
            try:
                reply = await self._http.request(step.method, step.path, timeout=step.timeout_s, **step.values)
            except httpx.TransportError as error:
                reply = error
