"""State dicts in the layouts of published weights, with random values that a seed alone decides."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn


def seeded_values(shapes: Mapping[str, torch.Size], seed: int) -> dict[str, Tensor]:
    """Convolutions keep the size of what passes through; norms differ from channel to channel."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name in sorted(shapes):
        value = torch.randn(shapes[name], generator=generator)
        if name.endswith(("running_var", "bn.weight")):
            value = 0.5 + value.abs()
        elif value.ndim > 1:
            value *= math.sqrt(2 / value[0].numel())
        elif value.ndim == 1:
            value *= 0.1
        state[name] = value
    return state


def plain_vgg(widths: tuple[int | str, ...]) -> nn.Sequential:
    """Torchvision's `features` of a VGG, written out as its documentation lists them; ``"M"`` is a pooling."""
    layers: list[nn.Module] = []
    channels = 3
    for step in widths:
        if isinstance(step, int):
            layers += [nn.Conv2d(channels, step, 3, padding=1), nn.ReLU()]
            channels = step
        else:
            layers.append(nn.MaxPool2d(2, 2))
    return nn.Sequential(*layers).eval()


def plain_alexnet() -> nn.Sequential:
    """Torchvision's `features` of AlexNet."""
    return nn.Sequential(
        nn.Conv2d(3, 64, kernel_size=11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, kernel_size=5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, kernel_size=3, padding=1), nn.ReLU(),
        nn.Conv2d(384, 256, kernel_size=3, padding=1), nn.ReLU(),
        nn.Conv2d(256, 256, kernel_size=3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2),
    ).eval()  # fmt: skip


def state_of(features: nn.Sequential) -> dict[str, Tensor]:
    """As in a published file, with some of the classifier's weights."""
    state = {f"features.{name}": value for name, value in features.state_dict().items()}
    return {**state, "classifier.1.weight": torch.zeros(4, 4), "classifier.1.bias": torch.zeros(4)}


VGG16: tuple[int | str, ...] = (64, 64, "M", 128, 128, "M", *[256] * 3, "M", *[512] * 3, "M", *[512] * 3, "M")
VGG19: tuple[int | str, ...] = (64, 64, "M", 128, 128, "M", *[256] * 4, "M", *[512] * 4, "M", *[512] * 4, "M")
