"""Random network inputs."""

from __future__ import annotations

import torch
from torch import Tensor

from tryon.models.tensors import limb_map


def random_condition(b: int, size: tuple[int, int], seed: int = 0) -> dict[str, Tensor]:
    """What `tryon.models.tensors.condition` gives, of noise, with a garment box and a plausible pose."""
    h, w = size
    generator = torch.Generator().manual_seed(seed)

    def noise(channels: int) -> Tensor:
        return torch.rand(b, channels, h, w, generator=generator)

    garment_mask = torch.zeros(b, 1, h, w)
    garment_mask[..., h // 8 : -h // 8, w // 8 : -w // 8] = 1
    pose = torch.rand(b, 25, 3, generator=generator) * torch.tensor([w, h, 0.0]) + torch.tensor([0, 0, 1.0])
    return {
        "garment": noise(3) * 2 - 1,
        "garment_mask": garment_mask,
        "agnostic": noise(3) * 2 - 1,
        "agnostic_mask": (noise(1) > 0.5).float(),
        "limbs": limb_map(pose, size),
        "regions": (noise(3) > 0.5).float(),
        "skin": torch.rand(b, 3, generator=generator) - 0.5,
        "pose": pose,
        "category": torch.eye(3)[torch.arange(b) % 3],
    }
