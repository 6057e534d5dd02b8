"""The undressed figure's trunk with its base layer, and its arms with hands."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tryon.data.simulator.anatomy import ARMPIT_Y
from tryon.data.simulator.body import (
    ARMPIT_T,
    arm_frame,
    arm_points,
    arm_radius,
    arm_window,
    half_width,
    hand_distance,
    seam_distance,
    trunk_distance,
    trunk_fields,
    trunk_height,
    tube_distance,
)
from tryon.data.simulator.dense import Piece, arm_piece
from tryon.data.simulator.figure import FigureSpec
from tryon.data.simulator.geometry import Float, Grid, Point, Window, coverage, f32, mix, rgb3, smooth_max, smoothstep
from tryon.data.simulator.layers import Layer, Light, overlap, shade, tinted
from tryon.sample import Label

BASE_TOP_Y = 2.02  # the base layer begins below the deepest neckline


def inflate(field: Float, radius: float) -> Float:
    """Height of a shape rounded at its edge with the given radius, heads."""
    f = np.clip(field, 0.0, radius)
    return f32(np.sqrt(f * (2.0 * radius - f)))


def trunk_layer(figure: FigureSpec, grid: Grid, light: Light) -> tuple[Layer, Piece]:
    """Neck and trunk: skin, and a base layer from the bust down; and the trunk's part of the dense map."""
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
    line = BASE_TOP_Y + 0.04 * figure.femininity * dip + 0.40 * smoothstep(0.40, 0.72, f32(np.abs(trunk.x)))
    base = coverage(f32(window.y - line), window.px)
    cloth = tinted(figure.base_color, shade(f32(height), window.px, light), light)
    trim = coverage(f32(0.012 - np.abs(window.y - line - 0.03)), window.px)
    rgb = mix(rgb, f32(cloth * (1 - 0.18 * rgb3(trim))), base)
    cover = coverage(field, window.px)
    across = trunk.x / (2.0 * half_width(figure, window.y)) + np.float32(0.5)
    body = cover * (trunk.depth > -0.12)
    piece = Piece.of(window, f32(body), 2, f32((window.y - 1.3) / 2.6 + 0 * across), f32(across))
    return Layer(window.window, cover, rgb, Label.FACE, shaded=True), piece


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
        piece: its parts of the dense map.
    """

    layer: Layer
    cover: Float
    hard: Float
    piece: Piece

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
    on = cover * coverage(f32(np.maximum(seam, frame.t - np.float32(ARMPIT_T))), window.px)
    piece = arm_piece(side, window, f32(on), frame.t, frame.d, radius, (hand > tube).astype(np.uint8))
    layer = Layer(window.window, f32(alpha), rgb, label, hides=np.zeros_like(cover), extent=cover)
    return Arm(layer, cover, f32(cover * coverage(frame.free, window.px)), piece)
