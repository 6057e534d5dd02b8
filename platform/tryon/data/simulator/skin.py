"""The undressed figure's layers: trunk with its base layer, arms with hands, legs and lower clothes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tryon.data.simulator.body import (
    ARMPIT_T,
    ARMPIT_Y,
    arm_frame,
    arm_points,
    arm_radius,
    arm_window,
    half_width,
    hand_distance,
    legs_distance,
    seam_distance,
    trunk_distance,
    trunk_fields,
    trunk_height,
    tube_distance,
)
from tryon.data.simulator.figure import FigureSpec
from tryon.data.simulator.geometry import Color, Float, Grid, Point, Window, coverage, f32, mix, smooth_max, smoothstep
from tryon.data.simulator.layers import Layer, Light, overlap, shade, tinted
from tryon.sample import Label

BASE_TOP_Y = 2.02  # the base layer begins below the deepest neckline
LOWER_LABEL = {"trousers": Label.PANTS, "jeans": Label.PANTS, "shorts": Label.PANTS, "skirt": Label.SKIRT}


def inflate(field: Float, radius: float) -> Float:
    """Height of a shape rounded at its edge with the given radius, heads."""
    f = np.clip(field, 0.0, radius)
    return f32(np.sqrt(f * (2.0 * radius - f)))


def trunk_layer(figure: FigureSpec, grid: Grid, light: Light) -> Layer:
    """Neck and trunk: skin, and a base layer from the bust down."""
    reach = max(figure.shoulder, figure.hip) + 0.25 + abs(figure.lean)
    window = grid.crop(-reach, 0.7, reach, 4.4)
    trunk = trunk_fields(figure, window)
    field = trunk_distance(figure, window, trunk)
    height = trunk_height(figure, window, trunk, half_width(figure, window.y), 0.0)
    hx, _ = figure.head_centre
    middle = hx + (figure.centre(1.5) - hx) * np.clip((window.y - 0.8) / 0.7, 0, 1)
    across = (window.x - middle) / np.float32(figure.neck * 1.08)
    neck = 0.34 * (np.sqrt(np.clip(1 - across * across, 0, 1) + 0.06) - 0.245) * (1 - smoothstep(1.25, 1.62, window.y))
    height = smooth_max(height, f32(neck), 0.10)
    height = height + _collar_bones(figure, trunk.x, window.y)
    rgb = tinted(figure.skin, shade(f32(height), window.px, light), light, skin=True)
    dip = np.exp(-((trunk.x / 0.16) ** 2))
    line = BASE_TOP_Y + 0.04 * figure.femininity * dip + 0.05 * (trunk.x / 0.7) ** 2
    base = coverage(f32(window.y - line), window.px)
    cloth = tinted(figure.base_color, shade(f32(height), window.px, light), light)
    trim = coverage(f32(0.012 - np.abs(window.y - line - 0.03)), window.px)
    rgb = mix(rgb, f32(cloth * (1 - 0.18 * trim[..., None])), base)
    return Layer(window.window, coverage(field, window.px), rgb, Label.FACE)


def _collar_bones(figure: FigureSpec, x: Float, y: Float) -> Float:
    ax = np.abs(x)
    line = y - np.float32(1.60) + np.float32(0.10) * np.clip(ax / 0.6, 0, 1)
    bone = (
        0.020 * np.exp(-((line / 0.030) ** 2)) * smoothstep(0.06, 0.16, f32(ax)) * (1 - smoothstep(0.40, 0.62, f32(ax)))
    )
    pit = -0.018 * np.exp(-((x / 0.06) ** 2) - ((y - 1.61) / 0.05) ** 2)
    muscle = x / np.float32(figure.neck)
    cord = 0.006 * np.exp(-(((np.abs(muscle) - 0.75 + 0.7 * (y - 1.15)) / 0.22) ** 2)) * (1 - smoothstep(1.45, 1.58, y))
    return f32(bone + pit + cord)


@dataclass(frozen=True)
class Arm:
    """A bare arm.

    Attributes:
        layer: as painted over bare skin: fades into the trunk at the shoulder.
        cover: (h, w) coverage of the arm with its round shoulder.
        hard: (h, w) coverage where the arm is a surface of its own, in front of the trunk's clothes.
    """

    layer: Layer
    cover: Float
    hard: Float

    @property
    def window(self) -> Window:
        """Rows and columns of the canvas."""
        return self.layer.window


def arm(figure: FigureSpec, grid: Grid, light: Light, side: int, armhole: Point, trunk: Layer) -> Arm:
    """One arm with its hand.

    Args:
        figure: whose arm.
        grid: the canvas.
        light: the light.
        side: +1 the person's left.
        armhole: distances of the worn garment's armhole from the middle, upper and lower end, heads.
        trunk: what the shoulder fades into.
    """
    joint, pose = arm_points(figure, side)
    window = arm_window(grid, joint, pose)
    frame = arm_frame(figure, window, side, *armhole)
    radius = arm_radius(figure, frame.t)
    tube = tube_distance(window, joint, pose, lambda t: arm_radius(figure, t))
    size = 1.08 - 0.10 * figure.femininity
    hand, crease = hand_distance(window, pose, side, size)
    field = smooth_max(tube, hand, 0.05)
    round_arm = np.sqrt(np.maximum(radius * radius - frame.d * frame.d, 0.0)) * (1 - smoothstep(2.36, 2.56, frame.t))
    height = smooth_max(f32(round_arm), f32(inflate(hand, 0.08) * 1.1), 0.05)
    brightness = shade(f32(height), window.px, light)
    brightness = brightness * (1.0 - 0.35 * coverage(f32(crease + 0.004), max(window.px, 0.015)) * (hand > tube))
    rgb = tinted(figure.skin, brightness, light, skin=True)
    chest = float(half_width(figure, f32([[ARMPIT_Y]]))[0, 0])
    seam = seam_distance(figure, window, side, figure.shoulder - 0.05, chest - 0.02)
    own = np.maximum(smoothstep(-0.14, 0.14, seam), smoothstep(-0.08, 0.10, f32(frame.t - ARMPIT_T)))
    cover = coverage(field, window.px)
    label = Label.LEFT_ARM if side > 0 else Label.RIGHT_ARM
    behind = np.zeros(window.shape, np.float32)
    if (meet := overlap(window.window, trunk.window)) is not None:
        behind[meet[0]] = trunk.alpha[meet[1]]
    alpha = cover * np.maximum(own, 1.0 - behind)
    return Arm(Layer(window.window, f32(alpha), rgb, label), cover, f32(cover * coverage(frame.free, window.px)))


def lower_layers(figure: FigureSpec, grid: Grid, light: Light) -> list[Layer]:
    """Bare legs where they show, then the lower clothes."""
    window = grid.crop(-2.0, figure.waist_y - 0.1, 2.0, 9.0)
    layers = []
    if figure.lower in ("skirt", "shorts"):
        for field, label in zip(legs_distance(figure, window, -0.03), (Label.LEFT_LEG, Label.RIGHT_LEG), strict=True):
            rgb = tinted(figure.skin, shade(inflate(field, 0.18), window.px, light), light, skin=True)
            layers.append(Layer(window.window, coverage(field, window.px), rgb, label))
    layers.append(_lower_clothes(figure, window, light))
    return layers


def _lower_clothes(figure: FigureSpec, window: Grid, light: Light) -> Layer:
    rng = np.random.Generator(np.random.PCG64(figure.detail_seed + 3))
    trunk = trunk_fields(figure, window)
    y, ax = window.y, np.abs(trunk.x)
    half = half_width(figure, y) + 0.035 * (1.0 - smoothstep(3.2, 3.9, y))
    if figure.lower == "skirt":
        flare = float(rng.uniform(0.05, 0.32))
        end = float(rng.uniform(4.75, 6.2))
        half = half + flare * np.maximum(y - figure.waist_y - 0.2, 0.0)
        field = np.minimum((half - ax) * 0.95, np.minimum(y - figure.waist_y, end - y))
        s = np.clip(trunk.x / half, -1, 1)
        pleats = 0.02 * flare / 0.3 * np.sin(s * 16 + 2 * np.sin(y)) * np.clip(y - figure.waist_y, 0, 1)
        height = 0.42 * np.sqrt(np.maximum(1 - s * s, 0)) + pleats
        crease = np.zeros_like(ax)
    else:
        ease = float(rng.uniform(0.0, 0.02))
        left, right = legs_distance(figure, window, ease)
        block = np.minimum(half - ax, np.minimum(y - figure.waist_y, 4.02 - y))
        field = smooth_max(f32(block), np.maximum(left, right), 0.05)
        end = 4.75 if figure.lower == "shorts" else 99.0
        field = np.minimum(np.minimum(field, y - figure.waist_y), end - y)
        s = np.clip(trunk.x / (half + 0.03), -1, 1)
        belly = 0.36 * np.sqrt(np.maximum(1 - s * s, 0)) * (1 - smoothstep(3.7, 4.3, y))
        height = smooth_max(f32(belly), np.maximum(inflate(left, 0.25), inflate(right, 0.25)), 0.12)
        crease = np.exp(-(((window.x - figure.centre(3.9)) / 0.022) ** 2)) * smoothstep(4.0, 4.2, y)
        crotch = np.exp(-(((y - 4.03 - 0.5 * ax) / 0.05) ** 2)) * (1 - smoothstep(0.1, 0.5, f32(ax)))
        height = height - 0.02 * crotch
    tone = shade(f32(height), window.px, light) * (1.0 - 0.55 * crease)
    rgb = tinted(_details(figure, window, ax), f32(tone), light)
    return Layer(window.window, coverage(f32(field), window.px), rgb, LOWER_LABEL[figure.lower])


def _details(figure: FigureSpec, window: Grid, ax: Float) -> Float:
    """Colour of the lower clothes with waistband, fly and pockets."""
    color: Color = figure.lower_color
    y = window.y
    rgb = f32(np.broadcast_to(f32(color), (*window.shape, 3)))
    line = max(window.px, 0.014)
    band = coverage(f32(0.012 - np.abs(y - figure.waist_y - 0.16) + 0 * ax), line)
    pocket = (
        coverage(f32(0.012 - np.abs(y - figure.waist_y - 0.28 - 0.9 * (ax - 0.35))), line) * (ax > 0.34) * (ax < 0.62)
    )
    marks = np.maximum(band, pocket) if figure.lower != "skirt" else band
    if figure.lower == "jeans":
        fade = np.exp(-(((ax - 0.32) / 0.16) ** 2)) * smoothstep(3.9, 4.6, y)
        rgb = f32(rgb * (1.0 + 0.22 * fade[..., None]))
    return f32(rgb * (1.0 - 0.28 * marks[..., None]))
