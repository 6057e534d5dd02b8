"""Losses that recipes share: pixels, structure, features, smoothness of a warp, adversarial."""

from tryon.models.losses.adversarial import GanKind, discriminator_loss, generator_loss
from tryon.models.losses.perceptual import PerceptualConfig, PerceptualLoss, PerceptualParts
from tryon.models.losses.pixels import gradient_l1, masked_l1, ssim_loss, ssim_rows
from tryon.models.losses.smoothness import second_differences, second_order, total_variation

__all__ = [
    "GanKind",
    "PerceptualConfig",
    "PerceptualLoss",
    "PerceptualParts",
    "discriminator_loss",
    "generator_loss",
    "gradient_l1",
    "masked_l1",
    "second_differences",
    "second_order",
    "ssim_loss",
    "ssim_rows",
    "total_variation",
]
