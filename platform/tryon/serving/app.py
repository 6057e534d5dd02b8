"""The try-on graph on Ray Serve: an HTTP ingress, and one deployment a group of stages."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
import time
from collections.abc import Mapping
from typing import Annotated, Any

import ray.exceptions
from fastapi import FastAPI, File, Form, UploadFile
from ray import serve
from ray.serve.exceptions import BackPressureError
from ray.serve.handle import DeploymentHandle

from tryon import __version__, storage
from tryon.codec import UInt8, encode_jpeg, encode_png
from tryon.config import ImageLimits, StageSpec, parse_config
from tryon.engines.in_process import build_pipeline
from tryon.errors import ConfigError, ImageError, SampleError
from tryon.images import decode_photo
from tryon.sample import Batch
from tryon.serving.api import (
    ErrorResponse,
    HealthResponse,
    Resolution,
    TryOnMetadata,
    TryOnOptions,
    TryOnResponse,
)
from tryon.serving.cache import CachingPipeline, PhotoCache
from tryon.serving.config import ServeConfig
from tryon.serving.faults import BusyError, DeadlineError, install
from tryon.serving.fetch import Fetcher
from tryon.serving.graph import plan_groups
from tryon.serving.guard import SCHEMES, owner_of, protect
from tryon.serving.jobs.host import JobHost
from tryon.serving.jobs.routes import make_router
from tryon.serving.jobs.service import JobService

GIVEN = ("id", "category", "person_file", "garment_file")
WANTED = ("result", "result_mask", "person_notices", "garment_notices")
ERRORS: dict[int | str, dict[str, Any]] = {
    code: {"model": ErrorResponse} for code in (400, 401, 403, 413, 415, 422, 429, 503, 504)
}


class StageGroup:
    """A deployment that runs some stages of the pipeline over a batch."""

    def __init__(
        self, specs: list[StageSpec], given: tuple[str, ...], keep: tuple[str, ...], cache_mb: int = 0
    ) -> None:
        pipeline = build_pipeline(specs, given)
        self._pipeline = CachingPipeline(pipeline, PhotoCache(cache_mb * 1_000_000))
        self._keep = keep
        self._lock = threading.Lock()  # MediaPipe and in-place buffers are not thread-safe

    def run(self, batch: Batch) -> Batch:
        """Runs the stages and drops the fields that nobody needs any more."""
        with self._lock:
            out = self._pipeline(batch)
        return {name: out[name] for name in self._keep if name in out}

    def ready(self) -> bool:
        """True once the constructor, which loads the networks, has returned."""
        return True


class Ingress:
    """One batch of one through the groups; the HTTP routes of `make_api` call it.

    Where batch jobs are served, each ingress works items off too, through the same groups.
    """

    def __init__(self, config: ServeConfig, groups: list[DeploymentHandle]) -> None:
        self._config = config
        self._groups = groups
        self._jobs: JobHost | None = None
        if config.jobs is not None:
            self._jobs = JobHost(config.jobs, self.tryon_files, Fetcher(config.fetch).fetch)

    async def check_health(self) -> None:
        """Asked by Ray Serve every few seconds, the first time when the replica starts: keeps batch work going."""
        if self._jobs is not None:
            self._jobs.keep_working()

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

    async def tryon(self, person: UploadFile, garment: UploadFile, options: str) -> TryOnResponse:
        """Runs the whole pipeline on one pair.

        Raises:
            TryonError: an option, a photo or the load does not allow it.
        """
        start = time.perf_counter()
        chosen = parse_options(options)
        limits = self._config.limits
        files = [
            await read_upload(person, "person_image", limits),
            await read_upload(garment, "garment_image", limits),
        ]
        row = await self._through(a_batch(*files, chosen))
        return await asyncio.to_thread(reply, row, chosen, start)

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
        row = await self._through(a_batch(person, garment, options, name))
        return await asyncio.to_thread(encode_result, row["result"], options)

    async def health(self) -> HealthResponse:
        """Healthy when every group of stages answers within 5 s."""
        import torch

        waits = [group.ready.remote() for group in self._groups]
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

    async def _through(self, batch: Batch) -> dict[str, Any]:
        """Sends a batch from group to group; responses are passed on, so images do not come back here between.

        Raises:
            SampleError: the sample cannot be used.
        """
        value: Any = batch
        for group in self._groups:
            value = group.run.remote(value)
        try:
            out: Batch = await asyncio.wait_for(value, timeout=self._config.request_timeout_s)
        except TimeoutError as error:
            raise DeadlineError(f"the try-on took longer than {self._config.request_timeout_s:g} s") from error
        except BackPressureError as error:
            raise BusyError("all replicas are busy; try again in a few seconds") from error
        row = {name: column[0] for name, column in out.items()}
        if row["error_code"] is not None:
            raise SampleError(row["error"], code=row["error_code"], field=fault_field(row))
        return row


def make_api(config: ServeConfig) -> FastAPI:
    """The HTTP routes. Built inside the ingress replica: a pickled FastAPI app loses its form fields."""
    api = FastAPI(
        title="tryon",
        version=__version__,
        description="Virtual try-on: a person photo and a garment photo in, the person wearing the garment out.",
        dependencies=SCHEMES,
    )
    protect(api, config)
    install(api)

    @api.post("/api/v1/tryon", responses=ERRORS, summary="Try a garment on a person")
    async def tryon(
        person_image: Annotated[UploadFile, File(description="photo of one person: JPEG, PNG, WebP, BMP or TIFF")],
        garment_image: Annotated[UploadFile, File(description="photo of the garment alone")],
        options: Annotated[str, Form(description="JSON of TryOnOptions", examples=['{"output_format": "png"}'])] = "{}",
    ) -> TryOnResponse:
        return await ingress().tryon(person_image, garment_image, options)

    @api.get("/api/v1/health", summary="State of the service")
    async def health() -> HealthResponse:
        return await ingress().health()

    if config.jobs is not None:

        def check_image(data: bytes, name: str) -> object:
            return decode_photo(data, name, config.limits)

        api.include_router(make_router(lambda: ingress().jobs(), check_image, owner_of))
    return api


def ingress() -> Ingress:
    """The ingress of the replica this runs in."""
    servable = serve.get_replica_context().servable_object
    assert isinstance(servable, Ingress)
    return servable


def a_batch(person: bytes, garment: bytes, options: TryOnOptions, name: str = "request") -> Batch:
    """A batch of one pair, as the first group takes it."""
    return {"id": [name], "category": [options.category], "person_file": [person], "garment_file": [garment]}


def parse_options(text: str) -> TryOnOptions:
    """Options from the form field.

    Raises:
        ConfigError: no JSON object, an unknown key, a value that is not allowed.
    """
    try:
        values = json.loads(text or "{}")
    except (ValueError, RecursionError) as error:  # also numbers of 5,000 digits and brackets 100,000 deep
        raise ConfigError(f"options is no JSON: {error}", code="options-invalid", field="options") from error
    if not isinstance(values, dict):
        sentence = f"options must be a JSON object, not {type(values).__name__}"
        raise ConfigError(sentence, code="options-invalid", field="options")
    return parse_config(TryOnOptions, values, "options")


async def read_upload(upload: UploadFile, name: str, limits: ImageLimits) -> bytes:
    """Bytes of an uploaded file; stops reading just past the limit.

    Raises:
        ImageError: more bytes than are taken.
    """
    data = await upload.read(limits.max_bytes + 1)
    if len(data) > limits.max_bytes:
        text = f"{name} has more than {limits.max_bytes:,} bytes"
        raise ImageError(text, code="image-too-large", field=name)
    return data


def fault_field(row: dict[str, Any]) -> str | None:
    """Which input a stage's error is about."""
    stage = row["error_stage"]
    if stage in ("decode_garment", "fit_garment", "garment_mask"):
        return "garment_image"
    return "person_image" if stage in ("decode_person", "fit_person", "pose", "parse") else None


def reply(row: dict[str, Any], options: TryOnOptions, start: float) -> TryOnResponse:
    """The answer for a finished row of a request that came at `start` (`time.perf_counter`)."""
    result = row["result"]
    data = encode_result(result, options)
    mask = encode_png(row["result_mask"] * 255) if options.return_mask else None
    size = Resolution(width=result.shape[1], height=result.shape[0])
    notices = [line for name in ("person_notices", "garment_notices") for line in row[name].splitlines()]
    return TryOnResponse(
        result_image=base64.b64encode(data).decode(),
        mask_image=base64.b64encode(mask).decode() if mask is not None else None,
        processing_time=round(time.perf_counter() - start, 4),
        metadata=TryOnMetadata(input_resolution=size, output_resolution=size, notices=notices),
    )


def encode_result(image: UInt8, options: TryOnOptions) -> bytes:
    """The file of a result (h, w, 3)."""
    return encode_png(image) if options.output_format == "png" else encode_jpeg(image, options.quality)


def build(args: ServeConfig | Mapping[str, Any]) -> serve.Application:
    """The application of a `serve_configs/` file: ``import_path: tryon.serving.app:build``.

    Args:
        args: the file's `args`. Ray Serve hands them over as a dict: it makes a model of them only where the
            annotation is a class, and here annotations are strings.

    Raises:
        ConfigError: a key is unknown or a value is out of bounds.
        BundleError: no bundle, or an incomplete one.
        PipelineError: groups whose stages do not fit together.
    """
    handles: list[Any] = []
    config = args if isinstance(args, ServeConfig) else parse_config(ServeConfig, args, "args")
    if config.keys is not None:  # a replica may run in another folder
        config = config.model_copy(update={"keys": storage.absolute(config.keys)})
    if config.jobs is not None:
        config = config.model_copy(update={"jobs": config.jobs.absolute()})
    for plan in plan_groups(config, GIVEN, WANTED):
        deployment = serve.deployment(
            StageGroup,
            name=plan.group.name,
            num_replicas=plan.group.num_replicas,
            max_ongoing_requests=2,
            max_queued_requests=config.max_queued_requests,
            ray_actor_options={"num_cpus": plan.group.num_cpus, "num_gpus": plan.group.num_gpus},
        )
        handles.append(deployment.bind(plan.specs, plan.given, plan.keep, config.cache_mb))

    def routes() -> FastAPI:
        return make_api(config)

    front = serve.deployment(
        serve.ingress(routes)(Ingress),
        name="ingress",
        max_ongoing_requests=config.max_queued_requests,
        ray_actor_options={"num_cpus": config.num_cpus},
    )
    return front.bind(config, handles)
