"""All that a run needs to go on: weights, their average, optimisers, position in the data, random numbers."""

from __future__ import annotations

import copy
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from tryon.models.contract import load_saved_state, saved_state
from tryon.training.config import TrainConfig
from tryon.training.optimizers import make_optimizer, set_weight_decay
from tryon.training.recipes.base import Recipe
from tryon.training.sharding import Sharded, load_optimizer_state, whole_optimizer_state

MIN_LR_SHARE = 0.02


@dataclass
class TrainState:
    """Weights, optimiser and position; those of the critic and the weights' average where there are such.

    Attributes:
        network: that is trained, perhaps wrapped (DDP, compiled).
        optimizer: of it.
        step: optimiser steps done.
        epoch: of the data.
        batch: batches of that epoch that were used.
        skipped: steps that changed nothing because their loss was not finite.
        ema: the weights' moving average, or None.
        critic: the recipe's discriminator, or None.
        critic_optimizer: of it.
        sharded: how the network and its average lie on the workers, or None.
    """

    network: nn.Module
    optimizer: torch.optim.Optimizer
    step: int = 0
    epoch: int = 0
    batch: int = 0
    skipped: int = 0
    ema: nn.Module | None = None
    critic: nn.Module | None = None
    critic_optimizer: torch.optim.Optimizer | None = None
    sharded: Sharded | None = None

    @classmethod
    def fresh(cls, recipe: Recipe, config: TrainConfig, sharded: Sharded | None = None) -> TrainState:
        """The state at step 0 of a recipe whose networks are on their device, and sharded where that is wanted."""
        critic = recipe.critic
        ema: nn.Module | None = None
        if config.ema > 0:
            ema = sharded.average if sharded else copy.deepcopy(recipe.network).requires_grad_(False)
        return cls(
            recipe.network,
            make_optimizer(recipe.network, config),
            ema=ema,
            critic=critic,
            critic_optimizer=make_optimizer(critic, config) if critic is not None else None,
            sharded=sharded,
        )

    @property
    def best(self) -> nn.Module:
        """What is validated and kept in the bundle: the average where there is one; whole, so collective if sharded."""
        kept = self.ema if self.ema is not None else unwrap(self.network)
        return self.sharded.gather(kept) if self.sharded else kept

    @torch.no_grad()
    def average(self, decay: float) -> None:
        """Moves the average towards the weights; it follows faster in the first steps."""
        if self.ema is None:
            return
        share = 1 - min(decay, (1 + self.step) / (10 + self.step))
        for mean, value in zip(self.ema.parameters(), unwrap(self.network).parameters(), strict=True):
            mean.lerp_(value, share)
        for kept, buffer in zip(self.ema.buffers(), unwrap(self.network).buffers(), strict=True):
            kept.copy_(buffer)

    def state_dict(self) -> dict[str, Any]:
        """Picklable by torch with `weights_only=True`; collective if the network is sharded."""
        state = {
            "network": self._saved(unwrap(self.network)),
            "optimizer": whole_optimizer_state(self.optimizer) if self.sharded else self.optimizer.state_dict(),
            "position": {"step": self.step, "epoch": self.epoch, "batch": self.batch, "skipped": self.skipped},
            "rng": torch.get_rng_state(),
        }
        if torch.cuda.is_available():
            state["cuda_rng"] = torch.cuda.get_rng_state()
        if self.ema is not None:
            state["ema"] = self._saved(self.ema)
        if self.critic is not None and self.critic_optimizer is not None:
            state["critic"] = unwrap(self.critic).state_dict()
            state["critic_optimizer"] = self.critic_optimizer.state_dict()
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over a saved state."""
        self._load(unwrap(self.network), state["network"])
        load_optimizer_state(self.optimizer, state["optimizer"])
        if self.ema is not None:
            self._load(self.ema, state.get("ema", state["network"]))
        if self.critic is not None and self.critic_optimizer is not None:
            unwrap(self.critic).load_state_dict(state["critic"])
            self.critic_optimizer.load_state_dict(state["critic_optimizer"])
        for name, value in state["position"].items():
            setattr(self, name, value)
        torch.set_rng_state(state["rng"])
        if "cuda_rng" in state and torch.cuda.is_available():
            torch.cuda.set_rng_state(state["cuda_rng"])

    def _saved(self, network: nn.Module) -> dict[str, Any]:
        if self.sharded is None:
            return saved_state(network)
        # Copies: the next network to be gathered goes into the same tensors.
        return {name: value.clone() for name, value in saved_state(self.sharded.gather(network)).items()}

    def _load(self, network: nn.Module, state: Mapping[str, Any]) -> None:
        if self.sharded is None:
            load_saved_state(network, state)
            return
        load_saved_state(self.sharded.whole, state)
        self.sharded.scatter(network)


def unwrap(network: nn.Module) -> nn.Module:
    """The network inside DDP and `torch.compile`."""
    inner = getattr(network, "module", network)
    inner = getattr(inner, "_orig_mod", inner)
    assert isinstance(inner, nn.Module)
    return inner


def seed_all(seed: int) -> None:
    """Seeds torch and numpy."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)


def learning_rate(config: TrainConfig, step: int) -> float:
    """Linear warm-up, then cosine to 2 % of the peak at the last step."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    t = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    return config.learning_rate * (MIN_LR_SHARE + (1 - MIN_LR_SHARE) * 0.5 * (1 + math.cos(math.pi * min(1.0, t))))


def dump_checkpoint(state: TrainState, num_workers: int = 1) -> bytes:
    """State of a run of so many workers as bytes."""
    buffer = io.BytesIO()
    torch.save({**state.state_dict(), "num_workers": num_workers}, buffer)
    return buffer.getvalue()


def with_config(data: bytes, config: TrainConfig) -> tuple[bytes, int]:
    """A saved state for a run of another config to go on from, and its step.

    Optimisers keep their own weight decay; all else is read from the config at each step.
    """
    state = load_checkpoint(data)
    for name in ("optimizer", "critic_optimizer"):
        if name in state:
            set_weight_decay(state[name]["param_groups"], config.weight_decay)
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue(), int(state["position"]["step"])


def load_checkpoint(data: bytes) -> dict[str, Any]:
    """State of a run from bytes; tensors and plain values only, no code."""
    loaded: dict[str, Any] = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    return loaded
