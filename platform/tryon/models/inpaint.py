"""Try-on by inpainting with words: a Stable Diffusion inpainting checkpoint, fine-tuned on garments.

Rombach et al. 2022 (arXiv 2112.10752), fine-tuned as DreamBooth does (Ruiz et al. 2023, arXiv 2208.12242). It does not
look at the garment photo: what it knows of a garment it has learnt, and is asked for by the prompt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from pydantic import Field
from torch import Tensor

from tryon.config import Category
from tryon.errors import ConfigError
from tryon.models.latent_inpainter import LatentInpainter, LatentInpainterConfig, unet_prediction
from tryon.models.sampling import Sampling, start_noise
from tryon.models.stable_diffusion import Parts
from tryon.models.tuning import tune
from tryon.sample import CATEGORIES

TEXT_TARGETS = ("q_proj", "k_proj", "v_proj", "out_proj")
TOKENS = 77  # of a prompt, start and end included
GARMENT = "{garment}"
WORDS: Mapping[str, str] = {"upper": "a top", "lower": "trousers", "dress": "a dress"}


class InpaintSampling(Sampling):
    """With the guidance that text asks for."""

    guidance_scale: float = Field(7.5, ge=1, le=30, description="of classifier-free guidance; 1: none, half the cost")


class InpaintConfig(LatentInpainterConfig):
    """A base, what of it is trained, and what it is asked for."""

    train_text_encoder: bool = Field(False, description="train the text encoder too, in the same mode")
    prompt: str = Field(
        f"a photo of a person wearing {GARMENT}",
        description=f"what is asked for; {GARMENT} stands for the words of the garment's category",
    )
    garment_words: Mapping[Category, str] = Field(
        default_factory=dict, description=f"by category, where not {', '.join(WORDS.values())}"
    )
    sampling: InpaintSampling = Field(InpaintSampling(), description="how pictures are made")

    def words(self, category: str) -> str:
        """What a garment of a category is called."""
        return next((words for name, words in self.garment_words.items() if name == category), WORDS[category])


LARGE = InpaintConfig(shape="sd15")


class Inpaint(LatentInpainter):
    """Agnostic person and a prompt to the try-on image, by denoising in latent space."""

    config_class = InpaintConfig
    config: InpaintConfig
    reads_text = True

    def _add(self, parts: Parts) -> None:
        self.text_encoder, self.tokenizer = parts.text_encoder.requires_grad_(False), parts.tokenizer
        config = self.config
        tune(self.unet, config.mode, lora=config.lora, targets=config.lora.targets, attention=("attn1", "attn2"))
        if config.train_text_encoder:
            tune(self.text_encoder, config.mode, lora=config.lora, targets=TEXT_TARGETS, attention=("self_attn",))

    def forward(self, noisy: Tensor, times: Tensor, mask: Tensor, masked: Tensor, tokens: Tensor) -> Tensor:
        """One step of denoising.

        Args:
            noisy: (b, z, y, x).
            times: int64 (b,).
            mask: (b, 1, y, x), 1 where something is painted.
            masked: latents of the masked picture (b, z, y, x).
            tokens: of the prompts, int64 (b, 77).

        Returns:
            (b, z, y, x) what `prediction` says: noise or v.
        """
        return unet_prediction(self.unet, noisy, mask, masked, times, self.encode_text(tokens))

    def tokens(self, prompts: Sequence[str]) -> Tensor:
        """Prompts as int64 (b, 77), cut or padded to it.

        Raises:
            ConfigError: there is no base, so there is no tokenizer.
        """
        if self.tokenizer is None:
            text = "the network has no base, so it knows no words: give network.base"
            raise ConfigError(text, code="config-invalid", field="network.base")
        length = min(TOKENS, self.text_encoder.config.max_position_embeddings)
        made = self.tokenizer(
            list(prompts), padding="max_length", max_length=length, truncation=True, return_tensors="pt"
        )
        ids: Tensor = made.input_ids
        return ids

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Tokens int64 (b, n) to what cross-attention looks at, (b, n, c)."""
        states: Tensor = self.text_encoder(tokens, return_dict=False)[0]
        return states

    @torch.no_grad()
    def synthesize(
        self, condition: dict[str, Tensor], warped: Tensor, warped_mask: Tensor, sampling: Sampling | None = None
    ) -> dict[str, Tensor]:
        """See `tryon.models.contract.SampledSynthesis`; the warped garment is not used.

        Raises:
            ValueError: see `check`.
        """
        told = sampling or self.sampling
        self.check(condition, "agnostic")
        mask, masked = self.masked_latents(condition["agnostic"], condition["agnostic_mask"])
        prompts = [
            self.config.prompt.replace(GARMENT, self.config.words(CATEGORIES[i]))
            for i in condition["category"].argmax(1).tolist()
        ]
        start = start_noise(masked.shape, told, masked.device)
        rendering = self.decode(self.paint(mask, masked, prompts, start, told))
        return {"rendering": rendering, "composition_mask": torch.zeros_like(warped_mask)}

    @torch.no_grad()
    def paint(self, mask: Tensor, masked: Tensor, prompts: Sequence[str], start: Tensor, told: Sampling) -> Tensor:
        """Latents (b, z, y, x) of what the prompts ask for.

        Args:
            mask: (b, 1, y, x), 1 where something is painted.
            masked: latents of the masked picture (b, z, y, x).
            prompts: one a row.
            start: standard normal noise like `masked`.
            told: solver, steps and guidance.
        """
        asked, nothing = (self.encode_text(self.tokens(p).to(masked.device)) for p in (prompts, [""] * len(prompts)))

        def denoise(noisy: Tensor, times: Tensor, with_it: bool) -> Tensor:
            return unet_prediction(self.unet, noisy, mask, masked, times, asked if with_it else nothing)

        return self.sample(denoise, start, told)

    def checkpoint_gradients(self) -> None:
        """See `LatentInpainter`; the text encoder too where it is trained."""
        super().checkpoint_gradients()
        if self.config.train_text_encoder:
            self.text_encoder.gradient_checkpointing_enable({"use_reentrant": False})

    def example_inputs(self, batch: int, height: int, width: int) -> dict[str, Tensor]:
        """See `tryon.models.contract.Runnable`: of one step of denoising."""
        generator = torch.Generator().manual_seed(0)
        y, x = self.latent_size(height, width)
        noisy, masked = torch.randn(2, batch, self.vae.config.latent_channels, y, x, generator=generator)
        tokens = torch.randint(0, self.text_encoder.config.vocab_size, (batch, TOKENS), generator=generator)
        times = torch.arange(batch) * 37 % len(self.alphas)
        mask = (torch.rand(batch, 1, y, x, generator=generator) > 0.5).float()
        return {"noisy": noisy, "times": times, "mask": mask, "masked": masked, "tokens": tokens}

    def infer(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """`forward` on named tensors."""
        return {"prediction": self(**inputs)}
