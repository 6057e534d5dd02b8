"""What the machine computes with: device, autocast type, threads. Detected, never assumed."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import torch


@lru_cache(maxsize=1)
def pick_device() -> torch.device:
    """CUDA if torch sees it, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@lru_cache(maxsize=1)
def cpu_has_amx_bf16() -> bool:
    """True where the CPU multiplies bf16 matrices in hardware (Intel AMX); convolutions run 5 to 10 x fp32 there."""
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.exists() and "amx_bf16" in cpuinfo.read_text(encoding="ascii", errors="ignore")


def autocast_dtype(device: torch.device) -> torch.dtype | None:
    """bf16 where it is fast (CUDA from Ampere on, CPUs with AMX), else None: plain float32."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    return torch.bfloat16 if cpu_has_amx_bf16() else None


def autocast(device: torch.device, enabled: bool = True) -> torch.autocast:
    """Autocast context with the type that is fast on this device; does nothing where none is."""
    dtype = autocast_dtype(device) if enabled else None
    return torch.autocast(device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None)
