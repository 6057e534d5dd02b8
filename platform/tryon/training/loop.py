"""The plain training loop: one process, one device, no Ray. Ray Train runs this same loop in each worker."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tryon.models.device import autocast
from tryon.training.config import TrainConfig
from tryon.training.recipes.base import Recipe, Tensors

Batches = Callable[[int], Iterable[Mapping[str, Any]]]  # epoch to batches of columns
Metrics = dict[str, float]
OnReport = Callable[[Metrics, "TrainState | None"], None]
MIN_LR_SHARE = 0.02


@dataclass
class TrainState:
    """All that a run needs to go on: weights, optimiser, position."""

    network: nn.Module
    optimizer: torch.optim.Optimizer
    step: int = 0
    epoch: int = 0

    def state_dict(self) -> dict[str, Any]:
        """Picklable by torch with `weights_only=True`."""
        return {
            "network": unwrap(self.network).state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "epoch": self.epoch,
            "rng": torch.get_rng_state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over a saved state."""
        unwrap(self.network).load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]
        self.epoch = state["epoch"]
        torch.set_rng_state(state["rng"])


def unwrap(network: nn.Module) -> nn.Module:
    """The network inside a DDP wrapper."""
    inner = getattr(network, "module", network)
    assert isinstance(inner, nn.Module)
    return inner


def seed_all(seed: int) -> None:
    """Seeds torch and numpy."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)


def make_optimizer(network: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """AdamW; biases and norms are not decayed."""
    decayed = [p for p in network.parameters() if p.requires_grad and p.ndim > 1]
    others = [p for p in network.parameters() if p.requires_grad and p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.learning_rate)


def learning_rate(config: TrainConfig, step: int) -> float:
    """Linear warm-up, then cosine to 2 % of the peak at the last step."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    t = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    return config.learning_rate * (MIN_LR_SHARE + (1 - MIN_LR_SHARE) * 0.5 * (1 + math.cos(math.pi * min(1.0, t))))


def train(
    recipe: Recipe,
    state: TrainState,
    config: TrainConfig,
    batches: Batches,
    val_batches: Callable[[], Iterable[Mapping[str, Any]]],
    device: torch.device,
    on_report: OnReport,
) -> Metrics:
    """Trains from `state.step` to `config.steps`.

    Args:
        recipe: network and losses.
        state: where to start; changed in place.
        config: the run.
        batches: gives an epoch's batches.
        val_batches: gives the held-out batches; may be empty.
        device: to compute on.
        on_report: told metrics every `report_every` steps, with the state too every `checkpoint_every` steps and
            at the end.

    Returns:
        The last validation figures; measured anew if the state was finished already.

    Raises:
        FloatingPointError: the loss is not finite for three steps in a row.
    """
    meter = _Meter()
    figures: Metrics = {}
    source = _endless(batches, state)
    bad_steps = 0
    while state.step < config.steps:
        start = time.perf_counter()
        tensors = {name: value.to(device, non_blocking=True) for name, value in recipe.prepare(next(source)).items()}
        waited = time.perf_counter() - start
        loss = _step(recipe, state, config, tensors, device, meter)
        bad_steps = 0 if math.isfinite(loss) else bad_steps + 1
        if bad_steps >= 3:
            raise FloatingPointError(f"loss is {loss} at step {state.step}; lower learning_rate {config.learning_rate}")
        state.step += 1
        meter.add_time(len(tensors["garment"]), waited, time.perf_counter() - start)
        last = state.step == config.steps
        save = last or state.step % config.checkpoint_every == 0
        if save:
            figures = validate(recipe, state.network, val_batches(), device, config)
        if save or state.step % config.report_every == 0:
            line = {"step": float(state.step), "lr": learning_rate(config, state.step), **meter.flush(), **figures}
            on_report(line, state if save else None)
    return figures or validate(recipe, state.network, val_batches(), device, config)


def _step(
    recipe: Recipe, state: TrainState, config: TrainConfig, tensors: Tensors, device: torch.device, meter: _Meter
) -> float:
    """One optimiser step; a step whose loss is not finite changes nothing."""
    for group in state.optimizer.param_groups:
        group["lr"] = learning_rate(config, state.step)
    state.network.train()
    with autocast(device, config.bf16):
        out = recipe.step(state.network, tensors)
    loss = float(out.loss.detach())
    state.optimizer.zero_grad(set_to_none=True)
    if math.isfinite(loss):
        out.loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(state.network.parameters(), config.clip_norm)
        state.optimizer.step()
        meter.add({"loss": loss, **{f"loss_{name}": float(part) for name, part in out.parts.items()}})
    return loss


@torch.no_grad()
def validate(
    recipe: Recipe,
    network: nn.Module,
    batches: Iterable[Mapping[str, Any]],
    device: torch.device,
    config: TrainConfig,
) -> Metrics:
    """Mean of the recipe's figures over held-out samples; empty where there are none."""
    sums: defaultdict[str, list[Tensor]] = defaultdict(list)
    network.eval()
    for batch in batches:
        tensors = {name: value.to(device) for name, value in recipe.prepare(batch).items()}
        with autocast(device, config.bf16):
            _, figures = recipe.evaluate(unwrap(network), tensors)
        for name, values in figures.items():
            sums[name].append(values.float().cpu())
    return {name: float(torch.cat(values).mean()) for name, values in sums.items()}


def _endless(batches: Batches, state: TrainState) -> Iterator[Mapping[str, Any]]:
    while True:
        empty = True
        for batch in batches(state.epoch):
            empty = False
            yield batch
        if empty:
            raise ValueError("an epoch gave no full batch: lower batch_size or give more samples")
        state.epoch += 1


class _Meter:
    """Means of the loss parts and the speed since the last flush."""

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self._parts: defaultdict[str, list[float]] = defaultdict(list)
        self._samples, self._waited_s, self._total_s = 0, 0.0, 0.0

    def add(self, parts: Mapping[str, float]) -> None:
        for name, value in parts.items():
            self._parts[name].append(value)

    def add_time(self, samples: int, waited_s: float, total_s: float) -> None:
        self._samples += samples
        self._waited_s += waited_s
        self._total_s += total_s

    def flush(self) -> Metrics:
        line = {name: sum(values) / len(values) for name, values in self._parts.items()}
        line["samples_per_s"] = self._samples / max(self._total_s, 1e-9)
        line["data_wait_share"] = self._waited_s / max(self._total_s, 1e-9)
        self._clear()
        return line
