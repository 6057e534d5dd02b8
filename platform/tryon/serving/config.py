"""What a `serve_configs/` file says: which bundle, and how stages are grouped into deployments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Self

from pydantic import Field, field_validator, model_validator

from tryon.config import Backend, Config, ImageLimits
from tryon.serving.jobs.config import JobsConfig


class AutoscalingConfig(Config):
    """How many replicas of a deployment there are, by the requests they have."""

    min_replicas: int = Field(1, ge=0, le=10_000, description="0: none where nobody asks; a request then waits")
    max_replicas: int = Field(ge=1, le=10_000, description="at most")
    target_ongoing_requests: float = Field(2.0, gt=0, description="of a replica; with more there are more replicas")
    upscale_delay_s: float = Field(5.0, ge=0, description="that more must be needed before there are more, seconds")
    downscale_delay_s: float = Field(300.0, ge=0, description="that fewer must do before there are fewer, seconds")
    downscale_to_zero_delay_s: float = Field(300.0, ge=0, description="from one to none, seconds")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.min_replicas > self.max_replicas:
            raise ValueError(f"min_replicas {self.min_replicas} must not be above max_replicas {self.max_replicas}")
        return self


class GroupConfig(Config):
    """Stages that share a deployment."""

    name: str = Field(min_length=1, description="the deployment's name")
    stages: tuple[str, ...] = Field(min_length=1, description="in order")
    num_replicas: int = Field(1, ge=1, le=10_000, description="copies of the deployment, without `autoscaling`")
    autoscaling: AutoscalingConfig | None = Field(None, description="copies by load")
    num_cpus: float = Field(0.25, ge=0, description="CPUs a replica reserves (scheduling only)")
    num_gpus: float = Field(0.0, ge=0, description="GPU share a replica reserves")
    num_threads: int | None = Field(
        None, ge=0, le=1024, description="that a replica computes with; null: as many as `num_cpus`, 0: all cores"
    )
    max_batch_size: int = Field(1, ge=1, le=256, description="requests that go through the stages together")
    batch_wait_s: float = Field(0.01, ge=0, le=10, description="that a batch waits for more requests, seconds")

    @property
    def is_always_there(self) -> bool:
        """Whether there is a replica at any time."""
        return self.autoscaling is None or self.autoscaling.min_replicas > 0


DEFAULT_GROUPS = (
    GroupConfig(
        name="annotation",
        stages=(
            "decode_person",
            "decode_garment",
            "fit_person",
            "fit_garment",
            "pose",
            "parse",
            "garment_mask",
            "agnostic",
        ),
    ),
    GroupConfig(name="warp", stages=("warp",)),
    GroupConfig(name="synthesis", stages=("synthesize",)),
    GroupConfig(name="refinement", stages=("refine", "preserve", "paste", "encode")),
    GroupConfig(name="extraction", stages=("extract",)),
)


DEFAULT_MODEL = "default"  # the name of the bundle that serves requests that name none
ModelName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$", max_length=64)]
_NAME = r"[a-z0-9_:-]+(\.[a-z0-9_-]+)*"  # also an address
AnyHost = Annotated[str, Field(pattern=rf"^(\*|(\*\.)?{_NAME})$", max_length=253)]
NamedHost = Annotated[str, Field(pattern=rf"^(\*\.)?{_NAME}$", max_length=253)]


class FetchConfig(Config):
    """Which photos are fetched by URL, and how much of them."""

    hosts: tuple[AnyHost, ...] = Field(
        ("*",), description="that may be asked, lower case: a name, '*.shop.com', or '*'"
    )
    private_hosts: tuple[NamedHost, ...] = Field(
        (), description="that may be asked though they are at loopback or private addresses, e.g. 'minio.internal'"
    )
    ports: tuple[Annotated[int, Field(ge=1, le=65535)], ...] = Field((80, 443), description="that may be asked")
    max_bytes: int = Field(30_000_000, ge=1, description="largest file, bytes")
    max_redirects: int = Field(3, ge=0, le=20, description="hops after the first; each is checked anew")
    connect_s: float = Field(5.0, gt=0, description="to connect, seconds")
    idle_s: float = Field(5.0, gt=0, description="without a byte, seconds")
    total_s: float = Field(20.0, gt=0, description="for all of it, redirects too, seconds")


class BundlesConfig(Config):
    """Which bundles are served. As `user_config` of the deployment `ingress` it is taken up without a restart."""

    bundle: str | None = Field(None, description="bundle URI; None: TRYON_BUNDLE, else the one that comes with tryon")
    bundles: Mapping[ModelName, str] = Field(
        default_factory=dict, description="URIs of others by the name that `options.model` of a request chooses"
    )

    @field_validator("bundles")
    @classmethod
    def _not_the_default(cls, value: Mapping[str, str]) -> Mapping[str, str]:
        if DEFAULT_MODEL in value:
            raise ValueError(f"{DEFAULT_MODEL!r} is the name of the one at `bundle`")
        return value


class ServeConfig(BundlesConfig):
    """The service."""

    bundles_per_replica: int = Field(3, ge=1, le=1000, description="that a replica holds; a further one takes a place")
    backend: Backend = Field("auto", description="that runs the networks of try-ons (`tryon models optimize`)")
    groups: tuple[GroupConfig, ...] = Field(DEFAULT_GROUPS, min_length=1, description="deployments, in order")
    limits: ImageLimits = Field(default_factory=ImageLimits, description="what is taken of a photo")
    num_replicas: int = Field(1, ge=1, le=10_000, description="copies of the ingress, each with its own queue")
    num_cpus: float = Field(0.25, ge=0, description="CPUs a copy of the ingress reserves (scheduling only)")
    max_queued_requests: int = Field(64, ge=1, description="at work or waiting; more are answered 503 at once")
    request_timeout_s: float = Field(120.0, gt=0, description="a try-on that takes longer is answered 504")
    cache_mb: int = Field(256, ge=0, le=1_000_000, description="annotated photos that a replica keeps, MB; 0: none")
    keys: str | None = Field(None, description="URI of the file of API keys (`tryon keys create`); None: no keys")
    open_to_all: bool = Field(False, description="serve without keys on addresses other than loopback")
    redis: str | None = Field(None, description="URL of the Redis that counts limits; None: each process by itself")
    fetch: FetchConfig = Field(default_factory=FetchConfig, description="photos given by URL")
    traces: str | None = Field(
        None, pattern=r"^https?://[^\s]+$", description="URL of an OpenTelemetry collector (OTLP/HTTP); None: no traces"
    )
    jobs: JobsConfig | None = Field(None, description="batch jobs (`POST /api/v1/batch`); None: not served")
