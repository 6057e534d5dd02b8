"""Solvers: on a distribution whose true denoiser is known they reach the same samples, the fast ones in few steps."""

from __future__ import annotations

from typing import Literal, get_args

import pytest
import torch
from torch import Tensor

from tryon.config import parse_config
from tryon.errors import ConfigError
from tryon.models.sampling import (
    NOISE,
    Consistency,
    Prediction,
    Sampling,
    add_noise,
    alphas_cumprod,
    consistent,
    make_scheduler,
    predicted_clean,
    prediction_target,
    row_noise,
    scheduler_of,
    solve,
    start_noise,
)

Fixed = Literal["ddim", "dpm++", "unipc"]  # which need no network of their own
SOLVERS: tuple[Fixed, ...] = get_args(Fixed)
PREDICTIONS: tuple[Prediction, ...] = get_args(Prediction)
MEAN, SPREAD = 0.7, 0.3


def sampled(solver: Fixed, steps: int, prediction: Prediction = "epsilon") -> Tensor:
    """Samples of a normal distribution, whose best denoiser is a formula."""
    noise = {**NOISE, "prediction_type": prediction}
    alphas = alphas_cumprod(noise)

    def predict(noisy: Tensor, times: Tensor) -> Tensor:
        a = alphas[times].view(-1, 1, 1, 1)
        clean = MEAN + a.sqrt() * SPREAD**2 / (a * SPREAD**2 + 1 - a) * (noisy - a.sqrt() * MEAN)
        return prediction_target(clean, (noisy - a.sqrt() * clean) / (1 - a).sqrt(), alphas[times], prediction)

    start = torch.randn(4, 2, 8, 6, generator=torch.Generator().manual_seed(0))
    return solve(predict, start, make_scheduler(solver, noise), steps)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_samples_have_the_distribution_they_should(solver: Fixed, prediction: Prediction) -> None:
    made = sampled(solver, 200, prediction)
    assert float(made.mean()) == pytest.approx(MEAN, abs=0.05)
    assert float(made.std()) == pytest.approx(SPREAD, rel=0.1)


@pytest.mark.parametrize("solver", ["dpm++", "unipc"])
def test_few_steps_of_a_fast_solver_are_nearer_to_the_reference_than_as_many_of_ddim(solver: Fixed) -> None:
    reference = sampled("ddim", 1000)
    error, ddim_error = (float((sampled(name, 20) - reference).abs().max()) for name in (solver, SOLVERS[0]))
    assert error < 0.1 * ddim_error


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_what_is_predicted_gives_back_the_clean_sample(prediction: Prediction) -> None:
    clean, noise = torch.randn(3, 2, 4, 4), torch.randn(3, 2, 4, 4)
    alpha = alphas_cumprod()[torch.tensor([0, 400, 999])]
    noisy = add_noise(clean, noise, alpha)
    target = prediction_target(clean, noise, alpha, prediction)
    assert torch.allclose(predicted_clean(noisy, target, alpha, prediction), clean, atol=1e-4)


def test_noise_of_a_row_is_that_of_the_seed_alone() -> None:
    many, one = row_noise((3, 2, 4, 4), 7, torch.device("cpu")), row_noise((1, 2, 4, 4), 7, torch.device("cpu"))
    assert torch.equal(many[2:], one)
    assert not torch.equal(one, row_noise((1, 2, 4, 4), 8, torch.device("cpu")))


def test_a_checkpoints_own_schedule_counts_and_its_solver_does_not() -> None:
    told = {"beta_schedule": "linear", "prediction_type": "v_prediction", "skip_prk_steps": True, "steps_offset": 1}
    scheduler = make_scheduler("dpm++", told)
    assert scheduler.config["prediction_type"] == "v_prediction"
    assert scheduler.config["steps_offset"] == 0
    assert not torch.allclose(alphas_cumprod(told), alphas_cumprod())


def test_an_unknown_solver_is_named() -> None:
    with pytest.raises(ValueError, match="solver 'euler' is none of ddim"):
        make_scheduler("euler")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="steps = 0 is not allowed"):
        parse_config(Sampling, {"steps": 0}, "sampling")


def test_the_temperature_is_the_share_of_the_noise() -> None:
    shape, device = (2, 3, 4, 5), torch.device("cpu")
    whole = start_noise(shape, Sampling(seed=3), device)
    assert torch.equal(whole, row_noise(shape, 3, device))
    assert torch.allclose(start_noise(shape, Sampling(seed=3, temperature=0.25), device), whole / 4)
    assert not start_noise(shape, Sampling(seed=3, temperature=0), device).any()
    with pytest.raises(ValueError, match="temperature"):
        Sampling(temperature=1.5)


def test_a_consistency_model_gives_a_clean_sample_back_and_trusts_the_network_soon_after() -> None:
    noisy, output = torch.randn(3, 2, 4, 4), torch.randn(3, 2, 4, 4)
    alphas = alphas_cumprod()
    made = consistent(noisy, output, torch.tensor([0, 1, 999]), alphas, "sample")
    assert torch.equal(made[0], noisy[0])
    assert torch.allclose(made[1], output[1], atol=0.02)
    assert torch.allclose(made[2], output[2], atol=1e-3)


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("steps", [1, 4])
def test_consistency_steps_end_where_the_network_says(prediction: Prediction, steps: int) -> None:
    """A network that knows the one picture there is, from any noise."""
    noise = {**NOISE, "prediction_type": prediction}
    alphas, clean = alphas_cumprod(noise), torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(1))
    asked: list[int] = []

    def predict(noisy: Tensor, times: Tensor) -> Tensor:
        asked.append(int(times[0]))
        a = alphas[times].view(-1, 1, 1, 1)
        return prediction_target(clean, (noisy - a.sqrt() * clean) / (1 - a).sqrt(), alphas[times], prediction)

    sampling = Sampling(solver="lcm", steps=steps)
    made = solve(predict, torch.randn(2, 3, 4, 5), scheduler_of(sampling, noise), sampling.steps)
    assert asked == [999, 749, 499, 249][:steps]
    assert torch.allclose(made, clean, atol=1e-3)


def test_noise_between_consistency_steps_is_the_seeds_and_a_rows_own() -> None:
    def sampled_by(seed: int, rows: int, temperature: float = 1.0) -> Tensor:
        scheduler = Consistency(NOISE, seed, temperature)
        start = row_noise((rows, 2, 4, 4), 0, torch.device("cpu"))
        return solve(lambda noisy, _: 0.5 * noisy, start, scheduler, 3)

    assert torch.equal(sampled_by(1, 3)[2:], sampled_by(1, 1))
    assert not torch.equal(sampled_by(1, 1), sampled_by(2, 1))
    assert torch.equal(sampled_by(1, 1, 0.0), sampled_by(2, 1, 0.0))
