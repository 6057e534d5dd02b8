"""Simulation: drawn samples into shards."""

from __future__ import annotations

from pydantic import Field

from tryon.config import Config, Size
from tryon.data.job import Job
from tryon.data.simulator.config import DEFAULT, SimulatorConfig


class SynthConfig(Config):
    """What a simulation run draws."""

    num: int = Field(ge=1, le=100_000_000, description="samples")
    size: Size = Field((256, 192), description="(height, width) px")
    seed: int = Field(0, ge=0, le=2**31 - 1, description="same seed, same bytes")
    simulator: SimulatorConfig = Field(DEFAULT, description="what share of samples shows what")


def synth_job(config: SynthConfig) -> Job:
    """A job that draws samples."""
    from tryon.data.sources.simulator import SimulatorSource

    source = SimulatorSource(config.num, config.size, config.seed, config.simulator)
    # The number of samples does not decide a shard's bytes: a longer run takes over the full shards of a shorter one.
    return Job(source, [], source.fields, {"simulator": config.model_dump(mode="json", exclude={"num"})})
