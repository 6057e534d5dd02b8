"""The plain training loop: one process, one device, no Ray. Ray Train runs this same loop in each worker."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tryon.errors import TrainError
from tryon.models.device import autocast, autocast_dtype
from tryon.training.config import TrainConfig
from tryon.training.info import Metrics as Metrics
from tryon.training.judge import PictureJudges
from tryon.training.prefetch import Ahead, Fetched, endless
from tryon.training.recipes.base import Batches, Recipe, StepOutput, Tensors
from tryon.training.sharding import whole
from tryon.training.state import TrainState, learning_rate, unwrap
from tryon.training.workers import agree, all_finite, average_gradients, num_workers, without_sync

OUT_OF_MEMORY = (
    "out of memory",
    "not enough memory",
    "can't allocate memory",
)  # CUDA's and the CPU's words
PARTS_OF_MEMORY = "batch_size (accumulate keeps the effective one), size, or the network's width"


@dataclass(frozen=True)
class Report:
    """What the loop tells, every `report_every` steps and whenever it saves.

    Attributes:
        metrics: of the steps since the last report; validation figures where it validated.
        state: to be saved, or None.
        shown: predicted and true pictures of the first held-out batch, where it validated.
    """

    metrics: Metrics
    state: TrainState | None = None
    shown: Tensors | None = None


OnReport = Callable[[Report], None]


class Stopped(Exception):  # noqa: N818 - no error: the run was asked to stop, and can go on
    """The loop was asked to stop, and has reported its state.

    Attributes:
        step: at which it stopped.
    """

    def __init__(self, step: int) -> None:
        super().__init__(f"stopped at step {step}")
        self.step = step


def train(
    recipe: Recipe,
    state: TrainState,
    config: TrainConfig,
    batches: Batches,
    val_batches: Callable[[], Iterable[Mapping[str, Any]]],
    device: torch.device,
    on_report: OnReport,
    should_stop: Callable[[], bool] = lambda: False,
    judges: PictureJudges | None = None,
) -> Metrics:
    """Trains from `state.step` to `config.steps`.

    Args:
        recipe: network and losses.
        state: where to start; changed in place.
        config: the run.
        batches: gives an epoch's batches, of `batch_size / accumulate` samples over all workers.
        val_batches: gives the held-out batches; may be empty.
        device: to compute on.
        on_report: told how it goes; with the state at the end, every `checkpoint_every` steps and
            `checkpoint_minutes`, and when it stops.
        should_stop: asked after each step.
        judges: of the held-out pictures, at every `judge_every`-th validation and at the end.

    Returns:
        The last validation figures; measured anew if the state was finished already.

    Raises:
        Stopped: `should_stop` said so.
        TrainError: the loss is not finite for `max_bad_steps` steps in a row, or memory has run out.
    """
    meter = _Meter()
    figures: Metrics = {}
    clock = _Clock(config.checkpoint_minutes)
    bad_steps = 0
    half = autocast_dtype(device, config.precision) is torch.float16
    scaler = torch.amp.GradScaler(device.type, enabled=half)
    with Ahead(endless(recipe, batches, state.epoch, state.batch, device)) as source:
        while state.step < config.steps:
            loss = _guarded_step(recipe, state, config, source, device, meter, scaler)
            bad_steps = 0 if math.isfinite(loss) else bad_steps + 1
            if bad_steps >= config.max_bad_steps:
                text = f"the loss is {loss} at step {state.step}, {bad_steps} steps in a row: lower learning_rate"
                text += f" ({config.learning_rate}) or clip_norm ({config.clip_norm})"
                raise TrainError(text, code="loss-not-finite", field="learning_rate")
            state.step += 1
            stops = agree(should_stop())
            last = state.step == config.steps
            save = last or stops or state.step % config.checkpoint_every == 0 or agree(clock.is_due())
            shown: Tensors | None = None
            if save and not (stops and not last):
                due = last or state.step % (config.checkpoint_every * config.judge_every) == 0
                figures, shown = validate(recipe, state.best, val_batches(), device, config, judges if due else None)
            if save or state.step % config.report_every == 0:
                line = {"step": float(state.step), "epoch": float(state.epoch), "lr": learning_rate(config, state.step)}
                line |= {"skipped": float(state.skipped)} if state.skipped else {}
                line |= meter.flush() | (figures if save else {})
                on_report(Report(line, state if save else None, shown))
            if stops and not last:
                raise Stopped(state.step)
    return figures or validate(recipe, state.best, val_batches(), device, config, judges)[0]


def _guarded_step(
    recipe: Recipe,
    state: TrainState,
    config: TrainConfig,
    source: Iterator[Fetched],
    device: torch.device,
    meter: _Meter,
    scaler: torch.amp.GradScaler,
) -> float:
    """A step whose running out of memory says what to lower.

    Raises:
        TrainError: out of memory.
    """
    try:
        return _step(recipe, state, config, source, device, meter, scaler)
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not any(words in str(error) for words in OUT_OF_MEMORY):
            raise
        size = f"{config.size[0]}x{config.size[1]}, batch_size {config.batch_size}, accumulate {config.accumulate}"
        text = f"out of memory at step {state.step + 1} ({size}): lower {PARTS_OF_MEMORY}"
        raise TrainError(text, code="out-of-memory", field="batch_size") from error


def _step(
    recipe: Recipe,
    state: TrainState,
    config: TrainConfig,
    source: Iterator[Fetched],
    device: torch.device,
    meter: _Meter,
    scaler: torch.amp.GradScaler,
) -> float:
    """One optimiser step over `accumulate` batches; one whose loss is not finite changes nothing."""
    for group in state.optimizer.param_groups:
        group["lr"] = learning_rate(config, state.step)
    state.network.train()
    state.optimizer.zero_grad(set_to_none=True)
    total = 0.0
    for i in range(config.accumulate):
        start = time.perf_counter()
        fetched = next(source)
        ready = fetched.tensors or recipe.prepare(fetched.columns)
        tensors = {name: value.to(device, non_blocking=True) for name, value in ready.items()}
        state.epoch, state.batch = fetched.epoch, fetched.batch
        waited = time.perf_counter() - start
        with without_sync(state.network, i < config.accumulate - 1), autocast(device, config.precision):
            out = recipe.step(state.network, tensors)
            loss = float(out.loss.detach())
            if not all_finite(loss):  # before anything changes, and on all workers alike
                state.skipped += 1
                return math.nan if math.isfinite(loss) else loss
            scaler.scale(out.loss / config.accumulate).backward()  # type: ignore[no-untyped-call]
        total += loss / config.accumulate
        meter.add({"loss": loss, **{f"loss_{name}": float(part) for name, part in out.parts.items()}})
        meter.add_time(len(next(iter(tensors.values()))), waited, time.perf_counter() - start)
    start = time.perf_counter()
    scaler.unscale_(state.optimizer)
    norm = whole(nn.utils.clip_grad_norm_(state.network.parameters(), config.clip_norm))
    if not scaler.is_enabled() and not torch.isfinite(norm):  # the same on all workers; a scaler sees to it itself
        state.skipped += 1
        return math.nan
    scaler.step(state.optimizer)
    scaler.update()
    state.average(config.ema)
    if state.critic is not None and out.generated is not None:
        _critic_step(recipe, state, config, tensors, out, meter)
    meter.add_time(0, 0.0, time.perf_counter() - start)
    return total


def _critic_step(
    recipe: Recipe, state: TrainState, config: TrainConfig, tensors: Tensors, made: StepOutput, meter: _Meter
) -> None:
    """One step of the critic on what the network has just made; the network's own loss left gradients in it."""
    assert state.critic is not None
    assert state.critic_optimizer is not None
    assert made.generated is not None
    for group in state.critic_optimizer.param_groups:
        group["lr"] = learning_rate(config, state.step)
    state.critic.train()
    state.critic_optimizer.zero_grad(set_to_none=True)
    with autocast(next(state.critic.parameters()).device, config.precision):
        out = recipe.critic_step(tensors, made.generated)
    if all_finite(float(out.loss.detach())):
        out.loss.backward()  # type: ignore[no-untyped-call]
        average_gradients(state.critic)
        nn.utils.clip_grad_norm_(state.critic.parameters(), config.clip_norm)
        state.critic_optimizer.step()
        meter.add({f"critic_{name}": float(part) for name, part in {"loss": out.loss.detach(), **out.parts}.items()})


@torch.no_grad()
def validate(
    recipe: Recipe,
    network: nn.Module,
    batches: Iterable[Mapping[str, Any]],
    device: torch.device,
    config: TrainConfig,
    judges: PictureJudges | None = None,
) -> tuple[Metrics, Tensors | None]:
    """Mean of the recipe's figures over held-out samples, and the first batch's pictures; empty where there are none.

    Random numbers that are drawn here do not change those of the training.
    """
    sums: defaultdict[str, list[Tensor]] = defaultdict(list)
    shown: Tensors | None = None
    network.eval()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        for batch in batches:
            tensors = {name: value.to(device) for name, value in recipe.prepare(batch).items()}
            with autocast(device, config.precision):
                pictures, figures = recipe.evaluate(unwrap(network), tensors)
            shown = shown or {name: value.float().cpu() for name, value in pictures.items()}
            if judges is not None:
                judges.add(pictures)
            for name, values in figures.items():
                sums[name].append(values.float().cpu())
    means = {name: float(torch.cat(values).mean()) for name, values in sums.items()}
    return means | (judges.figures() if judges is not None else {}), shown


class _Clock:
    """Says when minutes have passed since it last said so."""

    def __init__(self, minutes: float) -> None:
        self._seconds = minutes * 60
        self._last = time.monotonic()

    def is_due(self) -> bool:
        if not self._seconds or time.monotonic() - self._last < self._seconds:
            return False
        self._last = time.monotonic()
        return True


class _Meter:
    """Means of the loss parts and the speed since the last flush."""

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self._since = time.perf_counter()
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
        line["samples_per_s"] = self._samples * num_workers() / max(self._total_s, 1e-9)
        line["seconds"] = time.perf_counter() - self._since
        line["data_wait_share"] = self._waited_s / max(self._total_s, 1e-9)
        if torch.cuda.is_available():
            line["gpu_memory_gb"] = torch.cuda.max_memory_allocated() / 1e9
        self._clear()
        return line
