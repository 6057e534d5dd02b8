"""Training configuration: one model, printed resolved at the start and kept with the bundle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from tryon.config import Config, Size


class TrainConfig(Config):
    """One training run of one recipe."""

    recipe: str = Field(description="a name of `tryon.training.recipes.registry`")
    size: Size = Field((256, 192), description="(height, width) px samples are brought to; multiples of 16")
    network: Mapping[str, Any] = Field(default_factory=dict, description="the network's config")
    steps: int = Field(1000, ge=1, le=10_000_000, description="optimiser steps")
    batch_size: int = Field(8, ge=1, le=1024, description="samples a step, over all workers")
    learning_rate: float = Field(1e-3, gt=0, le=1, description="of AdamW at its peak")
    weight_decay: float = Field(1e-4, ge=0, le=1, description="of AdamW")
    warmup_steps: int = Field(20, ge=0, description="linear warm-up; cosine to 2 % of the peak after it")
    clip_norm: float = Field(1.0, gt=0, description="gradient norm is clipped to this")
    seed: int = Field(0, ge=0, le=2**31 - 1, description="of weights and shuffling")
    val_fraction: float = Field(0.1, ge=0.0, le=0.5, description="share of samples held out, by a hash of the id")
    report_every: int = Field(25, ge=1, description="steps between two lines")
    checkpoint_every: int = Field(100, ge=1, description="steps between two checkpoints")
    num_workers: int = Field(1, ge=0, le=4096, description="Ray Train workers; 0 trains in this process, without Ray")
    cpus_per_worker: int = Field(0, ge=0, le=256, description="threads a worker computes with; 0: the machine's share")
    bf16: bool = Field(True, description="autocast where the hardware computes it fast")
