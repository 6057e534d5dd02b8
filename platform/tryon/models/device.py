"""What the machine computes with: device, autocast type, threads. Detected, never assumed."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from pathlib import Path
from typing import Literal

import torch

Precision = Literal["auto", "fp32", "bf16", "fp16"]


@lru_cache(maxsize=1)
def pick_device() -> torch.device:
    """CUDA if torch sees it, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@lru_cache(maxsize=1)
def cpu_has_amx_bf16() -> bool:
    """True where the CPU multiplies bf16 matrices in hardware (Intel AMX); convolutions run 5 to 10 x fp32 there."""
    return _cpu_says("amx_bf16")


@lru_cache(maxsize=1)
def cpu_has_vnni() -> bool:
    """True where the CPU multiplies and adds 8-bit whole numbers in one instruction (AVX-512 or AVX VNNI)."""
    return _cpu_says("vnni")


def _cpu_says(word: str) -> bool:
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.exists() and word in cpuinfo.read_text(encoding="ascii", errors="ignore")


def autocast_dtype(device: torch.device, precision: Precision = "auto") -> torch.dtype | None:
    """The type to compute in; None: plain float32.

    Args:
        device: to compute on.
        precision: auto takes bf16 where it is fast (CUDA from Ampere on, CPUs with AMX), fp16 on older CUDA.
    """
    if precision != "auto":
        return {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    return torch.bfloat16 if cpu_has_amx_bf16() else None


def autocast(device: torch.device, precision: Precision = "auto") -> torch.autocast:
    """Autocast context with the type that is fast on this device, or another; does nothing for float32."""
    dtype = autocast_dtype(device, precision)
    return torch.autocast(device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None)


def full_precision(device: torch.device) -> AbstractContextManager[object]:
    """Context in which autocast rounds nothing: for positions, which bf16 has too few digits for."""
    known = torch.amp.is_autocast_available(device.type)
    return torch.autocast(device.type, enabled=False) if known else nullcontext()
