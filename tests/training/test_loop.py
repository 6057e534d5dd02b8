"""The training loop: its schedule, that it learns, and that the same seed is the same run, unbroken or continued."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import pytest
import torch
from torch import nn

from tryon.data.shards import read_shard, resize_row
from tryon.errors import TrainError
from tryon.sample import Batch
from tryon.training.config import TrainConfig
from tryon.training.loop import Report, train, validate
from tryon.training.optimizers import make_optimizer
from tryon.training.recipes.base import StepOutput, Tensors
from tryon.training.recipes.gmm import GmmRecipe
from tryon.training.state import TrainState, dump_checkpoint, learning_rate, load_checkpoint, seed_all

SIZE = (64, 48)
COLUMNS = (*GmmRecipe.reads, "id", "true_flow")
Weights = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def batch(small_data: str) -> Batch:
    """Four samples."""
    columns = read_shard(f"{small_data}/shard-00001.parquet", COLUMNS)
    rows = [resize_row({name: columns[name][i] for name in COLUMNS}, SIZE) for i in range(4)]
    return {name: [row[name] for row in rows] for name in COLUMNS}


def config_of(**changes: Any) -> TrainConfig:
    values = {
        "recipe": "gmm", "size": SIZE, "steps": 6, "batch_size": 4, "warmup_steps": 2, "report_every": 1,
        "checkpoint_every": 1000, "precision": "fp32", **changes,
    }  # fmt: skip
    return TrainConfig.model_validate(values)


def run(
    config: TrainConfig, batch: Batch, kind: type[GmmRecipe] = GmmRecipe, start: bytes | None = None
) -> tuple[list[float], dict[int, bytes], Weights]:
    """Losses, checkpoints by step, and final weights of a run on one batch an epoch."""
    seed_all(config.seed)
    recipe = kind({"width": 4}, SIZE, None)
    state = TrainState.fresh(recipe, config)
    if start is not None:
        state.load_state_dict(load_checkpoint(start))
    losses: list[float] = []
    checkpoints: dict[int, bytes] = {}

    def on_report(report: Report) -> None:
        losses.append(report.metrics.get("loss", math.nan))
        if report.state is not None:
            checkpoints[report.state.step] = dump_checkpoint(report.state)

    train(recipe, state, config, lambda _: [batch], lambda: [batch], torch.device("cpu"), on_report)
    return losses, checkpoints, recipe.network.state_dict()


def equal(a: Weights, b: Weights) -> bool:
    return all(torch.equal(a[key], b[key]) for key in a)


class Noisy(GmmRecipe):
    """Draws random numbers in each step, as recipes with random windows do."""

    def step(self, network: nn.Module, tensors: Tensors) -> StepOutput:
        out = super().step(network, tensors)
        return StepOutput(out.loss * (1 + torch.rand(())), out.parts)


class Faulty(GmmRecipe):
    """Its loss is not finite in the steps that are listed, counted from 1."""

    bad: Iterable[int] = ()

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._count = 0

    def step(self, network: nn.Module, tensors: Tensors) -> StepOutput:
        self._count += 1
        out = super().step(network, tensors)
        return StepOutput(out.loss * math.nan, out.parts) if self._count in self.bad else out


def test_learning_rate_warms_up_and_falls_to_its_floor() -> None:
    config = config_of(steps=100, warmup_steps=10, learning_rate=0.1)
    rates = [learning_rate(config, step) for step in range(101)]
    assert rates[:10] == pytest.approx([0.01 * (i + 1) for i in range(10)])
    assert max(rates) == pytest.approx(0.1)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[55] == pytest.approx(0.051)
    assert rates[100] == pytest.approx(0.002)


def test_learning_rate_without_warm_up_and_with_one_longer_than_the_run() -> None:
    assert learning_rate(config_of(warmup_steps=0, learning_rate=0.1), 0) == pytest.approx(0.1)
    assert learning_rate(config_of(steps=4, warmup_steps=8, learning_rate=0.1), 3) == pytest.approx(0.05)


def test_four_samples_are_learnt_by_heart(batch: Batch) -> None:
    losses, _, _ = run(config_of(steps=120, learning_rate=4e-3), batch)
    assert losses[-1] < 0.62 * losses[0]


def test_the_same_seed_is_the_same_run_to_the_bit(batch: Batch) -> None:
    first, _, weights = run(config_of(), batch, Noisy)
    again, _, same = run(config_of(), batch, Noisy)
    other, _, _ = run(config_of(seed=1), batch, Noisy)
    assert first == again
    assert equal(weights, same)
    assert first != other


def test_a_continued_run_is_the_unbroken_one_to_the_bit(batch: Batch) -> None:
    config = config_of(steps=7, checkpoint_every=3)
    unbroken, checkpoints, weights = run(config, batch, Noisy)
    assert sorted(checkpoints) == [3, 6, 7]
    torch.rand(100)  # whatever ran in between
    continued, _, same = run(config, batch, Noisy, start=checkpoints[3])
    assert continued == unbroken[3:]
    assert equal(weights, same)


def test_a_finished_run_has_nothing_left_to_do(batch: Batch) -> None:
    config = config_of(steps=2)
    _, checkpoints, weights = run(config, batch)
    losses, _, same = run(config, batch, start=checkpoints[2])
    assert losses == []
    assert equal(weights, same)


def test_steps_whose_loss_is_not_finite_change_nothing(batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Faulty, "bad", (2, 3))
    losses, checkpoints, _ = run(config_of(steps=5, checkpoint_every=1), batch, Faulty)
    weights = {step: load_checkpoint(data)["network"] for step, data in checkpoints.items()}
    assert equal(weights[1], weights[2])
    assert equal(weights[1], weights[3])
    assert not equal(weights[3], weights[4])
    assert [math.isfinite(loss) for loss in losses] == [True, False, False, True, True]


def test_three_such_steps_in_a_row_end_the_run(batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Faulty, "bad", (2, 3, 4))
    with pytest.raises(TrainError, match=r"nan at step 3, 3 steps in a row: lower learning_rate \(0\.001\)"):
        run(config_of(), batch, Faulty)


def test_an_epoch_without_a_batch_is_said() -> None:
    config = config_of()
    recipe = GmmRecipe({"width": 4}, SIZE, None)
    state = TrainState(recipe.network, make_optimizer(recipe.network, config))
    with pytest.raises(ValueError, match="lower batch_size"):
        train(recipe, state, config, lambda _: [], list, torch.device("cpu"), lambda _: None)


def test_validation_is_a_mean_over_samples_not_over_batches(batch: Batch) -> None:
    recipe = GmmRecipe({"width": 4}, SIZE, None)
    parts = [{name: column[i:j] for name, column in batch.items()} for i, j in ((0, 3), (3, 4))]
    device, config = torch.device("cpu"), config_of()
    whole, shown = validate(recipe, recipe.network, [batch], device, config)
    split, _ = validate(recipe, recipe.network, parts, device, config)
    assert set(whole) == {"val_mask_iou", "val_l1", "val_flow_epe_px"}
    assert split == pytest.approx(whole, rel=1e-4)
    assert shown is not None
    assert {name: value.shape for name, value in shown.items()} == dict.fromkeys(shown, (4, 3, *SIZE))
    assert validate(recipe, recipe.network, [], device, config) == ({}, None)


def test_norms_and_biases_are_not_decayed() -> None:
    network = GmmRecipe({"width": 4}, SIZE, None).network
    decayed, others = make_optimizer(network, config_of(weight_decay=0.3)).param_groups
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.3, 0.0)
    assert all(p.ndim > 1 for p in decayed["params"])
    assert all(p.ndim <= 1 for p in others["params"])
    assert len(decayed["params"]) + len(others["params"]) == len(list(network.parameters()))
