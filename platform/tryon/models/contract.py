"""What a network offers to tools that know nothing of it: the table of `tryon models` and ONNX export.

A network takes part with two methods, `example_inputs` and `infer`, and a class attribute `role`; its presets are the
module's constants of its config class (`LARGE = GmmConfig(...)`), its paper the first arXiv number in the module's
docstring. A network without the two methods is listed without MACs and not exported.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from tryon.models.tensors import REGIONS, limb_map
from tryon.sample import Joint


@runtime_checkable
class Runnable(Protocol):
    """A network that runs on named tensors.

    `infer` must do on meta tensors what it does on real ones: no branch on a value.
    """

    def example_inputs(self, batch: int, height: int, width: int) -> dict[str, Tensor]:
        """Plausible inputs of `infer` by name, in order, batch first, on the CPU; the same at each call."""

    def infer(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """What the network is used for: named tensors in, named tensors out, batch first."""


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
        "garment": _noise(batch, 3, height, width, generator) * 2 - 1,
        "garment_mask": _box(batch, height, width),
        "agnostic": _noise(batch, 3, height, width, generator) * 2 - 1,
        "agnostic_mask": _box(batch, height, width),
        "limbs": limb_map(pose, (height, width)),
        "regions": (_noise(batch, len(REGIONS), height, width, generator) > 0.5).float(),
        "skin": torch.rand(batch, 3, generator=generator) - 0.5,
        "pose": pose,
        "warped": _noise(batch, 3, height, width, generator) * 2 - 1,
        "warped_mask": _noise(batch, 1, height, width, generator),
    }
    return {name: made[name] for name in names}


def _noise(batch: int, channels: int, height: int, width: int, generator: torch.Generator) -> Tensor:
    return torch.rand(batch, channels, height, width, generator=generator)


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


WARP_CONDITION = ("garment", "garment_mask", "agnostic_mask", "limbs", "regions", "pose")
SYNTHESIS_CONDITION = ("agnostic", "agnostic_mask", "limbs", "regions", "skin", "warped", "warped_mask")
