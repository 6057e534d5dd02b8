"""What several training processes have to agree on; in a single process all of it is trivial."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import nn


def num_workers() -> int:
    """Training processes."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def all_finite(value: float) -> bool:
    """Whether a loss is finite on every worker: else one would wait in a gradient's sum for those that skip it."""
    return not agree(not math.isfinite(value))


def agree(flag: bool) -> bool:
    """True on every worker if it is on one."""
    if num_workers() == 1:
        return flag
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    told = torch.tensor(float(flag), device=device)
    dist.all_reduce(told, op=dist.ReduceOp.MAX)
    return bool(told > 0)


def average_gradients(network: nn.Module) -> None:
    """Mean of the workers' gradients of a network that DDP does not wrap."""
    if num_workers() == 1:
        return
    for weight in network.parameters():
        if weight.grad is not None:
            dist.all_reduce(weight.grad)  # gloo has no mean
            weight.grad /= num_workers()


def without_sync(network: nn.Module, wanted: bool) -> AbstractContextManager[Any]:
    """Gradients of all but the last accumulated batch stay on their worker."""
    no_sync = getattr(network, "no_sync", None)
    return no_sync() if wanted and no_sync is not None else nullcontext()
