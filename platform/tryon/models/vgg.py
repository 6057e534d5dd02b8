"""VGG features (Simonyan and Zisserman 2014, arXiv 1409.1556), for losses and metrics that compare images by them.

Parameter names are torchvision's (`features.0.weight`, ...), so published VGG16 and VGG19 weights load; what such a
file holds of the classifier is left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, Self, TypeVar

import torch
from torch import Tensor, nn

from tryon.models.state_dict import load_strictly, read_state

VggKind = Literal["vgg16", "vgg19"]
NUM_CONVS: Mapping[VggKind, tuple[int, ...]] = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}
WIDTHS = (64, 128, 256, 512, 512)
CLASSIFIER = ("classifier.", "pre_logits.", "head.")  # torchvision's and timm's names for what follows the features
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, RGB in [0, 1]


class Trunk(nn.Module):
    """A stack of layers whose features are taken where they are asked for.

    Args:
        layers: in order.
        taps: name of a feature map to its place among the layers.
        least_px: name to the smallest side of an image of which something is left there.
    """

    def __init__(self, layers: Sequence[nn.Module], taps: Mapping[str, int], least_px: Mapping[str, int]) -> None:
        super().__init__()
        self.features = nn.Sequential(*layers)
        self.taps = dict(taps)
        self.least_px = dict(least_px)

    def forward(self, x: Tensor, layers: Sequence[str]) -> list[Tensor]:
        """Features of the layers that are asked for; what lies deeper is not computed.

        Args:
            x: (b, 3, h, w), RGB, normed as the weights were trained: see `imagenet_norm`.
            layers: keys of `taps`.

        Returns:
            A feature map (b, channels, h', w') for each layer, in the order asked for.

        Raises:
            ValueError: no such layer, or the image is too small to reach it.
        """
        wanted = {self._place(name): name for name in layers}
        least = max(self.least_px[name] for name in layers)
        if min(x.shape[-2:]) < least:
            raise ValueError(f"image is {tuple(x.shape[-2:])} px: layers {', '.join(layers)} need {least} px a side")
        found: dict[str, Tensor] = {}
        for place in range(max(wanted) + 1):
            x = self.features[place](x)
            if place in wanted:
                found[wanted[place]] = x
        return [found[name] for name in layers]

    def cut(self, layers: Sequence[str]) -> Self:
        """Drops what lies deeper than these layers, in place: their weights take memory for nothing.

        Raises:
            ValueError: no such layer.
        """
        end = max(self._place(name) for name in layers) + 1
        self.features = nn.Sequential(*list(self.features)[:end])
        self.taps = {name: place for name, place in self.taps.items() if place < end}
        return self

    def _place(self, name: str) -> int:
        if name not in self.taps:
            raise ValueError(f"layer {name!r} is not one of {', '.join(self.taps)}")
        return self.taps[name]


class Vgg(Trunk):
    """Blocks of 3x3 convolutions, each followed by a ReLU; max pooling after each block.

    Feature maps are called ``relu1_2``: after the second convolution of the first block.

    Args:
        num_convs: convolutions of each block.
        widths: channels of each block.
    """

    def __init__(self, num_convs: Sequence[int] = NUM_CONVS["vgg19"], widths: Sequence[int] = WIDTHS) -> None:
        layers: list[nn.Module] = []
        taps, least_px = {}, {}
        channels = 3
        for block, (num, width) in enumerate(zip(num_convs, widths, strict=True), start=1):
            for i in range(1, num + 1):
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
                taps[f"relu{block}_{i}"], least_px[f"relu{block}_{i}"] = len(layers) - 1, 2 ** (block - 1)
                channels = width
            layers.append(nn.MaxPool2d(2))
        super().__init__(layers, taps, least_px)


AnyTrunk = TypeVar("AnyTrunk", bound=Trunk)


def imagenet_norm(images: Tensor) -> Tensor:
    """RGB (b, 3, h, w) in [-1, 1] to ImageNet's mean 0 and variance 1, as published networks take it."""
    mean = images.new_tensor(MEAN).view(3, 1, 1)
    std = images.new_tensor(STD).view(3, 1, 1)
    return ((images + 1) / 2 - mean) / std


def load_vgg(kind: VggKind, checkpoint: str | Path | Mapping[str, Tensor]) -> Vgg:
    """The features with the weights of a checkpoint, frozen, in eval mode, float32, on the CPU.

    Args:
        kind: which network the weights are of.
        checkpoint: URI of a file as torchvision publishes it (``vgg19-dcbb9e9d.pth``) or of a safetensors file with
            the same names; or the state dict itself. Weights of the classifier may be there or not.

    Raises:
        BundleError: not a checkpoint, or one of another network; the message names the first wrong key.
        StorageError: nothing there, or it cannot be read.
    """
    with torch.device("meta"):
        network = Vgg(NUM_CONVS[kind])
    return load_trunk(network, checkpoint, f"torchvision's {kind.upper()}")


def load_trunk(
    network: AnyTrunk, checkpoint: str | Path | Mapping[str, Tensor], what: str, name: str | None = None
) -> AnyTrunk:
    """Loads the features of a classifier, as `load_vgg`; frozen and in eval mode.

    Args:
        network: may be on the meta device.
        checkpoint: URI, or the state dict.
        what: the network's name, for messages.
        name: the checkpoint's, for messages; None: its URI.

    Raises:
        BundleError: not a checkpoint, or one of another network.
        StorageError: nothing there, or it cannot be read.
    """
    name = name or ("the state dict" if isinstance(checkpoint, Mapping) else str(checkpoint))
    state = {key: value for key, value in read_state(checkpoint).items() if not key.startswith(CLASSIFIER)}
    load_strictly(network, state, name, what)
    return network.eval().requires_grad_(False)


def random_vgg(seed: int, narrower: int = 8) -> Vgg:
    """VGG19's layers, 1/8 as wide, with random weights that the seed alone decides; frozen, in eval mode, on the CPU.

    The convolutions are scaled to keep the size of what passes through (He et al. 2015, arXiv 1502.01852). Those after
    the first have each filter's mean taken off: ReLUs make all features positive, and without this the common part
    grows from layer to layer until any two images look alike.

    Args:
        seed: of the weights; the global random state is neither used nor changed.
        narrower: each width is divided by it.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.device("meta"):
        network = Vgg(NUM_CONVS["vgg19"], [width // narrower for width in WIDTHS])
    state: dict[str, Tensor] = {}
    for name, value in network.state_dict().items():
        state[name] = torch.zeros(value.shape)
        if value.ndim == 4:
            first = value.shape[1] == 3
            # Without its mean, what a ReLU lets through of a Gaussian has the 1 - 1/pi-th part of its power.
            gain = 2.0 if first else 2.0 / (1 - 1 / math.pi)
            state[name].normal_(generator=generator).mul_(math.sqrt(gain / value[0].numel()))
            if not first:
                state[name] -= state[name].mean(dim=(1, 2, 3), keepdim=True)
    network.load_state_dict(state, assign=True)
    return network.eval().requires_grad_(False)
