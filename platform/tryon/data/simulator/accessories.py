"""Accessories: belt, bag on a strap, scarf, sunglasses, hat."""

from __future__ import annotations

import math

import numpy as np

from tryon.data.simulator.body import half_width, shoulder_line
from tryon.data.simulator.figure import FigureSpec
from tryon.data.simulator.geometry import (
    Color,
    Float,
    Grid,
    Point,
    capsule,
    coverage,
    ellipse,
    f32,
    paint_into,
    rgb3,
    rotate,
    smooth_max,
    smoothstep,
)
from tryon.data.simulator.layers import Layer, Light, shade, tinted
from tryon.sample import Label


def _solid(window: Grid, field: Float, color: Color, light: Light, radius: float) -> tuple[Float, Float]:
    """Colour and coverage of a rounded shape."""
    f = np.clip(field, 0.0, radius)
    height = np.sqrt(f * (2.0 * radius - f))
    return tinted(color, shade(f32(height), window.px, light), light), coverage(field, window.px)


def belt_layer(figure: FigureSpec, grid: Grid, light: Light, top_y: float) -> Layer | None:
    """A belt around the waist; `top_y` is its upper edge, heads."""
    color = figure.outfit.belt
    if color is None:
        return None
    reach = figure.hip + 0.3
    window = grid.crop(-reach, top_y - 0.1, reach, top_y + 0.3)
    dx = window.x - figure.centre(top_y)
    half = half_width(figure, window.y) + 0.035
    s = np.clip(dx / half, -1, 1)
    bow = np.float32(0.03) * (1.0 - s * s)
    field = np.minimum(0.068 - np.abs(window.y - np.float32(top_y + 0.075) - bow), half - np.abs(dx))
    height = 0.4 * np.sqrt(np.maximum(1 - s * s, 0)) + 0.02 * np.sqrt(np.clip(field * 12, 0, 1))
    rgb = tinted(color, shade(f32(height), window.px, light), light)
    turn = 0.45 * math.sin(figure.yaw) * figure.waist
    bx, by = dx - np.float32(turn), window.y - np.float32(top_y + 0.105)
    outer = np.minimum(0.085 - np.abs(bx), 0.070 - np.abs(by))
    ring = f32(np.minimum(outer, 0.024 - outer))
    paint_into(rgb, tinted((0.78, 0.68, 0.46), f32(np.full_like(ring, 1.05)), light), coverage(ring, window.px))
    return Layer(window.window, coverage(f32(field), window.px), rgb, Label.BELT, shaded=True, cloth=True)


def bag_layers(figure: FigureSpec, grid: Grid, light: Light) -> list[Layer]:
    """A strap across the trunk, and the bag at the hip."""
    color, side = figure.outfit.bag, figure.outfit.bag_side
    if color is None:
        return []
    start: Point = (figure.centre(1.4) - side * figure.shoulder * 0.56, 1.42)
    end: Point = (figure.centre(3.3) + side * (figure.hip + 0.02), 3.28)
    window = grid.around((start, end, (end[0] + side * 0.25, end[1] + 0.62)), 0.15)
    top = shoulder_line(figure, np.abs(window.x - figure.centre(1.4)))
    # The strap follows the chest: a shallow arc.
    mid: Point = (0.5 * (start[0] + end[0]) + side * 0.07, 0.5 * (start[1] + end[1]) - 0.05)
    strap = np.maximum(
        capsule(window.x, window.y, start, mid, 0.035, 0.036), capsule(window.x, window.y, mid, end, 0.036, 0.035)
    )
    strap = np.minimum(strap, window.y - top + np.float32(0.05))
    strap_rgb, strap_cover = _solid(window, f32(strap), color, light, 0.04)
    bx, by = end[0] + side * 0.05, end[1] + 0.30
    w, h = 0.27, 0.23
    box = -smooth_max(f32(np.abs(window.x - bx) - w), f32(np.abs(window.y - by) - h), 0.10)
    bag_rgb, bag_cover = _solid(window, f32(box), color, light, 0.10)
    flap = f32(np.minimum(box - 0.02, by + 0.03 - window.y - 0.08 * np.abs(window.x - bx)))
    bag_rgb *= rgb3(1.0 - 0.35 * coverage(f32(0.010 - np.abs(flap)), max(window.px, 0.012)))
    clasp = coverage(f32(0.028 - np.hypot(window.x - bx, window.y - (by + 0.03))), window.px)
    paint_into(bag_rgb, f32((0.80, 0.70, 0.46)), clasp)
    return [
        Layer(window.window, strap_cover, strap_rgb, Label.BAG, shaded=True, cloth=True),
        Layer(window.window, bag_cover, bag_rgb, Label.BAG, shaded=True, cloth=True),
    ]


def scarf_layers(figure: FigureSpec, grid: Grid, light: Light) -> list[Layer]:
    """A scarf wound around the neck, one end hanging."""
    color = figure.outfit.scarf
    if color is None:
        return []
    rng = np.random.Generator(np.random.PCG64(figure.detail_seed + 9))
    cx, side, end = figure.centre(1.4), int(rng.choice((-1, 1))), float(rng.uniform(2.5, 3.1))
    window = grid.crop(cx - 0.75, 0.95, cx + 0.75, end + 0.15)
    x, y = f32(window.x - cx), window.y
    ring = ellipse(x, y, 0.0, 1.43, figure.neck + 0.25, 0.27)
    ring = np.minimum(ring, y - np.float32(1.20) - 0.09 * (1.0 - (x / np.float32(figure.neck + 0.1)) ** 2))
    hang_x = side * (0.16 + 0.05 * (y - 1.4)) - x
    hang = np.minimum(0.165 + 0.01 * np.sin(y * 5) - np.abs(hang_x), np.minimum(y - 1.4, end - y))
    field = smooth_max(ring, f32(hang), 0.06)
    wraps = np.sin((y - 0.55 * x * x + 0.22 * x * side) * np.float32(27) + np.sin(x * 5)) * (ring > 0)
    drops = np.sin(hang_x * np.float32(38) + np.sin(y * 3)) * (hang > 0) * (ring < 0.02)
    f = np.clip(field, 0, 0.10)
    height = np.sqrt(f * (0.20 - f)) * 0.9 + 0.022 * wraps + 0.012 * drops
    rgb = tinted(color, shade(f32(height), window.px, light), light)
    stripe = coverage(f32(0.05 - np.abs(y - np.float32(end - 0.22)) + 0 * x), window.px) * (hang > 0)
    rgb *= rgb3(1.0 - 0.35 * f32(stripe))
    return [Layer(window.window, coverage(field, window.px), rgb, Label.SCARF, shaded=True, cloth=True)]


def sunglasses_layer(figure: FigureSpec, grid: Grid, light: Light) -> Layer | None:
    """Sunglasses over the eyes."""
    if not figure.outfit.sunglasses:
        return None
    cx, cy = figure.head_centre
    window = grid.crop(cx - 0.45, cy - 0.3, cx + 0.45, cy + 0.3)
    x, y = rotate(window.x, window.y, (cx, cy), figure.head_tilt)
    turn = 0.36 * math.sin(figure.head_yaw) * 0.9
    squeeze = math.cos(figure.head_yaw)
    lens = np.full(window.shape, -1.0, np.float32)
    for side in (1, -1):
        lens = np.maximum(lens, ellipse(x, y, turn + side * 0.155 * squeeze, 0.005, 0.125 * squeeze, 0.092))
    bridge = np.minimum(0.012 - np.abs(y + 0.035), 0.34 - np.abs(x))
    field = np.maximum(lens, f32(bridge))
    rgb = np.empty((*window.shape, 3), np.float32)
    rgb[:] = f32((0.07, 0.07, 0.08))
    glare = np.exp(-(((x - turn + 0.6 * y + 0.05) * np.float32(1 / 0.05)) ** 2)) * (lens > 0.015)
    rgb += rgb3(0.16 * f32(glare) + 0.10 * smoothstep(-0.05, 0.10, f32(y)) * (lens > 0.012))
    return Layer(window.window, coverage(field, window.px), rgb, Label.SUNGLASSES)


def hat_layer(figure: FigureSpec, grid: Grid, light: Light) -> Layer | None:
    """A knitted hat, or one with a brim."""
    kind, color = figure.outfit.hat, figure.outfit.hat_color
    if kind == "none":
        return None
    cx, cy = figure.head_centre
    window = grid.crop(cx - 0.95, cy - 0.95, cx + 0.95, cy + 0.1)
    x, y = rotate(window.x, window.y, (cx, cy), figure.head_tilt)
    shift = 0.05 * math.sin(figure.head_yaw)
    if kind == "beanie":
        crown = np.minimum(ellipse(x, y, shift, -0.16, 0.425, 0.48), -0.235 - y - 0.03 * np.cos(x * 4))
        dome = 0.4 * np.sqrt(np.clip(1 - (x / 0.44) ** 2 - ((y + 0.15) / 0.56) ** 2, 0.02, 1))
        fold = smoothstep(-0.40, -0.38, y)
        ribs = 0.006 * np.sin(np.arcsin(np.clip(x / 0.43, -1, 1)) * 44)
        height = dome + 0.025 * fold + ribs
        field = crown
    else:
        crown = np.minimum(ellipse(x, y, shift, -0.32, 0.385, 0.44), -0.28 - y)
        pinch = np.minimum(crown, y + 0.70 + 0.5 * (x - shift) ** 2)
        brim = ellipse(x, y, shift, -0.30, 0.80, 0.115)
        field = np.maximum(pinch, brim)
        dome = 0.36 * np.sqrt(np.clip(1 - (x / 0.42) ** 2, 0.02, 1))
        height = np.where(
            brim > pinch, 0.10 - 0.8 * y, dome - 0.10 * np.exp(-(((x - shift) / 0.05) ** 2)) * (y < -0.55)
        )
    rgb = tinted(color, shade(f32(height), window.px, light), light)
    if kind == "brim":
        band = coverage(f32(np.minimum(0.05 - np.abs(y + 0.40), crown)), window.px)
        rgb *= rgb3(1.0 - 0.55 * band)
        rgb *= rgb3(1.0 - 0.25 * coverage(f32(-0.235 - y) * -1.0, 0.05) * (brim > 0))
    return Layer(window.window, coverage(f32(field), window.px), rgb, Label.HAT)
