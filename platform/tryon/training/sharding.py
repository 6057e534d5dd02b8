"""FSDP2: trained weights, their gradients and the optimiser's state spread over the workers.

Each worker holds its part of them, and the whole of a block only while it is computed on (Zhao et al. 2023, arXiv
2304.11277; `torch.distributed.fsdp.fully_shard`). Weights that are frozen stay whole on each worker: recipes use them
outside the network's own pass. Checkpoints and validation work on whole weights, so that any number of workers, with
or without sharding, can go on from a checkpoint.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.utils._pytree import tree_map


class Sharded:
    """A network whose trained weights are sharded in place, and a whole copy of it to read them from.

    All methods but the constructor's checks are collective: every worker calls them, in the same order.

    Args:
        network: on its device, with the same weights on every worker; is changed.
        averaged: whether there is a moving average of its weights too.

    Attributes:
        whole: the copy; holds what was gathered last.
        average: a second sharded network, or None.
    """

    def __init__(self, network: nn.Module, *, averaged: bool) -> None:
        self.whole = _copy(network).requires_grad_(False)
        self.average = shard(_copy(network)).requires_grad_(False) if averaged else None
        shard(network)

    @torch.no_grad()
    def gather(self, network: nn.Module) -> nn.Module:
        """The whole copy with the weights of a sharded network."""
        for mine, its in zip(_values(self.whole), _values(network), strict=True):
            mine.copy_(whole(its))
        return self.whole

    @torch.no_grad()
    def scatter(self, network: nn.Module) -> None:
        """Gives a sharded network the weights of the whole copy."""
        for mine, its in zip(_values(self.whole), _values(network), strict=True):
            its.copy_(part(mine, its))


def shard(network: nn.Module) -> nn.Module:
    """Shards what is trained of a network in place, each of its blocks and the rest as a unit; returns it."""
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    mesh = init_device_mesh(device, (dist.get_world_size(),))
    frozen = {weight for weight in network.parameters() if not weight.requires_grad}
    for weight in network.parameters():
        if weight.requires_grad:
            weight.data = weight.data.contiguous()  # channels last cannot be sharded
    for unit in (*_blocks(network), network):
        fully_shard(unit, mesh=mesh, ignored_params=frozen)
    return network


def whole(value: Tensor) -> Tensor:
    """A tensor of all workers' parts, or the tensor itself."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def part(value: Tensor, like: Tensor) -> Tensor:
    """Of a whole tensor that all workers have, this one's part where `like` is sharded."""
    if not isinstance(like, DTensor):
        return value
    placed: Tensor = distribute_tensor(value, like.device_mesh, like.placements, src_data_rank=None)
    return placed


def whole_optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Its state dict with whole tensors, as one without sharding has; collective."""
    gathered: dict[str, Any] = tree_map(lambda x: whole(x) if isinstance(x, Tensor) else x, optimizer.state_dict())
    return gathered


def load_optimizer_state(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Takes over a state dict with whole tensors."""
    optimizer.load_state_dict(dict(state))
    for weight, values in optimizer.state.items():
        for name, value in values.items():
            if isinstance(value, Tensor) and value.shape == weight.shape:
                values[name] = part(value, weight)


def _copy(network: nn.Module) -> nn.Module:
    """With weights of its own where they are trained, the same where they are frozen."""
    frozen = {id(weight): weight for weight in network.parameters() if not weight.requires_grad}
    return copy.deepcopy(network, frozen)


def _blocks(network: nn.Module) -> Iterator[nn.Module]:
    """The outermost modules that a list holds and something is trained of: they are called one after another."""
    for child in network.children():
        in_list = isinstance(network, nn.ModuleList) and not isinstance(child, nn.ModuleList | nn.ModuleDict)
        if not in_list:
            yield from _blocks(child)
        elif any(weight.requires_grad for weight in child.parameters()):
            yield child


def _values(network: nn.Module) -> Iterator[Tensor]:
    yield from network.parameters()
    yield from network.buffers()
