"""A tiny Stable Diffusion inpainting folder with random weights, made of the real classes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

UNET: dict[str, Any] = {
    "block_out_channels": (32, 64), "layers_per_block": 1, "cross_attention_dim": 32, "attention_head_dim": 4,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"), "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "norm_num_groups": 8, "in_channels": 9, "sample_size": 8,
}  # fmt: skip
VAE: dict[str, Any] = {
    "block_out_channels": (16, 16, 16, 16), "layers_per_block": 1, "norm_num_groups": 8, "latent_channels": 4,
    "down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4, "sample_size": 64,
}  # fmt: skip
TEXT = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
PIPELINE = "StableDiffusionInpaintPipeline"
PARTS = {
    "unet": ("diffusers", "UNet2DConditionModel"),
    "vae": ("diffusers", "AutoencoderKL"),
    "text_encoder": ("transformers", "CLIPTextModel"),
    "tokenizer": ("transformers", "CLIPTokenizer"),
    "scheduler": ("diffusers", "DDIMScheduler"),
}


def write_stable_diffusion(
    folder: Path, *, seed: int = 0, prediction: str = "epsilon", safe: bool = True, **unet: Any
) -> Path:
    """Writes the folder.

    Args:
        folder: made if it is not there.
        seed: of the weights.
        prediction: epsilon or v_prediction.
        safe: safetensors; else pickled weights.
        unet: fields of the U-Net's config that differ.
    """
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    folder.mkdir(parents=True, exist_ok=True)
    size = _write_tokenizer(folder / "tokenizer")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        UNet2DConditionModel(**{**UNET, **unet}).save_pretrained(folder / "unet", safe_serialization=safe)
        AutoencoderKL(**VAE).save_pretrained(folder / "vae", safe_serialization=safe)
        text = CLIPTextModel(CLIPTextConfig(vocab_size=size, bos_token_id=size - 2, eos_token_id=size - 1, **TEXT))
        text.save_pretrained(folder / "text_encoder")
    schedule = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
    DDIMScheduler(**schedule, prediction_type=prediction).save_pretrained(folder / "scheduler")
    index = {"_class_name": PIPELINE, "_diffusers_version": "0.42.1", **{k: list(v) for k, v in PARTS.items()}}
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def _write_tokenizer(folder: Path) -> int:
    """CLIP's byte-pair tokenizer that has learnt one word, `shirt`; returns the size of its vocabulary."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import CLIPTokenizer

    letters = sorted(ByteLevel.alphabet())
    merges = [("s", "h"), ("sh", "i"), ("shi", "r"), ("shir", "t</w>")]
    words = [*letters, *(f"{letter}</w>" for letter in letters), *map("".join, merges)]
    vocabulary = {word: i for i, word in enumerate([*words, "<|startoftext|>", "<|endoftext|>"])}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(f"{a} {b}" for a, b in merges) + "\n")
    CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=77).save_pretrained(folder)
    return len(vocabulary)
