"""Losses against figures worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from tryon.models.losses import discriminator_loss, generator_loss, masked_l1, second_order, ssim_loss
from tryon.models.tps import control_points

REAL, FAKE = torch.tensor([2.0, 0.0]), torch.tensor([-2.0, 1.0])


def test_gan_losses() -> None:
    assert float(generator_loss(FAKE, "lsgan")) == pytest.approx(9 / 4)
    assert float(generator_loss(FAKE, "hinge")) == pytest.approx(0.5)
    log = [math.log(1 + math.exp(2)), math.log(1 + math.exp(-1))]
    assert float(generator_loss(FAKE, "log")) == pytest.approx(sum(log) / 2)
    assert float(discriminator_loss(REAL, FAKE, "lsgan")) == pytest.approx(0.5 * (1 + 2.5))
    assert float(discriminator_loss(REAL, FAKE, "hinge")) == pytest.approx(0.5 + 1)
    with pytest.raises(ValueError, match="none of lsgan"):
        generator_loss(FAKE, "wgan")  # type: ignore[arg-type]


def test_masked_l1_and_ssim() -> None:
    a, mask = torch.zeros(1, 3, 16, 16), torch.zeros(1, 1, 16, 16)
    mask[..., :8] = 1
    assert float(masked_l1(a, a + 0.25 * mask, mask)) == pytest.approx(0.25)
    assert float(masked_l1(a, a + 1, 0 * mask)) == 0
    # Two flat images: (2ab + C1) / (a^2 + b^2 + C1) with C1 = (0.01 * 2)^2, and no variance.
    assert float(ssim_loss(a + 0.5, a + 1)) == pytest.approx(1 - 1.0004 / 1.2504, abs=1e-4)
    with pytest.raises(ValueError, match="11 px"):
        ssim_loss(a[..., :8], a[..., :8])


def test_second_order_is_zero_for_affine_lattices() -> None:
    points = control_points(5)[None]
    assert float(second_order(1.3 * points + 0.1)) == pytest.approx(0, abs=1e-6)
    assert float(second_order(points**2)) == pytest.approx(2 * 0.45**2, abs=1e-5)  # 2 d^2, half the coordinates, twice
