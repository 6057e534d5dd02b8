"""The ingress: takes requests, sends their photos through the groups of stages, and gives the answers."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

import ray.exceptions
from fastapi import Request, Response
from ray.serve.exceptions import BackPressureError
from ray.serve.handle import DeploymentHandle

from tryon import __version__
from tryon.config import parse_config
from tryon.errors import SampleError
from tryon.models.bundle import read_manifest
from tryon.sample import Batch
from tryon.serving.answers import annotate_response, encode_result, extract_response, model_info, tryon_response
from tryon.serving.api import (
    AnnotateOptions,
    AnnotateResponse,
    ExtractOptions,
    ExtractResponse,
    HealthResponse,
    ModelsResponse,
    TryOnOptions,
    TryOnResponse,
)
from tryon.serving.config import ServeConfig
from tryon.serving.faults import BusyError, DeadlineError
from tryon.serving.fetch import Fetcher
from tryon.serving.graph import ANNOTATE_GARMENT, ANNOTATE_PERSON, EXTRACTION, TRYON, TRYON_LAYERS, Program
from tryon.serving.jobs.host import JobHost
from tryon.serving.jobs.service import JobService
from tryon.serving.metrics import IngressMetrics
from tryon.serving.photos import Body

MEDIA = {"image/jpeg": "jpeg", "image/png": "png"}  # what `Accept` may ask for in place of JSON, and our word for it
LOSSES = (
    ray.exceptions.RayActorError,
    ray.exceptions.WorkerCrashedError,
    ray.exceptions.ObjectLostError,
    ray.exceptions.NodeDiedError,
)
MAX_TRIES = 6  # of a request whose replica died
RETRY_PAUSE_S = 0.5  # times the tries so far
logger = logging.getLogger("ray.serve")


class Ingress:
    """One batch of one through the groups; the HTTP routes of `make_api` call it.

    Where batch jobs are served, each ingress works items off too, through the same groups.
    """

    def __init__(
        self,
        config: ServeConfig,
        groups: Sequence[DeploymentHandle],
        programs: Mapping[str, Sequence[int]],
        always_there: Sequence[int],
    ) -> None:
        """Takes what it sends requests to.

        Args:
            config: of the service.
            groups: in order.
            programs: places of the groups that have a part of a program, by its name.
            always_there: places of the groups that have a replica at any time.
        """
        self._always_there = always_there
        self._config = config
        self._groups = groups
        self._programs = programs
        self._fetcher = Fetcher(config.fetch)
        self._metrics = IngressMetrics()
        self._jobs: JobHost | None = None
        if config.jobs is not None:
            self._jobs = JobHost(config.jobs, self.tryon_files, self._fetcher.fetch)

    async def check_health(self) -> None:
        """Asked by Ray Serve every few seconds, the first time when the replica starts: keeps batch work going."""
        if self._jobs is None:
            return
        self._jobs.keep_working()
        counts = await self._jobs.count()
        if counts is not None:
            self._metrics.jobs(counts)

    async def __del__(self) -> None:
        """Awaited by Ray Serve before it ends the replica."""
        if self._jobs is not None:
            await self._jobs.close()

    def jobs(self) -> JobService:
        """The stores of batch jobs; only where they are served.

        Raises:
            StorageError: they cannot be reached.
        """
        assert self._jobs is not None
        return self._jobs.service()

    async def body(self, request: Request) -> Body:
        """The request's form or JSON."""
        return await Body.of(request, self._config.limits)

    async def tryon(self, body: Body, media: str | None) -> TryOnResponse | Response:
        """Runs the whole pipeline on one pair.

        Args:
            body: with `person_image`, `garment_image` and `options`.
            media: that the client asks for in place of JSON.

        Raises:
            TryonError: an option, a photo or the load does not allow it.
        """
        start = time.perf_counter()
        told = dict(body.options())
        options: TryOnOptions = parse_config(TryOnOptions, with_format(told, media), "options")
        person = await body.photo("person", self._fetcher)
        garment = await body.photo("garment", self._fetcher)
        program = TRYON_LAYERS if options.return_layers and media is None else TRYON
        row = await self._through(program, pair(person, garment, options))
        if media is not None:
            return Response(await asyncio.to_thread(encode_result, row["result"], options), media_type=media)
        return await asyncio.to_thread(tryon_response, row, options, start)

    async def tryon_files(self, person: bytes, garment: bytes, options: TryOnOptions, name: str) -> bytes:
        """Runs the whole pipeline on one pair.

        Args:
            person: the photo's file.
            garment: the photo's file.
            options: `return_mask` is ignored.
            name: of the pair, for logs.

        Returns:
            The result's file.

        Raises:
            TryonError: see `tryon`.
        """
        row = await self._through(TRYON, pair(person, garment, options, name))
        return await asyncio.to_thread(encode_result, row["result"], options)

    async def extract(self, body: Body, media: str | None) -> ExtractResponse | Response:
        """The garment of a person photo.

        Raises:
            TryonError: an option, the photo or the load does not allow it, or the bundle does not extract.
        """
        start = time.perf_counter()
        options: ExtractOptions = parse_config(ExtractOptions, with_format(dict(body.options()), media), "options")
        person = await body.photo("person", self._fetcher)
        row = await self._through(EXTRACTION, alone(person, options.category))
        if media is not None:
            return Response(await asyncio.to_thread(encode_result, row["garment"], options), media_type=media)
        return await asyncio.to_thread(extract_response, row, options, start)

    async def annotate(self, body: Body) -> AnnotateResponse:
        """What is found in a person photo, a garment photo, or both.

        Raises:
            TryonError: an option, a photo or the load does not allow it.
        """
        start = time.perf_counter()
        options: AnnotateOptions = parse_config(AnnotateOptions, body.options(), "options")
        person = garment = None
        if body.has("person") or not body.has("garment"):
            file = await body.photo("person", self._fetcher)
            person = await self._through(ANNOTATE_PERSON, alone(file, options.category))
        if body.has("garment"):
            file = await body.photo("garment", self._fetcher)
            garment = await self._through(ANNOTATE_GARMENT, {"id": ["request"], "garment_file": [file]})
        return await asyncio.to_thread(annotate_response, person, garment, start)

    async def models(self) -> ModelsResponse:
        """The bundle."""
        uri = self._config.bundle
        assert uri is not None
        manifest = await asyncio.to_thread(read_manifest, uri)
        return ModelsResponse(models=[model_info(uri.rstrip("/").rpartition("/")[2], manifest)])

    async def health(self) -> HealthResponse:
        """Healthy when every group of stages answers within 5 s; those that may have no replica are not woken."""
        import torch

        waits = [self._groups[place].ready.remote() for place in self._always_there]
        try:
            loaded = all(await asyncio.wait_for(asyncio.gather(*waits), timeout=5.0))
        except BackPressureError:  # replicas are there, and busy
            loaded = True
        except (TimeoutError, ray.exceptions.RayError):
            loaded = False
        return HealthResponse(
            status="healthy" if loaded else "degraded",
            model_loaded=loaded,
            gpu_available=torch.cuda.is_available(),
            version=__version__,
        )

    async def _through(self, program: Program, batch: Batch) -> dict[str, Any]:
        """Sends a batch from group to group; responses are passed on, so images do not come back here between.

        Raises:
            SampleError: the sample cannot be used, or the service does not offer the program.
        """
        places = self._programs.get(program.name)
        if places is None:
            text = f"this service does not {program.name}: its bundle or its groups lack a stage for it"
            raise SampleError(text, code="not-offered")
        end = time.monotonic() + self._config.request_timeout_s
        tries = 1
        while True:
            try:
                out = await self._once(program, places, batch, end)
                break
            except ray.exceptions.RayError as error:
                if not is_loss(error) or tries >= MAX_TRIES or time.monotonic() >= end:
                    raise
                self._metrics.lost(program.name)
                logger.warning("a replica was lost with a request in it, which is run again: %s", type(error).__name__)
                await asyncio.sleep(RETRY_PAUSE_S * tries)
                tries += 1
        row = {name: column[0] for name, column in out.items()}
        if row["error_code"] is not None:
            raise SampleError(row["error"], code=row["error_code"], field=fault_field(row))
        return row

    async def _once(self, program: Program, places: Sequence[int], batch: Batch, end: float) -> Batch:
        """One try of a program; `end` is of `time.monotonic`.

        Raises:
            DeadlineError, BusyError: the time is over; all replicas are busy.
            RayError: see `is_loss`.
        """
        left_s = end - time.monotonic()
        value: Any = batch
        until = time.time() + left_s
        for place in places:
            value = self._groups[place].run.remote(value, program.name, until)
        try:
            out: Batch = await asyncio.wait_for(value, timeout=left_s)
        except TimeoutError as error:
            raise DeadlineError(f"the request took longer than {self._config.request_timeout_s:g} s") from error
        except BackPressureError as error:
            raise BusyError("all replicas are busy; try again in a few seconds") from error
        return out


def is_loss(error: BaseException) -> bool:
    """Whether a request failed because the process that had it, or what it had made, is gone: another try may do."""
    if isinstance(error, ray.exceptions.RayTaskError):
        return error.cause is not None and is_loss(error.cause)
    return isinstance(error, LOSSES)


def with_format(told: Mapping[str, Any], media: str | None) -> dict[str, Any]:
    """Options with the format that `Accept` asks for; what the options say themselves wins no more."""
    return dict(told) if media is None else {**told, "output_format": MEDIA[media]}


def pair(person: bytes, garment: bytes, options: TryOnOptions, name: str = "request") -> Batch:
    """A batch of one, as the first group takes it."""
    return {"id": [name], "category": [options.category], "person_file": [person], "garment_file": [garment]}


def alone(person: bytes, category: str | None) -> Batch:
    """As `pair`, without a garment."""
    return {"id": ["request"], "category": [category], "person_file": [person]}


def fault_field(row: dict[str, Any]) -> str | None:
    """Which input a stage's error is about."""
    stage = row["error_stage"]
    if stage in ("decode_garment", "fit_garment", "garment_mask"):
        return "garment_image"
    return "person_image" if stage in ("decode_person", "fit_person", "pose", "parse", "extract") else None
