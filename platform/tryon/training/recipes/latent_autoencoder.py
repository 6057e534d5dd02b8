"""Recipe `latent_autoencoder`: the latent space of `latent_diffusion`, its first phase (arXiv 2112.10752)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch.nn.functional as F
from pydantic import Field
from torch import nn

from tryon.config import Config
from tryon.models.bundle import Role
from tryon.models.losses import PerceptualConfig, PerceptualLoss
from tryon.models.tensors import images_to_tensor
from tryon.models.vae import kl_divergence
from tryon.training.recipes.base import Recipe, StepOutput, Tensors, psnr, ssim


class LatentAutoencoderOptions(Config):
    """Weights of the losses. Rombach et al. train with a discriminator too, which is left out."""

    perceptual: PerceptualConfig = Field(PerceptualConfig(), description="what the perceptual loss compares by")
    perceptual_weight: float = Field(0.1, ge=0, le=100, description="beside L1 with weight 1; 0 leaves it out")
    kl_weight: float = Field(1e-6, ge=0, le=1, description="of the divergence from a standard normal, a latent number")


class LatentAutoencoderRecipe(Recipe):
    """L1, perceptual loss and a little KL divergence; the latent's mean and spread are measured on the way."""

    role: ClassVar[Role] = "reconstruction"
    network_name = "latent_autoencoder"
    reads = ("person",)
    # At 128x96 held-out photos come back with 26.3 dB after 800 steps; after 700 of AdamW at 2e-3, with 8 channels and
    # the perceptual loss weighed twice, with 21.4.
    defaults: ClassVar[Mapping[str, Any]] = {"optimizer": "muon", "learning_rate": 3e-3, "batch_size": 16}
    options_class = LatentAutoencoderOptions

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """As `Recipe`; the perceptual loss's network is among the frozen ones.

        Raises:
            BundleError: VGG19's weights are not there.
            ConfigError: of `Recipe`, or VGG19 without weights.
        """
        super().__init__(*args, **kwargs)
        if self.options.perceptual_weight > 0:
            self.frozen["perceptual"] = PerceptualLoss(self.options.perceptual)

    def prepare(self, batch: Mapping[str, Any]) -> Tensors:
        return {"person": images_to_tensor(batch["person"], self.size)}

    def step(self, network: nn.Module, tensors: Tensors) -> StepOutput:
        person = tensors["person"]
        image, mean, log_variance = network(person)
        parts = {"l1": F.l1_loss(image, person), "kl": kl_divergence(mean, log_variance).mean()}
        loss = parts["l1"] + self.options.kl_weight * parts["kl"]
        if "perceptual" in self.frozen:
            parts["perceptual"] = self.frozen["perceptual"](image, person)
            loss = loss + self.options.perceptual_weight * parts["perceptual"]
        return StepOutput(loss, {name: part.detach() for name, part in parts.items()})

    def evaluate(self, network: nn.Module, tensors: Tensors) -> tuple[Tensors, Tensors]:
        person = tensors["person"]
        image = network(person).reconstruction.clamp(-1, 1)
        figures = {"val_psnr": psnr(image, person), "val_ssim": ssim(image, person)}
        return {"reconstruction": image, "truth": person}, figures
