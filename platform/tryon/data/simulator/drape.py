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

from tryon.data.simulator.anatomy import ARMPIT_Y, NECK_Y, UPPER_ARM
from tryon.data.simulator.body import (
    ARMPIT_T,
    ArmFrame,
    Trunk,
    arm_frame,
    arm_points,
    arm_radius,
    trunk_fields,
    trunk_height,
    tube_distance,
)
from tryon.data.simulator.figure import FigureSpec
from tryon.data.simulator.folds import dress_folds, sleeve_folds, trunk_folds
from tryon.data.simulator.geometry import Float, Grid, Window, coverage, f32, smooth_max, smoothstep, support
from tryon.data.simulator.layers import Light, overlap, shade
from tryon.data.simulator.legs import lower_half
from tryon.data.simulator.top_cloth import TopPattern
from tryon.data.simulator.tops import HIP, UNDERARM

HEM_WAVE = 0.6  # a fold that comes forward by so much is seen to hang lower by this share of it
# Cloth goes on around the body and is folded over at its hems: what is seen ends a little before the flat edge.
WRAP, LIMB_WRAP, EDGE = 0.965, 0.94, np.float32(0.014)
SEAM_BLEND = 0.11  # heads on each side of the armhole over which trunk and sleeve maps blend


@dataclass
class Panel:
    """A worn part of the garment: the trunk, or one sleeve.

    Attributes:
        window: rows and columns of the canvas.
        x: (h, w) flat x.
        y: (h, w) flat y.
        alpha: (h, w) coverage, whether seen or not.
        brightness: (h, w) shading factor.
        side: 0 the trunk or a lower garment, +1 the person's left sleeve, -1 the right.
        seen: (h, w) share of the coverage that other clothes leave; None: all of it.
    """

    window: Window
    x: Float
    y: Float
    alpha: Float
    brightness: Float
    side: int
    seen: Float | None = None


@dataclass(frozen=True)
class _Sleeve:
    """One sleeve on its way to a panel: its grid, arm coordinates, tube, map and shading."""

    grid: Grid
    frame: ArmFrame
    tube: Float
    x: Float
    y: Float
    brightness: Float

    @property
    def weight(self) -> Float:
        """Of the sleeve's map against the trunk's across the armhole seam, 0..1."""
        return smoothstep(-SEAM_BLEND, SEAM_BLEND, self.frame.seam)


class Drape:
    """A garment on a figure."""

    def __init__(self, figure: FigureSpec, pattern: TopPattern, over: Drape | None = None) -> None:
        """Drapes a pattern on a figure, `over` another top that it is at least as wide as."""
        self.figure = figure
        self.pattern = pattern
        self.over = over
        self.stretch = figure.shoulder / 0.80
        self.ease = {"slim": 0.015, "regular": 0.03, "loose": 0.05}[pattern.garment.fit]
        self.ease += 0.035 if pattern.garment.opening > 0 else 0.0
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
        if self.pattern.garment.category == "dress":  # folds take up a part of a wide skirt
            flare = max(self.pattern.garment.hem_width - self.pattern.garment.hip, 0.0)
            own = own - np.float32(0.30 * flare) * smoothstep(HIP, self.pattern.garment.length, v)
        body = f32(lower_half(self.figure, y) + self.ease)
        if self.pattern.garment.sleeve == "none":  # without a sleeve to hold it out, cloth lies close at the armpit
            own = body + (own - body) * (0.15 + 0.85 * smoothstep(UNDERARM, 1.6, v))
        half = smooth_max(body, f32(own), 0.06)
        return half if self.over is None else np.maximum(half, self.over.worn_half_width(y) + np.float32(0.035))

    def worn_sleeve_radius(self, t: Float) -> Float:
        """Radius of the worn sleeve at lengths along the arm, heads."""
        own = self.pattern.sleeve_half_width(t) * np.float32(0.76 * (0.5 + 0.5 * self.stretch))
        own = own * (0.5 + 0.5 * smoothstep(-0.2, 0.5, t))  # the cap sits on the shoulder
        ease = np.float32(self.ease) * (0.3 + 0.7 * smoothstep(0.0, 0.7, t))  # it hangs from the shoulder
        return smooth_max(f32(arm_radius(self.figure, t) + ease), f32(own), 0.04)

    def panels(self, grid: Grid, light: Light) -> list[Panel]:
        """The worn panels: the trunk, then the person's left and right sleeve if there are any."""
        reach = float(self.worn_half_width(f32([[1.6], [4.0]])).max()) + 0.15
        lean = self.figure.centre(1.3)
        trunk_grid = grid.crop(
            min(lean, 0.0) - reach, 1.1, max(lean, 0.0) + reach, NECK_Y + self.pattern.garment.length + 0.3
        )
        trunk = self._trunk(trunk_grid, light)
        if self.pattern.garment.sleeve == "none":
            return [trunk]
        return [trunk, *(self._sleeve(grid, light, trunk, trunk_grid, side) for side in (1, -1))]

    def _trunk(self, grid: Grid, light: Light) -> Panel:
        fields = trunk_fields(self.figure, grid)
        half = self.worn_half_width(grid.y)
        x, y = self._trunk_map(grid, fields, half)
        folds = trunk_folds(self.pattern.garment, self.figure, x, y)
        if self.pattern.garment.category == "dress":
            hanging = dress_folds(self.pattern.garment, self.figure, fields.x / half, y)
            folds += hanging
            y = y - np.float32(HEM_WAVE) * hanging
        inside = np.minimum(half - np.abs(fields.x), (self.pattern.torso(x, y) - EDGE) * np.float32(self.stretch))
        inside = np.minimum(inside, fields.depth + 0.03)
        height = trunk_height(self.figure, grid, fields, half, self.soften) + folds
        return Panel(grid.window, x, y, coverage(f32(inside), grid.px), shade(f32(height), grid.px, light), 0)

    def _trunk_map(self, grid: Grid, trunk: Trunk, half: Float) -> tuple[Float, Float]:
        s = np.clip(trunk.x / half, -1.05, 1.05)
        front = 1.0 - s * s
        line = self.pattern.slope(np.abs(trunk.x) * np.float32(1.0 / self.stretch))
        lift = line - (trunk.top - np.float32(NECK_Y + 0.012))
        near = np.exp(-((np.maximum(trunk.depth, 0.0) * np.float32(1 / 0.45)) ** 2))
        bend = np.float32(0.055) * (grid.y - 2.0) * front
        y = f32(grid.y - np.float32(NECK_Y) + lift * near - bend)
        # What lies on the chest turns further than what lies close to the neck.
        turn = np.float32(0.48 * math.sin(self.figure.yaw)) * (0.3 + 0.7 * smoothstep(0.0, 0.7, f32(grid.y - 1.3)))
        turned = np.float32(WRAP) * foreshorten(f32(s)) - turn * front
        return f32(self.pattern.half_width(y) * turned), y

    def _sleeve_map(self, frame: ArmFrame, side: int) -> tuple[Float, Float, Float]:
        """Flat x, flat y and length along the flat sleeve."""
        radius = self.worn_sleeve_radius(frame.t)
        s = np.clip(frame.d / radius, -1.05, 1.05)
        t = f32(frame.t - np.float32(0.05) * (1.0 - s * s) * smoothstep(0.2, 0.6, frame.t))
        half = self.pattern.sleeve_half_width(frame.t) * (0.75 + 0.25 * smoothstep(-0.1, 0.5, frame.t))
        x, y = self.pattern.from_sleeve(t, f32(np.float32(LIMB_WRAP) * foreshorten(f32(s)) * half), side)
        # The cap must not reach above the shoulder seam, where the flat garment ends.
        return x, smooth_max(y, f32(self.pattern.slope(np.abs(x)) + 0.035), 0.06), t

    def _sleeve(self, grid: Grid, light: Light, trunk: Panel, trunk_grid: Grid, side: int) -> Panel:
        """One sleeve; also blends the trunk's map and shading near this armhole, in place."""
        joint, pose = arm_points(self.figure, side)
        long = self.pattern.garment.sleeve_length > UPPER_ARM - 0.2
        window = grid.around([joint, pose.elbow, *([pose.wrist] if long else [])], 0.42)
        frame = arm_frame(self.figure, window, side, self.tip, self.under)
        x, y, t = self._sleeve_map(frame, side)
        radius = self.worn_sleeve_radius(frame.t)
        dome = np.sqrt(np.maximum(radius * radius - frame.d * frame.d, 0.0))
        height = dome + sleeve_folds(self.pattern.garment, pose, joint, frame)
        tube = tube_distance(window, joint, pose, self.worn_sleeve_radius)
        sleeve = _Sleeve(window, frame, tube, x, y, shade(f32(height), window.px, light))
        self._blend_trunk(trunk, trunk_grid, sleeve)
        self._blend_sleeve(sleeve, light)
        inside = np.minimum(np.minimum(tube, frame.free), np.float32(self.pattern.garment.sleeve_length - EDGE) - t)
        inside = np.minimum(inside, (self.pattern.distance(x, y) - EDGE) * np.float32(0.9 * self.stretch))
        return Panel(window.window, x, y, coverage(f32(inside), window.px), sleeve.brightness, side)

    def _blend_trunk(self, trunk: Panel, trunk_grid: Grid, sleeve: _Sleeve) -> None:
        """Lets the trunk's map and shading go over into the sleeve's at the armhole, and ends it there."""
        meet = overlap(trunk.window, sleeve.grid.window)
        if meet is None:
            return
        at, of = meet
        frame, local = sleeve.frame, _part(trunk_grid, at)
        w = f32(sleeve.weight * (1.0 - smoothstep(-0.15, 0.10, f32(frame.t - ARMPIT_T))))[of]
        trunk.x[at] += (sleeve.x[of] - trunk.x[at]) * w
        trunk.y[at] += (sleeve.y[of] - trunk.y[at]) * w
        trunk.brightness[at] += (sleeve.brightness[of] - trunk.brightness[at]) * w
        fields = trunk_fields(self.figure, local)
        blended = (self.pattern.distance(trunk.x[at], trunk.y[at]) - EDGE) * np.float32(self.stretch)
        field = np.minimum(np.minimum(blended, self.worn_half_width(local.y) - np.abs(fields.x)), fields.depth + 0.03)
        alpha = np.where(w > 0, coverage(f32(field), local.px), trunk.alpha[at])
        # Above the armpit the trunk ends at the seam, or where the sleeve hides it.
        limit = np.maximum(np.maximum(0.03 - frame.seam[of], sleeve.tube[of]), local.y - np.float32(ARMPIT_Y))
        trunk.alpha[at] = np.minimum(alpha, coverage(f32(limit), local.px))

    def _blend_sleeve(self, sleeve: _Sleeve, light: Light) -> None:
        """Lets a sleeve's map and shading go over into the trunk's where its weight is below 1, in place."""
        frame = sleeve.frame
        weight = np.maximum(sleeve.weight, smoothstep(-0.15, 0.10, f32(frame.t - ARMPIT_T)))
        at = support(f32((weight < 1.0) & (frame.free > -0.05)))
        local = _part(sleeve.grid, at)
        if min(local.shape) < 2:
            return
        fields = trunk_fields(self.figure, local)
        half = self.worn_half_width(local.y)
        x, y = self._trunk_map(local, fields, half)
        height = trunk_height(self.figure, local, fields, half, self.soften)
        height = height + trunk_folds(self.pattern.garment, self.figure, x, y)
        rest = 1.0 - weight[at]
        sleeve.x[at] += (x - sleeve.x[at]) * rest
        sleeve.y[at] += (y - sleeve.y[at]) * rest
        sleeve.brightness[at] += (shade(f32(height), local.px, light) - sleeve.brightness[at]) * rest


def _part(grid: Grid, part: Window) -> Grid:
    """The rows and columns `part` of a grid."""
    rows, cols = part
    top, left = grid.window[0].start, grid.window[1].start
    window = (slice(top + rows.start, top + rows.stop), slice(left + cols.start, left + cols.stop))
    return Grid(grid.x[:, cols], grid.y[rows], grid.px, window)


def foreshorten(s: Float) -> Float:
    """From the position across a rounded body (-1..1) to the position across the flat cloth (-1..1)."""
    return f32(0.58 * s + 0.42 * np.arcsin(np.clip(s, -1, 1) * np.float32(0.96)) / math.asin(0.96))
