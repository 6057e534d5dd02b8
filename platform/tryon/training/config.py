"""Training configuration: one model, printed resolved at the start and kept with the bundle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from tryon.config import Config, Size
from tryon.data.ingest import Cache
from tryon.models.device import Precision
from tryon.training.optimizers import OptimizerName
from tryon.training.trackers import TrackerName

Strategy = Literal["ddp", "fsdp"]


class TrainConfig(Config):
    """One training run of one recipe."""

    recipe: str = Field(description="a name of `tryon.training.recipes.registry`")
    size: Size = Field((256, 192), description="(height, width) px samples are brought to; multiples of 16")
    network: Mapping[str, Any] = Field(default_factory=dict, description="the network's config")
    options: Mapping[str, Any] = Field(default_factory=dict, description="the recipe's own options")
    steps: int = Field(1000, ge=1, le=10_000_000, description="optimiser steps")
    batch_size: int = Field(8, ge=1, le=4096, description="samples an optimiser step, over all workers")
    accumulate: int = Field(1, ge=1, le=1024, description="batches that such a step's samples come in, one by one")
    optimizer: OptimizerName = Field(
        "adamw", description="adamw, adamw8bit (with bitsandbytes), or muon, which needs fewer steps"
    )
    learning_rate: float = Field(1e-3, gt=0, le=1, description="of the optimizer at its peak")
    weight_decay: float = Field(1e-4, ge=0, le=1, description="of matrices and kernels, decoupled")
    warmup_steps: int = Field(20, ge=0, description="linear warm-up; cosine to 2 % of the peak after it")
    clip_norm: float = Field(1.0, gt=0, description="gradient norm is clipped to this")
    ema: float = Field(0.0, ge=0, lt=1, description="decay of the weights' average that is validated and kept; 0: none")
    precision: Precision = Field("auto", description="auto: bf16 where the hardware computes it fast, else fp32")
    compile: bool = Field(False, description="torch.compile; needs a C++ compiler on a CPU")
    seed: int = Field(0, ge=0, le=2**31 - 1, description="of weights and shuffling")
    val_fraction: float = Field(0.1, ge=0.0, le=0.5, description="share of samples held out, by a hash of the id")
    cache: Cache = Field("auto", description="decoded samples kept between epochs: memory, none, auto: up to 4 GB")
    report_every: int = Field(25, ge=1, description="steps between two lines")
    checkpoint_every: int = Field(100, ge=1, description="steps between two checkpoints")
    checkpoint_minutes: float = Field(0.0, ge=0, description="and minutes between two; 0: by steps alone")
    keep_best: int = Field(1, ge=0, le=100, description="checkpoints kept beside the last, by `best_metric`")
    best_metric: str = Field("", description="a figure, with - in front where less is better; empty: the recipe's own")
    lpips_weights: str | None = Field(None, description="path or s3:// of AlexNet or VGG16: LPIPS of held-out samples")
    lpips_heads: str | None = Field(None, description="path or s3:// of LPIPS's linear heads; None: torchmetrics' copy")
    fid_weights: str | None = Field(None, description="path or s3:// of FID's Inception: FID of held-out samples")
    judge_every: int = Field(1, ge=1, le=10_000, description="validations from one with LPIPS and FID to the next")
    trackers: tuple[TrackerName, ...] = Field(("tensorboard",), description="tensorboard, mlflow, wandb; or none")
    max_bad_steps: int = Field(3, ge=1, le=10_000, description="steps in a row without a finite loss to end at")
    num_workers: int = Field(1, ge=0, le=4096, description="Ray Train workers; 0 trains in this process, without Ray")
    min_workers: int = Field(0, ge=0, le=4096, description="goes on with as few where nodes go; 0: with all or none")
    strategy: Strategy = Field("ddp", description="fsdp shards what is trained, its gradients and optimizer's state")
    cpus_per_worker: int = Field(0, ge=0, le=256, description="threads a worker computes with; 0: the machine's share")
    max_failures: int = Field(3, ge=-1, le=1000, description="deaths of workers between two checkpoints; -1: no end")

    @model_validator(mode="after")
    def _whole_batches(self) -> TrainConfig:
        if self.min_workers > self.num_workers:
            raise ValueError(f"min_workers {self.min_workers} is more than num_workers {self.num_workers}")
        for num in range(self.min_workers or self.num_workers, self.num_workers + 1):
            if self.batch_size % (self.accumulate * max(1, num)):
                text = f"batch_size {self.batch_size} must be a multiple of accumulate {self.accumulate} x num_workers"
                raise ValueError(f"{text} {max(1, num)}")
        return self

    @model_validator(mode="after")
    def _heads_of_something(self) -> TrainConfig:
        if self.lpips_heads is not None and self.lpips_weights is None:
            raise ValueError("lpips_heads go with the network of lpips_weights, which was not given")
        return self

    @property
    def rows_a_batch(self) -> int:
        """Samples that one worker computes on at once."""
        return self.batch_size // (self.accumulate * max(1, self.num_workers))
