"""Adversarial losses on a discriminator's raw scores (no sigmoid), of any shape."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

GanKind = Literal["lsgan", "hinge", "log"]


def generator_loss(fake: Tensor, kind: GanKind) -> Tensor:
    """What the generator minimises; lower: the discriminator takes its images for real.

    Args:
        fake: scores of generated images.
        kind: ``lsgan``: half squared distance from 1 (Mao et al. 2017, arXiv 1611.04076), >= 0; ``hinge``: minus the
            score (arXiv 1705.02894), unbounded; ``log``: -log D, non-saturating (Goodfellow et al. 2014), > 0.

    Raises:
        ValueError: no such kind.
    """
    if kind == "lsgan":
        return 0.5 * (fake - 1).square().mean()
    if kind == "hinge":
        return -fake.mean()
    if kind == "log":
        return F.softplus(-fake).mean()
    raise _unknown(kind)


def discriminator_loss(real: Tensor, fake: Tensor, kind: GanKind) -> Tensor:
    """What the discriminator minimises, >= 0; lower: it tells the two apart.

    Args:
        real: scores of real images.
        fake: scores of generated images; detach the images, or the generator learns to help.
        kind: see `generator_loss`.

    Raises:
        ValueError: no such kind.
    """
    if kind == "lsgan":
        return 0.5 * ((real - 1).square().mean() + fake.square().mean())
    if kind == "hinge":
        return F.relu(1 - real).mean() + F.relu(1 + fake).mean()
    if kind == "log":
        return F.softplus(-real).mean() + F.softplus(fake).mean()
    raise _unknown(kind)


def _unknown(kind: str) -> ValueError:
    return ValueError(f"GAN loss {kind!r} is none of lsgan, hinge, log")
