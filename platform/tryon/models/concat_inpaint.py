"""Try-on by concatenation: person and garment side by side in one inpainting U-Net, without text.

Chong et al. 2024 (arXiv 2407.15886). Self-attention sees both halves, so that garment detail finds its place without a
warp; text encoder and cross-attention are gone, and only self-attention is trained: 49.6 M of 899 M parameters on
Stable Diffusion 1.5. The garment half is painted too, and thrown away.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from tryon.models.latent_inpainter import LatentInpainter, LatentInpainterConfig, unet_prediction
from tryon.models.sampling import Sampling, start_noise
from tryon.models.stable_diffusion import Parts
from tryon.models.tuning import Mode, tune

AXES = {"height": 2, "width": 3}


class ConcatSampling(Sampling):
    """With the guidance that the garment asks for."""

    guidance_scale: float = Field(2.5, ge=1, le=30, description="of classifier-free guidance; 1: none, half the cost")


class ConcatInpaintConfig(LatentInpainterConfig):
    """A base, what of it is trained, and how the two are joined."""

    mode: Mode = Field("attention", description="what is trained and kept: attention (the paper's), lora or full")
    axis: Literal["height", "width"] = Field("height", description="garment below the person, or to its right")
    sampling: ConcatSampling = Field(ConcatSampling(), description="how pictures are made")


LARGE = ConcatInpaintConfig(shape="sd15")


class ConcatInpaint(LatentInpainter):
    """Agnostic person and garment photo to the try-on image, by denoising both side by side."""

    config_class = ConcatInpaintConfig
    config: ConcatInpaintConfig
    reads_text = False

    def _add(self, parts: Parts) -> None:
        from diffusers.models.attention import BasicTransformerBlock

        del parts
        for block in self.unet.modules():
            if isinstance(block, BasicTransformerBlock):
                block.attn2 = block.norm2 = None
        config = self.config
        tune(self.unet, config.mode, lora=config.lora, targets=config.lora.targets, attention=("attn1",))

    def forward(self, noisy: Tensor, times: Tensor, mask: Tensor, masked: Tensor) -> Tensor:
        """One step of denoising, on what `joined` gives.

        Args:
            noisy: (b, z, 2 y, x), or (b, z, y, 2 x).
            times: int64 (b,).
            mask: (b, 1, ...), 1 where the person is painted, 0 on the garment.
            masked: latents of masked person and garment (b, z, ...).

        Returns:
            (b, z, ...) what `prediction` says: noise or v.
        """
        return unet_prediction(self.unet, noisy, mask, masked, times, None)

    def joined(self, person: Tensor, garment: Tensor) -> Tensor:
        """Both side by side, the person first."""
        return torch.cat([person, garment], dim=AXES[self.config.axis])

    def person_half(self, latents: Tensor) -> Tensor:
        """The person's part of what `joined` made."""
        return latents.chunk(2, dim=AXES[self.config.axis])[0]

    @torch.no_grad()
    def synthesize(
        self, condition: dict[str, Tensor], warped: Tensor, warped_mask: Tensor, sampling: Sampling | None = None
    ) -> dict[str, Tensor]:
        """See `tryon.models.contract.SampledSynthesis`; the warped garment is not used.

        Raises:
            ValueError: see `check`.
        """
        told = sampling or self.sampling
        self.check(condition, "agnostic", "garment")
        mask, person = self.masked_latents(condition["agnostic"], condition["agnostic_mask"])
        garment = self.encode(condition["garment"])
        mask = self.joined(mask, torch.zeros_like(mask))
        asked, nothing = self.joined(person, garment), self.joined(person, torch.zeros_like(garment))

        def denoise(noisy: Tensor, times: Tensor, with_it: bool) -> Tensor:
            return self(noisy, times, mask, asked if with_it else nothing)  # type: ignore[no-any-return]

        latents = self.sample(denoise, start_noise(asked.shape, told, asked.device), told)
        rendering = self.decode(self.person_half(latents))
        return {"rendering": rendering, "composition_mask": torch.zeros_like(warped_mask)}

    def example_inputs(self, batch: int, height: int, width: int) -> dict[str, Tensor]:
        """See `tryon.models.contract.Runnable`: of one step of denoising."""
        generator = torch.Generator().manual_seed(0)
        y, x = self.latent_size(height, width)
        person, garment, noise = torch.randn(3, batch, self.vae.config.latent_channels, y, x, generator=generator)
        mask = (torch.rand(batch, 1, y, x, generator=generator) > 0.5).float()
        return {
            "noisy": self.joined(noise, noise.flip(-1)),
            "times": torch.arange(batch) * 37 % len(self.alphas),
            "mask": self.joined(mask, torch.zeros_like(mask)),
            "masked": self.joined(person, garment),
        }

    def infer(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """`forward` on named tensors."""
        return {"prediction": self(**inputs)}
