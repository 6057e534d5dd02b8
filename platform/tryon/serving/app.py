"""The try-on service on Ray Serve: its HTTP routes, and one deployment a group of stages behind them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from ray import serve

from tryon import __version__, storage
from tryon.config import parse_config
from tryon.images import decode_photo
from tryon.models.bundle import default_bundle
from tryon.serving import page
from tryon.serving.admission import Admission
from tryon.serving.api import (
    AnnotateOptions,
    AnnotateResponse,
    ErrorResponse,
    ExtractOptions,
    ExtractResponse,
    HealthResponse,
    ModelsResponse,
    TryOnCall,
    TryOnResponse,
)
from tryon.serving.config import DEFAULT_MODEL, GroupConfig, ServeConfig
from tryon.serving.faults import install
from tryon.serving.graph import bundle_uris, plan_groups
from tryon.serving.guard import SCHEMES, owner_of, protect
from tryon.serving.ingress import MEDIA, Ingress
from tryon.serving.jobs.routes import make_router
from tryon.serving.metrics import Counted, IngressMetrics
from tryon.serving.photos import described
from tryon.serving.replica import GroupReplica, threads_of
from tryon.serving.traces import Traced, Traces, check_traces

ERRORS: dict[int | str, dict[str, Any]] = {
    code: {"model": ErrorResponse} for code in (400, 401, 403, 413, 415, 422, 429, 503, 504)
}
SPIN_LESS = {"GOMP_SPINCOUNT": "20000"}
AHEAD = 8  # batches that a replica has taken, with the one at work: to ask again for those that wait takes CPU time
REFUSALS = 1000  # requests that are being refused, or ask for what takes no time, beside those that are let in
IMAGES: dict[int | str, dict[str, Any]] = {200: {"content": {media: {} for media in MEDIA}}}


def make_api(config: ServeConfig) -> FastAPI:
    """The HTTP routes. Built inside the ingress replica: a pickled FastAPI app loses its form fields."""
    api = FastAPI(
        title="tryon",
        version=__version__,
        description="Virtual try-on: a person photo and a garment photo in, the person wearing the garment out.",
        dependencies=SCHEMES,
    )
    api.add_middleware(Admission, most=config.max_queued_requests)
    protect(api, config)
    install(api)
    if config.traces is not None:
        api.add_middleware(Traced, traces=Traces(config.traces, "ingress"))
    api.add_middleware(Counted, metrics=IngressMetrics())

    @api.post(
        "/api/v1/tryon",
        response_model=TryOnResponse,
        responses={**ERRORS, **IMAGES},
        summary="Try a garment, or several together, on a person",
        openapi_extra=described({"person": True, "garment": True}, TryOnCall, several={"garment"}),
    )
    async def tryon(request: Request) -> Any:
        return await this_ingress().tryon(await this_ingress().body(request), asked_media(request))

    @api.post(
        "/api/v1/extract",
        response_model=ExtractResponse,
        responses={**ERRORS, 404: {"model": ErrorResponse}, **IMAGES},
        summary="The garment a person wears, as a photo of its own",
        openapi_extra=described({"person": True}, ExtractOptions),
    )
    async def extract(request: Request) -> Any:
        return await this_ingress().extract(await this_ingress().body(request), asked_media(request))

    @api.post(
        "/api/v1/annotate",
        responses=ERRORS,
        summary="Parse, pose and masks of photos",
        openapi_extra=described({"person": False, "garment": False}, AnnotateOptions),
    )
    async def annotate(request: Request) -> AnnotateResponse:
        return await this_ingress().annotate(await this_ingress().body(request))

    @api.get("/api/v1/models", responses={code: ERRORS[code] for code in (401, 403)}, summary="Bundles of the service")
    async def models() -> ModelsResponse:
        return await this_ingress().models()

    @api.get("/api/v1/health", summary="State of the service")
    async def health() -> HealthResponse:
        return await this_ingress().health()

    api.include_router(page.make_router())
    if config.jobs is not None:

        def check_image(data: bytes, name: str) -> object:
            return decode_photo(data, name, config.limits)

        api.include_router(make_router(lambda: this_ingress().jobs(), check_image, owner_of))
    return api


def this_ingress() -> Ingress:
    """The ingress of the replica this runs in."""
    servable = serve.get_replica_context().servable_object
    assert isinstance(servable, Ingress)
    return servable


def asked_media(request: Request) -> str | None:
    """The image type that a client asks for by `Accept` before anything else; None: JSON."""
    first = request.headers.get("accept", "").partition(",")[0].partition(";")[0].strip().lower()
    return first if first in MEDIA else None


def replicas(group: GroupConfig) -> dict[str, Any]:
    """How many replicas of a group there are, as Ray Serve takes it."""
    told = group.autoscaling
    if told is None:
        return {"num_replicas": group.num_replicas}
    return {"autoscaling_config": {**told.model_dump(), "initial_replicas": told.min_replicas}}


def actor_options(group: GroupConfig, *, is_alone: bool) -> dict[str, Any]:
    """What Ray is told of a group's replicas.

    Threads of OpenMP spin for a while when they have nothing to do. Of a process that computes alone that is well: it
    goes on at once. Beside others it takes the core that they need: half the throughput of a split service on two.
    """
    told: dict[str, Any] = {"num_cpus": group.num_cpus, "num_gpus": group.num_gpus}
    is_one = group.autoscaling is None and group.num_replicas == 1
    if threads_of(group) > 1 and not (is_alone and is_one):
        told["runtime_env"] = {"env_vars": SPIN_LESS}
    return told


def build(args: ServeConfig | Mapping[str, Any]) -> serve.Application:
    """The application of a `serve_configs/` file: ``import_path: tryon.serving.app:build``.

    Args:
        args: the file's `args`. Ray Serve hands them over as a dict: it makes a model of them only where the
            annotation is a class, and here annotations are strings.

    Raises:
        ConfigError: a key is unknown, a value is out of bounds, or an extra is missing.
        BundleError: no bundle, or an incomplete one.
        PipelineError: groups whose stages do not fit together.
    """
    config = args if isinstance(args, ServeConfig) else parse_config(ServeConfig, args, "args")
    check_traces(config.traces)
    # Absolute: a replica may run in another folder.
    uris = bundle_uris(config)
    places: dict[str, Any] = {"bundle": storage.absolute(config.bundle or default_bundle())}
    places["bundles"] = {name: storage.absolute(uri) for name, uri in config.bundles.items()}
    if config.keys is not None:
        places["keys"] = storage.absolute(config.keys)
    if config.jobs is not None:
        places["jobs"] = config.jobs.absolute()
    config = config.model_copy(update=places)
    used = {plan.group.name for uri in uris.values() for plan in plan_groups(config, uri)}
    computing = [group for group in config.groups if group.name in used]
    groups = {
        group.name: serve.deployment(
            GroupReplica,
            name=group.name,
            **replicas(group),
            max_ongoing_requests=AHEAD * group.max_batch_size,
            max_queued_requests=config.max_queued_requests,
            ray_actor_options=actor_options(group, is_alone=len(computing) == 1),
            user_config={"bundle": uris[DEFAULT_MODEL]},
        ).bind(config, group.name)
        for group in computing
    }

    def routes() -> FastAPI:
        return make_api(config)

    front = serve.deployment(
        serve.ingress(routes)(Ingress),
        name="ingress",
        num_replicas=config.num_replicas,
        max_ongoing_requests=config.max_queued_requests + REFUSALS,
        ray_actor_options={"num_cpus": config.num_cpus},
    )
    return front.bind(config, groups)
