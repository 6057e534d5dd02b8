"""A Stable Diffusion inpainting checkpoint of diffusers as parts, from a folder, ``s3://`` or the hub.

Latent diffusion (Rombach et al. 2022, arXiv 2112.10752). The U-Net of an inpainting checkpoint takes the noisy latents,
the mask and the latents of the masked image: 2 z + 1 channels, 9 for the usual z = 4.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from torch import nn

from tryon.config import Config
from tryon.errors import BundleError, ConfigError, StorageError
from tryon.models.checkpoint_layout import DIFFUSERS
from tryon.models.sampling import NOISE
from tryon.models.weights import absolute, digest, local_folder

Shape = Literal["small", "sd15"]


class BaseConfig(Config):
    """Which checkpoint a network is built on."""

    base: str | None = Field(
        None, description="diffusers folder of a Stable Diffusion inpainting checkpoint: path, s3:// or hub id"
    )
    revision: str | None = Field(None, description="of a hub id: commit, tag or branch")
    sha256: str | None = Field(None, description="of the base's files; None takes what is there, and a bundle pins it")
    shape: Shape = Field("small", description="without a base: of the random parts that stand in for one")


@dataclass(frozen=True)
class Parts:
    """What a checkpoint is made of; networks are diffusers' and transformers' own, float32.

    Attributes:
        unet: `UNet2DConditionModel`.
        vae: `AutoencoderKL`.
        noise: the scheduler's config: noise schedule and what is predicted.
        text_encoder: `CLIPTextModel`; None where text was not asked for.
        tokenizer: `CLIPTokenizer`; None too for random parts, which know no words.
    """

    unet: Any
    vae: Any
    noise: Mapping[str, Any]
    text_encoder: Any = None
    tokenizer: Any = None


def load_parts(config: BaseConfig, *, text: bool) -> tuple[Parts, dict[str, Any]]:
    """Loads a checkpoint's parts.

    Args:
        config: which one.
        text: load text encoder and tokenizer too.

    Returns:
        The parts, and the fields of `BaseConfig` that name exactly this base in every process.

    Raises:
        BundleError: the base is not there, has changed, lacks a part, or is no Stable Diffusion inpainting checkpoint;
            the message says which file to give.
    """
    quieten()
    if config.base is None:
        return random_parts(config.shape, text=text), {}
    folder = _folder(config)
    found = digest(folder, DIFFUSERS)
    if config.sha256 is not None and found != config.sha256:
        text_ = f"the base {config.base!r} has changed: its files have the sha256 {found[:12]}…. {_cure(config)}"
        raise BundleError(text_, code="base-changed", field="base")
    parts = _read(folder, config.base, text=text)
    _check(parts, config.base)
    return parts, {"base": absolute(config.base), "sha256": found}


def _folder(config: BaseConfig) -> Path:
    assert config.base is not None
    try:
        return local_folder(config.base, config.revision, DIFFUSERS)
    except ConfigError:
        raise
    except (StorageError, BundleError) as error:
        text = f"the base {config.base!r} cannot be had: {error.message}. {_cure(config)}"
        raise BundleError(text, code="base-missing", field="base") from error


def _cure(config: BaseConfig) -> str:
    wanted = f" with the sha256 {config.sha256[:12]}…" if config.sha256 else ""
    return (
        f"Give the diffusers folder of a Stable Diffusion inpainting checkpoint{wanted} (model_index.json, unet/, "
        "vae/, scheduler/, text_encoder/, tokenizer/): put it there, or name its place as `base` (network.base in "
        "training, the network's config in bundle.json for a bundle)"
    )


def _read(folder: Path, base: str, *, text: bool) -> Parts:
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer

    def network(cls: Any, part: str, **dtype: torch.dtype) -> nn.Module:
        loaded, info = _part(lambda path: cls.from_pretrained(path, **LOAD, **dtype), folder, part, base)
        lacking = sorted(map(str, [*info["missing_keys"], *info["mismatched_keys"]]))
        if lacking:
            text_ = f"the base {base!r} has no complete {part}: {lacking[0]} is missing or of another size"
            raise BundleError(text_, code="weights-mismatch", field="base")
        made: nn.Module = loaded.eval()
        return made

    return Parts(
        unet=network(UNet2DConditionModel, "unet", torch_dtype=torch.float32),
        vae=network(AutoencoderKL, "vae", torch_dtype=torch.float32),
        noise=_part(DDIMScheduler.load_config, folder, "scheduler", base),
        text_encoder=network(CLIPTextModel, "text_encoder", dtype=torch.float32) if text else None,
        tokenizer=_part(CLIPTokenizer.from_pretrained, folder, "tokenizer", base) if text else None,
    )


LOAD: Mapping[str, bool] = {"output_loading_info": True, "local_files_only": True}


def _part(load: Callable[[Path], Any], folder: Path, part: str, base: str) -> Any:
    try:
        if not (folder / part).is_dir():
            raise FileNotFoundError("it has no such folder")
        return load(folder / part)
    # Damage shows as whatever the format's reader raises: safetensors, pickle, zip and JSON have errors of their own.
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        text = f"the base {base!r} cannot be used: {part}/ does not load ({reason})"
        raise BundleError(text, code="weights-mismatch", field="base") from error


def _check(parts: Parts, base: str) -> None:
    """Makes sure that the parts fit each other and are those of an inpainting checkpoint."""
    unet, latent = parts.unet.config, parts.vae.config.latent_channels
    fault = None
    if unet.in_channels != 2 * latent + 1 or unet.out_channels != latent:
        fault = (
            f"its U-Net takes {unet.in_channels} channels and gives {unet.out_channels}, inpainting needs "
            f"{2 * latent + 1} (noisy latents, mask, latents of the masked image) and {latent}"
        )
    elif unet.addition_embed_type is not None or unet.class_embed_type is not None:
        fault = "its U-Net asks for more than text (Stable Diffusion XL?)"
    elif parts.text_encoder is not None and parts.text_encoder.config.hidden_size != unet.cross_attention_dim:
        size = parts.text_encoder.config.hidden_size
        fault = f"its text encoder gives {size} channels, its U-Net takes {unet.cross_attention_dim}"
    if fault is not None:
        text = f"the base {base!r} is no Stable Diffusion inpainting checkpoint: {fault}"
        raise BundleError(text, code="weights-mismatch", field="base")


SHAPES: Mapping[Shape, Mapping[str, Mapping[str, Any]]] = {
    "small": {
        "unet": {
            "block_out_channels": (32, 64), "layers_per_block": 1, "cross_attention_dim": 32, "attention_head_dim": 4,
            "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"), "norm_num_groups": 8,
            "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        },
        "vae": {"block_out_channels": (16, 16, 32, 32), "layers_per_block": 1, "norm_num_groups": 8},
        "text": {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2},
    },
    # Stable Diffusion 1.5's, which its inpainting checkpoint shares but for the input channels.
    "sd15": {
        "unet": {"cross_attention_dim": 768},
        "vae": {"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2},
        "text": {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12},
    },
}  # fmt: skip


def random_parts(shape: Shape, *, text: bool) -> Parts:
    """Parts with random weights, without a tokenizer: for sizes and costs, and for trying code out."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    told = SHAPES[shape]
    levels = len(told["vae"]["block_out_channels"])
    return Parts(
        unet=UNet2DConditionModel(in_channels=9, sample_size=64, **told["unet"]),
        vae=AutoencoderKL(
            latent_channels=4, sample_size=512, down_block_types=("DownEncoderBlock2D",) * levels,
            up_block_types=("UpDecoderBlock2D",) * levels, **told["vae"],
        ),
        noise=dict(NOISE),
        text_encoder=CLIPTextModel(CLIPTextConfig(vocab_size=49408, **told["text"])) if text else None,
    )  # fmt: skip


def quieten() -> None:
    """Keeps progress bars and notices of the two libraries off standard error."""
    import diffusers.utils.logging as diffusers_logging
    import transformers.utils.logging as transformers_logging

    for logging in (diffusers_logging, transformers_logging):
        logging.set_verbosity_error()
        logging.disable_progress_bar()
