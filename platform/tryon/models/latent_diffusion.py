"""Latent diffusion: try-on synthesis that starts from the garment, warped onto the person.

After DCI-VTON (Gou et al. 2023, arXiv 2308.06101): noise is taken off a latent, and the warped garment, put on the
agnostic person (the coarse composition), is both what sampling starts from and what each step is guided by. Other than
there, the U-Net is small enough to be trained from nothing, and it sees the pixels of agnostic person, warped garment
and their masks too, in blocks of the latent's cells, beside limbs, regions and skin.

Shape legend: b batch, H, W image size in px, z latent channels, h, w latent size (H and W over the factor).
"""

from __future__ import annotations

from typing import NamedTuple, Self

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from tryon.config import Config
from tryon.models.checks import check_condition
from tryon.models.contract import SYNTHESIS_CONDITION, example_condition
from tryon.models.latent_autoencoder import LARGE as LARGE_AUTOENCODER
from tryon.models.latent_autoencoder import LatentAutoencoder, LatentAutoencoderConfig
from tryon.models.latent_unet import GARMENT_PATCH, GarmentEncoder, LatentUNet
from tryon.models.layers import ConvNormAct
from tryon.models.network import Network
from tryon.models.sampling import (
    NOISE,
    Prediction,
    Sampling,
    add_noise,
    alphas_cumprod,
    scheduler_of,
    solve,
    start_noise,
)
from tryon.models.tensors import LIMBS, REGIONS

DETAIL = ("agnostic", "agnostic_mask", "warped", "warped_mask")  # every pixel counts
COARSE = ("limbs", "regions", "skin")  # a mean per cell is enough
CHANNELS = {
    "agnostic": 3, "garment": 3, "garment_mask": 1, "agnostic_mask": 1, "warped": 3, "warped_mask": 1,
    "limbs": len(LIMBS), "regions": len(REGIONS),
}  # fmt: skip


class LatentDiffusionConfig(Config):
    """Size of the network, and how it is sampled. The default trains on a CPU at 128x96."""

    autoencoder: LatentAutoencoderConfig = Field(
        LatentAutoencoderConfig(), description="of the latents; a training takes that of the trained autoencoder"
    )
    widths: tuple[int, ...] = Field((64, 128, 192), min_length=1, max_length=6, description="channels of each level")
    num_blocks: int = Field(1, ge=1, le=8, description="residual blocks a level, down and up")
    attention_from: int = Field(1, ge=0, le=6, description="first level with attention, 0 the finest")
    num_heads: int = Field(4, ge=1, le=64, description="of the attention")
    token_width: int = Field(64, ge=4, le=2048, multiple_of=4, description="of a garment token")
    token_stride: int = Field(16, ge=4, le=128, description="px between two garment tokens, a power of two")
    # After 400 steps from nothing try-ons have 21.3 dB by velocity, 18.2 dB by noise: its error is enlarged 15 times as
    # sampling begins. Noise is what the paper predicts, on a network that was trained before.
    prediction: Prediction = Field("v_prediction", description="of the U-Net: epsilon (noise), velocity, or the latent")
    start: bool = Field(True, description="sampling starts from the noised coarse composition, not from noise alone")
    erode_px: int | None = Field(
        None, ge=0, le=64, description="the warped garment itself is shown this far inside its mask; null: nowhere"
    )
    # Latents of a network this small are uncertain each by itself, and what is drawn of them is blotchy: with all of
    # the noise the try-ons of 12 test samples have 23.4 dB, with 0.3 of it 24.5, with none 24.6.
    sampling: Sampling = Field(Sampling(temperature=0.3), description="where a caller says nothing else")

    @model_validator(mode="after")
    def _check_sizes(self) -> Self:
        if any(width % (4 * self.num_heads) for width in self.widths):
            raise ValueError(f"widths {self.widths} must be multiples of 4 x num_heads {self.num_heads}")
        if self.token_stride & (self.token_stride - 1):
            raise ValueError(f"token_stride {self.token_stride} must be a power of two")
        return self


# Stable Diffusion's widths, as the paper's.
LARGE = LatentDiffusionConfig(
    autoencoder=LARGE_AUTOENCODER, widths=(320, 640, 1280, 1280), num_blocks=2, attention_from=0, num_heads=8,
    token_width=768, token_stride=32, prediction="epsilon", sampling=Sampling(),
)  # fmt: skip


class Known(NamedTuple):
    """What the U-Net is told beside the noisy latent; the same at each step.

    Attributes:
        guide: (b, widths[0], h, w).
        tokens: (b, n, token_width).
    """

    guide: Tensor
    tokens: Tensor


class LatentDiffusion(Network):
    """Agnostic person + warped garment + garment photo to try-on image, by denoising a latent in a few steps."""

    config_class = LatentDiffusionConfig
    role = "synthesis"
    checked_masks = ("garment_mask", "agnostic_mask")
    alphas: Tensor

    def __init__(self, config: LatentDiffusionConfig) -> None:
        super().__init__()
        self.config = config
        self.sampling = config.sampling
        self.noise = {**NOISE, "prediction_type": config.prediction}
        self.register_buffer("alphas", alphas_cumprod(self.noise), persistent=False)
        self.autoencoder = LatentAutoencoder(config.autoencoder).requires_grad_(False)
        z, width = config.autoencoder.latent_channels, config.widths[0]
        pixels = config.autoencoder.factor**2 * sum(CHANNELS[name] for name in DETAIL)
        coarse = len(LIMBS) + len(REGIONS) + 3
        self.guide = nn.Sequential(
            nn.Conv2d(pixels + coarse + z, 2 * width, 1), nn.SiLU(), ConvNormAct(2 * width, width),
            nn.Conv2d(width, width, 1),
        )  # fmt: skip
        self.garment = GarmentEncoder(width // 2, config.token_width, config.token_stride)
        self.unet = LatentUNet(
            z, config.widths, config.num_blocks, config.attention_from, config.token_width, config.num_heads
        )

    def train(self, mode: bool = True) -> Self:
        """The autoencoder stays in eval mode: it was trained before."""
        super().train(mode)
        self.autoencoder.eval()
        return self

    def forward(
        self, noisy: Tensor, times: Tensor, coarse: Tensor, condition: dict[str, Tensor], keep: Tensor | None = None
    ) -> Tensor:
        """What the network predicts of noisy latents: one step of the loop, and all that training runs.

        Args:
            noisy: (b, z, h, w).
            times: of the noise schedule (b,), 0 (clean) to 999.
            coarse: latent of the coarse composition (b, z, h, w).
            condition: of `tryon.models.tensors.condition`, with warped (b, 3, H, W) in [-1, 1] and warped_mask
                (b, 1, H, W) in [0, 1]; not used: pose, category.
            keep: (b,), 0 where the garment is not told, for guidance; None: it is told.

        Returns:
            float32 (b, z, h, w), as `config.prediction` says.
        """
        known = self.known(coarse, condition, keep)
        out: Tensor = self.unet(noisy, times, known.guide, known.tokens)
        return out.float()

    def known(self, coarse: Tensor, condition: dict[str, Tensor], keep: Tensor | None = None) -> Known:
        """What is the same at each step; arguments of `forward`."""
        mask = condition["warped_mask"]
        if keep is not None:
            told = keep.to(coarse)[:, None, None, None]
            mask, coarse = mask * told, coarse * told
        detail = [condition["agnostic"], condition["agnostic_mask"], condition["warped"] * mask, mask]
        skin = condition["skin"][..., None, None].expand(-1, -1, coarse.shape[-2], coarse.shape[-1])
        factor = self.config.autoencoder.factor
        cells = F.avg_pool2d(torch.cat([condition["limbs"], condition["regions"]], dim=1), factor)
        blocks = F.pixel_unshuffle(torch.cat(detail, dim=1), factor)
        guide = self.guide(torch.cat([blocks, cells, skin, coarse], dim=1))
        return Known(guide, self.garment(condition["garment"], condition["garment_mask"], keep))

    @torch.no_grad()
    def synthesize(
        self, condition: dict[str, Tensor], warped: Tensor, warped_mask: Tensor, sampling: Sampling | None = None
    ) -> dict[str, Tensor]:
        """See `tryon.models.contract.SampledSynthesis`.

        A row depends on its own inputs and the seed alone.

        Raises:
            ValueError: an input of another shape, a size that is no multiple of the factor, values that are not finite,
                a garment or agnostic mask that is empty or everywhere 1; the message names it.
        """
        told = {**condition, "warped": warped, "warped_mask": warped_mask}
        check_condition(
            told, CHANNELS, vectors={"skin": (3,)}, multiple=max(self.config.autoencoder.factor, GARMENT_PATCH),
            masks=self.checked_masks,
        )  # fmt: skip
        latent = self.sample(told, sampling or self.sampling)
        rendering = self.autoencoder.decode(latent).clamp(-1, 1)
        return {"rendering": rendering, "composition_mask": self._shown(warped_mask)}

    @torch.no_grad()
    def sample(self, condition: dict[str, Tensor], sampling: Sampling) -> Tensor:
        """Latents (b, z, h, w) by a solver; `condition` as in `forward`."""
        coarse = self.autoencoder.encode(coarse_composition(condition))
        noise = start_noise(tuple(coarse.shape), sampling, coarse.device)
        start = add_noise(coarse, noise, self.alphas[-1:].expand(len(coarse))) if self.config.start else noise
        scale = sampling.guidance_scale
        known = self.known(coarse, condition)
        free = self.known(coarse, condition, coarse.new_zeros(len(coarse))) if scale > 1 else None

        def predict(noisy: Tensor, times: Tensor) -> Tensor:
            told: Tensor = self.unet(noisy, times, *known).float()
            return told if free is None else torch.lerp(self.unet(noisy, times, *free).float(), told, scale)

        return solve(predict, start, scheduler_of(sampling, self.noise), sampling.steps)

    def example_inputs(self, batch: int, height: int, width: int) -> dict[str, Tensor]:
        """See `tryon.models.contract.Runnable`."""
        told = example_condition((*SYNTHESIS_CONDITION, "garment", "garment_mask"), batch, height, width)
        factor, z = self.config.autoencoder.factor, self.config.autoencoder.latent_channels
        shape = (2, batch, z, height // factor, width // factor)
        noisy, coarse = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        times = torch.arange(batch).float() * 100 % len(self.alphas)
        return {"noisy": noisy, "times": times, "coarse": coarse, **told}

    def infer(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """One step of the loop: the prediction for noisy latents. A sample takes as many as the solver's steps."""
        return {"prediction": self(inputs["noisy"], inputs["times"], inputs["coarse"], inputs)}

    def _shown(self, warped_mask: Tensor) -> Tensor:
        """Where the warped garment itself is shown."""
        if self.config.erode_px is None:
            return torch.zeros_like(warped_mask)
        side = 2 * self.config.erode_px + 1
        return -F.max_pool2d(-warped_mask, side, stride=1, padding=side // 2)


def coarse_composition(condition: dict[str, Tensor]) -> Tensor:
    """The warped garment on the agnostic person, inside the agnostic mask (b, 3, H, W); where neither is, grey."""
    mask = condition["warped_mask"] * condition["agnostic_mask"]
    return torch.lerp(condition["agnostic"], condition["warped"], mask)
