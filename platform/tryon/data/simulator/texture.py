"""The garment's cloth: colour at flat points, for plain, striped, checked, printed and text garments."""

from __future__ import annotations

import functools
from collections.abc import Callable

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tryon.data.simulator.garment import ClothSpec
from tryon.data.simulator.geometry import Float, coverage, f32, mix, rgb3, smoothstep

CANVAS_PX = 768  # side of the canvas that words and logos are drawn on, before it is shrunk to fit
GRAPHIC_CENTRE_Y = 0.98  # flat y of a chest graphic's middle


def cloth(garment: ClothSpec, x: Float, y: Float, px: float) -> Float:
    """Unlit colour of the cloth.

    Args:
        garment: whose texture.
        x: (H, W) or (1, W) texture coordinate across the trunk or the sleeve, flat units.
        y: (H, W) or (H, 1) texture coordinate down the trunk or along the sleeve.
        px: flat units a pixel.

    Returns:
        (H, W, 3), 0..1, newly made.
    """
    ground = np.empty((*np.broadcast_shapes(x.shape, y.shape), 3), np.float32)
    ground[:] = f32(garment.color)
    return f32(_PAINTERS[garment.texture](garment, ground, x, y, px))


def _plain(garment: ClothSpec, ground: Float, x: Float, y: Float, px: float) -> Float:
    if garment.motif < 3:
        return ground
    # A melange: thin strands of a lighter and a darker thread that no lens resolves into a pattern.
    weave = np.sin(x * 61 + 3 * np.sin(y * 9)) * np.sin(y * 83 + 2 * np.sin(x * 13))
    fade = np.float32(0.022 * min(1.0, 0.02 / px))
    return f32(ground * (1.0 + fade * rgb3(weave)))


def _wave(phase: Float, share: float, px: float) -> Float:
    """Anti-aliased stripes: 1 on `share` of each unit period; `px` is the period's length a pixel."""
    offset = np.abs(phase - np.floor(phase) - np.float32(0.5))
    return coverage(f32(np.float32(share / 2) - offset), px)


def _striped(garment: ClothSpec, ground: Float, x: Float, y: Float, px: float) -> Float:
    c, s = np.cos(garment.angle), np.sin(garment.angle)
    phase = f32((y * np.float32(c) + x * np.float32(s)) / np.float32(garment.scale))
    step = px / garment.scale
    share = (0.5, 0.35, 0.2, 0.5, 0.3, 0.14)[garment.motif]
    out = mix(ground, f32(garment.accent), _wave(phase, share, step))
    if garment.motif >= 4:
        out = mix(out, f32(garment.accent2), _wave(f32(phase + 0.35), 0.10, step))
    return out


def _checked(garment: ClothSpec, ground: Float, x: Float, y: Float, px: float) -> Float:
    size = garment.scale * 1.15
    step = px / size
    u, v = f32(x / np.float32(size)), f32(y / np.float32(size))
    if garment.motif < 3:  # gingham: two sets of half-transparent bands
        across = 0.5 * (_wave(u, 0.5, step) + _wave(v, 0.5, step))
        return mix(ground, f32(garment.accent), f32(across))
    out = mix(ground, f32(garment.accent), f32(0.55 * _wave(u, 0.45, step)))
    out = mix(out, f32(garment.accent), f32(0.55 * _wave(v, 0.45, step)))
    out = mix(out, f32(garment.accent2), f32(0.85 * _wave(f32(u + 0.5), 0.07, step)))
    return mix(out, f32(garment.accent2), f32(0.85 * _wave(f32(v + 0.5), 0.07, step)))


def _shape(kind: int, u: Float, v: Float, size: float) -> Float:
    """Distance field of a small motif around the origin: dot, ring, star, flower, diamond or leaf."""
    r = np.sqrt(u * u + v * v)
    a = np.arctan2(v, u)
    if kind == 0:
        return f32(size - r)
    if kind == 1:
        return f32(0.22 * size - np.abs(r - 0.75 * size))
    if kind == 2:
        return f32((size * (0.72 + 0.30 * np.cos(5 * a + np.pi / 2)) - r) * 0.8)
    if kind == 3:
        return f32((size * (0.75 + 0.28 * np.cos(6 * a)) - r) * 0.8)
    if kind == 4:
        return f32((size - np.abs(u) - np.abs(v)) * 0.7)
    return f32((size * (0.25 + 0.75 * np.abs(np.cos(a))) - r) * 0.7)


def _printed(garment: ClothSpec, ground: Float, x: Float, y: Float, px: float) -> Float:
    if garment.motif % 2 == 1:
        return _graphic(garment, ground, x, y, px)
    cell = 0.20 + 0.6 * garment.scale
    row = np.floor(y / np.float32(cell))
    u = x / np.float32(cell) + np.float32(0.5) * np.mod(row, 2)
    col = np.floor(u)
    # A cheap hash turns each motif and picks its colour; the pattern never repeats visibly.
    mark = np.mod(np.sin(row * 12.9898 + col * 78.233 + garment.detail_seed % 97) * 4375.85, 1.0)
    du, dv = (u - col - 0.5) * np.float32(cell), y - (row + 0.5) * np.float32(cell)
    turn = mark * np.float32(6.283)
    c, s = np.cos(turn), np.sin(turn)
    kind = (0, 3, 2, 5, 4, 1)[(garment.motif // 2 + garment.detail_seed) % 6]
    cover = coverage(_shape(kind, f32(du * c + dv * s), f32(dv * c - du * s), cell * 0.30), px)
    second = (mark > 0.6).astype(np.float32)
    paint = mix(f32(garment.accent), f32(garment.accent2), f32(second))
    out = mix(ground, paint, cover)
    if kind == 3:
        out = mix(out, ground, f32(coverage(_shape(0, f32(du), f32(dv), cell * 0.09), px)))
    return out


def _paste(ground: Float, ink: Float, color: Float, x: Float, y: Float, half: float, px: float) -> Float:
    """Lays an ink canvas, (S, S) of 0..1, over the square |x| < half, |y - centre| < half."""
    size = int(np.clip(2 * half / px, 8, CANVAS_PX))
    small = cv2.resize(ink, (size, size), interpolation=cv2.INTER_AREA)
    shape = ground.shape[:2]
    map_x = f32(np.broadcast_to((x + np.float32(half)) * np.float32(size / (2 * half)) - np.float32(0.5), shape))
    top = np.float32(GRAPHIC_CENTRE_Y - half)
    map_y = f32(np.broadcast_to((y - top) * np.float32(size / (2 * half)) - np.float32(0.5), shape))
    cover = cv2.remap(small, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=(0.0,))
    return mix(ground, color, f32(cover))


def _graphic(garment: ClothSpec, ground: Float, x: Float, y: Float, px: float) -> Float:
    """A chest print: sun over hills, mountain, or nested rings in the two accent colours."""
    v = y - np.float32(GRAPHIC_CENTRE_Y)
    r = np.sqrt(x * x + v * v)
    disc = f32(0.40 - r)
    out = mix(ground, f32(garment.accent), coverage(disc, px))
    if garment.motif == 1:
        hills = f32(v - 0.10 - 0.07 * np.sin(x * 9 + garment.detail_seed % 6))
        out = mix(out, f32(garment.accent2), coverage(f32(np.minimum(hills * 0.8, disc - 0.03)), px))
        return mix(out, ground, coverage(f32(0.10 - np.sqrt((x - 0.1) ** 2 + (v + 0.15) ** 2)), px))
    if garment.motif == 3:
        peak = f32(np.minimum((v + 0.24 - np.abs(x - 0.05) * 1.3) * 0.6, disc - 0.03))
        snow = f32(np.minimum(peak, -0.10 - v + 0.03 * np.sin(x * 40)))
        return mix(mix(out, f32(garment.accent2), coverage(peak, px)), f32((0.96, 0.96, 0.96)), coverage(snow, px))
    for radius in (0.33, 0.20):
        out = mix(out, f32(garment.accent2), coverage(f32(0.035 - np.abs(r - radius)), px))
    return mix(out, f32(garment.accent2), coverage(f32(0.09 - r), px))


@functools.lru_cache(maxsize=16)
def _word_canvas(word: str) -> Float:
    """Draws a word as large as the canvas allows; (S, S) of 0..1."""
    image = Image.new("L", (CANVAS_PX, CANVAS_PX))
    draw = ImageDraw.Draw(image)
    lines = word.split(" ")
    longest = max(lines, key=len)
    probe = ImageFont.load_default(100)
    width = draw.textlength(longest, font=probe)
    font = ImageFont.load_default(min(92.0 * CANVAS_PX / width, 0.85 * CANVAS_PX / len(lines)))
    middle = (CANVAS_PX / 2, CANVAS_PX / 2)
    draw.multiline_text(middle, "\n".join(lines), fill=255, font=font, anchor="mm", align="center", stroke_width=9)
    return f32(np.asarray(image)) / np.float32(255)


def _text(garment: ClothSpec, ground: Float, x: Float, y: Float, px: float) -> Float:
    half = 0.46
    out = ground
    v = y - np.float32(GRAPHIC_CENTRE_Y)
    if garment.motif in (2, 4):  # on a label
        label = f32(np.minimum(half + 0.05 - np.abs(x), 0.26 - np.abs(v)))
        out = mix(out, f32(garment.accent), coverage(label, px))
        return _paste(out, _word_canvas(garment.word), f32(garment.color), x, y, half * 0.85, px)
    if garment.motif == 5:  # between two bars
        bars = f32(np.minimum(0.018 - np.abs(np.abs(v) - 0.30), half - np.abs(x)))
        out = mix(out, f32(garment.accent2), coverage(bars, px))
    return _paste(out, _word_canvas(garment.word), f32(garment.accent), x, y, half, px)


def crease_shade(seed: int, x: Float, y: Float) -> Float:
    """Faint creases of a garment laid flat: a factor near 1."""
    rng = np.random.Generator(np.random.PCG64(seed))
    shade = np.zeros(np.broadcast(x, y).shape, np.float32)
    for _ in range(5):
        kx, ky = rng.uniform(-2.2, 2.2, 2)
        phase = rng.uniform(0, 6.28)
        wave = np.sin(x * np.float32(kx * 1.6) + y * np.float32(ky) + np.float32(phase))
        shade += wave * wave * wave
    return f32(1.0 + 0.012 * shade - 0.03 * smoothstep(0.2, 2.6, y))


_PAINTERS: dict[str, Callable[[ClothSpec, Float, Float, Float, float], Float]] = {
    "plain": _plain,
    "striped": _striped,
    "checked": _checked,
    "printed": _printed,
    "text": _text,
}
