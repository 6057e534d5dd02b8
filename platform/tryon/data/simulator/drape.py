"""The drape: for every pixel of the person, the flat point of the garment that lies there. The true flow.

The trunk map is 2.5-D: across, a cylinder's foreshortening turned by the figure's yaw; down, the shoulder
line of the flat garment laid onto the figure's. A sleeve map follows the bent arm. Near the armhole the two
are blended by the same weight on both sides of the seam, so the flow is continuous there. A pixel is worn
garment if and only if its flat point lies inside the flat pattern.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from tryon.data.simulator.body import (
    ARMPIT_T,
    ARMPIT_Y,
    ArmFrame,
    Trunk,
    arm_frame,
    arm_points,
    arm_radius,
    half_width,
    trunk_fields,
    trunk_height,
    tube_distance,
)
from tryon.data.simulator.figure import FOREARM, NECK_Y, UPPER_ARM, FigureSpec
from tryon.data.simulator.folds import sleeve_folds, trunk_folds
from tryon.data.simulator.garment import Pattern
from tryon.data.simulator.geometry import Float, Grid, Window, coverage, f32, smooth_max, smoothstep
from tryon.data.simulator.layers import Light, overlap, shade

SEAM_BLEND = 0.15  # heads on each side of the armhole over which trunk and sleeve maps blend


@dataclass
class Panel:
    """A worn part of the garment: the trunk, or one sleeve.

    Attributes:
        window: rows and columns of the canvas.
        x: (h, w) flat x.
        y: (h, w) flat y.
        alpha: (h, w) coverage, whether seen or not.
        brightness: (h, w) shading factor.
        side: 0 the trunk, +1 the person's left sleeve, -1 the right.
    """

    window: Window
    x: Float
    y: Float
    alpha: Float
    brightness: Float
    side: int


class Drape:
    """A garment on a figure."""

    def __init__(self, figure: FigureSpec, pattern: Pattern) -> None:
        self.figure = figure
        self.pattern = pattern
        self.stretch = figure.shoulder / 0.80
        self.ease = {"slim": 0.015, "regular": 0.03, "loose": 0.05}[pattern.garment.fit]
        self.soften = {"slim": 0.25, "regular": 0.6, "loose": 1.0}[pattern.garment.fit]

    @property
    def tip(self) -> float:
        """Distance of the armhole's upper end from the middle, heads."""
        return self.pattern.garment.tip * self.stretch

    @property
    def under(self) -> float:
        """Distance of the armhole's lower end from the middle, heads."""
        y = f32([[ARMPIT_Y]])
        return float(self.worn_half_width(y)[0, 0]) - 0.04

    def worn_half_width(self, y: Float) -> Float:
        """Half-width of the worn trunk at heights y, heads: the garment's own, or the body's if that is wider."""
        v = f32(y - NECK_Y)
        own = self.pattern.half_width(v) * self.stretch * (1.0 - 0.10 * smoothstep(0.2, 0.8, v))
        return smooth_max(f32(half_width(self.figure, y) + self.ease), f32(own), 0.06)

    def worn_sleeve_radius(self, t: Float) -> Float:
        """Radius of the worn sleeve at lengths along the arm, heads."""
        own = self.pattern.sleeve_half_width(t) * np.float32(0.76 * (0.5 + 0.5 * self.stretch))
        own = own * (0.5 + 0.5 * smoothstep(-0.2, 0.5, t))  # the cap sits on the shoulder
        return smooth_max(f32(arm_radius(self.figure, t) + self.ease), f32(own), 0.04)

    def panels(self, grid: Grid, light: Light) -> list[Panel]:
        """The worn panels, trunk first."""
        reach = float(self.worn_half_width(f32([[1.6], [4.0]])).max()) + 0.15
        lean = self.figure.centre(1.3)
        trunk_grid = grid.crop(min(lean, 0.0) - reach, 1.1, max(lean, 0.0) + reach, NECK_Y + self.pattern.garment.length + 0.3)
        trunk = self._trunk(trunk_grid, light)
        if self.pattern.garment.sleeve == "none":
            return [trunk]
        return [trunk, *(self._sleeve(grid, light, trunk, trunk_grid, side) for side in (1, -1))]

    def _trunk(self, grid: Grid, light: Light) -> Panel:
        fields = trunk_fields(self.figure, grid)
        half = self.worn_half_width(grid.y)
        x, y = self._trunk_map(grid, fields, half)
        inside = np.minimum(half - np.abs(fields.x), self.pattern.torso(x, y) * np.float32(self.stretch))
        height = trunk_height(self.figure, grid, fields, half, self.soften)
        height = height + trunk_folds(self.pattern.garment, self.figure, x, y)
        return Panel(grid.window, x, y, coverage(f32(inside), grid.px), shade(f32(height), grid.px, light), 0)

    def _trunk_map(self, grid: Grid, trunk: Trunk, half: Float) -> tuple[Float, Float]:
        s = np.clip(trunk.x / half, -1.05, 1.05)
        front = 1.0 - s * s
        line = self.pattern.slope(np.abs(trunk.x) * np.float32(1.0 / self.stretch))
        lift = line - (trunk.top - np.float32(NECK_Y + 0.02))
        near = np.exp(-((np.maximum(trunk.depth, 0.0) * np.float32(1 / 0.45)) ** 2))
        bend = np.float32(0.055) * (grid.y - 2.0) * front
        y = f32(grid.y - np.float32(NECK_Y) + lift * near - bend)
        turned = _foreshorten(f32(s)) - np.float32(0.48 * math.sin(self.figure.yaw)) * front
        return f32(self.pattern.half_width(y) * turned), y

    def _sleeve_map(self, frame: ArmFrame, side: int) -> tuple[Float, Float]:
        radius = self.worn_sleeve_radius(frame.t)
        s = np.clip(frame.d / radius, -1.05, 1.05)
        t = frame.t - np.float32(0.05) * (1.0 - s * s) * smoothstep(0.2, 0.6, frame.t)
        half = self.pattern.sleeve_half_width(frame.t) * (0.75 + 0.25 * smoothstep(-0.1, 0.5, frame.t))
        x, y = self.pattern.from_sleeve(f32(t), f32(_foreshorten(f32(s)) * half), side)
        # The cap must not reach above the shoulder seam, where the flat garment ends.
        return x, smooth_max(y, f32(self.pattern.slope(np.abs(x)) + 0.02), 0.06)

    def _sleeve(self, grid: Grid, light: Light, trunk: Panel, trunk_grid: Grid, side: int) -> Panel:
        """One sleeve; also blends the trunk's map and shading near this armhole, in place."""
        joint, pose = arm_points(self.figure, side)
        length = self.pattern.garment.sleeve_length
        points = [joint, pose.elbow] + ([pose.wrist] if length > UPPER_ARM - 0.2 else [])
        window = grid.around(points, 0.5)
        frame = arm_frame(self.figure, window, side, self.tip, self.under)
        x, y = self._sleeve_map(frame, side)
        tube = tube_distance(window, joint, pose, self.worn_sleeve_radius)
        radius = self.worn_sleeve_radius(frame.t)
        height = np.sqrt(np.maximum(radius * radius - frame.d * frame.d, 0.0)) + sleeve_folds(self.pattern.garment, pose, joint, frame)
        brightness = shade(f32(height), window.px, light)
        weight = smoothstep(-SEAM_BLEND, SEAM_BLEND, frame.seam)
        self._blend_trunk(trunk, trunk_grid, window, frame, x, y, brightness, weight, tube)
        arm_weight = np.maximum(weight, smoothstep(-0.15, 0.10, f32(frame.t - ARMPIT_T)))
        x, y, brightness = self._blended(window, x, y, brightness, f32(arm_weight), light)
        inside = np.minimum(tube, frame.free)
        inside = np.minimum(inside, self.pattern.distance(x, y) * np.float32(0.9 * self.stretch))
        inside = np.minimum(inside, np.float32(length + 0.02) - frame.t) if length < UPPER_ARM + FOREARM - 0.1 else inside
        return Panel(window.window, x, y, coverage(f32(inside), window.px), brightness, side)

    def _blended(
        self, window: Grid, x: Float, y: Float, brightness: Float, weight: Float, light: Light
    ) -> tuple[Float, Float, Float]:
        """Sleeve map and shading, going over into the trunk's where the weight is below 1."""
        fields = trunk_fields(self.figure, window)
        half = self.worn_half_width(window.y)
        tx, ty = self._trunk_map(window, fields, half)
        height = trunk_height(self.figure, window, fields, half, self.soften)
        height = height + trunk_folds(self.pattern.garment, self.figure, tx, ty)
        trunk_brightness = shade(f32(height), window.px, light)
        return (
            f32(tx + (x - tx) * weight),
            f32(ty + (y - ty) * weight),
            f32(trunk_brightness + (brightness - trunk_brightness) * weight),
        )

    def _blend_trunk(
        self,
        trunk: Panel,
        trunk_grid: Grid,
        window: Grid,
        frame: ArmFrame,
        x: Float,
        y: Float,
        brightness: Float,
        weight: Float,
        tube: Float,
    ) -> None:
        meet = overlap(trunk.window, window.window)
        if meet is None:
            return
        at, of = meet
        w = f32(weight * (1.0 - smoothstep(-0.15, 0.10, f32(frame.t - ARMPIT_T))))[of]
        trunk.x[at] += (x[of] - trunk.x[at]) * w
        trunk.y[at] += (y[of] - trunk.y[at]) * w
        trunk.brightness[at] += (brightness[of] - trunk.brightness[at]) * w
        field = self.pattern.distance(trunk.x[at], trunk.y[at]) * np.float32(self.stretch)
        local = _part(trunk_grid, at)
        half = self.worn_half_width(local.y)
        fields = trunk_fields(self.figure, local)
        field = np.minimum(field, np.minimum(half - np.abs(fields.x), fields.depth + 0.03))
        field = np.minimum(field, np.maximum(0.03 - frame.seam[of], tube[of]))
        trunk.alpha[at] = np.where(w > 0, coverage(f32(field), window.px), trunk.alpha[at])


def _part(grid: Grid, part: Window) -> Grid:
    """The rows and columns `part` of a grid."""
    rows, cols = part
    top, left = grid.window[0].start, grid.window[1].start
    window = (slice(top + rows.start, top + rows.stop), slice(left + cols.start, left + cols.stop))
    return Grid(grid.x[:, cols], grid.y[rows], grid.px, window)


def _foreshorten(s: Float) -> Float:
    """From the position across a rounded body (-1..1) to the position across the flat cloth (-1..1)."""
    return f32(0.58 * s + 0.42 * np.arcsin(np.clip(s, -1, 1) * np.float32(0.96)) / math.asin(0.96))

