"""KL autoencoder: the latent space that `latent_diffusion` works in (Rombach et al. 2022, arXiv 2112.10752).

The network is diffusers' `AutoencoderKL`, so its published weights fit. On blocks of pixels (`patch`) it is cheap
enough to be trained on a CPU: at patch 4 its widest maps have a sixteenth of the image's pixels.

Shape legend: b batch, h, w image size in px, f the factor (8 by default), z latent channels.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, NamedTuple, Self

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor

from tryon.config import Config, parse_config
from tryon.errors import BundleError
from tryon.models.checkpoint_layout import AUTOENCODER_KL
from tryon.models.checks import check_input, check_size
from tryon.models.contract import example_image
from tryon.models.network import Network
from tryon.models.state_dict import load_strictly, read_state
from tryon.models.vae import LOG_VARIANCE_BOUNDS
from tryon.models.weights import local_folder

MAX_GROUPS = 32
MIN_MOMENTUM = 0.01  # the latent's measured mean and spread follow the last 100 batches or so
OLD_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


class LatentAutoencoderConfig(Config):
    """Size of the autoencoder. The default trains on a CPU."""

    patch: int = Field(4, ge=1, le=8, description="side of the pixel blocks it works on; published ones: 1")
    widths: tuple[int, ...] = Field((48, 64), min_length=1, max_length=6, description="channels of each level")
    num_blocks: int = Field(1, ge=1, le=8, description="residual blocks a level; the decoder has one more")
    latent_channels: int = Field(16, ge=1, le=64, description="channels of the latent")
    attention: bool = Field(True, description="self-attention at the coarsest level")
    quant_conv: bool = Field(True, description="1x1 convolutions on both sides of the latent, as Stable Diffusion's")
    num_groups: int | None = Field(None, ge=1, le=64, description="of the norms; null: the most that fit, up to 32")

    @model_validator(mode="after")
    def _check_sizes(self) -> Self:
        if self.patch & (self.patch - 1):
            raise ValueError(f"patch {self.patch} must be a power of two")
        if any(width < 4 or width % self.groups for width in self.widths):
            raise ValueError(f"widths {self.widths} must be 4 or more and multiples of num_groups {self.groups}")
        return self

    @property
    def factor(self) -> int:
        """How many times smaller the latent is, in height and in width."""
        return self.patch << (len(self.widths) - 1)

    @property
    def groups(self) -> int:
        """Groups of each norm."""
        common = math.gcd(*self.widths)
        return self.num_groups or next(g for g in range(MAX_GROUPS, 0, -1) if common % g == 0)


# Stable Diffusion's; 83.7 M parameters.
LARGE = LatentAutoencoderConfig(patch=1, widths=(128, 256, 512, 512), num_blocks=2, latent_channels=4)


class AutoencoderOutput(NamedTuple):
    """What one training pass gives.

    Attributes:
        reconstruction: (b, 3, h, w), not cut to [-1, 1].
        mean: of the latent's normal distribution, not normed (b, z, h / f, w / f).
        log_variance: of it, the same shape.
    """

    reconstruction: Tensor
    mean: Tensor
    log_variance: Tensor


class LatentAutoencoder(Network):
    """Image to a small latent and back, what is seen kept, by a KL-regularised autoencoder.

    Latents that go out and come in have mean 0 and spread 1 in each channel: the buffers `latent_mean` and
    `latent_std` are measured in training, or are those that a published checkpoint states.
    """

    config_class = LatentAutoencoderConfig
    role = "reconstruction"
    latent_mean: Tensor
    latent_std: Tensor
    num_measured: Tensor

    def __init__(self, config: LatentAutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        self.kl = _build(config)
        self.register_buffer("latent_mean", torch.zeros(config.latent_channels))
        self.register_buffer("latent_std", torch.ones(config.latent_channels))
        self.register_buffer("num_measured", torch.zeros((), dtype=torch.int64))

    def forward(self, image: Tensor) -> AutoencoderOutput:
        """Reconstructs images from a sample of their latent (in eval mode: from its mean).

        Args:
            image: (b, 3, h, w) in [-1, 1]; h and w multiples of the factor.

        Raises:
            ValueError: see `encode`.
        """
        mean, log_variance = self._distribution(image)
        latent = mean
        if self.training:
            latent = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
            self._measure(mean.detach())
        return AutoencoderOutput(self._image(latent), mean, log_variance)

    def encode(self, image: Tensor) -> Tensor:
        """Images (b, 3, h, w) in [-1, 1] to the mean of their latents, normed, float32 (b, z, h / f, w / f).

        Raises:
            ValueError: another number of channels, a size that is no multiple of the factor, NaN or infinity.
        """
        return (self._distribution(image)[0] - _channels(self.latent_mean)) / _channels(self.latent_std)

    def decode(self, latent: Tensor) -> Tensor:
        """Normed latents (b, z, h / f, w / f) to images, float32 (b, 3, h, w), not cut to [-1, 1]."""
        return self._image(latent * _channels(self.latent_std) + _channels(self.latent_mean))

    def example_inputs(self, batch: int, height: int, width: int) -> dict[str, Tensor]:
        """See `tryon.models.contract.Runnable`."""
        return {"image": example_image(batch, height, width)}

    def infer(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """There and back: image to its normed latent and the reconstruction, in [-1, 1]."""
        latent = self.encode(inputs["image"])
        return {"latent": latent, "reconstruction": self.decode(latent).clamp(-1, 1)}

    def _distribution(self, image: Tensor) -> tuple[Tensor, Tensor]:
        check_input(image, 3, "image")
        check_size(image.shape[-2], image.shape[-1], self.config.factor, self.config.factor, "image sides")
        encoded = self.kl.encoder(F.pixel_unshuffle(image, self.config.patch))
        if self.kl.quant_conv is not None:
            encoded = self.kl.quant_conv(encoded)
        mean, log_variance = encoded.float().chunk(2, dim=1)
        return mean, log_variance.clamp(*LOG_VARIANCE_BOUNDS)

    def _image(self, latent: Tensor) -> Tensor:
        if self.kl.post_quant_conv is not None:
            latent = self.kl.post_quant_conv(latent)
        blocks: Tensor = self.kl.decoder(latent)
        return F.pixel_shuffle(blocks, self.config.patch).float()

    @torch.no_grad()
    def _measure(self, mean: Tensor) -> None:
        """Mean and spread of the batch go into the running ones; the first batch's are taken whole."""
        self.num_measured += 1
        momentum = (1.0 / self.num_measured.float()).clamp_min(MIN_MOMENTUM)
        values = mean.transpose(0, 1).flatten(1)
        self.latent_mean.lerp_(values.mean(1), momentum)
        self.latent_std.lerp_(values.std(1).clamp_min(1e-4), momentum)


def load_published(weights: str, revision: str | None = None) -> LatentAutoencoder:
    """A diffusers `AutoencoderKL` checkpoint, frozen, in eval mode, with the latent's scale that it states.

    Args:
        weights: its folder, an ``s3://`` prefix or a hub id.
        revision: of a hub id.

    Raises:
        BundleError: no such checkpoint, or one with other layers than this network has.
        StorageError: nothing there, or it cannot be read.
    """
    folder = local_folder(weights, revision, AUTOENCODER_KL)
    told = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    network = LatentAutoencoder(_published_config(told, weights))
    files = [folder / name for name in (*AUTOENCODER_KL.safe, *AUTOENCODER_KL.old)]
    file = next((file for file in files if file.is_file()), None)
    if file is None:
        text = f"{weights} has no {AUTOENCODER_KL.example}"
        raise BundleError(text, code="weights-incomplete", field="weights")
    state = {_todays_name(name): value for name, value in read_state(file).items()}
    load_strictly(network.kl, state, weights, "the AutoencoderKL of its config.json")
    network.latent_mean.fill_(told.get("shift_factor") or 0.0)
    network.latent_std.fill_(1 / told.get("scaling_factor", 0.18215))
    return network.eval().requires_grad_(False)


def _published_config(told: Mapping[str, Any], weights: str) -> LatentAutoencoderConfig:
    """The config of a checkpoint in this network's words."""
    name = told.get("_class_name")
    if name != "AutoencoderKL":
        text = f"{weights} is no diffusers AutoencoderKL: its config.json says {name!r}"
        raise BundleError(text, code="weights-mismatch", field="weights")
    kinds = {*told.get("down_block_types", ()), *told.get("up_block_types", ())}
    if told.get("act_fn", "silu") != "silu" or kinds - {"DownEncoderBlock2D", "UpDecoderBlock2D"}:
        text = f"{weights} is an AutoencoderKL with other layers than Stable Diffusion's ({', '.join(sorted(kinds))})"
        raise BundleError(text, code="weights-mismatch", field="weights")
    return parse_config(
        LatentAutoencoderConfig,
        {
            "patch": 1,
            "widths": told["block_out_channels"],
            "num_blocks": told["layers_per_block"],
            "latent_channels": told["latent_channels"],
            "attention": told.get("mid_block_add_attention", True),
            "quant_conv": told.get("use_quant_conv", True),
            "num_groups": told.get("norm_num_groups", 32),
        },
        f"config.json of {weights}",
    )


def _todays_name(name: str) -> str:
    """Names of the attention's layers as they are now; older checkpoints have others."""
    for old, new in OLD_NAMES.items():
        name = name.replace(f".attentions.0.{old}.", f".attentions.0.{new}.")
    return name


def _build(config: LatentAutoencoderConfig) -> Any:
    """The network of diffusers, whose values are Any here."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    levels = len(config.widths)
    return AutoencoderKL(
        in_channels=3 * config.patch**2,
        out_channels=3 * config.patch**2,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=config.widths,
        layers_per_block=config.num_blocks,
        latent_channels=config.latent_channels,
        norm_num_groups=config.groups,
        use_quant_conv=config.quant_conv,
        use_post_quant_conv=config.quant_conv,
        mid_block_add_attention=config.attention,
    )


def _channels(values: Tensor) -> Tensor:
    return values.view(1, -1, 1, 1)
