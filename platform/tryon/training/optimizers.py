"""Optimisers by name."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn

from tryon.errors import ConfigError
from tryon.training.muon import Muon, is_matrix

if TYPE_CHECKING:
    from tryon.training.config import TrainConfig

OptimizerName = Literal["adamw", "adamw8bit", "muon"]


def optimizer_class(name: OptimizerName) -> type[Any]:
    """The class of an optimiser.

    Args:
        name: adamw; adamw8bit (Dettmers et al. 2022, arXiv 2110.02861), whose state takes a quarter of the memory; or
            muon (Jordan et al. 2024), which needs fewer steps.

    Raises:
        ConfigError: it needs a package that is not installed, or that does not work here.
    """
    if name == "adamw":
        return torch.optim.AdamW
    if name == "muon":
        return Muon
    try:
        cls: type[Any] = import_module("bitsandbytes.optim").AdamW8bit
    except (ImportError, RuntimeError) as error:  # its import looks for the machine's CUDA
        reason = (str(error) or type(error).__name__).splitlines()[0]
        text = (
            f"optimizer = 'adamw8bit' needs the package bitsandbytes, which cannot be used here ({reason}): "
            "pip install bitsandbytes, or take adamw"
        )
        raise ConfigError(text, code="optimizer-unavailable", field="optimizer") from error
    return cls


def make_optimizer(network: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """The config's optimiser of what is trained of a network; biases and norms are not decayed."""
    name, weight_decay = config.optimizer, config.weight_decay
    trained = [weight for weight in network.parameters() if weight.requires_grad]
    matrices = [weight for weight in trained if name == "muon" and is_matrix(weight)]
    taken = {id(weight) for weight in matrices}
    decayed = [weight for weight in trained if weight.ndim > 1 and id(weight) not in taken]
    others = [weight for weight in trained if weight.ndim <= 1]
    groups: list[dict[str, Any]] = [
        {"params": decayed, "decayed": True},
        {"params": others, "decayed": False},
    ]
    if matrices:
        groups.append({"params": matrices, "decayed": True, "matrices": True})
    set_weight_decay(groups, weight_decay)
    fused = {"fused": True} if name == "adamw" else {}  # the same arithmetic in one pass
    made: torch.optim.Optimizer = optimizer_class(name)(groups, lr=config.learning_rate, **fused)
    return made


def set_weight_decay(groups: Iterable[dict[str, Any]], weight_decay: float) -> None:
    """Sets it in groups of `make_optimizer`, or of its saved state."""
    for group in groups:
        group["weight_decay"] = weight_decay if group["decayed"] else 0.0
