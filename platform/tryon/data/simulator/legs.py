"""Bare legs, feet and shoes. Legs are near to upright, so a leg is its middle line and radius at each height."""

from __future__ import annotations

import numpy as np

from tryon.data.simulator.anatomy import ANKLE_Y, KNEE_Y
from tryon.data.simulator.body import half_width
from tryon.data.simulator.dense import Piece, leg_piece
from tryon.data.simulator.figure import FigureSpec
from tryon.data.simulator.geometry import (
    Color,
    Float,
    Grid,
    capsule,
    coverage,
    f32,
    paint_into,
    rgb3,
    smooth_max,
    smoothstep,
    spline,
)
from tryon.data.simulator.layers import Layer, Light, shade, tinted
from tryon.sample import Label

LEG_TOP_Y = 3.75
BASE_HEM_Y = 4.42  # the base layer's shorts end here


def leg_axis(figure: FigureSpec, side: int, y: Float) -> Float:
    """X of a leg's middle line at heights y, heads."""
    leg = figure.leg(side)
    hip = figure.centre(3.95) + side * 0.50 * figure.hip
    knots = (3.2, 3.95, 4.7, leg.knee[1], leg.ankle[1], 7.7)
    thigh = hip + (leg.knee[0] - hip) * 0.45
    return spline(y, knots, (hip, hip, thigh, leg.knee[0], leg.ankle[0], leg.ankle[0]), 0.14)


def leg_radius(figure: FigureSpec, y: Float) -> Float:
    """Radius of the bare leg at heights y, heads."""
    knots = (3.4, 3.95, 4.4, 5.15, KNEE_Y, 6.05, 6.65, ANKLE_Y, 7.5)
    shape = (0.50, 0.50, 0.455, 0.345, 0.285, 0.285, 0.20, 0.135, 0.135)
    return spline(y, knots, [v * (0.25 * 0.69 + 0.75 * figure.hip) for v in shape], 0.12)


def lower_half(figure: FigureSpec, y: Float) -> Float:
    """Half-width of hips and legs together at heights y, heads: what a skirt hangs around."""
    body = half_width(figure, y)
    if float(y[-1, 0]) < 3.85:
        return body
    centre = f32(figure.lean * np.maximum(3.9 - y, 0.0) / 2.5)
    legs = np.max([side * (leg_axis(figure, side, y) - centre) for side in (1, -1)], axis=0)
    around = legs + leg_radius(figure, y)
    return f32(body + (around - body) * smoothstep(3.85, 4.35, y))


def leg_layers(figure: FigureSpec, grid: Grid, light: Light) -> tuple[list[Layer], list[Piece]]:
    """Bare legs with the base layer's shorts, their shoes, and their parts of the dense map."""
    layers, pieces = [], []
    for side, label in ((1, Label.LEFT_LEG), (-1, Label.RIGHT_LEG)):
        points = (figure.leg(side).knee, figure.leg(side).ankle, (figure.centre(3.95) + side * 0.5 * figure.hip, 3.9))
        window = grid.around(points, 0.45)
        axis, radius = leg_axis(figure, side, window.y), leg_radius(figure, window.y)
        d = f32((window.x - axis) * side)
        field = f32(np.minimum(radius - np.abs(d), window.y - np.float32(LEG_TOP_Y)) * np.float32(0.98))
        field = np.minimum(field, np.float32(ANKLE_Y + 0.12) - window.y)
        height = _leg_height(d, radius, window.y)
        tone = shade(height, window.px, light)
        rgb = tinted(figure.skin, tone, light, skin=True)
        base = coverage(f32(np.float32(BASE_HEM_Y) - window.y + 0 * d), window.px)
        paint_into(rgb, tinted(figure.base_color, tone, light), base)
        cover = coverage(field, window.px)
        layers.append(Layer(window.window, cover, rgb, label, shaded=True))
        pieces.append(leg_piece(side, window, cover, d, radius))
        layers += _foot(figure, grid, light, side, pieces)
    return layers, pieces


def _leg_height(d: Float, radius: Float, y: Float) -> Float:
    dome = np.sqrt(np.maximum(radius * radius - d * d, 0.0)) * np.float32(0.9)
    knee = 0.030 * np.exp(-(((y - np.float32(KNEE_Y - 0.05)) * np.float32(1 / 0.12)) ** 2))
    shin = 0.012 * smoothstep(KNEE_Y + 0.1, KNEE_Y + 0.4, y) * (1 - smoothstep(6.5, 6.9, y))
    return f32(dome + knee * np.exp(-((d * 7.0) ** 2)) + shin * np.exp(-(((d + 0.04) * 14.0) ** 2)))


def _foot(figure: FigureSpec, grid: Grid, light: Light, side: int, pieces: list[Piece]) -> list[Layer]:
    """One shoe; the foot's part of the dense map is appended to `pieces`."""
    leg, outfit = figure.leg(side), figure.outfit
    (ax, ay), (tx, ty) = leg.ankle, leg.toe
    if ay - 0.3 > float(grid.y[-1, 0]):
        return []
    boots = outfit.shoes == "boots"
    window = grid.around((leg.ankle, leg.toe, (ax, ay - (0.9 if boots else 0.2))), 0.28)
    heel = capsule(window.x, window.y, (ax, ay + 0.02), (ax + 0.3 * (tx - ax), ty - 0.02), 0.115, 0.12)
    toe = capsule(window.x, window.y, (ax + 0.35 * (tx - ax), ay + 0.14), (tx, ty), 0.105, 0.145)
    if outfit.shoes == "heels":
        toe = capsule(window.x, window.y, (ax, ay + 0.1), (tx, ty + 0.05), 0.10, 0.085)
    field = smooth_max(heel, toe, 0.06)
    foot = coverage(field, window.px)
    pieces.append(Piece.flat(window, foot, 5 if side > 0 else 6, window.x - ax, window.y - ay, 0.25, 0.45))
    if boots:
        shaft = leg_radius(figure, window.y) + 0.045 - np.abs(window.x - leg_axis(figure, side, window.y))
        field = np.maximum(field, f32(np.minimum(np.minimum(shaft, window.y - (ay - 0.72)), ay + 0.1 - window.y)))
    height = np.sqrt(np.clip(field, 0.0, 0.14) * (0.28 - np.clip(field, 0.0, 0.14))) * 0.9
    tone = shade(f32(height), window.px, light)
    rgb = tinted(figure.skin, tone, light, skin=True)
    shown = _shoe(figure, window, (ax, ay), (tx, ty))
    paint_into(rgb, tinted(outfit.shoe_color, tone, light), shown)
    _sole(rgb, outfit.shoes, outfit.shoe_color, window, field, ty)
    label = Label.LEFT_SHOE if side > 0 else Label.RIGHT_SHOE
    return [Layer(window.window, coverage(f32(field), window.px), rgb, label)]


def _shoe(figure: FigureSpec, window: Grid, ankle: tuple[float, float], toe: tuple[float, float]) -> Float:
    """Coverage of the upper; above it the skin of the instep shows."""
    kind = figure.outfit.shoes
    if kind == "boots":
        return f32(np.ones(window.shape))
    if kind == "sneakers":
        return coverage(f32(window.y - np.float32(ankle[1] - 0.02) + 0 * window.x), window.px)
    low = 0.17 if kind == "flats" else 0.20
    across = (window.x - np.float32(toe[0])) * np.float32(1 / 0.13)
    return coverage(f32(window.y - np.float32(ankle[1] + low) - 0.05 * (1.0 - across * across)), window.px)


def _sole(rgb: Float, kind: str, color: Color, window: Grid, field: Float, toe_y: float) -> None:
    rim = coverage(f32(np.minimum(0.05 - field, window.y - np.float32(toe_y - 0.02))), window.px)
    if kind == "sneakers":
        light = sum(color) > 2.2
        paint_into(rgb, f32((0.80, 0.79, 0.77) if light else (0.93, 0.93, 0.92)), rim)
        lace = np.exp(-(((window.y - np.float32(toe_y - 0.14)) * np.float32(1 / 0.06)) ** 2)) * (field > 0.06)
        rgb *= rgb3(1.0 - 0.25 * f32(lace))
    else:
        rgb *= rgb3(1.0 - 0.35 * rim)
