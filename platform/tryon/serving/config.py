"""What a `serve_configs/` file says: which bundle, and how stages are grouped into deployments."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tryon.config import Config, ImageLimits
from tryon.serving.jobs.config import JobsConfig


class GroupConfig(Config):
    """Stages that share a deployment."""

    name: str = Field(min_length=1, description="the deployment's name")
    stages: tuple[str, ...] = Field(min_length=1, description="in order")
    num_replicas: int = Field(1, ge=1, le=10_000, description="copies of the deployment")
    num_cpus: float = Field(0.25, ge=0, description="CPUs a replica reserves (scheduling only)")
    num_gpus: float = Field(0.0, ge=0, description="GPU share a replica reserves")


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
    GroupConfig(name="refinement", stages=("refine", "paste")),
    GroupConfig(name="extraction", stages=("extract",)),
)


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


class ServeConfig(Config):
    """The service."""

    bundle: str | None = Field(None, description="bundle URI; None: TRYON_BUNDLE, else the demo's")
    groups: tuple[GroupConfig, ...] = Field(DEFAULT_GROUPS, min_length=1, description="deployments, in order")
    limits: ImageLimits = Field(default_factory=ImageLimits, description="what is taken of a photo")
    num_cpus: float = Field(0.25, ge=0, description="CPUs the ingress reserves (scheduling only)")
    max_queued_requests: int = Field(64, ge=1, description="requests that may wait; more are answered 503")
    request_timeout_s: float = Field(120.0, gt=0, description="a try-on that takes longer is answered 504")
    cache_mb: int = Field(256, ge=0, le=1_000_000, description="annotated photos that a replica keeps, MB; 0: none")
    keys: str | None = Field(None, description="URI of the file of API keys (`tryon keys create`); None: no keys")
    open_to_all: bool = Field(False, description="serve without keys on addresses other than loopback")
    redis: str | None = Field(None, description="URL of the Redis that counts limits; None: each process by itself")
    fetch: FetchConfig = Field(default_factory=FetchConfig, description="photos given by URL")
    jobs: JobsConfig | None = Field(None, description="batch jobs (`POST /api/v1/batch`); None: not served")
