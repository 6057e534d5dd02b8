"""The drape of lower garments: for every pixel of hips and legs, the flat point of the garment that lies there.

Down, waistband and crotch of the flat garment are laid onto the figure's. Across, hips and skirts are a cylinder that
the figure's yaw turns; of trousers each leg is a tube around the figure's leg, and above the crotch the two maps
go over into one another.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from tryon.data.simulator.anatomy import CROTCH_Y, KNEE_Y
from tryon.data.simulator.body import half_width
from tryon.data.simulator.drape import EDGE, HEM_WAVE, LIMB_WRAP, WRAP, Panel, foreshorten
from tryon.data.simulator.figure import FigureSpec
from tryon.data.simulator.folds import add_ridge, hanging_folds
from tryon.data.simulator.geometry import Float, Grid, coverage, f32, smooth_max, smoothstep
from tryon.data.simulator.layers import Light, shade
from tryon.data.simulator.legs import leg_axis, leg_radius, lower_half
from tryon.data.simulator.lowers import HIP, RISE, LowerPattern

EASE = {"skinny": 0.012, "straight": 0.025, "tapered": 0.03, "wide": 0.05, "flared": 0.02}
WORN_CROTCH_Y = CROTCH_Y + 0.06
MEAN_HIP = 0.71  # half-width of the hips that a flat half-width of 0.76 fits


@dataclass(frozen=True)
class _Map:
    """A map on its way to a panel: flat x and y, field of the worn shape, height without folds, place across."""

    x: Float
    y: Float
    field: Float
    height: Float
    s: Float


class LowerDrape:
    """A lower garment on a figure."""

    def __init__(self, figure: FigureSpec, pattern: LowerPattern) -> None:
        self.figure = figure
        self.pattern = pattern
        self.stretch = figure.hip / MEAN_HIP

    def panels(self, grid: Grid, light: Light) -> list[Panel]:
        """The worn garment: one panel."""
        figure, g = self.figure, self.pattern.garment
        reach = max(figure.hip, self.pattern.extent()[0]) * max(self.stretch, 1.0) + 0.30
        window = grid.crop(-reach, figure.waist_y - 0.1, reach, figure.waist_y + g.length + 0.35)
        made = self._skirt(window) if g.is_skirt else self._trousers(window)
        rng = np.random.Generator(np.random.PCG64([g.detail_seed, figure.detail_seed, 2]))
        folds = self._skirt_folds(rng, made) if g.is_skirt else self._trouser_folds(rng, window, made)
        if g.is_skirt:
            made = replace(made, y=f32(made.y - np.float32(HEM_WAVE) * folds))
        inside = np.minimum(made.field, made.y - self.pattern.top_y(made.x) - EDGE)
        inside = np.minimum(inside, self.pattern.hem_y(made.x) - made.y - EDGE)
        tone = shade(f32(made.height + folds), window.px, light)
        return [Panel(window.window, made.x, made.y, coverage(f32(inside), window.px), tone, 0)]

    def _flat_y(self, y: Float) -> Float:
        top = self.figure.waist_y
        if self.pattern.garment.is_skirt:
            return f32(y - np.float32(top))
        k = RISE / (WORN_CROTCH_Y - top)
        bend = y - np.float32(WORN_CROTCH_Y)
        return f32(np.float32(RISE) + bend * np.where(bend < 0, np.float32(k), np.float32(1.0)))

    def _across(self, grid: Grid) -> Float:
        return f32(grid.x - self.figure.lean * np.maximum(3.9 - grid.y, 0.0) / 2.5)

    def _skirt(self, grid: Grid) -> _Map:
        figure, pattern = self.figure, self.pattern
        g = pattern.garment
        v = self._flat_y(grid.y)
        flat = pattern.half_width(v)
        spare = max(pattern.hem_width - g.hip, 0.0) * 0.30
        own = (flat - np.float32(spare) * smoothstep(HIP, g.length, v)) * np.float32(0.93 * self.stretch)
        half = smooth_max(f32(lower_half(figure, grid.y) + 0.02), f32(own), 0.06)
        dx = self._across(grid)
        s = np.clip(dx / half, -1.05, 1.05)
        front = 1.0 - s * s
        x = flat * (np.float32(WRAP) * foreshorten(s) - np.float32(0.45 * math.sin(figure.yaw)) * front)
        y = v - np.float32(0.05) * (grid.y - 2.6) * front + np.float32(0.04) * front
        dome = np.float32(0.42) * np.sqrt(np.maximum(front, 0.0))
        return _Map(f32(x), f32(y), f32((half - np.abs(dx)) * 0.96), f32(dome), f32(s))

    def _trousers(self, grid: Grid) -> _Map:
        figure, pattern = self.figure, self.pattern
        v = self._flat_y(grid.y)
        left, right, leg_half = self._leg_lines(grid.y, v)
        own = pattern.half_width(v) * np.float32(0.93 * self.stretch)
        half = smooth_max(f32(half_width(figure, grid.y) + EASE[pattern.garment.cut]), f32(own), 0.04)
        # The seat's outline goes over into the legs' outer sides.
        centre = f32(figure.lean * np.maximum(3.9 - grid.y, 0.0) / 2.5)
        down = smoothstep(3.2, CROTCH_Y - 0.02, grid.y)
        centre = centre + (0.5 * (left + right) - centre) * down
        half = half + (0.5 * (left - right) + leg_half - half) * down
        dx = f32(grid.x - centre)
        s = np.clip(dx / half, -1.05, 1.05)
        front = 1.0 - s * s
        turn = np.float32(0.45 * math.sin(figure.yaw))
        x = pattern.half_width(v) * (np.float32(WRAP) * foreshorten(s) - turn * front)
        leg_x, leg_field, leg_height, d = self._legs(grid, v, turn, (left, right, leg_half))
        w = smoothstep(CROTCH_Y - 0.32, CROTCH_Y + 0.04, grid.y)
        block = np.minimum((half - np.abs(dx)) * 0.97, np.float32(WORN_CROTCH_Y) - grid.y)
        field = np.maximum(f32(block), np.minimum(leg_field, grid.y - np.float32(CROTCH_Y - 0.02)))
        belly = np.float32(0.36) * np.sqrt(np.maximum(front, 0.0)) * (1 - smoothstep(3.7, 4.3, grid.y))
        height = smooth_max(f32(belly), leg_height, 0.12)
        y = v + np.float32(0.04) * front * (1 - smoothstep(3.2, 3.8, grid.y)) - np.float32(0.03) * (1 - d * d) * w
        return _Map(f32(x + (leg_x - x) * w), f32(y + 0 * x), field, height, d)

    def _leg_lines(self, y: Float, v: Float) -> tuple[Float, Float, Float]:
        """X of the two legs' middle lines, left first, and their worn half-width, at heights y."""
        own = self.pattern.leg_half(v) * np.float32(0.86 * self.stretch)
        half = smooth_max(f32(leg_radius(self.figure, y) + EASE[self.pattern.garment.cut]), f32(own), 0.04)
        return leg_axis(self.figure, 1, y), leg_axis(self.figure, -1, y), half

    def _legs(
        self, grid: Grid, v: Float, turn: np.float32, lines: tuple[Float, Float, Float]
    ) -> tuple[Float, Float, Float, Float]:
        """Flat x, field, height and place across (-1..1, outwards positive) of the two legs."""
        pattern, (left, right, half) = self.pattern, lines
        side = np.where(grid.x > 0.5 * (left + right), np.float32(1), np.float32(-1))
        d = (grid.x - np.where(side > 0, left, right)) * side
        field = f32((half - np.abs(d)) * np.float32(0.98))
        s = np.clip(d / half, -1.05, 1.05)
        front = 1.0 - s * s
        across = np.float32(LIMB_WRAP) * foreshorten(f32(s)) - 0.6 * turn * side * front
        flat = pattern.leg_axis(v) + pattern.leg_half(v) * across
        height = np.float32(0.85) * half * np.sqrt(np.maximum(front, 0.0))
        return f32(flat * side), field, f32(height), f32(s)

    def _skirt_folds(self, rng: np.random.Generator, made: _Map) -> Float:
        g = self.pattern.garment
        if g.cut == "pleated":
            u = made.x / self.pattern.half_width(made.y) * np.float32(g.pleats / 2)
            saw = u - np.floor(u)
            return f32(0.030 * (saw - smoothstep(0.75, 1.0, saw)) * smoothstep(g.band, g.band + 0.5, made.y))
        depth = {"pencil": 0.012, "a-line": 0.055, "flared": 0.13}[g.cut]
        out = hanging_folds(rng, made.s, made.y, start=g.band + 0.1, end=g.length, depth=depth)
        for side in (1, -1):  # pulls across the hips
            at = (side * rng.uniform(0.2, 0.5), rng.uniform(0.7, 1.1))
            add_ridge(out, made.x, made.y, at, side * rng.uniform(-0.4, 0.3), 0.3, 0.05, rng.uniform(0.005, 0.012))
        return out

    def _trouser_folds(self, rng: np.random.Generator, grid: Grid, made: _Map) -> Float:
        g = self.pattern.garment
        size = {"skinny": 0.8, "wide": 0.7, "flared": 0.8}.get(g.cut, 1.0)
        out = np.zeros(grid.shape, np.float32)
        for side in (1, -1):  # whiskers from the crotch, creases at the thigh
            for _ in range(3):
                at = (side * rng.uniform(0.12, 0.42), rng.uniform(0.90, 1.35))
                angle = -side * rng.uniform(0.15, 0.7)
                length, high = rng.uniform(0.16, 0.3), size * rng.uniform(0.012, 0.022)
                add_ridge(out, made.x, made.y, at, angle, length, 0.040, high)
        lean, phase = np.float32(rng.uniform(0.15, 0.3)), np.float32(rng.uniform(0, 6.28))
        leg = np.sign(made.x)
        slanted = grid.y + lean * made.s * (0.6 + 0.4 * leg)
        knee = np.exp(-(((grid.y - KNEE_Y) * np.float32(1 / 0.30)) ** 2))
        out += np.float32(0.009 * size) * knee * np.sin(slanted * np.float32(24) + phase + leg)
        if g.length > 4.0 and g.cut != "wide":  # cloth stacks above the shoe
            stack = smoothstep(g.length - 0.62, g.length - 0.15, made.y)
            out += np.float32(0.016 * size) * stack * np.sin(slanted * np.float32(27) - phase + 2 * leg)
        if g.cut in ("wide", "flared"):
            opened = smoothstep(1.4, g.length, made.y)
            out += np.float32(0.035) * opened * np.sin(made.s * np.float32(4.5) + phase + leg)
        if g.crease:
            out += np.float32(0.030) * np.exp(-((made.s * np.float32(7)) ** 2)) * smoothstep(0.9, 1.5, made.y)
        return out
