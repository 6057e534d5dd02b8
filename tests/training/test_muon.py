"""Muon: what it makes of a matrix, whose weights it takes, that it learns faster, and that it goes on after a stop."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tryon.training.config import TrainConfig
from tryon.training.muon import ADAMW_SHARE, NS_COEFFICIENTS, NS_STEPS, Muon, orthogonalized
from tryon.training.optimizers import make_optimizer


def config_of(optimizer: str = "muon", **values: float) -> TrainConfig:
    return TrainConfig(recipe="gmm", optimizer=optimizer, **values)  # type: ignore[arg-type]


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.GroupNorm(4, 16), nn.SiLU(), nn.Conv2d(16, 32, 3, padding=1), nn.SiLU(),
        nn.Conv2d(32, 32, 3, padding=1, groups=32), nn.SiLU(), nn.Conv2d(32, 2, 1),
    )  # fmt: skip


def task() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(8, 3, 12, 10, generator=generator)
    return x, torch.stack([x[:, 0].roll(1, -1) * x[:, 1], x[:, 2].abs()], dim=1)


def learn(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> float:
    x, y = task()
    for _ in range(steps):
        loss = F.mse_loss(model(x), y)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return float(loss.detach())


@pytest.mark.parametrize("shape", [(16, 144), (64, 8), (32, 32)])
def test_singular_values_become_nearly_one(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * torch.logspace(0, -1, shape[1])
    made = orthogonalized(matrix)
    values = torch.linalg.svdvals(made)
    assert made.shape == shape
    assert values.min() > 0.3
    assert values.max() < 1.3
    rows, _, columns = torch.linalg.svd(matrix, full_matrices=False)
    away = rows.T @ made @ columns.T
    assert torch.allclose(away, torch.diag(away.diagonal()), atol=2e-3)  # the same singular vectors


def test_it_is_the_published_iteration() -> None:
    a, b, c = NS_COEFFICIENTS
    x = matrix = torch.randn(24, 60, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    x = x / x.norm()
    for _ in range(NS_STEPS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    assert torch.allclose(orthogonalized(matrix.float()).double(), x, atol=1e-4)


def test_a_matrix_of_zeros_stays_one() -> None:
    assert torch.equal(orthogonalized(torch.zeros(8, 9)), torch.zeros(8, 9))


def test_it_takes_dense_kernels_and_leaves_heads_vectors_and_depthwise_kernels() -> None:
    model = net()
    groups = make_optimizer(model, config_of(weight_decay=0.3)).param_groups
    taken = [p for group in groups if group["matrices"] for p in group["params"]]
    assert {id(p) for p in taken} == {id(model[0].weight), id(model[3].weight)}
    given = [p for group in groups for p in group["params"]]
    assert {id(p) for p in given} == {id(p) for p in model.parameters()}
    assert len(given) == len(list(model.parameters()))
    assert all((group["weight_decay"] == 0.3) == (group["params"][0].ndim > 1) for group in groups)


def test_what_is_no_matrix_moves_as_by_adamw() -> None:
    made = {}
    for name in ("adamw", "muon"):
        model = nn.Sequential(nn.Conv2d(3, 2, 1), nn.GroupNorm(1, 2))
        torch.manual_seed(4)
        for p in model.parameters():
            nn.init.normal_(p)
        lr = 1e-2 if name == "adamw" else 1e-2 / ADAMW_SHARE
        learn(model, make_optimizer(model, config_of(name, learning_rate=lr)), 20)
        made[name] = [p.detach() for p in model.parameters()]
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(made["adamw"], made["muon"], strict=True))


def test_it_learns() -> None:
    torch.manual_seed(0)
    blocks = [layer for _ in range(4) for layer in (nn.Conv2d(24, 24, 3, padding=1), nn.SiLU())]
    model = nn.Sequential(nn.Conv2d(3, 24, 3, padding=1), nn.SiLU(), *blocks, nn.Conv2d(24, 2, 1))
    optimizer = make_optimizer(model, config_of(learning_rate=1e-2))
    before = learn(model, optimizer, 1)
    assert learn(model, optimizer, 150) < 0.3 * before


def test_a_continued_run_is_the_unbroken_one_to_the_bit() -> None:
    whole = net()
    learn(whole, make_optimizer(whole, config_of()), 8)
    model = net()
    optimizer = make_optimizer(model, config_of())
    learn(model, optimizer, 5)
    again = net()
    again.load_state_dict(model.state_dict())
    other = make_optimizer(again, config_of())
    assert isinstance(other, Muon)
    other.load_state_dict(optimizer.state_dict())
    learn(again, other, 3)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), again.parameters(), strict=True))
