"""Recipe `latent_consistency`: a latent diffusion distilled, so that a few steps make its picture (arXiv 2310.04378).

Consistency distillation (Luo et al. 2023): along the path on which the trained network, the teacher, takes the noise
off, every noisy latent is to give the same clean one. The student, which begins as the teacher, is asked at two
neighbouring times of that path, and its answer at the noisier one is drawn to that at the other. Guidance is folded
in: the teacher steps with it, the student makes one pass. The answer that is aimed at is the student's own of the same
moment, without a slow copy of it (Song and Dhariwal 2023, arXiv 2310.14189, found it no worse).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from tryon.config import Config, parse_config
from tryon.errors import BundleError, ConfigError
from tryon.models.bundle import Bundle, Role
from tryon.models.latent_diffusion import LatentDiffusion
from tryon.models.sampling import add_noise, consistent, predicted_clean
from tryon.training.recipes.base import Recipe, StepOutput, Tensors, psnr, ssim
from tryon.training.recipes.latent_diffusion import LatentDiffusionRecipe, latents, sampled_tryon


class LatentConsistencyOptions(Config):
    """The distillation, and how its network is sampled."""

    skip: int = Field(20, ge=1, le=500, description="times that the teacher goes back in its one step, of 1000")
    guidance_scale: float = Field(1.0, ge=1, le=30, description="that the teacher steps with; 1: none")
    huber: float = Field(0.001, gt=0, le=1, description="below it the loss is a square, above it a length")
    steps: int = Field(4, ge=1, le=16, description="of the finished network's sampling")
    val_rows: int = Field(2, ge=1, le=1024, description="of each held-out batch that are sampled, by teacher too")


class LatentConsistencyRecipe(Recipe):
    """Draws the student's clean latent at a time to the one a step of the teacher further on.

    It goes on from the bundle's latent diffusion and takes its place. ``val_teacher_psnr`` holds its try-ons against
    the teacher's, by the teacher's own sampling.
    """

    role: ClassVar[Role] = "synthesis"
    network_name = "latent_diffusion"
    reads = LatentDiffusionRecipe.reads
    needs: ClassVar[tuple[Role, ...]] = ("warp", "synthesis")
    defaults: ClassVar[Mapping[str, Any]] = {"learning_rate": 2e-4, "batch_size": 16}
    options_class = LatentConsistencyOptions
    best_metric = "val_teacher_psnr"
    prepare = LatentDiffusionRecipe.prepare

    def __init__(
        self,
        network_config: Mapping[str, Any],
        size: tuple[int, int],
        bundle: Bundle | None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        """Takes a copy of the bundle's latent diffusion.

        Raises:
            BundleError: no bundle, it lacks a warp, or its synthesis is no latent diffusion.
            ConfigError: an option that is unknown or out of bounds, or a config of the network, which is the bundle's.
        """
        parse_config(Config, network_config, "network of 'latent_consistency', which is the bundle's")
        told: LatentConsistencyOptions = parse_config(
            self.options_class, options or {}, "options of LatentConsistencyRecipe"
        )
        teacher = _teacher(bundle)
        if teacher.sampling.solver == "lcm":
            text = "the bundle's latent_diffusion is distilled already: give --bundle the one it was distilled from"
            raise ConfigError(text, code="bundle-mismatch", field="--bundle")
        sampling = teacher.sampling.model_copy(update={"solver": "lcm", "steps": told.steps, "guidance_scale": 1.0})
        config = teacher.config.model_copy(update={"sampling": sampling})
        super().__init__(config.model_dump(), size, bundle, options)
        assert isinstance(self.network, LatentDiffusion)
        self.network.load_state_dict(teacher.state_dict())
        self._network = self.network

    @classmethod
    def goes_on(cls, options: Mapping[str, Any]) -> bool:
        """It begins with the bundle's network."""
        del options
        return True

    def step(self, network: nn.Module, tensors: Tensors) -> StepOutput:
        told, clean, coarse = latents(self._network, self.frozen["warp"], tensors)
        alphas, prediction = self._network.alphas, self._network.config.prediction
        times = torch.randint(1, len(alphas), (len(clean),), device=clean.device)
        earlier = (times - self.options.skip).clamp_min(0)
        # Sampling starts with less noise than the teacher was trained with: the student sees what lies between.
        strength = torch.empty(len(clean), 1, 1, 1, device=clean.device).uniform_(self._network.sampling.temperature, 1)
        noisy = add_noise(clean, strength * torch.randn_like(clean), alphas[times])
        made = consistent(noisy, network(noisy, times, coarse, told), times, alphas, prediction)
        with torch.no_grad():
            cleaner = self._teacher_step(noisy, times, earlier, coarse, told)
            aim = consistent(cleaner, self._network(cleaner, earlier, coarse, told), earlier, alphas, prediction)
        scale = self.options.huber
        loss = ((made - aim).square() + scale**2).sqrt().mean() - scale
        return StepOutput(loss, {"consistency": loss.detach()})

    def evaluate(self, network: nn.Module, tensors: Tensors) -> tuple[Tensors, Tensors]:
        assert isinstance(network, LatentDiffusion)
        tensors = {name: value[: self.options.val_rows] for name, value in tensors.items()}
        told, _, _ = latents(network, self.frozen["warp"], tensors)
        teacher = self._frozen_teacher()
        aimed = teacher.sampling.model_copy(update={"guidance_scale": self.options.guidance_scale})
        tryon, wanted = sampled_tryon(network, told, network.sampling), sampled_tryon(teacher, told, aimed)
        figures = {
            "val_psnr": psnr(tryon, tensors["person"]),
            "val_ssim": ssim(tryon, tensors["person"]),
            "val_teacher_psnr": psnr(tryon, wanted),
        }
        return {"tryon": tryon, "truth": tensors["person"]}, figures

    def _teacher_step(self, noisy: Tensor, times: Tensor, earlier: Tensor, coarse: Tensor, told: Tensors) -> Tensor:
        """Latents (b, z, h, w) at earlier times, by one step of DDIM with the teacher's guided prediction."""
        teacher, scale = self._frozen_teacher(), self.options.guidance_scale
        output = teacher(noisy, times, coarse, told)
        if scale > 1:
            free = teacher(noisy, times, coarse, told, coarse.new_zeros(len(coarse)))
            output = torch.lerp(free, output, scale)
        alphas = self._network.alphas
        clean = predicted_clean(noisy, output, alphas[times], teacher.config.prediction)
        alpha = alphas[times].view(-1, 1, 1, 1)
        noise = (noisy - alpha.sqrt() * clean) / (1 - alpha).sqrt()
        return add_noise(clean, noise, alphas[earlier])

    def _frozen_teacher(self) -> LatentDiffusion:
        teacher = self.frozen["synthesis"]
        assert isinstance(teacher, LatentDiffusion)
        return teacher


def _teacher(bundle: Bundle | None) -> LatentDiffusion:
    how = "train latent_diffusion into it first"
    if bundle is None or "synthesis" not in bundle.manifest.networks:
        text = f"latent_consistency distils a bundle's latent_diffusion, and there is none: give --bundle, or {how}"
        raise BundleError(text, code="bundle-missing", field="--bundle")
    network, _ = bundle.network("synthesis")
    if not isinstance(network, LatentDiffusion):
        name = bundle.manifest.networks["synthesis"].network
        text = f"latent_consistency distils a latent_diffusion, the synthesis of bundle {bundle.uri!r} is {name}: {how}"
        raise BundleError(text, code="bundle-mismatch", field="--bundle")
    return network
