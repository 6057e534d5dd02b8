"""Perceptual and style losses: images compared by the features of a fixed network instead of by pixels.

Content: mean absolute difference of features (Johnson et al. 2016, arXiv 1603.08155). Style: squared distance of
their Gram matrices, which say what textures there are, not where (Gatys et al. 2015, arXiv 1508.06576).
"""

from __future__ import annotations

from typing import Literal, NamedTuple, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from tryon.config import Config
from tryon.errors import BundleError, ConfigError, StorageError
from tryon.models.device import full_precision
from tryon.models.vgg import NUM_CONVS, Vgg, imagenet_norm, load_vgg, random_vgg

LAYERS = ("relu1_2", "relu2_2", "relu3_2", "relu4_2")
KNOWN = tuple(f"relu{block}_{i + 1}" for block, num in enumerate(NUM_CONVS["vgg19"], start=1) for i in range(num))
WHICH_FILE = (
    "give `weights`, beside `features`, the path or s3:// URI of torchvision's VGG19 for ImageNet "
    "(vgg19-dcbb9e9d.pth, or a .safetensors file with the same names), or set features = 'random'"
)


class PerceptualConfig(Config):
    """What images are compared by.

    ``random`` is VGG19's layers, 1/8 as wide, with weights of a seed (He et al. 2016, arXiv 1606.04801, show how much
    of an image such features hold). It needs no file and is cheap. It is good for edges, textures and their places at
    several scales, so results are sharper than by L1 alone; it knows nothing of what things are, so it does not know
    a plausible sleeve from another, and figures by it cannot be compared with the literature's. For those: ``vgg19``.
    """

    features: Literal["random", "vgg19"] = Field("random", description="`random`: of a seed; `vgg19`: ImageNet's")
    weights: str | None = Field(None, description="path or s3:// URI of VGG19's weights, as torchvision publishes them")
    layers: tuple[str, ...] = Field(LAYERS, min_length=1, description="compared, e.g. relu1_2 or relu4_2")
    layer_weights: tuple[float, ...] | None = Field(None, description="of each layer in both terms; null: 1 each")
    style: float = Field(0.0, ge=0, le=1e6, description="weight of the Gram-matrix term; 0 leaves it out")
    seed: int = Field(0, ge=0, le=2**31 - 1, description="of the random features")

    @model_validator(mode="after")
    def _check_layers(self) -> Self:
        unknown = [name for name in self.layers if name not in KNOWN]
        if unknown or len(set(self.layers)) != len(self.layers):
            raise ValueError(f"layers {self.layers} must be different ones of {', '.join(KNOWN)}")
        weights = self.layer_weights
        if weights is not None and (len(weights) != len(self.layers) or min(weights) < 0):
            raise ValueError(f"layer_weights {weights} must be {len(self.layers)} numbers >= 0, one a layer")
        return self


class PerceptualParts(NamedTuple):
    """The terms, scalars >= 0; `style` is not yet weighted, and 0 where it is left out."""

    total: Tensor
    content: Tensor
    style: Tensor


class PerceptualLoss(nn.Module):
    """The loss with its frozen network; has nothing to train and nothing to save.

    Attributes:
        config: what it compares by.
    """

    def __init__(self, config: PerceptualConfig) -> None:
        """Builds the network, or loads it.

        Raises:
            ConfigError: VGG19 without weights.
            BundleError: the file is missing, unreadable, or holds another network.
        """
        super().__init__()
        self.config = config
        self._weights = config.layer_weights or (1.0,) * len(config.layers)
        self.network = _features(config).cut(config.layers)
        self.eval()

    def forward(self, result: Tensor, truth: Tensor) -> Tensor:
        """Weighted sum of both terms, a scalar >= 0; see `parts`."""
        return self.parts(result, truth).total

    def parts(self, result: Tensor, truth: Tensor) -> PerceptualParts:
        """Both terms.

        Args:
            result: RGB (b, 3, h, w) in [-1, 1]; gradients go to it.
            truth: the same shape; gets none.

        Raises:
            ValueError: shapes differ or are no RGB images, or a side is too small for the deepest layer.
        """
        if result.shape != truth.shape or result.ndim != 4 or result.shape[1] != 3:
            text = f"result is {tuple(result.shape)}, truth is {tuple(truth.shape)}"
            raise ValueError(f"{text}: both must be (batch, 3, height, width)")
        with torch.no_grad():
            wanted = self.network(imagenet_norm(truth), self.config.layers)
        found = self.network(imagenet_norm(result), self.config.layers)
        content, style = result.new_zeros(()), result.new_zeros(())
        for weight, a, b in zip(self._weights, found, wanted, strict=True):
            content = content + weight * (a.float() - b.float()).abs().mean()
            if self.config.style > 0:
                style = style + weight * (gram(a) - gram(b)).square().sum(dim=(1, 2)).mean()
        return PerceptualParts(content + self.config.style * style, content, style)

    def train(self, mode: bool = True) -> Self:
        """Stays in eval mode."""
        return super().train(False)


def gram(features: Tensor) -> Tensor:
    """Inner products of the channels (b, c, c), over c x h x w; float32, under autocast too: they are large sums."""
    b, c, h, w = features.shape
    with full_precision(features.device):
        flat = features.float().reshape(b, c, h * w)
        return flat @ flat.transpose(1, 2) / (c * h * w)


def _features(config: PerceptualConfig) -> Vgg:
    if config.features == "random":
        return random_vgg(config.seed)
    if config.weights is None:
        raise ConfigError(f"features = 'vgg19' need weights: {WHICH_FILE}", code="weights-missing", field="weights")
    try:
        return load_vgg("vgg19", config.weights)
    except (BundleError, StorageError) as error:
        raise BundleError(f"{error.message}; {WHICH_FILE}", code=error.code, field="weights") from error
