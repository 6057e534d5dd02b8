"""Tops, open jackets and dresses: their specification and flat pattern as distance fields.

Flat coordinates as in `tryon.data.simulator.garment`, y = 0 at the high shoulder point. A sleeve has its own
coordinates: t along its axis from the shoulder joint, d across it, outwards positive.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import numpy as np

from tryon.config import Category
from tryon.data.simulator.anatomy import FOREARM, UPPER_ARM
from tryon.data.simulator.garment import ClothSpec
from tryon.data.simulator.geometry import Float, Point, ellipse, f32, smooth_max, smoothstep, spline

Sleeve = Literal["none", "cap", "short", "elbow", "three-quarter", "long"]
Neckline = Literal["crew", "v", "scoop", "boat", "square"]
Fit = Literal["slim", "regular", "loose"]
Hem = Literal["straight", "curved", "flared"]
Style = Literal["tee", "shirt", "cardigan", "blazer", "zip"]

SLEEVES: tuple[Sleeve, ...] = get_args(Sleeve)
NECKLINES: tuple[Neckline, ...] = get_args(Neckline)

SLEEVE_LENGTH: dict[Sleeve, float] = {
    "none": 0.0, "cap": 0.66, "short": 0.92, "elbow": 1.32, "three-quarter": 1.85, "long": UPPER_ARM + FOREARM - 0.03,
}  # fmt: skip
UNDERARM = 0.74  # flat y of the underarm point
WAIST, HIP = 1.60, 2.42  # flat y of a dress's waist and hip
JOINT: Point = (0.76, 0.36)  # flat position of the shoulder joint


@dataclass(frozen=True)
class TopSpec(ClothSpec):
    """A top, an open jacket or a dress.

    Attributes:
        category: upper or dress.
        style: how the front is made; cardigan, blazer and zip jackets may be open.
        opening: half-gap of an open front at the hem, flat units; 0 for a closed one.
        sleeve: sleeve length.
        neckline: shape of the neckline.
        fit: how loosely it falls.
        hem: shape of the lower edge.
        neck_width: half-width of the neckline, flat units.
        neck_depth: depth of the neckline, flat units.
        tip: distance of the shoulder seam from the middle, flat units.
        chest: half-width at the underarm, flat units.
        waist: half-width at the waist, flat units.
        hip: half-width at the hips of a dress, flat units; as the waist for a top.
        hem_width: half-width at the hem, flat units.
        length: flat y of the hem in the middle.
        sleeve_length: along the sleeve's axis from the shoulder joint; 0 for none.
        sleeve_top: half-width of the sleeve at the underarm.
        sleeve_end: half-width of the sleeve at the cuff.
        sleeve_angle: of the flat sleeve against the vertical, radians.
        tucked: worn under the lower clothes.
        inside_back: the photo shows the inside of the back below the neckline.
    """

    category: Category
    style: Style
    opening: float
    sleeve: Sleeve
    neckline: Neckline
    fit: Fit
    hem: Hem
    neck_width: float
    neck_depth: float
    tip: float
    chest: float
    waist: float
    hip: float
    hem_width: float
    length: float
    sleeve_length: float
    sleeve_top: float
    sleeve_end: float
    sleeve_angle: float
    tucked: bool
    inside_back: bool


class TopFields:
    """The flat shape of a top or dress: distance fields, positive inside, in flat units."""

    def __init__(self, garment: TopSpec) -> None:
        self.garment = garment

    @property
    def cloth(self) -> ClothSpec:
        return self.garment

    @property
    def category(self) -> Category:
        return self.garment.category

    def slope(self, ax: Float) -> Float:
        """Flat y of the shoulder seam at a distance from the middle."""
        g = self.garment
        u = (ax - np.float32(g.neck_width)) * np.float32(1.0 / max(g.tip - g.neck_width, 0.15))
        return f32(0.25 * (np.clip(u, 0.0, 1.0) + 0.3 * np.clip(u - 1.0, 0.0, 1.0)))

    @cached_property
    def _widths(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        g = self.garment
        top = max(g.tip + 0.04, g.chest)
        if g.category == "dress":
            knots = (-0.2, 0.25, UNDERARM, WAIST, HIP, g.length, g.length + 0.5)
            return knots, (top, top, g.chest, g.waist, g.hip, g.hem_width, g.hem_width)
        of_top = (-0.2, 0.25, UNDERARM, 1.5, g.length, g.length + 0.5)
        return of_top, (top, top, g.chest, g.waist, g.hem_width, g.hem_width)

    def half_width(self, y: Float) -> Float:
        """Half-width that a full trunk map spans: the side seam, and above the underarm the shoulder."""
        return spline(y, *self._widths, 0.1)

    @cached_property
    def _side(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        g = self.garment
        cut = 0.10 if g.sleeve == "none" else 0.03
        return (-0.3, 0.22, 0.50, 0.66, UNDERARM), (g.tip, g.tip, g.tip - cut, g.tip - 0.25 * cut, g.chest + 0.02)

    def torso(self, x: Float, y: Float) -> Float:
        """Trunk panel: sides, armholes, shoulders, neckline and hem."""
        ax = np.abs(x)
        armhole = spline(y, *self._side, 0.04)
        side = np.minimum(self.half_width(y), np.where(y < UNDERARM, armhole, np.float32(9.0)))
        field = np.minimum(side - ax, (y - self.slope(ax)) * np.float32(0.92))
        field = np.minimum(field, self.hem_y(x) - y)
        return f32(np.minimum(field, -self.neck_hole(x, y)))

    def hem_y(self, x: Float) -> Float:
        """Flat y of the hem."""
        g = self.garment
        bow = {"straight": 0.02, "flared": -0.05, "curved": 0.16}[g.hem]
        return f32(np.float32(g.length) - np.float32(bow) * (x / np.float32(g.hem_width)) ** 2)

    def neck_hole(self, x: Float, y: Float) -> Float:
        """The opening of the neckline, and of an open front below it; positive inside it."""
        g = self.garment
        below = np.maximum(y, 0.0)
        if g.neckline == "v":
            lean = math.hypot(g.neck_width, g.neck_depth)
            edge = g.neck_width * g.neck_depth - below * g.neck_width - np.abs(x) * g.neck_depth
            hole = f32(edge * np.float32(1.0 / lean))
        elif g.neckline == "square":
            hole = -smooth_max(f32(np.abs(x) - np.float32(0.9 * g.neck_width)), f32(below - g.neck_depth), 0.10)
        else:
            hole = ellipse(x, below, 0.0, 0.0, g.neck_width, g.neck_depth)
        if g.opening <= 0:
            return hole
        gap = np.float32(g.opening) * (0.30 + 0.70 * smoothstep(0.2, 2.0, y)) - np.abs(x)
        return smooth_max(hole, f32(gap), 0.10)

    def sleeve_half_width(self, t: Float) -> Float:
        """Half-width of the flat sleeve at a length along its axis."""
        g = self.garment
        end = max(g.sleeve_length, 0.45)
        u = np.clip((t - np.float32(0.30)) * np.float32(1.0 / (end - 0.30)), 0.0, 1.0)
        return f32(g.sleeve_top + np.float32(g.sleeve_end - g.sleeve_top) * u)

    def sleeve(self, t: Float, d: Float) -> Float:
        """Sleeve panel from its own coordinates."""
        field = np.minimum(self.sleeve_half_width(t) - np.abs(d), np.float32(self.garment.sleeve_length) - t)
        return f32(np.minimum(field, t + np.float32(0.22)))

    def join(self, torso: Float, sleeve: Float, x: Float, y: Float) -> Float:
        """Sews a sleeve to the trunk: its cap rounded off below the shoulder line, the armpit filleted."""
        line = f32((y - self.slope(np.abs(x)) + np.float32(0.015)) * np.float32(0.92))
        return smooth_max(torso, -smooth_max(-sleeve, -line, 0.12), 0.07)

    def axis(self, side: int) -> tuple[Point, Point]:
        """Direction of a sleeve's axis and of its outward normal."""
        a = self.garment.sleeve_angle
        return (side * math.sin(a), math.cos(a)), (side * math.cos(a), -math.sin(a))

    def to_sleeve(self, x: Float, y: Float, side: int) -> tuple[Float, Float]:
        """Sleeve coordinates (t, d) of flat points."""
        (ax, ay), (nx, ny) = self.axis(side)
        dx, dy = x - np.float32(side * JOINT[0]), y - np.float32(JOINT[1])
        return f32(dx * np.float32(ax) + dy * np.float32(ay)), f32(dx * np.float32(nx) + dy * np.float32(ny))

    def from_sleeve(self, t: Float, d: Float, side: int) -> tuple[Float, Float]:
        """Flat points of sleeve coordinates (t, d)."""
        (ax, ay), (nx, ny) = self.axis(side)
        x = np.float32(side * JOINT[0]) + t * np.float32(ax) + d * np.float32(nx)
        return f32(x), f32(np.float32(JOINT[1]) + t * np.float32(ay) + d * np.float32(ny))

    def distance(self, x: Float, y: Float) -> Float:
        """The whole garment: where the photo's mask is 1, but for the inside of the back."""
        field = self.torso(x, y)
        if self.garment.sleeve != "none":
            for side in (1, -1):
                field = self.join(field, self.sleeve(*self.to_sleeve(x, y, side)), x, y)
        return f32(field)

    def extent(self) -> tuple[float, float]:
        """Half-width and height of the flat garment, flat units."""
        g = self.garment
        (ax, ay), (nx, ny) = self.axis(1)
        tips = [
            (
                JOINT[0] + g.sleeve_length * ax + s * g.sleeve_end * nx,
                JOINT[1] + g.sleeve_length * ay + s * g.sleeve_end * ny,
            )
            for s in (-1, 1)
            if g.sleeve != "none"
        ]
        reach = max(g.chest, g.hem_width, g.tip, g.hip, *(p[0] for p in tips), 0.0)
        return reach, max(g.length, *(p[1] for p in tips), 0.0)
