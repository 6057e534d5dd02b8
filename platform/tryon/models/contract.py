"""What a network offers to tools that know nothing of it: the table of `tryon models networks` and ONNX export.

A network takes part with two methods, `example_inputs` and `infer`, and a class attribute `role`; its presets are the
module's constants of its config class (`LARGE = GmmConfig(...)`), its paper the first arXiv number in the module's
docstring. A network without the two methods is listed without MACs and not exported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tryon.models.sampling import Sampling
from tryon.models.tensors import REGIONS, limb_map
from tryon.sample import CATEGORIES, Joint


@runtime_checkable
class Runnable(Protocol):
    """A network that runs on named tensors.

    `infer` must do on meta tensors what it does on real ones: no branch on a value.
    """

    def example_inputs(self, batch: int, height: int, width: int) -> dict[str, Tensor]:
        """Plausible inputs of `infer` by name, in order, batch first, on the CPU; the same at each call."""

    def infer(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """What the network is used for: named tensors in, named tensors out, batch first."""


@runtime_checkable
class SynthesisNetwork(Protocol):
    """What the `synthesize` stage asks of a network: `tom`, a diffusion model, or one more.

    One that works without a warp says so with a class attribute `needs_warp = False`; it is then given an empty one.
    """

    def synthesize(self, condition: dict[str, Tensor], warped: Tensor, warped_mask: Tensor) -> dict[str, Tensor]:
        """The try-on at the network's size, without gradients.

        Args:
            condition: of `tryon.models.tensors.condition`.
            warped: warped garment (b, 3, h, w) in [-1, 1].
            warped_mask: (b, 1, h, w) in [0, 1].

        Returns:
            rendering (b, 3, h, w) in [-1, 1]; composition_mask (b, 1, h, w) in [0, 1], at most `warped_mask`: where
            the warped garment itself is shown instead of the rendering.
        """


def needs_warp(network: type[Any] | nn.Module) -> bool:
    """False for a synthesis network, or its class, that works without a warped garment."""
    return bool(getattr(network, "needs_warp", True))


@runtime_checkable
class SampledSynthesis(Protocol):
    """A synthesis network that makes its picture in steps from noise: the caller may say how.

    Attributes:
        sampling: where the caller says nothing.
    """

    sampling: Sampling

    def synthesize(
        self, condition: dict[str, Tensor], warped: Tensor, warped_mask: Tensor, sampling: Sampling | None = None
    ) -> dict[str, Tensor]:
        """As `SynthesisNetwork.synthesize`; the same sampling gives the same picture."""


@runtime_checkable
class SavesPart(Protocol):
    """A network on top of weights that lie elsewhere: only its own part is saved (an adapter, trained layers)."""

    def saved_state(self) -> dict[str, Tensor]:
        """What a bundle or a checkpoint keeps."""

    def load_saved_state(self, state: Mapping[str, Tensor]) -> None:
        """Takes it over.

        Raises:
            RuntimeError: names or shapes differ, as `nn.Module.load_state_dict`.
        """


def saved_state(network: nn.Module) -> dict[str, Any]:
    """What is kept of a network: its own part where it has one, else its state dict."""
    return network.saved_state() if isinstance(network, SavesPart) else network.state_dict()


def load_saved_state(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Takes over what `saved_state` gave.

    Raises:
        RuntimeError: names or shapes differ.
    """
    if isinstance(network, SavesPart):
        network.load_saved_state(state)
    else:
        network.load_state_dict(state)


def example_condition(names: Sequence[str], batch: int, height: int, width: int) -> dict[str, Tensor]:
    """A condition (`tryon.models.tensors.condition`) of noise, with a garment box and an upright torso.

    Args:
        names: the fields to give, in this order; also ``warped`` and ``warped_mask``.
        batch: rows; each differs.
        height: px, a multiple of 16.
        width: px, a multiple of 16.
    """
    generator = torch.Generator().manual_seed(0)
    pose = _pose(batch, height, width, generator)
    made = {
        "garment": _smooth(batch, 3, height, width, generator) * 2 - 1,
        "garment_mask": _box(batch, height, width),
        "agnostic": _noise(batch, 3, height, width, generator) * 2 - 1,
        "agnostic_mask": _box(batch, height, width),
        "limbs": limb_map(pose, (height, width)),
        "regions": (_noise(batch, len(REGIONS), height, width, generator) > 0.5).float(),
        "skin": torch.rand(batch, 3, generator=generator) - 0.5,
        "pose": pose,
        "category": F.one_hot(torch.arange(batch) % len(CATEGORIES), len(CATEGORIES)).float(),
        "warped": _smooth(batch, 3, height, width, generator) * 2 - 1,
        "warped_mask": _noise(batch, 1, height, width, generator),
    }
    return {name: made[name] for name in names}


def example_image(batch: int, height: int, width: int) -> Tensor:
    """Images of noise (b, 3, h, w) in [-1, 1], the same at each call; each row differs."""
    return _noise(batch, 3, height, width, torch.Generator().manual_seed(0)) * 2 - 1


def _noise(batch: int, channels: int, height: int, width: int, generator: torch.Generator) -> Tensor:
    return torch.rand(batch, channels, height, width, generator=generator)


def _smooth(batch: int, channels: int, height: int, width: int, generator: torch.Generator) -> Tensor:
    """Noise as smooth as photos are: sampled at positions that differ in their last digit, it hardly differs."""
    coarse = _noise(batch, channels, height // 4, width // 4, generator)
    return F.interpolate(coarse, size=(height, width), mode="bilinear", align_corners=False)


def _box(batch: int, height: int, width: int) -> Tensor:
    """A box a row, each a little narrower than the one before."""
    mask = torch.zeros(batch, 1, height, width)
    for row in range(batch):
        side = width // 8 + row % (width // 8)
        mask[row, :, height // 8 : -height // 8, side : width - side] = 1
    return mask


def _pose(batch: int, height: int, width: int, generator: torch.Generator) -> Tensor:
    """All joints seen; neck and hip upright with some lean, the other joints anywhere."""
    pose = torch.rand(batch, 25, 3, generator=generator) * torch.tensor([width, height, 0.0])
    pose[..., 2] = 1.0
    lean = 0.05 * width * torch.randn(batch, 2, generator=generator)
    pose[:, Joint.NECK, :2] = torch.stack([width / 2 + lean[:, 0], torch.full((batch,), 0.25 * height)], dim=1)
    pose[:, Joint.MID_HIP, :2] = torch.stack([width / 2 + lean[:, 1], torch.full((batch,), 0.75 * height)], dim=1)
    return pose


WARP_CONDITION = ("garment", "garment_mask", "agnostic_mask", "limbs", "regions", "pose", "category")
SYNTHESIS_CONDITION = ("agnostic", "agnostic_mask", "limbs", "regions", "skin", "warped", "warped_mask")
