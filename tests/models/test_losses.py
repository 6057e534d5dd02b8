"""Losses against figures worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from tryon.models.losses import discriminator_loss, generator_loss, masked_l1, second_order, ssim_loss, ssim_rows
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
    # Two flat images, 0.75 and 1 in [0, 1]: (2ab + C1) / (a^2 + b^2 + C1) with C1 = 0.01^2, and no variance.
    assert float(ssim_loss(a + 0.5, a + 1)) == pytest.approx(1 - 1.5001 / 1.5626, abs=1e-4)
    with pytest.raises(ValueError, match="11 px"):
        ssim_loss(a[..., :8], a[..., :8])


def test_ssim_is_the_metrics_own() -> None:
    from torchmetrics.functional.image import structural_similarity_index_measure

    generator = torch.Generator().manual_seed(0)
    truth = F.interpolate(torch.rand(3, 3, 8, 6, generator=generator) * 2 - 1, size=(40, 27), mode="bilinear")
    result = (0.8 * truth + 0.2 * torch.rand(3, 3, 40, 27, generator=generator)).requires_grad_()
    unit = [(x.detach() + 1) / 2 for x in (result, truth)]
    wanted = structural_similarity_index_measure(*unit, data_range=1.0, reduction="none")
    assert torch.allclose(ssim_rows(result, truth), wanted, atol=1e-5)
    assert torch.allclose(ssim_rows(truth, truth), torch.ones(3), atol=1e-6)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.allclose(ssim_rows(result, truth), wanted, atol=1e-5), "variances need all digits"
    ssim_loss(result, truth).backward()  # type: ignore[no-untyped-call]
    assert result.grad is not None
    assert torch.isfinite(result.grad).all()
    with pytest.raises(ValueError, match="must have one shape"):
        ssim_rows(truth, truth[:2])


def test_second_order_is_zero_for_affine_lattices() -> None:
    points = control_points(5)[None]
    assert float(second_order(1.3 * points + 0.1)) == pytest.approx(0, abs=1e-6)
    assert float(second_order(points**2)) == pytest.approx(2 * 0.45**2, abs=1e-5)  # 2 d^2, half the coordinates, twice
