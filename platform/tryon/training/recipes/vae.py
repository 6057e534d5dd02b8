"""Recipe `vae`: reconstruction of person or garment photos through a distribution of latents."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from torch import Tensor, nn

from tryon.config import Config
from tryon.models.vae import VaeOutput, kl_divergence
from tryon.training.recipes.autoencoder import AutoencoderRecipe, ReconstructionOptions, reconstruction_figures
from tryon.training.recipes.base import StepOutput, Tensors


class VaeOptions(ReconstructionOptions):
    """As the autoencoder's; and what the latent may cost."""

    # 64x48, 250 steps of 8: 0.02 gives 22.94 dB and samples whose L1 from the mean's image is 0.005; 0.1: 22.93 dB and
    # 0.012; 0.5: 22.85 dB and 0.030.
    kl: float = Field(
        0.1,
        ge=0,
        le=1e4,
        description="weight of the KL divergence in nats a value of the image; higher: samples differ more, and the "
        "mean's image is less exact",
    )
    free_nats: float = Field(
        0.1,
        ge=0,
        le=10,
        description="KL a latent value may have at no cost, as the mean of its channel: instead of a warm-up, it keeps "
        "channels in use (Kingma et al. 2016, arXiv 1606.04934)",
    )


class VaeRecipe(AutoencoderRecipe):
    """The autoencoder's losses on a sample of the latent, and the KL divergence from the standard normal.

    `val_kl` is in nats a latent value; `val_psnr` and `val_ssim` are of the mean's reconstruction.
    """

    network_name = "vae"
    options_class: ClassVar[type[Config]] = VaeOptions

    def step(self, network: nn.Module, tensors: Tensors) -> StepOutput:
        out: VaeOutput = network(tensors["image"])
        parts = self._parts(out.reconstruction, tensors["image"])
        kl = kl_divergence(out.mean, out.log_variance)
        values = tensors["image"][0].numel() / kl[0].numel()  # of the image, a value of the latent
        parts["kl"] = free_bits(kl, self.options.free_nats) / values
        return self._output(parts)

    def evaluate(self, network: nn.Module, tensors: Tensors) -> tuple[Tensors, Tensors]:
        out: VaeOutput = network(tensors["image"])
        shown, figures = reconstruction_figures(out.reconstruction, tensors["image"])
        return shown, {**figures, "val_kl": kl_divergence(out.mean, out.log_variance).flatten(1).mean(1)}


def free_bits(kl_bchw: Tensor, free_nats: float) -> Tensor:
    """Mean KL of the channels, each at least `free_nats`: below that it has no gradient."""
    return kl_bchw.mean(dim=(0, 2, 3)).clamp_min(free_nats).mean()
