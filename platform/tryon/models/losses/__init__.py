"""Losses that recipes share: pixels, structure, smoothness of a warp, adversarial."""

from tryon.models.losses.adversarial import GanKind, discriminator_loss, generator_loss
from tryon.models.losses.pixels import gradient_l1, masked_l1, ssim_loss
from tryon.models.losses.smoothness import second_differences, second_order, total_variation

__all__ = [
    "GanKind",
    "discriminator_loss",
    "generator_loss",
    "gradient_l1",
    "masked_l1",
    "second_differences",
    "second_order",
    "ssim_loss",
    "total_variation",
]
