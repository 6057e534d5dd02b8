"""What the networks on a Stable Diffusion inpainting checkpoint share: latents, masks, sampling, what is trained.

Shape legend: b batch, h, w network size in px, z latent channels, y, x latent size (h / 8, w / 8 for Stable Diffusion).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from tryon.models.checks import check_condition
from tryon.models.sampling import Prediction, Sampling, alphas_cumprod, scheduler_of, solve
from tryon.models.stable_diffusion import BaseConfig, Parts, load_parts
from tryon.models.tuning import Lora, Mode, Tuned

Denoise = Callable[[Tensor, Tensor, bool], Tensor]  # noisy, times, and whether the condition is left out


class LatentInpainterConfig(BaseConfig):
    """A base, what of it is trained, and how it is sampled."""

    mode: Mode = Field("lora", description="what is trained and kept: lora, attention or full")
    lora: Lora = Field(default_factory=Lora, description="the adapters, where mode is lora")
    sampling: Sampling = Field(default_factory=Sampling, description="how pictures are made")


class LatentInpainter(Tuned):
    """Autoencoder and U-Net of a Stable Diffusion inpainting checkpoint. Subclasses say what they are told.

    Attributes:
        config: with the base pinned: its absolute URI and sha256.
        sampling: where a caller says nothing else.
        prediction: what the U-Net predicts: noise, or v.
        alphas: of the noise schedule (`tryon.models.sampling.alphas_cumprod`), float32 (times,).
        factor: px to a latent cell's side.
    """

    role = "synthesis"
    needs_warp = False
    checked_masks = ("agnostic_mask",)
    reads_text: ClassVar[bool]

    def __init__(self, config: LatentInpainterConfig) -> None:
        """Loads the base.

        Raises:
            BundleError: see `tryon.models.stable_diffusion.load_parts`.
        """
        super().__init__()
        parts, pins = load_parts(config, text=self.reads_text)
        self.config = config.model_copy(update=pins)
        self.sampling = config.sampling
        self.unet, self.vae = parts.unet, parts.vae.requires_grad_(False)
        self.noise = parts.noise
        self.factor = 2 ** (len(self.vae.config.block_out_channels) - 1)
        self.prediction: Prediction = self.noise.get("prediction_type", "epsilon")
        self.alphas: Tensor
        self.register_buffer("alphas", alphas_cumprod(self.noise), persistent=False)
        self._add(parts)
        self.settle(all_of_it=config.base is None)  # random parts lie nowhere else

    @abstractmethod
    def _add(self, parts: Parts) -> None:
        """Takes over the other parts, changes the U-Net, and decides what is trained."""

    def train(self, mode: bool = True) -> Self:
        """The autoencoder is frozen, and stays as it is in use."""
        super().train(mode)
        self.vae.eval()
        return self

    def checkpoint_gradients(self) -> None:
        """Trades time for memory: activations of the U-Net's blocks are computed again on the way back."""
        self.unet.enable_gradient_checkpointing()

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Images (b, 3, h, w) in [-1, 1] to scaled latents (b, z, y, x): the mean, so that nothing is random."""
        latents: Tensor = self.vae.encode(images).latent_dist.mode().float() * self.vae.config.scaling_factor
        return latents

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Scaled latents (b, z, y, x) to images (b, 3, h, w) in [-1, 1]."""
        images: Tensor = self.vae.decode(latents / self.vae.config.scaling_factor).sample.float()
        return images.clamp(-1, 1)

    def masked_latents(self, images: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """What an inpainting U-Net is told of a picture.

        Args:
            images: (b, 3, h, w) in [-1, 1].
            mask: (b, 1, h, w) in [0, 1]: over 0 where something is to be painted; nothing shows through there.

        Returns:
            Mask (b, 1, y, x), 1 for cells any of whose pixels is painted, and the latents of the rest (b, z, y, x).
        """
        hidden = (mask > 0).float()
        return F.max_pool2d(hidden, self.factor), self.encode(images * (1 - hidden))

    def sample(self, denoise: Denoise, start: Tensor, told: Sampling) -> Tensor:
        """Runs the solver from noise, with classifier-free guidance (Ho and Salimans 2022, arXiv 2207.12598).

        Args:
            denoise: the U-Net's prediction, with the condition or without.
            start: standard normal noise, float32 (b, z, y, x).
            told: solver, steps and guidance.

        Returns:
            Latents of the same shape.
        """
        scale = told.guidance_scale

        def predict(noisy: Tensor, times: Tensor) -> Tensor:
            with_it = denoise(noisy, times, True)
            if scale == 1:
                return with_it
            without = denoise(noisy, times, False)
            return without + scale * (with_it - without)

        return solve(predict, start, scheduler_of(told, self.noise), told.steps)

    def check(self, condition: dict[str, Tensor], *images: str) -> None:
        """Makes sure that the network can paint.

        Args:
            condition: of `tryon.models.tensors.condition`.
            images: names of the pictures it uses.

        Raises:
            ValueError: wrong channel count, a size that is no multiple of the autoencoder's factor or differs from the
                mask's, values that are not finite, an agnostic mask that is empty or 1 everywhere; it names the input.
        """
        maps = {"agnostic_mask": 1, **dict.fromkeys(images, 3)}
        check_condition(condition, maps, multiple=self.factor, least=self.factor, masks=self.checked_masks)

    def latent_size(self, height: int, width: int) -> tuple[int, int]:
        """Latent size of a picture's."""
        return height // self.factor, width // self.factor


def unet_prediction(unet: Any, noisy: Tensor, mask: Tensor, masked: Tensor, times: Tensor, text: Any) -> Tensor:
    """What an inpainting U-Net says of noisy latents: (b, z, y, x)."""
    told = torch.cat([noisy, mask, masked], dim=1)
    prediction: Tensor = unet(told, times, encoder_hidden_states=text, return_dict=False)[0]
    return prediction
