"""The ingress: takes requests, sends their photos through the groups of stages, and gives the answers."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from fastapi import Request, Response
from ray.serve.handle import DeploymentHandle

from tryon import __version__
from tryon.config import parse_config
from tryon.errors import SampleError, TryonError
from tryon.sample import CATEGORIES, Batch, Row
from tryon.serving.answers import annotate_response, encode_result, extract_response, model_info, tryon_response
from tryon.serving.api import (
    AnnotateOptions,
    AnnotateResponse,
    ExtractOptions,
    ExtractResponse,
    HealthResponse,
    ModelsResponse,
    TryOnCall,
    TryOnOptions,
    TryOnResponse,
)
from tryon.serving.config import BundlesConfig, ServeConfig
from tryon.serving.fetch import Fetcher
from tryon.serving.graph import ANNOTATE_GARMENT, ANNOTATE_PERSON, EXTRACTION, TRYON, TRYON_LAYERS, TRYON_MASK, Program
from tryon.serving.jobs.host import JobHost
from tryon.serving.jobs.service import JobService
from tryon.serving.metrics import IngressMetrics
from tryon.serving.photos import Body
from tryon.serving.router import Router

MEDIA = {"image/jpeg": "jpeg", "image/png": "png"}  # what `Accept` may ask for in place of JSON, and our word for it
T = TypeVar("T")
logger = logging.getLogger("ray.serve")


class Ingress:
    """One batch of one through the groups; the HTTP routes of `make_api` call it.

    Where batch jobs are served, each ingress works items off too, through the same groups.
    """

    def __init__(self, config: ServeConfig, groups: Mapping[str, DeploymentHandle]) -> None:
        """Takes what it sends requests to.

        Args:
            config: of the service.
            groups: deployments by the group's name.

        Raises:
            BundleError, PipelineError: see `Router`.
        """
        self._config = config
        self._fetcher = Fetcher(config.fetch)
        self._metrics = IngressMetrics()
        self._router = Router(config, groups, self._metrics)
        self._jobs: JobHost | None = None
        if config.jobs is not None:
            self._jobs = JobHost(config.jobs, self.tryon_files, self._fetcher.fetch, self._metrics.item)

    async def reconfigure(self, told: Mapping[str, Any]) -> None:
        """Called by Ray Serve when the deployment's `user_config` changes: a `BundlesConfig`.

        What cannot be taken up is logged, and the bundles stay: to raise would end a replica that serves.
        """
        try:
            await self._router.take(parse_config(BundlesConfig, told, "user_config"))
        except TryonError as error:
            logger.error("user_config is not taken up, the bundles stay as they are: %s", error.message)

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
        call: TryOnCall = parse_config(TryOnCall, with_format(body.options(), media), "options")
        if media is not None and call.num_samples > 1:
            text = f"num_samples {call.num_samples} does not fit Accept: {media}: an image file is one picture"
            raise SampleError(text, code="field-conflict", field="options")
        person = await body.photo("person", self._fetcher)
        garments = await body.photos("garment", self._fetcher, most=len(CATEGORIES))
        if len(garments) != len(call.categories):
            text = f"options.category names {len(call.categories)} for {len(garments)} garments: name one each"
            raise SampleError(text, code="field-conflict", field="options")
        program = TRYON
        if media is None and (call.return_mask or call.return_layers):
            program = TRYON_LAYERS if call.return_layers else TRYON_MASK
        rows = await together([self._worn(program, person, garments, call, i) for i in range(call.num_samples)])
        if media is not None:
            return Response(rows[0]["result_file"], media_type=media)
        return await asyncio.to_thread(tryon_response, rows, call, start)

    async def _worn(
        self, program: Program, person: bytes, garments: Sequence[bytes], call: TryOnCall, sample: int
    ) -> Row:
        """Puts garments on one after the other; the row of the last, with what is said of all of them."""
        rows: list[Row] = []
        for i, garment in enumerate(garments):
            options = call.one(i, sample)
            if i + 1 < len(garments):
                options = options.model_copy(update={"output_format": "png"})  # the next one's person photo
            rows.append(await self._router.through(program, pair(person, garment, options), call.model))
            person = rows[-1]["result_file"]
        if len(rows) == 1:
            return rows[0]
        masks = [row["result_mask"] for row in rows if "result_mask" in row]
        return {
            **rows[-1],
            **({"result_mask": np.maximum.reduce(masks)} if masks else {}),
            "person_notices": rows[0]["person_notices"],
            "garment_notices": "\n".join(row["garment_notices"] for row in rows if row["garment_notices"]),
        }

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
        row = await self._router.through(TRYON, pair(person, garment, options, name), options.model)
        file: bytes = row["result_file"]
        return file

    async def extract(self, body: Body, media: str | None) -> ExtractResponse | Response:
        """The garment of a person photo.

        Raises:
            TryonError: an option, the photo or the load does not allow it, or the bundle does not extract.
        """
        start = time.perf_counter()
        options: ExtractOptions = parse_config(ExtractOptions, with_format(dict(body.options()), media), "options")
        person = await body.photo("person", self._fetcher)
        row = await self._router.through(EXTRACTION, alone(person, options.category), options.model)
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
            person = await self._router.through(ANNOTATE_PERSON, alone(file, options.category), options.model)
        if body.has("garment"):
            file = await body.photo("garment", self._fetcher)
            row = {"id": ["request"], "garment_file": [file]}
            garment = await self._router.through(ANNOTATE_GARMENT, row, options.model)
        return await asyncio.to_thread(annotate_response, person, garment, start)

    async def models(self) -> ModelsResponse:
        """The bundles."""
        return ModelsResponse(models=[model_info(name, model) for name, model in self._router.models.items()])

    async def health(self) -> HealthResponse:
        """Healthy when every group of stages answers within 5 s; those that may have no replica are not woken."""
        import torch

        loaded = await self._router.is_ready()
        return HealthResponse(
            status="healthy" if loaded else "degraded",
            model_loaded=loaded,
            gpu_available=torch.cuda.is_available(),
            version=__version__,
        )


async def together(calls: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """Runs them at once; where one fails the others are given up."""
    tasks = [asyncio.ensure_future(call) for call in calls]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


def with_format(told: Mapping[str, Any], media: str | None) -> dict[str, Any]:
    """Options with the format that `Accept` asks for; what the options say themselves wins no more."""
    return dict(told) if media is None else {**told, "output_format": MEDIA[media]}


def pair(person: bytes, garment: bytes, options: TryOnOptions, name: str = "request") -> Batch:
    """A batch of one, as the first group takes it."""
    return {
        "id": [name],
        "category": [options.category],
        "person_file": [person],
        "garment_file": [garment],
        "sampling_seed": [options.seed],
        "sampling_steps": [options.steps],
        "output_format": [options.output_format],
        "output_quality": [options.quality],
    }


def alone(person: bytes, category: str | None) -> Batch:
    """As `pair`, without a garment."""
    return {"id": ["request"], "category": [category], "person_file": [person]}
