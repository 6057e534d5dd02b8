"""What `tryon bench` has in common: figures against what is asked of them, and the machine they were measured on."""

from __future__ import annotations

import platform
import statistics
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import Field

from tryon.config import Config
from tryon.engines.cluster import physical_cpus

PACKAGES = ("tryon", "torch", "ray", "numpy", "pyarrow")


class Figure(Config):
    """One figure against what is asked."""

    name: str = Field(description="of it")
    value: float = Field(description="median over the repeats")
    values: tuple[float, ...] = Field(description="of each repeat")
    bar: float = Field(description="that is asked")
    least: bool = Field(description="the bar is the least, else the most")

    @property
    def passed(self) -> bool:
        """Whether it is what is asked."""
        return self.value >= self.bar if self.least else self.value <= self.bar


def at_least(name: str, values: Sequence[float], bar: float) -> Figure:
    """A figure that should not be below the bar."""
    return Figure(name=name, value=statistics.median(values), values=tuple(values), bar=bar, least=True)


def at_most(name: str, values: Sequence[float], bar: float) -> Figure:
    """A figure that should not be above the bar."""
    return Figure(name=name, value=statistics.median(values), values=tuple(values), bar=bar, least=False)


def ratios(a: Sequence[float], b: Sequence[float]) -> list[float]:
    """Repeat by repeat: a machine that grows slower does so for both."""
    return [x / y for x, y in zip(a, b, strict=True)]


def machine() -> dict[str, Any]:
    """What it ran on, and with."""
    import torch

    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(errors="ignore").splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.processor() or platform.machine(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "cores": physical_cpus(), "system": platform.platform(),
        "python": platform.python_version(), "versions": {name: version(name) for name in PACKAGES},
    }  # fmt: skip
