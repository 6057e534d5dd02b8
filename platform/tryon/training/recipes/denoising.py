"""What the recipes of networks on a Stable Diffusion checkpoint share: the denoising loss and its figures."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from tryon.config import Config
from tryon.errors import ConfigError
from tryon.models.bundle import Bundle, Role
from tryon.models.latent_inpainter import LatentInpainter
from tryon.models.sampling import Prediction, add_noise, predicted_clean, prediction_target, row_noise
from tryon.training.recipes.base import Recipe, StepOutput, Tensors, psnr

VAL_TIMES = (0.1, 0.3, 0.5, 0.7, 0.9)  # shares of the noise schedule that validation looks at
VAL_SEED = 0


class DenoisingOptions(Config):
    """How a denoising network is trained."""

    gradient_checkpointing: bool = Field(False, description="compute activations twice: less memory, more time")
    condition_dropout: float = Field(
        0.1, ge=0, le=1, description="share of samples that are not told the condition, so that guidance can be used"
    )
    snr_gamma: float | None = Field(
        None, gt=0, description="Min-SNR weighting (Hang et al. 2023, arXiv 2303.09556), 5 in the paper; None: none"
    )


class DenoisingRecipe(Recipe):
    """Mean squared error of the noise, or of v where the checkpoint predicts that; at one random time a sample.

    `val_loss` is that error at five fixed times with a fixed noise; `val_psnr` is of the picture that the prediction at
    the middle time stands for.
    """

    role: ClassVar[Role] = "synthesis"
    shards = True
    options_class: ClassVar[type[Config]] = DenoisingOptions
    network: LatentInpainter

    def __init__(
        self,
        network_config: Mapping[str, Any],
        size: tuple[int, int],
        bundle: Bundle | None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        """Loads the base.

        Raises:
            ConfigError: no base is named, or an option that is unknown or out of bounds.
            BundleError: the base cannot be had.
        """
        super().__init__(network_config, size, bundle, options)
        if self.network.config.base is None:
            text = (
                "network.base is needed: the diffusers folder of a Stable Diffusion inpainting checkpoint "
                "(path, s3:// or hub id)"
            )
            raise ConfigError(text, code="config-invalid", field="network.base")
        if self.options.gradient_checkpointing:
            self.network.checkpoint_gradients()

    def settled(self) -> Mapping[str, Mapping[str, Any]]:
        return {"network": self.network_config.model_dump(mode="json")}

    @abstractmethod
    def example(self, tensors: Tensors) -> tuple[Tensor, Tensors]:
        """What is to be denoised, latents (b, z, y, x), and what the network is told of it, by argument's name."""

    @abstractmethod
    def without_condition(self, told: Tensors, drop_b: Tensor) -> Tensors:
        """The same with the condition left out in the rows where `drop_b` (b,) is true."""

    @abstractmethod
    def truth(self, tensors: Tensors) -> tuple[Tensor, Tensor]:
        """Picture (b, 3, h, w) in [-1, 1] that was to be painted, and where (b, 1, h, w)."""

    def picture(self, clean: Tensor) -> Tensor:
        """Latents of `example`'s kind to the picture (b, 3, h, w) that `truth` is of."""
        return self.network.decode(clean)

    def step(self, network: nn.Module, tensors: Tensors) -> StepOutput:
        loss = self.errors(network, tensors).mean()
        return StepOutput(loss, {"denoise": loss.detach()})

    def errors(self, network: nn.Module, tensors: Tensors) -> Tensor:
        """Weighted squared error (b,) of each sample at a random time."""
        clean, told = self.example(tensors)
        rows = len(clean)
        told = self.without_condition(told, torch.rand(rows, device=clean.device) < self.options.condition_dropout)
        times = torch.randint(len(self.network.alphas), (rows,), device=clean.device)
        error, _ = self._error(network, clean, told, torch.randn_like(clean), times)
        return error * snr_weights(self.network.alphas[times], self.network.prediction, self.options.snr_gamma)

    def evaluate(self, network: nn.Module, tensors: Tensors) -> tuple[Tensors, Tensors]:
        clean, told = self.example(tensors)
        noise = row_noise(clean.shape, VAL_SEED, clean.device)
        made = []
        for share in VAL_TIMES:
            times = torch.full((len(clean),), int(share * len(self.network.alphas)), device=clean.device)
            made.append(self._error(network, clean, told, noise, times))
        truth, mask = self.truth(tensors)
        painted = self.picture(made[len(made) // 2][1])
        painted = mask * painted + (1 - mask) * truth
        figures = {"val_loss": torch.stack([error for error, _ in made]).mean(0), "val_psnr": psnr(painted, truth)}
        return {"painted": painted, "truth": truth}, figures

    def _error(
        self, network: nn.Module, clean: Tensor, told: Tensors, noise: Tensor, times: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Squared error (b,), and the latents that the prediction stands for."""
        alphas, prediction = self.network.alphas[times], self.network.prediction
        noisy = add_noise(clean, noise, alphas)
        output = network(noisy=noisy, times=times, **told).float()
        error = (output - prediction_target(clean, noise, alphas, prediction)).square().flatten(1).mean(1)
        return error, predicted_clean(noisy, output, alphas, prediction)


def snr_weights(alphas_b: Tensor, prediction: Prediction, gamma: float | None) -> Tensor:
    """Weights (b,) of the squared error: as if the picture's own error counted min(SNR, gamma).

    Args:
        alphas_b: of the noise schedule at each sample's time.
        prediction: what the error is of.
        gamma: None gives weights of 1.
    """
    if gamma is None:
        return torch.ones_like(alphas_b)
    snr = alphas_b / (1 - alphas_b)
    capped = snr.clamp_max(gamma)
    if prediction == "sample":
        return capped
    return capped / (snr if prediction == "epsilon" else snr + 1)
