"""The garment photo: the flat garment on light paper, its mask, and the way from flat points to its pixels."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from tryon.data.simulator.garment import FlatPattern, placement
from tryon.data.simulator.geometry import Float, Grid, UInt8, blur, coverage, f32, rgb3, smoothstep


@dataclass(frozen=True)
class FlatPhoto:
    """A garment photo.

    Attributes:
        image: uint8 (H, W, 3) RGB.
        mask: uint8 (H, W), 1 on the garment.
        cloth: float32 (H, W, 3), 0..1: the garment's colour, continued past its edges.
        grid: the photo's grid in flat units.
    """

    image: UInt8
    mask: UInt8
    cloth: Float
    grid: Grid

    def to_px(self, x: Float, y: Float) -> tuple[Float, Float]:
        """Pixel coordinates (as cv2.remap takes them) of flat points."""
        scale = np.float32(1.0 / self.grid.px)
        return f32((x - self.grid.x[0, 0]) * scale), f32((y - self.grid.y[0, 0]) * scale)


def take_photo(pattern: FlatPattern, height: int, width: int) -> FlatPhoto:
    """Draws the garment photo at the given size, px."""
    grid = placement(pattern, height, width)
    colour, distance = pattern.paint(grid.x, grid.y, grid.px)
    alpha = coverage(distance, grid.px)
    # A rounded edge: cloth has thickness, so the last centimetre darkens.
    colour *= rgb3(0.84 + 0.16 * smoothstep(0.0, 0.05, distance))
    image = rgb3(_paper(pattern.cloth.paper, distance, grid))
    mask = alpha
    seen = pattern.inside(grid.x, grid.y, grid.px)
    if seen is not None:
        inner, cover = seen
        image += (inner - image) * rgb3(cover)
        mask = np.maximum(alpha, cover)
    image += (colour - image) * rgb3(alpha)
    return FlatPhoto(to_uint8(image), (mask > 0.5).astype(np.uint8), colour, grid)


def to_uint8(image: Float) -> UInt8:
    """0..1 to 0..255."""
    return np.asarray(cv2.convertScaleAbs(np.maximum(image, 0.0), alpha=255.0), dtype=np.uint8)


def _paper(tone: float, distance: Float, grid: Grid) -> Float:
    """Light ground with the garment's soft shadow."""
    shadow = blur(coverage(f32(distance + 0.02), grid.px), 0.05 / grid.px)
    shift = round(0.03 / grid.px)
    if shift:
        shadow = np.roll(shadow, shift, axis=0)
        shadow[:shift] = 0.0
    return f32(np.float32(tone) * (1.0 - np.float32(0.16) * shadow))
