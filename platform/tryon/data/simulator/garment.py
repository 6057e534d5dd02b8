"""What all garments have: their cloth, and the flat pattern that is photographed and worn.

Flat coordinates: x = 0 is the middle and y points down from the top of the garment (the high shoulder point of a
top or dress, the waist of a lower garment); the unit is a head of a figure of average width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, Protocol, TypedDict, get_args

import numpy as np

from tryon.config import Category
from tryon.data.simulator.geometry import Color, Float, Grid, coverage, f32, make_grid, rgb3, support

TextureKind = Literal["plain", "striped", "checked", "printed", "text"]
TEXTURES: tuple[TextureKind, ...] = get_args(TextureKind)

# Ground colours: what a shop rail holds, muted and clear ones mixed.
COLORS: tuple[Color, ...] = (
    (0.93, 0.92, 0.90), (0.16, 0.17, 0.19), (0.56, 0.57, 0.58), (0.16, 0.22, 0.38), (0.30, 0.45, 0.62),
    (0.68, 0.80, 0.88), (0.72, 0.20, 0.20), (0.84, 0.45, 0.36), (0.93, 0.75, 0.72), (0.90, 0.72, 0.33),
    (0.24, 0.40, 0.32), (0.55, 0.62, 0.44), (0.44, 0.26, 0.38), (0.70, 0.58, 0.74), (0.52, 0.36, 0.25),
    (0.87, 0.80, 0.68), (0.10, 0.42, 0.45), (0.86, 0.32, 0.45),
)  # fmt: skip
USUAL_FILL = 0.90
WORDS = ("RAY", "HELLO", "LOOM", "NORTH", "STUDIO", "COAST", "1984", "ATLAS", "GOOD DAY", "WARP", "SUNDAY", "No. 7")


@dataclass(frozen=True)
class ClothSpec:
    """The cloth of a garment and how its photo is taken.

    Attributes:
        texture: kind of texture.
        color: ground, RGB 0..1.
        accent: second colour, RGB 0..1.
        accent2: third colour, RGB 0..1.
        trim: colour of bands and cuffs, RGB 0..1.
        scale: size of the pattern's repeat, flat units.
        angle: of stripes, radians; 0 is level.
        motif: which motif of its kind, 0..5.
        word: what a text garment says.
        paper: brightness of the photo's ground, 0..1.
        turn: of the garment in the photo, radians.
        detail_seed: seeds creases and the scatter of motifs.
        fill: share of the photo's width or height that the garment takes.
    """

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
    fill: float


class ClothValues(TypedDict):
    """Fields of a `ClothSpec`, to build the specification of a garment with."""

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
    fill: float


class FlatPattern(Protocol):
    """The flat shape of a garment and its colours; distance fields are positive inside, in flat units."""

    @property
    def cloth(self) -> ClothSpec:
        """Its cloth."""

    @property
    def category(self) -> Category:
        """What it is tried on as."""

    def extent(self) -> tuple[float, float]:
        """Half-width and height of the flat garment, flat units."""

    def paint(self, x: Float, y: Float, px: float) -> tuple[Float, Float]:
        """Unlit colour (H, W, 3), continued past the edges, and distance field (H, W) at flat points."""

    def inside(self, x: Float, y: Float, px: float) -> tuple[Float, Float] | None:
        """Colour and coverage of the garment's inside where the photo shows it; None where it never does."""


def placement(pattern: FlatPattern, height: int, width: int) -> Grid:
    """The photo's grid in flat coordinates, the garment centred."""
    reach, bottom = pattern.extent()
    scale = pattern.cloth.fill * min(width / (2 * reach), height / bottom)
    return make_grid(height, width, scale, width / 2, height / 2 - scale * bottom / 2)


def stitch(rgb: Float, field: Float, px: float, where: Float, depth: float = 0.10) -> None:
    """Darkens a seam along the zero line of a field, in place."""
    line = coverage(f32(0.008 - np.abs(field)), max(px, 0.010)) * where
    rows, cols = support(line)
    rgb[rows, cols] *= 1.0 - np.float32(depth) * rgb3(line[rows, cols])


def sample_color(rng: np.random.Generator, colors: tuple[Color, ...] = COLORS) -> Color:
    """One of the colours, varied."""
    base = np.array(colors[int(rng.integers(len(colors)))])
    r, g, b = np.clip(base + rng.uniform(-0.05, 0.05, 3), 0.04, 0.96)
    return float(r), float(g), float(b)


def _contrasting(rng: np.random.Generator, ground: Color) -> Color:
    """A colour whose brightness differs from the ground's by at least 0.25."""
    for _ in range(20):
        color = sample_color(rng)
        if abs(sum(color) - sum(ground)) > 0.75:
            return color
    return (0.95, 0.94, 0.92) if sum(ground) < 1.5 else (0.12, 0.13, 0.16)


def sample_cloth(
    rng: np.random.Generator, shares: tuple[float, ...] = (0.24, 0.22, 0.16, 0.22, 0.16), ground: Color | None = None
) -> ClothValues:
    """Draws a cloth; `shares` are those of TEXTURES."""
    ground = ground or sample_color(rng)
    accent = _contrasting(rng, ground)
    return ClothValues(
        texture=TEXTURES[int(rng.choice(5, p=shares))],
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
        fill=USUAL_FILL,
    )
