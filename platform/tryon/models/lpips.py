"""LPIPS: how different two images look to people (Zhang et al. 2018, arXiv 1801.03924), version 0.1.

Features of AlexNet or VGG16, each position's scaled to length 1; their squared differences, weighted channel by
channel with what was learnt from people's answers ("linear heads"), averaged over the image and summed over the layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import as_file, files
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from tryon.errors import BundleError
from tryon.models.state_dict import load_strictly, read_state
from tryon.models.vgg import NUM_CONVS, Trunk, Vgg, load_trunk

LpipsKind = Literal["alex", "vgg16"]
Weights = str | Path | Mapping[str, Tensor]
TAPS: Mapping[LpipsKind, tuple[str, ...]] = {
    "alex": ("relu1", "relu2", "relu3", "relu4", "relu5"),
    "vgg16": ("relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3"),
}
CHANNELS: Mapping[LpipsKind, tuple[int, ...]] = {"alex": (64, 192, 384, 256, 256), "vgg16": (64, 128, 256, 512, 512)}
NAMES: Mapping[LpipsKind, str] = {"alex": "torchvision's AlexNet", "vgg16": "torchvision's VGG16"}
# ImageNet's mean and spread, for images in [-1, 1], rounded as LPIPS has them.
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
FIRST = "features.0.weight"
WHICH_FILE = (
    "LPIPS needs torchvision's AlexNet (alexnet-owt-7be5be79.pth) or VGG16 (vgg16-397923af.pth) for ImageNet, "
    "or a .safetensors file with the same names"
)


class AlexNet(Trunk):
    """AlexNet's convolutions (Krizhevsky 2014, arXiv 1404.5997), torchvision's names; maps ``relu1`` to ``relu5``."""

    def __init__(self) -> None:
        layers: list[nn.Module] = [
            nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2),
            nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2),
            nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(inplace=True),
            nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(inplace=True),
            nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(inplace=True),
        ]  # fmt: skip
        taps = dict(zip(TAPS["alex"], (1, 4, 7, 9, 11), strict=True))
        super().__init__(layers, taps, dict(zip(TAPS["alex"], (7, 15, 31, 31, 31), strict=True)))


class Lpips(nn.Module):
    """The distance, frozen and in eval mode.

    Args:
        kind: which features.
        trunk: of that kind, with its weights.

    Attributes:
        kind: which features.
        least_px: the smallest side it takes.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, kind: LpipsKind, trunk: Trunk) -> None:
        super().__init__()
        self.kind = kind
        self.least_px = max(trunk.least_px[name] for name in TAPS[kind])
        self.trunk = trunk
        self.heads = LinearHeads(CHANNELS[kind])
        self.register_buffer("shift", torch.tensor(SHIFT).view(3, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor(SCALE).view(3, 1, 1), persistent=False)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Distances of pairs of images.

        Args:
            a: RGB (n, 3, h, w) in [-1, 1], from 31 px a side with AlexNet, 16 px with VGG16.
            b: the same shape.

        Returns:
            float32 (n,), 0 for equal images, lower is more alike; most photos lie below 1.

        Raises:
            ValueError: shapes differ or are no RGB images, or a side is too small.
        """
        if a.shape != b.shape or a.ndim != 4 or a.shape[1] != 3:
            text = f"images are {tuple(a.shape)} and {tuple(b.shape)}"
            raise ValueError(f"{text}: both must be (batch, 3, height, width)")
        layers = TAPS[self.kind]
        features = [self.trunk((x - self.shift) / self.scale, layers) for x in (a, b)]
        squares = [(_unit(x) - _unit(y)).square() for x, y in zip(*features, strict=True)]
        total: Tensor = self.heads(squares)
        return total


class LinearHeads(nn.Module):
    """A weight for each channel of each layer; names are those of the published files (``lin0.model.1.weight``)."""

    def __init__(self, channels: tuple[int, ...]) -> None:
        super().__init__()
        for i, width in enumerate(channels):
            # The first place was dropout's, in training.
            model = nn.Sequential(nn.Identity(), nn.Conv2d(width, 1, 1, bias=False))
            self.add_module(f"lin{i}", nn.ModuleDict({"model": model}))

    def forward(self, squares: list[Tensor]) -> Tensor:
        """Squared differences (n, c, h, w) of each layer to their weighted sum (n,)."""
        total = squares[0].new_zeros(len(squares[0]))
        for i, square in enumerate(squares):
            total = total + self.get_submodule(f"lin{i}.model")(square).mean(dim=(1, 2, 3))
        return total


def load_lpips(trunk: Weights, heads: Weights | None = None) -> Lpips:
    """LPIPS from files, frozen, in eval mode, float32, on the CPU.

    Args:
        trunk: URI of AlexNet's or VGG16's weights as torchvision publishes them (.pth or .safetensors), or the state
            dict; which of the two it is, the weights say.
        heads: URI of the linear heads as published (``lin0.model.1.weight`` ...), or the state dict; None takes
            the copy that torchmetrics brings.

    Raises:
        BundleError: not a checkpoint, or one of another network; the message says which file is needed.
        StorageError: nothing there, or it cannot be read.
    """
    name, state = _name(trunk), read_state(trunk)
    kind = _kind_of(state, name)
    with torch.device("meta"):
        network = AlexNet() if kind == "alex" else Vgg(NUM_CONVS["vgg16"])
        head = LinearHeads(CHANNELS[kind])
    lpips = Lpips(kind, load_trunk(network, state, NAMES[kind], name=name))
    brought = _brought_heads(kind) if heads is None else read_state(heads)
    told = f"torchmetrics' {kind} heads" if heads is None else _name(heads)
    load_strictly(head, brought, told, f"LPIPS's linear heads for {kind}")
    lpips.heads = head
    return lpips.eval().requires_grad_(False)


def _name(weights: Weights) -> str:
    return "the state dict" if isinstance(weights, Mapping) else str(weights)


def _kind_of(state: Mapping[str, Tensor], name: str) -> LpipsKind:
    """AlexNet begins with 11x11 convolutions, VGG16 with 3x3."""
    shape = tuple(state[FIRST].shape) if FIRST in state else None
    if shape == (64, 3, 11, 11):
        return "alex"
    if shape == (64, 3, 3, 3):
        return "vgg16"
    found = f"{FIRST!r} is {'x'.join(map(str, shape))}" if shape else f"it has no {FIRST!r}"
    raise BundleError(f"{name} is neither: {found}; {WHICH_FILE}", code="weights-mismatch", field="weights")


def _brought_heads(kind: LpipsKind) -> dict[str, Tensor]:
    folder = files("torchmetrics.functional.image") / "lpips_models"
    with as_file(folder / ("alex.pth" if kind == "alex" else "vgg.pth")) as path:
        return read_state(path)


def _unit(features: Tensor) -> Tensor:
    """Each position's channels scaled to length 1."""
    features = features.float()
    length = features.square().sum(dim=1, keepdim=True).sqrt()
    return features / (length + 1e-10)
