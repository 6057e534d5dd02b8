"""The garment: its specification, its flat pattern as distance fields, and where it lies in its photo.

Flat coordinates: x = 0 is the middle, y = 0 the high shoulder point, y down; the unit is a head of a figure
with a shoulder half-width of 0.80 heads. A sleeve has its own coordinates: t along its axis from the
shoulder joint, d across it, outwards positive.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import numpy as np

from tryon.data.simulator.figure import FOREARM, UPPER_ARM
from tryon.data.simulator.geometry import Color, Float, Grid, Point, ellipse, f32, make_grid, smooth_max, spline

Sleeve = Literal["none", "cap", "short", "elbow", "three-quarter", "long"]
Neckline = Literal["crew", "v", "scoop", "boat"]
Fit = Literal["slim", "regular", "loose"]
Hem = Literal["straight", "curved", "flared"]
TextureKind = Literal["plain", "striped", "checked", "printed", "text"]

SLEEVES: tuple[Sleeve, ...] = get_args(Sleeve)
NECKLINES: tuple[Neckline, ...] = get_args(Neckline)
TEXTURES: tuple[TextureKind, ...] = get_args(TextureKind)

SLEEVE_LENGTH: dict[Sleeve, float] = {
    "none": 0.0, "cap": 0.66, "short": 0.92, "elbow": 1.32, "three-quarter": 1.85, "long": UPPER_ARM + FOREARM - 0.03,
}  # fmt: skip
UNDERARM = 0.74  # flat y of the underarm point
JOINT: Point = (0.76, 0.36)  # flat position of the shoulder joint

# Ground colours: what a shop rail holds, muted and clear ones mixed.
COLORS: tuple[Color, ...] = (
    (0.93, 0.92, 0.90), (0.16, 0.17, 0.19), (0.56, 0.57, 0.58), (0.16, 0.22, 0.38), (0.30, 0.45, 0.62),
    (0.68, 0.80, 0.88), (0.72, 0.20, 0.20), (0.84, 0.45, 0.36), (0.93, 0.75, 0.72), (0.90, 0.72, 0.33),
    (0.24, 0.40, 0.32), (0.55, 0.62, 0.44), (0.44, 0.26, 0.38), (0.70, 0.58, 0.74), (0.52, 0.36, 0.25),
    (0.87, 0.80, 0.68), (0.10, 0.42, 0.45), (0.86, 0.32, 0.45),
)  # fmt: skip
WORDS = ("RAY", "HELLO", "LOOM", "NORTH", "STUDIO", "COAST", "1984", "ATLAS", "GOOD DAY", "WARP", "SUNDAY", "No. 7")


@dataclass(frozen=True)
class GarmentSpec:
    """An upper garment.

    Attributes:
        sleeve: sleeve length.
        neckline: shape of the neckline.
        fit: how loosely it falls.
        hem: shape of the lower edge.
        neck_width: half-width of the neckline, flat units.
        neck_depth: depth of the neckline, flat units.
        tip: distance of the shoulder seam from the middle, flat units.
        chest: half-width at the underarm, flat units.
        waist: half-width at the waist, flat units.
        hem_width: half-width at the hem, flat units.
        length: flat y of the hem in the middle.
        sleeve_length: along the sleeve's axis from the shoulder joint; 0 for none.
        sleeve_top: half-width of the sleeve at the underarm.
        sleeve_end: half-width of the sleeve at the cuff.
        sleeve_angle: of the flat sleeve against the vertical, radians.
        tucked: worn under the lower clothes.
        inside_back: the photo shows the inside of the back below the neckline.
        texture: kind of texture.
        color: ground, RGB 0..1.
        accent: second colour, RGB 0..1.
        accent2: third colour, RGB 0..1.
        trim: colour of neckband and cuffs, RGB 0..1.
        scale: size of the pattern's repeat, flat units.
        angle: of stripes, radians; 0 is level.
        motif: which motif of its kind, 0..5.
        word: what a text garment says.
        paper: brightness of the photo's ground, 0..1.
        turn: of the garment in the photo, radians.
        detail_seed: seeds creases and the scatter of motifs.
    """

    sleeve: Sleeve
    neckline: Neckline
    fit: Fit
    hem: Hem
    neck_width: float
    neck_depth: float
    tip: float
    chest: float
    waist: float
    hem_width: float
    length: float
    sleeve_length: float
    sleeve_top: float
    sleeve_end: float
    sleeve_angle: float
    tucked: bool
    inside_back: bool
    texture: TextureKind
    color: Color
    accent: Color
    accent2: Color
    trim: Color
    scale: float
    angle: float
    motif: int
    word: str
    paper: float
    turn: float
    detail_seed: int


class Pattern:
    """The flat shape of a garment: distance fields, positive inside, in flat units."""

    def __init__(self, garment: GarmentSpec) -> None:
        self.garment = garment

    def slope(self, ax: Float) -> Float:
        """Flat y of the shoulder seam at a distance from the middle."""
        g = self.garment
        u = (ax - np.float32(g.neck_width)) * np.float32(1.0 / max(g.tip - g.neck_width, 0.15))
        return f32(0.25 * (np.clip(u, 0.0, 1.0) + 0.3 * np.clip(u - 1.0, 0.0, 1.0)))

    def half_width(self, y: Float) -> Float:
        """Half-width that a full trunk map spans: the side seam, and above the underarm the shoulder."""
        g = self.garment
        top = max(g.tip + 0.04, g.chest)
        knots = (-0.2, 0.25, UNDERARM, 1.5, g.length, g.length + 0.5)
        return spline(y, knots, (top, top, g.chest, g.waist, g.hem_width, g.hem_width), 0.1)

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
        field = np.minimum(side - ax, (y - self.slope(ax)) * 0.92)
        field = np.minimum(field, self.hem_y(x) - y)
        return f32(np.minimum(field, -self.neck_hole(x, y)))

    def hem_y(self, x: Float) -> Float:
        """Flat y of the hem."""
        g = self.garment
        bow = {"straight": 0.02, "flared": -0.05, "curved": 0.16}[g.hem]
        return f32(np.float32(g.length) - np.float32(bow) * (x / np.float32(g.hem_width)) ** 2)

    def neck_hole(self, x: Float, y: Float) -> Float:
        """The neckline's opening, positive inside it."""
        g = self.garment
        below = np.maximum(y, 0.0)
        if g.neckline == "v":
            lean = math.hypot(g.neck_width, g.neck_depth)
            ax = np.abs(x)
            edge = g.neck_width * g.neck_depth - below * g.neck_width - ax * g.neck_depth
            return f32(edge * np.float32(1.0 / lean))
        return ellipse(x, below, 0.0, 0.0, g.neck_width, g.neck_depth)

    def sleeve_half_width(self, t: Float) -> Float:
        """Half-width of the flat sleeve at a length along its axis."""
        g = self.garment
        knots = (-0.4, 0.30, max(g.sleeve_length, 0.45))
        return f32(np.interp(t, knots, (g.sleeve_top, g.sleeve_top, g.sleeve_end)))

    def sleeve(self, t: Float, d: Float) -> Float:
        """Sleeve panel from its own coordinates; nothing for a sleeveless garment."""
        if self.garment.sleeve == "none":
            return f32(np.full(np.broadcast(t, d).shape, -9.0))
        field = np.minimum(self.sleeve_half_width(t) - np.abs(d), np.float32(self.garment.sleeve_length) - t)
        return f32(np.minimum(field, t + 0.22 + 0.0 * d))

    def join(self, torso: Float, sleeve: Float, x: Float, y: Float) -> Float:
        """Sews a sleeve to the trunk: its cap rounded off below the shoulder line, the armpit filleted."""
        line = f32((y - self.slope(np.abs(x)) + 0.015) * 0.92)
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

    def placement(self, height: int, width: int) -> Grid:
        """The photo's grid in flat coordinates, the garment centred and filling most of the frame."""
        g = self.garment
        (ax, ay), (nx, ny) = self.axis(1)
        tips = [
            (
                JOINT[0] + g.sleeve_length * ax + s * g.sleeve_end * nx,
                JOINT[1] + g.sleeve_length * ay + s * g.sleeve_end * ny,
            )
            for s in (-1, 1)
        ]
        reach = max(g.chest, g.hem_width, g.tip, *(p[0] for p in tips if g.sleeve != "none"), 0.0)
        bottom = max(g.length, *(p[1] for p in tips if g.sleeve != "none"), 0.0)
        scale = min(0.90 * width / (2 * reach), 0.90 * height / bottom)
        return make_grid(height, width, scale, width / 2, height / 2 - scale * bottom / 2)


def _color(rng: np.random.Generator) -> Color:
    base = np.array(COLORS[int(rng.integers(len(COLORS)))])
    r, g, b = np.clip(base + rng.uniform(-0.05, 0.05, 3), 0.04, 0.96)
    return float(r), float(g), float(b)


def _contrasting(rng: np.random.Generator, ground: Color) -> Color:
    """A colour whose brightness differs from the ground's by at least 0.25."""
    for _ in range(20):
        color = _color(rng)
        if abs(sum(color) - sum(ground)) > 0.75:
            return color
    return (0.95, 0.94, 0.92) if sum(ground) < 1.5 else (0.12, 0.13, 0.16)


def sample_garment(rng: np.random.Generator) -> GarmentSpec:
    """Draws a garment: six sleeve lengths, four necklines, three fits, five kinds of texture."""
    sleeve = SLEEVES[int(rng.choice(6, p=(0.14, 0.07, 0.32, 0.10, 0.12, 0.25)))]
    neckline = NECKLINES[int(rng.choice(4, p=(0.42, 0.24, 0.20, 0.14)))]
    fit: Fit = ("slim", "regular", "loose")[int(rng.choice(3, p=(0.35, 0.40, 0.25)))]
    hem: Hem = ("straight", "curved", "flared")[int(rng.choice(3, p=(0.6, 0.22, 0.18)))]
    width, depth = {"crew": (0.33, 0.27), "v": (0.35, 0.56), "scoop": (0.42, 0.47), "boat": (0.52, 0.20)}[neckline]
    chest, waist, end = {"slim": (0.82, 0.70, 0.80), "regular": (0.90, 0.86, 0.92), "loose": (1.02, 1.02, 1.06)}[fit]
    top = {"slim": 0.27, "regular": 0.30, "loose": 0.36}[fit]
    length = SLEEVE_LENGTH[sleeve] * float(rng.uniform(0.95, 1.04 if sleeve != "long" else 1.0))
    taper = {"none": 1.0, "cap": 1.0, "short": 0.95, "elbow": 0.85, "three-quarter": 0.66, "long": 0.5}[sleeve]
    ground = _color(rng)
    texture = TEXTURES[int(rng.choice(5, p=(0.24, 0.22, 0.16, 0.22, 0.16)))]
    accent = _contrasting(rng, ground)
    return GarmentSpec(
        sleeve=sleeve,
        neckline=neckline,
        fit=fit,
        hem=hem,
        neck_width=width * float(rng.uniform(0.96, 1.06)),
        neck_depth=depth * float(rng.uniform(0.90, 1.12)),
        tip=(0.74 if sleeve == "none" else {"slim": 0.84, "regular": 0.87, "loose": 0.92}[fit])
        + float(rng.uniform(-0.02, 0.02)),
        chest=chest * float(rng.uniform(0.98, 1.03)),
        waist=waist * float(rng.uniform(0.96, 1.03)),
        hem_width=end * float(rng.uniform(0.97, 1.03)) + (0.16 if hem == "flared" else 0.0),
        length=float(rng.uniform(2.22, 2.75)) + (0.1 if fit == "loose" else 0.0),
        sleeve_length=length,
        sleeve_top=top * float(rng.uniform(0.97, 1.05)),
        sleeve_end=top * taper * float(rng.uniform(0.95, 1.1)),
        sleeve_angle=float(rng.uniform(0.36, 0.55) if length < 1.0 else rng.uniform(0.27, 0.40)),
        tucked=bool(rng.uniform() < 0.18 and fit != "loose"),
        inside_back=bool(rng.uniform() < 0.6),
        texture=texture,
        color=ground,
        accent=accent,
        accent2=_contrasting(rng, accent),
        trim=accent if rng.uniform() < 0.25 else ground,
        scale=float(np.exp(rng.uniform(np.log(0.10), np.log(0.34)))),
        angle=float(rng.choice((0.0, 0.0, 0.0, math.pi / 2, math.pi / 4))),
        motif=int(rng.integers(6)),
        word=WORDS[int(rng.integers(len(WORDS)))],
        paper=float(rng.uniform(0.90, 1.0)),
        turn=float(rng.normal(0.0, 0.012)),
        detail_seed=int(rng.integers(2**31)),
    )
