"""The garment photo: the flat garment on light paper, its mask, and the way from flat points to its pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from tryon.data.simulator.garment import Pattern
from tryon.data.simulator.geometry import Float, Grid, UInt8, blur, coverage, ellipse, f32, mix, smoothstep, support
from tryon.data.simulator.texture import cloth, crease_shade


@dataclass(frozen=True)
class FlatPhoto:
    """A garment photo.

    Attributes:
        image: uint8 (H, W, 3) RGB.
        mask: uint8 (H, W), 1 on the garment.
        cloth: float32 (H, W, 3), 0..1: the garment's colour, continued past its edges.
        grid: the photo's grid in flat units, before the turn.
        turn: of the garment in the photo, radians.
    """

    image: UInt8
    mask: UInt8
    cloth: Float
    grid: Grid
    turn: float

    def to_px(self, x: Float, y: Float) -> tuple[Float, Float]:
        """Pixel coordinates (as cv2.remap takes them) of flat points."""
        c, s = math.cos(self.turn), math.sin(self.turn)
        u, v = x * np.float32(c) - y * np.float32(s), x * np.float32(s) + y * np.float32(c)
        scale = np.float32(1.0 / self.grid.px)
        return f32((u - self.grid.x[0, 0]) * scale), f32((v - self.grid.y[0, 0]) * scale)


def take_photo(pattern: Pattern, height: int, width: int) -> FlatPhoto:
    """Draws the garment photo at the given size, px."""
    garment = pattern.garment
    grid = pattern.placement(height, width)
    c, s = np.float32(math.cos(garment.turn)), np.float32(math.sin(garment.turn))
    x, y = f32(grid.x * c + grid.y * s), f32(grid.y * c - grid.x * s)
    shape = _Shape(pattern, x, y)
    distance = shape.distance
    colour = _cloth(pattern, shape, x, y, grid.px)
    alpha = coverage(distance, grid.px)
    # A rounded edge: cloth has thickness, so the last centimetre darkens.
    lit = colour * (0.84 + 0.16 * smoothstep(0.0, 0.05, distance))[..., None]
    paper = _paper(pattern, distance, grid)
    if garment.inside_back:
        paper, inner = _inside_back(pattern, paper, x, y, grid.px)
    else:
        inner = np.zeros_like(alpha)
    image = paper + (lit - paper) * alpha[..., None]
    mask = np.maximum(alpha, inner) > 0.5
    return FlatPhoto(to_uint8(image), mask.astype(np.uint8), f32(lit), grid, garment.turn)


def to_uint8(image: Float) -> UInt8:
    """0..1 to 0..255."""
    return np.asarray(np.clip(np.rint(image * np.float32(255)), 0, 255), dtype=np.uint8)


class _Shape:
    """The pattern's fields at the photo's pixels, each computed once."""

    def __init__(self, pattern: Pattern, x: Float, y: Float) -> None:
        self.torso = pattern.torso(x, y)
        self.sleeves: dict[int, tuple[Float, Float, Float]] = {}
        self.distance = self.torso
        if pattern.garment.sleeve != "none":
            for side in (1, -1):
                t, d = pattern.to_sleeve(x, y, side)
                field = pattern.sleeve(t, d)
                self.sleeves[side] = t, d, field
                self.distance = pattern.join(self.distance, field, x, y)


def _cloth(pattern: Pattern, shape: _Shape, x: Float, y: Float, px: float) -> Float:
    """Colour of trunk and sleeves with bands, seams and creases; defined everywhere."""
    garment, torso = pattern.garment, shape.torso
    out = cloth(garment, x, y, px).copy()
    if garment.sleeve != "none":
        plain_sleeve = garment.texture == "text" or (garment.texture == "printed" and garment.motif % 2 == 1)
        for side, (t, d, sleeve) in shape.sleeves.items():
            share = coverage(np.minimum(sleeve + 0.05, f32(-torso)), px) * (x * side > 0)
            at = support(f32(share))
            ground = f32(np.broadcast_to(f32(garment.color), (*t[at].shape, 3)))
            own = ground if plain_sleeve else cloth(garment, d[at], f32(t[at] + 0.4), px)
            out[at] = mix(out[at], own, f32(share[at]))
            cuff = coverage(f32(0.07 - np.abs(np.float32(garment.sleeve_length - 0.06) - t)), px) * share
            out = mix(out, f32(garment.trim), f32(cuff))
            out = _stitch(out, f32(np.float32(garment.sleeve_length - 0.12) - t), px, f32(share))
        # The armhole seam.
        inside = ((shape.distance > 0.02) & (y - pattern.slope(np.abs(x)) > 0.05)).astype(np.float32)
        out = _stitch(out, f32(torso), px, inside, 0.16)
    out = _bands(pattern, torso, out, x, y, px)
    return f32(out * crease_shade(garment.detail_seed, x, y)[..., None])


def _stitch(rgb: Float, field: Float, px: float, where: Float, depth: float = 0.10) -> Float:
    line = coverage(f32(0.008 - np.abs(field)), max(px, 0.010)) * where
    return f32(rgb * (1.0 - np.float32(depth) * line[..., None]))


def _bands(pattern: Pattern, torso: Float, rgb: Float, x: Float, y: Float, px: float) -> Float:
    """Neckband and hem seam."""
    garment = pattern.garment
    hole = pattern.neck_hole(x, y)
    near = coverage(f32(0.075 + hole), px) * (y < 1.2)
    out = mix(rgb, f32(garment.trim), f32(near))
    out = _stitch(out, f32(hole + 0.075), px, (y < 1.2).astype(np.float32), 0.22)
    if garment.sleeve == "none":
        out = _stitch(out, f32(torso - 0.05), px, (y < 0.72).astype(np.float32), 0.16)
    return _stitch(out, f32(pattern.hem_y(x) - y - 0.07), px, (torso > 0.0).astype(np.float32))


def _paper(pattern: Pattern, distance: Float, grid: Grid) -> Float:
    """Light ground with the garment's soft shadow."""
    shadow = blur(coverage(f32(distance + 0.02), grid.px), 0.05 / grid.px)
    shift = round(0.03 / grid.px)
    if shift:
        shadow = np.roll(shadow, shift, axis=0)
        shadow[:shift] = 0.0
    tone = pattern.garment.paper * (1.0 - 0.16 * shadow)
    return f32(np.repeat(tone[..., None], 3, axis=2))


def _inside_back(pattern: Pattern, paper: Float, x: Float, y: Float, px: float) -> tuple[Float, Float]:
    """Paints the inside of the back seen through the neckline; returns the ground and the inside's coverage."""
    garment = pattern.garment
    back = ellipse(x, np.maximum(y, 0.0), 0.0, 0.0, garment.neck_width, 0.09)
    field = np.minimum(np.minimum(pattern.neck_hole(x, y) + 0.02, -back), y - 0.004)
    inner = coverage(f32(field), px)
    tone = 0.62 + 0.12 * smoothstep(0.0, 0.4, y)
    colour = f32(f32(garment.color) * tone[..., None])
    band = coverage(f32(0.07 + back), px)
    colour = mix(colour, f32(f32(garment.trim) * 0.86), band)
    label = coverage(f32(np.minimum(0.055 - np.abs(x), 0.035 - np.abs(y - 0.155))), px)
    colour = mix(colour, f32((0.9, 0.9, 0.9)), label)
    return mix(paper, colour, inner), inner
