"""Trousers, jeans, shorts and skirts: their specification, flat pattern and colours.

Flat coordinates as in `tryon.data.simulator.garment`, y = 0 at the top of the waistband. Of trousers the two legs
lie beside each other; `side` +1 is the person's left leg, on the photo's right.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from tryon.config import Category
from tryon.data.simulator.garment import ClothSpec, stitch
from tryon.data.simulator.geometry import Float, coverage, f32, paint_into, rgb3, smoothstep, spline
from tryon.data.simulator.texture import cloth, crease_shade
from tryon.sample import Label

LowerKind = Literal["trousers", "jeans", "shorts", "skirt"]
RISE = 1.10  # flat y of the crotch
HIP = 0.80  # flat y of the widest part
# Half-widths of a leg at thigh, knee and ankle, flat units.
CUTS: dict[str, tuple[float, float, float]] = {
    "skinny": (0.375, 0.235, 0.155), "straight": (0.40, 0.29, 0.25), "tapered": (0.42, 0.30, 0.19),
    "wide": (0.43, 0.40, 0.40), "flared": (0.38, 0.25, 0.37),
}  # fmt: skip
SKIRTS = ("pencil", "a-line", "flared", "pleated")
LENGTHS: dict[LowerKind, tuple[float, ...]] = {
    "trousers": (4.25, 4.15, 3.95, 3.55), "jeans": (4.25, 4.15, 3.95), "shorts": (1.55, 1.90, 2.30),
    "skirt": (1.55, 2.0, 2.65, 3.35, 3.95),
}  # fmt: skip


@dataclass(frozen=True)
class LowerSpec(ClothSpec):
    """A lower garment.

    Attributes:
        kind: what it is.
        cut: a key of CUTS, or one of SKIRTS.
        length: flat y of the hem.
        waist: half-width at the waistband, flat units.
        hip: half-width at the hips, flat units.
        flare: factor on a skirt's flare.
        band: height of the waistband, flat units.
        crease: trousers pressed with a crease.
        pleats: number of a pleated skirt's pleats.
    """

    kind: LowerKind
    cut: str
    length: float
    waist: float
    hip: float
    flare: float
    band: float
    crease: bool
    pleats: int

    @property
    def label(self) -> Label:
        """Class of its pixels in the parse."""
        return Label.SKIRT if self.kind == "skirt" else Label.PANTS

    @property
    def is_skirt(self) -> bool:
        """One tube instead of two legs."""
        return self.kind == "skirt"


class LowerPattern:
    """The flat shape of a lower garment, and its colours."""

    category: Category = "lower"

    def __init__(self, garment: LowerSpec) -> None:
        self.garment = garment

    @property
    def cloth(self) -> ClothSpec:
        return self.garment

    @cached_property
    def hem_width(self) -> float:
        """Half-width at a skirt's hem, flat units."""
        g = self.garment
        slope = {"pencil": -0.035, "a-line": 0.17, "flared": 0.40, "pleated": 0.26}[g.cut] * g.flare
        return g.hip + slope * (g.length - HIP)

    def half_width(self, y: Float) -> Float:
        """Half-width of a skirt, or of trousers above the crotch."""
        g = self.garment
        if g.is_skirt:
            flared = 0.05 if g.cut in ("flared", "pleated") else 0.0
            knots = (-0.3, 0.0, HIP, g.length, g.length + 0.5)
            return spline(y, knots, (g.waist, g.waist, g.hip + flared, self.hem_width, self.hem_width), 0.06)
        widths = (g.waist, g.waist, g.hip, g.hip + 0.02, g.hip + 0.03)
        return spline(y, (-0.3, 0.0, HIP, RISE, RISE + 0.6), widths, 0.06)

    @cached_property
    def _leg(self) -> tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]:
        g = self.garment
        thigh, knee, ankle = CUTS[g.cut]
        knots = (0.3, RISE, RISE + 1.35, 4.25, 4.8)
        spread = 0.16
        axis = (g.hip - thigh, g.hip + 0.02 - thigh, 0.44, 0.40 + spread, 0.42 + spread)
        return knots, (thigh, thigh, knee, ankle, ankle), axis

    def leg_half(self, y: Float) -> Float:
        """Half-width of a leg."""
        knots, widths, _ = self._leg
        return spline(y, knots, widths, 0.14)

    def leg_axis(self, y: Float) -> Float:
        """Distance of a leg's middle line from the garment's."""
        knots, _, axis = self._leg
        return spline(y, knots, axis, 0.10)

    def distance(self, x: Float, y: Float) -> Float:
        """Where the photo's mask is 1."""
        g = self.garment
        ax = np.abs(x)
        body = self.half_width(y) - ax
        if not g.is_skirt:
            leg = self.leg_half(y) - np.abs(ax - self.leg_axis(y))
            seat = np.minimum(body, np.float32(RISE + 0.02) - y)
            hips = body + 2.0 * np.maximum(y - np.float32(RISE), 0.0)
            body = np.maximum(seat, np.minimum(np.minimum(leg, hips), y - np.float32(0.85)))
        return f32(np.minimum(np.minimum(body, y - self.top_y(x)), self.hem_y(x) - y))

    def top_y(self, x: Float) -> Float:
        """Flat y of the waistband's upper edge: a little lower in the middle, where the back shows behind it."""
        return f32(0.05 * (1.0 - (x / np.float32(self.garment.waist)) ** 2))

    def hem_y(self, x: Float) -> Float:
        """Flat y of the hem."""
        g = self.garment
        if not g.is_skirt:
            return f32(np.float32(g.length) + 0.0 * x)
        bow = -0.10 * max(self.hem_width - g.hip, 0.0)
        return f32(np.float32(g.length) + np.float32(bow) * (x / np.float32(self.hem_width)) ** 2)

    def extent(self) -> tuple[float, float]:
        """Half-width and height of the flat garment, flat units."""
        g = self.garment
        if g.is_skirt:
            return max(g.hip, self.hem_width), g.length
        ends = f32([[g.length]])
        return max(g.hip + 0.02, float((self.leg_axis(ends) + self.leg_half(ends))[0, 0])), g.length

    def inside(self, x: Float, y: Float, px: float) -> tuple[Float, Float] | None:
        """The inside of the back of the waistband."""
        g = self.garment
        field = np.minimum(np.minimum(self.top_y(x) - y + 0.01, y + np.float32(0.015)), self.half_width(y) - np.abs(x))
        colour = np.empty((*field.shape, 3), np.float32)
        colour[:] = f32(g.color) * np.float32(0.62)
        return colour, coverage(f32(field), px)

    def paint(self, x: Float, y: Float, px: float) -> tuple[Float, Float]:
        """Unlit colour (H, W, 3), continued past the edges, and distance field (H, W) at flat points."""
        distance = self.distance(x, y)
        rgb = self.worn(x, y, px, 0)
        return f32(rgb * rgb3(crease_shade(self.garment.detail_seed, x, y))), distance

    def worn(self, x: Float, y: Float, px: float, side: int) -> Float:
        """Unlit colour at flat points; `side` is of no matter here."""
        g = self.garment
        axis = None if g.is_skirt else self.leg_axis(y)
        rgb = cloth(g, x, y, px)
        ones = np.ones(np.broadcast_shapes(x.shape, y.shape), np.float32)
        if g.is_skirt:
            self._pleats(rgb, x, y, px)
        else:
            assert axis is not None
            self._legs(rgb, x, y, px, axis)
        stitch(rgb, f32(y - np.float32(g.band) + 0 * x), px, ones, 0.30)
        stitch(rgb, f32(self.hem_y(x) - y - np.float32(0.08)), px, ones)
        if g.kind == "jeans" or (g.is_skirt and g.motif == 4):
            button = coverage(f32(0.035 - np.hypot(x, y - np.float32(g.band * 0.5 + 0.03))), px)
            paint_into(rgb, f32((0.72, 0.60, 0.38)), button)
        return rgb

    def _pleats(self, rgb: Float, x: Float, y: Float, px: float) -> None:
        g = self.garment
        if g.cut == "pleated":
            u = (x / self.half_width(y)) * np.float32(g.pleats / 2)
            edge = u - np.floor(u)
            tone = 1.0 - 0.26 * smoothstep(0.72, 0.98, edge) * smoothstep(g.band, g.band + 0.2, y)
            rgb *= rgb3(tone)
        elif g.cut == "pencil":
            stitch(rgb, f32(np.abs(x) - np.float32(0.30) + 0.10 * y), px, (y < 0.75) * np.ones_like(x), 0.14)

    def _legs(self, rgb: Float, x: Float, y: Float, px: float, axis: Float) -> None:
        """Fly, pockets, inner seams, crease, and a faded thigh on denim."""
        g = self.garment
        ax = np.abs(x)
        if g.kind == "jeans":
            fade = np.exp(-(((ax - axis) * np.float32(1 / 0.17)) ** 2)) * smoothstep(0.9, 1.5, y)
            rgb *= rgb3(1.0 + 0.20 * fade * (1.0 - 0.6 * smoothstep(2.2, 3.4, y)))
        upper = (y > g.band) * (y < RISE)
        ones = np.ones_like(x + y)
        stitch(rgb, f32(x + 0 * y), px, f32(upper * ones), 0.30)
        curve = np.maximum(np.abs(x - np.float32(0.11)), y - np.float32(0.75)) - np.float32(0.0)
        stitch(rgb, f32(curve), px, f32((y > g.band) * (y < 0.8) * (x > 0)), 0.20)
        pocket = ax - np.float32(g.waist - 0.24) - np.float32(0.55) * (y - np.float32(g.band))
        stitch(rgb, f32(pocket), px, f32((y > g.band) * (y < 0.62) * ones), 0.34)
        if g.crease:
            stitch(rgb, f32(ax - axis), max(px, 0.012), f32(smoothstep(0.8, 1.2, y) * ones), 0.16)
