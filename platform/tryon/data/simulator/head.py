"""Head, face and hair. Drawn in the head's own frame: origin at its middle, chin at y = 0.5, crown at -0.5."""

from __future__ import annotations

import math

import numpy as np

from tryon.data.simulator.dense import Piece
from tryon.data.simulator.figure import FigureSpec
from tryon.data.simulator.geometry import (
    Color,
    Float,
    Grid,
    capsule,
    coverage,
    ellipse,
    f32,
    mix,
    rotate,
    smooth_max,
    smoothstep,
)
from tryon.data.simulator.layers import Layer, Light, shade, tinted
from tryon.sample import Label

BACK_LENGTH = {"bob": 1.18, "long": 2.05, "long-front": 2.35, "ponytail": 1.75}  # y of the ends, heads below the crown


def _skull(figure: FigureSpec, x: Float, y: Float) -> Float:
    cranium = ellipse(x, y, 0.0, -0.10, 0.355, 0.40)
    jaw = ellipse(x, y, 0.0, 0.12, 0.262 + 0.045 * figure.jaw, 0.38)
    chin = ellipse(x, y, 0.0, 0.36, 0.13 + 0.06 * figure.jaw, 0.14)
    return smooth_max(smooth_max(cranium, jaw, 0.12), chin, 0.08)


def _spot(x: Float, y: Float, cx: float, cy: float, rx: float, ry: float) -> Float:
    return f32(np.exp(-(((x - np.float32(cx)) / np.float32(rx)) ** 2) - ((y - np.float32(cy)) / np.float32(ry)) ** 2))


def _face_height(figure: FigureSpec, x: Float, y: Float, fx: Float) -> Float:
    """Relief of the head: dome, brow, sockets, nose, cheeks, lips and chin; `fx` is x turned with the face."""
    skull = np.clip(1.0 - (x / 0.40) ** 2 - ((y + 0.02) / 0.58) ** 2, 0.0, 1.0)
    out = 0.36 * np.sqrt(skull)
    nose = np.exp(-((fx / 0.052) ** 2)) * smoothstep(-0.10, 0.17, y) * (1.0 - smoothstep(0.17, 0.23, y))
    out = out + 0.075 * nose + 0.022 * (_spot(fx, y, 0.05, 0.18, 0.035, 0.03) + _spot(fx, y, -0.05, 0.18, 0.035, 0.03))
    for side in (1, -1):
        out = out - 0.040 * _spot(fx, y, side * 0.15, -0.01, 0.10, 0.055)
        out = out + 0.020 * _spot(fx, y, side * 0.16, -0.10, 0.12, 0.04)
        out = out + 0.022 * _spot(fx, y, side * 0.18, 0.14, 0.10, 0.09)
    out = out + 0.020 * _spot(fx, y, 0.0, 0.42, 0.10, 0.06) - 0.014 * _spot(fx, y, 0.0, 0.355, 0.11, 0.025)
    return f32(out + 0.018 * _spot(fx, y, 0.0, 0.295, 0.10, 0.04) * (0.5 + 0.5 * figure.femininity))


def _paint(rgb: Float, color: Color | Float, field: Float, px: float, strength: float = 1.0) -> Float:
    return mix(rgb, color, f32(coverage(field, px) * np.float32(strength)))


def _eyes(figure: FigureSpec, rgb: Float, fx: Float, y: Float, px: float, brow: Color) -> Float:
    for side in (1, -1):
        cx, ex = side * 0.158, (fx - np.float32(side * 0.158)) * np.float32(side)
        lift = np.float32(0.012) * ex / 0.08
        lid = np.minimum(
            0.036 * (1 - (ex / 0.082) ** 2) - (y + 0.012 + lift) * -1.0,
            0.030 * (1 - (ex / 0.085) ** 2) - (y + 0.008 + lift),
        )
        eye = f32(np.minimum(lid, 0.082 - np.abs(ex)))
        rgb = _paint(rgb, (0.90, 0.88, 0.86), eye, px)
        iris = f32(0.037 - np.hypot(fx - np.float32(cx), y + np.float32(0.012)))
        rgb = _paint(rgb, figure.iris, np.minimum(iris, eye), px)
        rgb = _paint(rgb, (0.04, 0.03, 0.03), np.minimum(iris - 0.019, eye), px)
        glint = f32(0.009 - np.hypot(fx - np.float32(cx - 0.012), y + np.float32(0.026)))
        rgb = _paint(rgb, (1.0, 1.0, 1.0), glint, px, 0.9)
        lash = 0.010 + 0.007 * figure.femininity
        upper = f32(lash - np.abs(y + 0.012 + lift + 0.036 * (1 - (ex / 0.082) ** 2)))
        rgb = _paint(rgb, (0.08, 0.06, 0.06), np.minimum(upper, f32(0.092 - np.abs(ex))), px, 0.92)
        crease = f32(0.005 - np.abs(y + 0.047 + lift + 0.030 * (1 - (ex / 0.09) ** 2)))
        rgb = _paint(rgb, (0.30, 0.17, 0.13), np.minimum(crease, f32(0.085 - np.abs(ex))), px, 0.35)
        arch = y + np.float32(0.112) + np.float32(0.014) * (1 - ((ex - 0.015) / 0.11) ** 2)
        thick = (0.020 - 0.007 * figure.femininity) * (1.0 - 0.5 * np.clip(ex / 0.12, 0, 1))
        rgb = _paint(rgb, brow, np.minimum(f32(thick - np.abs(arch)), f32(0.115 - np.abs(ex - 0.01))), px, 0.85)
    return rgb


def _nose_and_mouth(figure: FigureSpec, rgb: Float, fx: Float, y: Float, px: float) -> Float:
    shadow = tuple(0.45 * v for v in figure.skin)
    for side in (1, -1):
        rgb = _paint(
            rgb, (shadow[0], shadow[1], shadow[2]), ellipse(fx, y, side * 0.030, 0.212, 0.018, 0.009), px, 0.75
        )
    half = 0.125 - 0.012 * figure.femininity + 0.02 * max(figure.smile, 0.0)
    u = fx / np.float32(half)
    curve = y - np.float32(0.292) + np.float32(0.030 * figure.smile) * u * u
    body = np.maximum(1 - u * u, 0.0)
    full = 0.85 + 0.35 * figure.femininity
    bow = 1.0 - 0.35 * np.exp(-((u / 0.14) ** 2))
    inside = half - np.abs(fx)
    upper = f32(np.minimum(np.minimum(curve + np.float32(0.026 * full) * body * bow, 0.004 - curve), inside))
    under = f32(np.minimum(np.minimum(np.float32(0.036 * full) * body - curve, curve + 0.004), inside))
    colour = mix(figure.skin, figure.lips, f32(np.full((1, 1), 0.35 + 0.45 * figure.femininity)))
    rgb = _paint(rgb, f32(colour * 0.86), upper, px, 0.9)
    rgb = _paint(rgb, colour, under, px, 0.9)
    parting = f32(np.minimum(0.006 - np.abs(curve), half * 0.97 - np.abs(fx)))
    return _paint(rgb, (0.25, 0.09, 0.09), parting, px, 0.8)


def face_layer(figure: FigureSpec, grid: Grid, light: Light) -> Layer:
    """Head with ears and face, without hair."""
    cx, cy = figure.head_centre
    window = grid.crop(cx - 0.6, cy - 0.65, cx + 0.6, cy + 0.62)
    x, y = rotate(window.x, window.y, (cx, cy), figure.head_tilt)
    turn = 0.36 * math.sin(figure.head_yaw)
    fx = f32((x - np.float32(turn * 0.9) * (1.0 - (x / 0.45) ** 2)) / np.float32(math.cos(figure.head_yaw)))
    skull = _skull(figure, x, y)
    ears = np.maximum(
        ellipse(x, y, -0.352 - turn * 0.15, 0.05, 0.050, 0.105), ellipse(x, y, 0.352 - turn * 0.15, 0.05, 0.050, 0.105)
    )
    height = _face_height(figure, x, y, fx)
    brightness = shade(height, window.px, light)
    brightness *= 0.90 + 0.10 * smoothstep(0.0, 0.05, np.maximum(skull, ears))
    skin = np.broadcast_to(f32(figure.skin), (*window.shape, 3))
    blush = 0.18 * (
        _spot(fx, y, 0.19, 0.13, 0.09, 0.07)
        + _spot(fx, y, -0.19, 0.13, 0.09, 0.07)
        + 0.6 * _spot(fx, y, 0, 0.16, 0.06, 0.05)
    )
    skin = mix(f32(skin), f32(skin * f32((1.0, 0.78, 0.74))), f32(blush))
    rgb = tinted(skin, brightness, light, skin=True)
    hair = figure.hair
    brow = (0.75 * hair[0], 0.72 * hair[1], 0.70 * hair[2])
    rgb = _nose_and_mouth(figure, _eyes(figure, rgb, fx, y, window.px, brow), fx, y, window.px)
    return Layer(window.window, coverage(np.maximum(skull, ears), window.px), rgb, Label.FACE)


def _strands(figure: FigureSpec, across: Float, along: Float) -> Float:
    """Brightness of strands: fine streaks with one soft highlight."""
    rng = np.random.Generator(np.random.PCG64(figure.detail_seed))
    out = np.ones(np.broadcast(across, along).shape, np.float32)
    for k in (17, 31, 53, 86):
        phase, sway = rng.uniform(0, 6.28, 2)
        out += np.float32(2.0 / (k + 10)) * np.sin(
            across * k + 0.6 * np.sin(along * 3 + np.float32(sway)) + np.float32(phase)
        )
    return f32(out)


def hair_back_layer(figure: FigureSpec, grid: Grid, light: Light) -> Layer | None:
    """Hair behind head and shoulders, if the style has any."""
    style = figure.hair_style
    cx, cy = figure.head_centre
    if style == "bun":
        window = grid.crop(cx - 0.5, cy - 0.95, cx + 0.5, cy)
        field = ellipse(window.x, window.y, cx, cy - 0.52, 0.19, 0.17)
        shape = f32(0.12 * np.sqrt(np.clip(field * 6, 0, 1)))
        across, along = f32(window.y - cy), f32(window.x - cx)
    elif style in BACK_LENGTH:
        end = BACK_LENGTH[style]
        window = grid.crop(cx - 0.9, cy - 0.6, cx + 0.9, end + 0.3)
        x, y = f32(window.x - cx), window.y
        narrow = 0.26 if style == "ponytail" else 0.0
        spread = (
            0.40
            - narrow
            + 0.14 * smoothstep(0.5, 1.3, y)
            - (0.10 if style == "bob" else 0.18) * smoothstep(end - 0.6, end, y)
        )
        ends = end + 0.04 * np.sin(x * 23) + 0.06 * np.cos(x * 4) - y
        curtain = np.minimum(
            spread + 0.015 * np.sin(y * 7) - np.abs(x - 0.12 * figure.head_yaw), np.minimum(ends, y - cy + 0.15)
        )
        field = np.maximum(f32(curtain), ellipse(x, y, 0.0, cy - 0.08, 0.41, 0.46))
        shape = f32(0.25 * np.sqrt(np.clip(1 - (x / 0.62) ** 2, 0, 1)) + 0 * y)
        across, along = x, f32(y)
    else:
        return None
    tone = shade(shape, window.px, light) * _strands(figure, across, along) * 0.78
    return Layer(window.window, coverage(f32(field), window.px), tinted(figure.hair, f32(tone), light), Label.HAIR)


def _cap(figure: FigureSpec, x: Float, y: Float) -> Float:
    """Field of the hair that frames the face."""
    style = figure.hair_style
    rng = np.random.Generator(np.random.PCG64(figure.detail_seed + 1))
    part = float(rng.choice((-0.14, 0.12, 0.0)))
    puff = {"crop": 0.012, "short": 0.045}.get(style, 0.06)
    outer = ellipse(x, y, 0.0, -0.10, 0.365 + puff, 0.41 + puff)
    u = x - np.float32(part)
    swoop = 0.5 if style in ("long", "long-front", "bob") else 0.25
    line = -0.36 + swoop * np.abs(u) ** 1.3 + 1.6 * np.maximum(np.abs(x) - 0.22, 0.0) ** 1.1
    if style == "short":
        line = line + 0.02 * np.sin(x * 31 + part * 40)
    side_end = {"crop": 0.02, "short": 0.08, "bun": 0.10, "ponytail": 0.10}.get(style, 0.75)
    face = f32(np.minimum((line - y) * 0.8, side_end - y))
    sides = np.minimum(
        np.abs(x) - np.float32(0.285 if side_end > 0.5 else 0.325) - 0.3 * np.maximum(y - 0.15, 0.0),
        np.float32(side_end) - y,
    )
    return f32(np.minimum(outer if side_end < 0.5 else _framed(outer, x, y), np.maximum(face, sides)))


def _framed(outer: Float, x: Float, y: Float) -> Float:
    """Lets the cap run down beside the face as straight hair."""
    fall = np.minimum(0.425 - 0.9 * np.minimum(y, 0.0) ** 2 - np.abs(x), np.minimum(0.60 - y, y + 0.30))
    return np.maximum(outer, f32(fall))


def hair_front_layers(figure: FigureSpec, grid: Grid, light: Light) -> list[Layer]:
    """Hair over the head and, for long hair worn to the front, the locks that fall over the shoulders."""
    if figure.hair_style == "bald":
        return []
    cx, cy = figure.head_centre
    window = grid.crop(cx - 0.6, cy - 0.7, cx + 0.6, cy + 0.8)
    x, y = rotate(window.x, window.y, (cx, cy), figure.head_tilt)
    field = _cap(figure, x, y)
    dome = 0.36 * np.sqrt(np.clip(1 - (x / 0.46) ** 2 - ((y + 0.08) / (0.52 + 0.4 * (y > -0.08))) ** 2, 0.02, 1))
    gloss = 1.0 + 0.20 * np.exp(-(((y + 0.30 - 0.3 * x * x) / 0.07) ** 2))
    tone = (
        shade(f32(dome), window.px, light)
        * _strands(figure, f32(x * (1.0 + 0.5 * y)), y)
        * gloss
        * (1.0 - 0.2 * smoothstep(0.1, 0.55, y))
    )
    layers = [Layer(window.window, coverage(field, window.px), tinted(figure.hair, f32(tone), light), Label.HAIR)]
    if figure.hair_style == "long-front":
        rng = np.random.Generator(np.random.PCG64(figure.detail_seed + 2))
        sides = ((1,), (-1,), (1, -1))[int(rng.integers(3))]
        layers += [_lock(figure, grid, light, side, float(rng.uniform(2.0, 2.55))) for side in sides]
    return layers


def _lock(figure: FigureSpec, grid: Grid, light: Light, side: int, end: float) -> Layer:
    """One lock from the temple over the shoulder."""
    cx, cy = figure.head_centre
    window = grid.crop(min(cx, cx + side * 0.9), cy, max(cx, cx + side * 0.9), end + 0.2)
    y = window.y
    middle = 0.345 + 0.14 * smoothstep(0.8, 1.6, y) + 0.025 * np.sin(y * 4.5)
    u = f32((window.x - cx) * side - middle)
    half = 0.03 * smoothstep(0.55, 0.8, y) + 0.125 * smoothstep(0.5, 1.2, y) - 0.13 * smoothstep(end - 0.7, end, y)
    field = f32(np.minimum(half - np.abs(u), np.minimum(end - y, y - 0.5)))
    shape = f32(0.16 * np.sqrt(np.clip(1 - (u / 0.17) ** 2, 0.02, 1)))
    tone = shade(shape, window.px, light) * _strands(figure, u, f32(y + 0 * u)) * (1.0 + 0.10 * np.sin(y * 4.5 + 1))
    return Layer(window.window, coverage(field, window.px), tinted(figure.hair, f32(tone), light), Label.HAIR)


def head_piece(figure: FigureSpec, grid: Grid) -> Piece:
    """The head's parts of the dense map: its right and left half, without hair."""
    cx, cy = figure.head_centre
    window = grid.crop(cx - 0.6, cy - 0.65, cx + 0.6, cy + 0.62)
    x, y = rotate(window.x, window.y, (cx, cy), figure.head_tilt)
    middle = np.float32(0.36 * math.sin(figure.head_yaw) * 0.9)
    part = np.where(x > middle, 24, 23).astype(np.uint8)
    return Piece.flat(window, coverage(_skull(figure, x, y), window.px), part, x, f32(y + 0.52), 0.42, 1.04)


def head_shadow(figure: FigureSpec, grid: Grid) -> Float:
    """Coverage of the head alone, for the shadow it throws on neck and chest."""
    cx, cy = figure.head_centre
    return coverage(capsule(grid.x, grid.y, (cx, cy), (cx, cy + 0.12), 0.36, 0.30), grid.px)
