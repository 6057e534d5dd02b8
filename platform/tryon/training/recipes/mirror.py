"""Samples seen in a mirror: twice the data for what is learnt from tensors that are conditions of a warp."""

from __future__ import annotations

import torch

from tryon.models.mirror import mirrored
from tryon.training.recipes.base import Tensors


def perhaps_mirrored(tensors: Tensors) -> Tensors:
    """Every other batch, by torch's generator."""
    return mirrored(tensors) if torch.rand(()) < 0.5 else tensors
