"""What a `serve_configs/` file says: which bundle, and how stages are grouped into deployments."""

from __future__ import annotations

from pydantic import Field

from tryon.config import Config, ImageLimits


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
)


class ServeConfig(Config):
    """The service."""

    bundle: str | None = Field(None, description="bundle URI; None: TRYON_BUNDLE, else the demo's")
    groups: tuple[GroupConfig, ...] = Field(DEFAULT_GROUPS, min_length=1, description="deployments, in order")
    limits: ImageLimits = Field(default_factory=ImageLimits, description="what is taken of a photo")
    num_cpus: float = Field(0.25, ge=0, description="CPUs the ingress reserves (scheduling only)")
    max_queued_requests: int = Field(64, ge=1, description="requests that may wait; more are answered 503")
    request_timeout_s: float = Field(120.0, gt=0, description="a try-on that takes longer is answered 504")
