"""How the diffusion networks are sampled: the noise schedule, the solvers to choose from, and their loop.

Solvers are those of diffusers: DDIM (Song et al. 2021, arXiv 2010.02502), the reference with many steps, and two
multistep solvers of second order that need few, DPM-Solver++ (Lu et al. 2022, arXiv 2211.01095) and UniPC (Zhao et
al. 2023, arXiv 2302.04867). All start at the noisiest time and end without noise, so their results can be compared.
The fast ones step evenly in log noise, not in time: on normal distributions, where the true path is known, 20 steps
are then 2 to 40 times nearer to it. A network that was distilled for it (recipe `latent_consistency`) is sampled by
`Consistency` in 1 to 8 steps.

Shape legend: b batch, z latent channels, h, w latent size. A sample at time t is sqrt(a_t) x + sqrt(1 - a_t) noise,
with `a_t` of `alphas_cumprod`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol, cast

import torch
from pydantic import Field
from torch import Tensor

from tryon.config import Config

Solver = Literal["ddim", "dpm++", "unipc", "lcm"]
Prediction = Literal["epsilon", "v_prediction", "sample"]  # noise; sqrt(a) noise - sqrt(1 - a) x; x: diffusers' words
Predict = Callable[[Tensor, Tensor], Tensor]  # noisy (b, z, h, w) and times int64 (b,) to the prediction (b, z, h, w)

SIGMA_DATA, TIME_SCALE = 0.5, 10.0  # of the boundary condition, as published with latent consistency models

# Stable Diffusion's: what is not said by a checkpoint's own scheduler config.
NOISE: Mapping[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "prediction_type": "epsilon",
    "rescale_betas_zero_snr": False,
}


class Scheduler(Protocol):
    """What is used of a diffusers scheduler."""

    alphas_cumprod: Tensor
    timesteps: Tensor
    config: Mapping[str, Any]

    def set_timesteps(self, num_inference_steps: int, *, device: torch.device) -> None:
        """Lays out the steps."""

    def step(self, model_output: Tensor, timestep: Tensor, sample: Tensor, *, return_dict: bool) -> tuple[Tensor, ...]:
        """One step; the first of the tuple is the sample after it."""


class Sampling(Config):
    """How a diffusion network makes its picture."""

    solver: Solver = Field(
        "dpm++", description="ddim (reference), dpm++ or unipc (few steps), lcm (a distilled network's: fewer still)"
    )
    steps: int = Field(20, ge=1, le=1000, description="of the solver")
    guidance_scale: float = Field(1.0, ge=1, le=30, description="of classifier-free guidance; 1: none, half the cost")
    seed: int = Field(0, ge=0, le=2**31 - 1, description="of the noise a picture starts from")
    temperature: float = Field(
        1.0, ge=0, le=1, description="of that noise, x its strength: below 1 nearer to the most likely picture"
    )


class Consistency:
    """The steps of a consistency model (Luo et al. 2023, arXiv 2310.04378): each jumps to the clean sample, and all but
    the last add noise again, up to the next time.

    Implements `Scheduler`. Noise that is added is a row's own and the seed's, as what sampling starts from.
    """

    def __init__(self, noise: Mapping[str, Any], seed: int, temperature: float) -> None:
        """Takes the schedule.

        Args:
            noise: as of `make_scheduler`.
            seed: of the noise that is added.
            temperature: its strength, 0..1.
        """
        self.alphas_cumprod = alphas_cumprod(noise)
        self.timesteps = torch.empty(0, dtype=torch.int64)
        self.config: Mapping[str, Any] = noise
        self._seed, self._temperature = seed, temperature

    def set_timesteps(self, num_inference_steps: int, *, device: torch.device) -> None:
        """Lays out the steps: evenly in time, from the noisiest."""
        spacing = len(self.alphas_cumprod) / num_inference_steps
        ends = len(self.alphas_cumprod) - spacing * torch.arange(num_inference_steps)
        self.timesteps = (ends.round().long() - 1).to(device)
        self.alphas_cumprod = self.alphas_cumprod.to(device)

    def step(self, model_output: Tensor, timestep: Tensor, sample: Tensor, *, return_dict: bool) -> tuple[Tensor, ...]:
        """One step; the first of the tuple is the sample after it."""
        assert not return_dict
        times, index = timestep.expand(len(sample)), int((self.timesteps == timestep).nonzero()[0, 0])
        clean = consistent(sample, model_output, times, self.alphas_cumprod, self.config["prediction_type"])
        if index == len(self.timesteps) - 1:
            return (clean,)
        added = self._temperature * row_noise(tuple(sample.shape), self._seed + 1 + index, sample.device)
        return (add_noise(clean, added, self.alphas_cumprod[self.timesteps[index + 1]].expand(len(sample))),)


def consistent(noisy: Tensor, output: Tensor, time_b: Tensor, alphas: Tensor, prediction: Prediction) -> Tensor:
    """A consistency model's clean sample (b, ...): at time 0 the sample itself, soon after what the output stands for.

    Args:
        noisy: (b, ...).
        output: of the network, likewise.
        time_b: int64 (b,).
        alphas: of `alphas_cumprod`.
        prediction: what the output is.
    """
    away = time_b.to(noisy).view(-1, *(1,) * (noisy.ndim - 1)) * TIME_SCALE
    keep = SIGMA_DATA**2 / (away**2 + SIGMA_DATA**2)
    trust = away / (away**2 + SIGMA_DATA**2).sqrt()
    return keep * noisy + trust * predicted_clean(noisy, output, alphas[time_b], prediction)


def scheduler_of(sampling: Sampling, noise: Mapping[str, Any]) -> Scheduler:
    """What steps as a sampling says.

    Args:
        sampling: solver, seed and temperature.
        noise: as of `make_scheduler`.
    """
    if sampling.solver == "lcm":
        return Consistency({**NOISE, **noise}, sampling.seed, sampling.temperature)
    return make_scheduler(sampling.solver, noise)


def make_scheduler(solver: Literal["ddim", "dpm++", "unipc"], noise: Mapping[str, Any] | None = None) -> Scheduler:
    """A diffusers scheduler that steps with a solver.

    Args:
        solver: one of the three.
        noise: schedule and prediction, in the words of a diffusers scheduler config (`NOISE`); keys that say how
            some other solver steps are passed over.

    Raises:
        ValueError: no such solver.
    """
    from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, UniPCMultistepScheduler

    told = {key: (noise or {}).get(key, value) for key, value in NOISE.items()}
    made: Any
    if solver == "ddim":
        made = DDIMScheduler(**told, clip_sample=False, set_alpha_to_one=True, timestep_spacing="trailing")
    elif solver == "dpm++":
        made = DPMSolverMultistepScheduler(**told, use_exponential_sigmas=True)
    elif solver == "unipc":
        made = UniPCMultistepScheduler(**told, use_exponential_sigmas=True)
    else:
        raise ValueError(f"solver {solver!r} is none of ddim, dpm++, unipc")
    return cast("Scheduler", made)


def alphas_cumprod(noise: Mapping[str, Any] | None = None) -> Tensor:
    """Share of the picture in a noisy sample's variance, float32 (times,), falling with time."""
    return make_scheduler("ddim", noise).alphas_cumprod.float()


@torch.no_grad()
def solve(predict: Predict, start: Tensor, scheduler: Scheduler, steps: int) -> Tensor:
    """Runs a solver from noise to picture.

    Args:
        predict: what the network says of a noisy sample.
        start: float32 (b, z, h, w) at the noisiest time.
        scheduler: of `scheduler_of`; it is set to its first step.
        steps: evaluations of `predict`.

    Returns:
        float32 (b, z, h, w).
    """
    scheduler.set_timesteps(steps, device=start.device)
    noisy = start
    for time in scheduler.timesteps:
        prediction = predict(noisy, time.long().expand(len(noisy))).float()
        noisy = scheduler.step(prediction, time, noisy, return_dict=False)[0]
    return noisy


def start_noise(shape: tuple[int, ...], sampling: Sampling, device: torch.device) -> Tensor:
    """What a picture (b, ...) starts from: the seed's `row_noise`, at the temperature."""
    return sampling.temperature * row_noise(shape, sampling.seed, device)


def row_noise(shape: tuple[int, ...], seed: int, device: torch.device) -> Tensor:
    """Standard normal float32 noise that is the same for each row, so that no row depends on its neighbours.

    Args:
        shape: (b, ...).
        seed: of the noise; one seed gives one noise on every device.
        device: to put it on.
    """
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, *shape[1:], generator=generator).to(device).expand(shape)


def add_noise(clean: Tensor, noise: Tensor, alpha_b: Tensor) -> Tensor:
    """The noisy sample (b, ...) of a clean one; `alpha_b` (b,) of `alphas_cumprod` at each row's time."""
    keep, add = _scales(alpha_b, clean)
    return keep * clean + add * noise


def prediction_target(clean: Tensor, noise: Tensor, alpha_b: Tensor, prediction: Prediction) -> Tensor:
    """What a network is to predict (b, ...) of `add_noise(clean, noise, alpha_b)`."""
    keep, add = _scales(alpha_b, clean)
    if prediction == "epsilon":
        return noise
    return clean if prediction == "sample" else keep * noise - add * clean


def predicted_clean(noisy: Tensor, output: Tensor, alpha_b: Tensor, prediction: Prediction) -> Tensor:
    """The clean sample (b, ...) that a network's output stands for."""
    keep, add = _scales(alpha_b, noisy)
    if prediction == "epsilon":
        return (noisy - add * output) / keep
    return output if prediction == "sample" else keep * noisy - add * output


def _scales(alpha_b: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    alpha = alpha_b.view(-1, *(1,) * (like.ndim - 1))
    return alpha.sqrt(), (1 - alpha).sqrt()
