"""Recipe `latent_diffusion`: denoising in two branches (Gou et al. 2023, arXiv 2308.06101), on a frozen warp."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from tryon.config import Config, parse_config
from tryon.errors import BundleError, ConfigError
from tryon.models.bundle import Bundle, Role
from tryon.models.latent_autoencoder import LatentAutoencoder, load_published
from tryon.models.latent_diffusion import LatentDiffusion, coarse_composition
from tryon.models.losses import PerceptualConfig, PerceptualLoss
from tryon.models.sampling import Sampling, add_noise, predicted_clean, prediction_target
from tryon.models.tensors import CONDITION_READS, condition, images_to_tensor
from tryon.models.tom import compose
from tryon.training.recipes.base import Recipe, StepOutput, Tensors, psnr, ssim
from tryon.training.recipes.tom import frozen_warp

TIMES_SEED = 0  # of the times and the noise that `val_loss` is measured at


class LatentDiffusionOptions(Config):
    """The two branches and their conditioning."""

    autoencoder: str | None = Field(
        None, description="a diffusers AutoencoderKL (path, s3://, hub id); null: the bundle's latent_autoencoder"
    )
    refinement_weight: float = Field(0.05, ge=0, le=100, description="of the perceptual loss; 0: no such branch")
    refinement_share: float = Field(0.25, gt=0, le=1, description="of a batch's rows that go through that branch too")
    refinement_until: float = Field(0.5, gt=0, le=1, description="its times are drawn below this share of the schedule")
    perceptual: PerceptualConfig = Field(PerceptualConfig(), description="what the perceptual loss compares by")
    drop: float = Field(0.1, ge=0, lt=1, description="share of rows that are not told the garment, for guidance")
    val_rows: int = Field(2, ge=1, le=1024, description="of each held-out batch that are sampled")
    val_steps: int = Field(10, ge=1, le=1000, description="of those samples")


class LatentDiffusionRecipe(Recipe):
    """Reconstruction: the squared error of what is predicted of the photo's noised latent. Refinement: from the noised
    coarse composition the clean latent is predicted and decoded, and its perceptual distance from the photo counts.

    Times of the refinement end halfway: later the coarse composition is all but noise, and the latent predicted from
    it by its noise is that prediction's error, many times enlarged.
    """

    role: ClassVar[Role] = "synthesis"
    shards = True
    network_name = "latent_diffusion"
    reads = (*CONDITION_READS, "person")
    needs: ClassVar[tuple[Role, ...]] = ("warp", "reconstruction")
    defaults: ClassVar[Mapping[str, Any]] = {"learning_rate": 1e-3, "batch_size": 16}
    options_class = LatentDiffusionOptions

    def __init__(
        self,
        network_config: Mapping[str, Any],
        size: tuple[int, int],
        bundle: Bundle | None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        """As `Recipe`; the network is built around the trained autoencoder.

        Raises:
            BundleError: the bundle lacks a warp or, where no other is named, an autoencoder of latents.
            ConfigError: an option or a network config that does not fit.
        """
        told: LatentDiffusionOptions = parse_config(self.options_class, options or {}, "options of latent_diffusion")
        if "autoencoder" in network_config:
            text = "network.autoencoder cannot be set: the network takes the config of its trained autoencoder"
            raise ConfigError(text, code="config-invalid", field="network.autoencoder")
        autoencoder = load_published(told.autoencoder) if told.autoencoder else _bundled(bundle)
        whole = {**network_config, "autoencoder": autoencoder.config.model_dump()}
        super().__init__(whole, size, bundle, options)
        assert isinstance(self.network, LatentDiffusion)
        self.network.autoencoder.load_state_dict(autoencoder.state_dict())
        self._network = self.network
        if told.refinement_weight > 0:
            self.frozen["perceptual"] = PerceptualLoss(told.perceptual)

    @classmethod
    def needed_roles(cls, options: Mapping[str, Any]) -> tuple[Role, ...]:
        told: LatentDiffusionOptions = parse_config(cls.options_class, options, f"options of {cls.__name__}")
        return ("warp",) if told.autoencoder else cls.needs

    def prepare(self, batch: Mapping[str, Any]) -> Tensors:
        tensors = condition(batch, self.size)
        tensors["person"] = images_to_tensor(batch["person"], self.size)
        return tensors

    def step(self, network: nn.Module, tensors: Tensors) -> StepOutput:
        told, clean, coarse = latents(self._network, self.frozen["warp"], tensors)
        num, refined = len(clean), self._num_refined(len(clean))
        steps = len(self._network.alphas)
        times = torch.randint(0, steps, (num,), device=clean.device)
        early = torch.randint(0, max(1, int(steps * self.options.refinement_until)), (refined,), device=clean.device)
        start = torch.cat([clean, coarse[:refined]])
        alphas = self._network.alphas[torch.cat([times, early])]
        noise = torch.randn_like(start)
        noisy = add_noise(start, noise, alphas)
        rows = {name: torch.cat([value, value[:refined]]) for name, value in told.items()}
        keep = (torch.rand(len(start), device=clean.device) >= self.options.drop).float()
        # Both branches in one pass: half the calls, and DDP takes one pass a step.
        made = network(noisy, torch.cat([times, early]), torch.cat([coarse, coarse[:refined]]), rows, keep)
        target = prediction_target(start, noise, alphas, self._network.config.prediction)
        parts = {"noise": F.mse_loss(made[:num], target[:num])}
        loss = parts["noise"]
        if refined:
            ends = predicted_clean(noisy[num:], made[num:], alphas[num:], self._network.config.prediction)
            parts["perceptual"] = self._perceptual(ends, {name: value[:refined] for name, value in tensors.items()})
            loss = loss + self.options.refinement_weight * parts["perceptual"]
        return StepOutput(loss, {name: part.detach() for name, part in parts.items()})

    def evaluate(self, network: nn.Module, tensors: Tensors) -> tuple[Tensors, Tensors]:
        assert isinstance(network, LatentDiffusion)
        tensors = {name: value[: self.options.val_rows] for name, value in tensors.items()}
        told, clean, coarse = latents(network, self.frozen["warp"], tensors)
        sampling = Sampling(**{**network.sampling.model_dump(), "steps": self.options.val_steps})
        tryon = sampled_tryon(network, told, sampling)
        figures = {
            "val_psnr": psnr(tryon, tensors["person"]),
            "val_ssim": ssim(tryon, tensors["person"]),
            "val_loss": _fixed_loss(network, told, clean, coarse),
        }
        return {"tryon": tryon, "truth": tensors["person"]}, figures

    def _num_refined(self, num: int) -> int:
        return max(1, round(num * self.options.refinement_share)) if "perceptual" in self.frozen else 0

    def _perceptual(self, latent: Tensor, tensors: Tensors) -> Tensor:
        """Of the try-on: outside the agnostic mask it is the photo."""
        image = self._network.autoencoder.decode(latent)
        distance: Tensor = self.frozen["perceptual"](
            torch.lerp(tensors["person"], image, tensors["agnostic_mask"]), tensors["person"]
        )
        return distance


@torch.no_grad()
def latents(network: LatentDiffusion, warp: nn.Module, tensors: Tensors) -> tuple[Tensors, Tensor, Tensor]:
    """What a denoiser of latents is trained on.

    Args:
        network: whose autoencoder makes the latents.
        warp: frozen.
        tensors: of `LatentDiffusionRecipe.prepare`.

    Returns:
        The condition with the warped garment, and the latents (b, z, h, w) of photo and coarse composition.
    """
    warped, warped_mask = frozen_warp(warp, tensors)
    told = {**tensors, "warped": warped, "warped_mask": warped_mask}
    images = torch.cat([tensors["person"], coarse_composition(told)])
    clean, coarse = network.autoencoder.encode(images).chunk(2)
    return told, clean, coarse


def sampled_tryon(network: LatentDiffusion, told: Tensors, sampling: Sampling) -> Tensor:
    """The try-on (b, 3, h, w) in [-1, 1] that a network samples; `told` of `latents`."""
    image = network.autoencoder.decode(network.sample(told, sampling)).clamp(-1, 1)
    return compose(told, told["warped"], torch.zeros_like(told["agnostic_mask"]), image)


def _bundled(bundle: Bundle | None) -> LatentAutoencoder:
    """The bundle's autoencoder.

    Raises:
        BundleError: there is none, or it is one of another kind.
    """
    how = "train latent_autoencoder into it first, or name a published one: options.autoencoder"
    entry = bundle.manifest.networks.get("reconstruction") if bundle is not None else None
    if bundle is None or entry is None:
        text = f"this recipe works in the latents of a trained autoencoder, which the bundle does not have: {how}"
        raise BundleError(text, code="bundle-incomplete", field="--bundle")
    network, _ = bundle.network("reconstruction")
    if not isinstance(network, LatentAutoencoder):
        text = f"the reconstruction network of bundle {bundle.uri!r} is {entry.network!r}, no latent_autoencoder: {how}"
        raise BundleError(text, code="bundle-incomplete", field="--bundle")
    return network


def _fixed_loss(network: LatentDiffusion, told: Tensors, clean: Tensor, coarse: Tensor) -> Tensor:
    """The reconstruction branch's loss of each row (b,), at times and with noise that are the same each time."""
    generator = torch.Generator().manual_seed(TIMES_SEED)
    times = torch.randint(0, len(network.alphas), (len(clean),), generator=generator).to(clean.device)
    noise = torch.randn(clean.shape, generator=generator).to(clean.device)
    alphas = network.alphas[times]
    made = network(add_noise(clean, noise, alphas), times, coarse, told)
    error = made - prediction_target(clean, noise, alphas, network.config.prediction)
    loss: Tensor = error.square().flatten(1).mean(1)
    return loss
