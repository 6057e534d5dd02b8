"""Backgrounds: studio walls, rooms, streets, parks and patterns, out of focus as the scene says."""

from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import numpy as np

from tryon.data.simulator.anatomy import SOLE_Y
from tryon.data.simulator.figure import FigureSpec
from tryon.data.simulator.geometry import Color, Float, Grid, blur, f32, make_grid, noise, paint_into, rgb3, smoothstep
from tryon.data.simulator.scene import SceneSpec

FLOOR_Y = 6.55  # heads: where wall and floor meet


def paint_background(scene: SceneSpec, figure: FigureSpec, grid: Grid) -> Float:
    """Background without the figure, (H, W, 3) in 0..1, with the shadow of its feet on the floor.

    Args:
        scene: what it shows.
        figure: whose feet stand on the floor.
        grid: the canvas in heads.
    """
    height, width = grid.shape
    rng = np.random.Generator(np.random.PCG64(scene.detail_seed))
    frame = make_grid(height, width, float(height), width / 2, 0.0)
    floor = (FLOOR_Y - float(grid.y[0, 0])) * frame.px / grid.px  # v of the floor's edge; beyond 1 where not in view
    out = np.empty((height, width, 3), np.float32)
    out[:] = f32(scene.wall)
    _PAINTERS[scene.background](out, scene, rng, frame, floor)
    if floor < 1.2:
        _foot_shadow(out, figure, grid)
    u, v = frame.x, frame.y
    glow = 1.0 - ((u - np.float32(math.copysign(0.12, scene.light_azimuth))) ** 2 + (v - np.float32(0.35)) ** 2) * 0.45
    out *= rgb3(glow)
    return np.clip(out, 0.0, 1.0, out=out)


def _foot_shadow(out: Float, figure: FigureSpec, grid: Grid) -> None:
    xs = [figure.leg(side).toe[0] for side in (1, -1)]
    cx, half = 0.5 * (xs[0] + xs[1]), 0.5 * abs(xs[0] - xs[1]) + 0.45
    window = grid.crop(cx - 2 * half, SOLE_Y - 0.6, cx + 2 * half, SOLE_Y + 0.6)
    far = ((window.x - cx) / np.float32(half)) ** 2 + ((window.y - np.float32(SOLE_Y - 0.01)) / np.float32(0.17)) ** 2
    out[window.window] *= rgb3(1.0 - 0.42 * np.exp(-far))


def _box(frame: Grid, x0: float, y0: float, x1: float, y1: float) -> tuple[slice, slice]:
    """Rows and columns of a box in units of the frame's height; may be empty."""
    cols = np.clip(np.searchsorted(frame.x[0], (x0, x1)), 0, frame.shape[1])
    rows = np.clip(np.searchsorted(frame.y[:, 0], (y0, y1)), 0, frame.shape[0])
    return slice(int(rows[0]), int(rows[1])), slice(int(cols[0]), int(cols[1]))


def _fill(out: Float, frame: Grid, box: tuple[float, float, float, float], color: Color | Float) -> None:
    out[_box(frame, *box)] = f32(color)


def _scaled(color: Color, factor: float) -> Color:
    return min(color[0] * factor, 1.0), min(color[1] * factor, 1.0), min(color[2] * factor, 1.0)


def _plain(out: Float, scene: SceneSpec, rng: np.random.Generator, frame: Grid, floor: float) -> None:
    _sweep(out, scene.wall, frame, floor)


def _sweep(out: Float, color: Color, frame: Grid, floor: float) -> None:
    """A studio's rounded paper sweep: the floor is a little lighter, the bend a little darker."""
    if floor < 1.1:
        bend = np.exp(-(((frame.y - np.float32(floor)) * np.float32(1 / 0.035)) ** 2))
        out *= rgb3(1.0 - 0.07 * bend + 0.05 * smoothstep(floor, floor + 0.12, frame.y))


def _gradient(out: Float, scene: SceneSpec, rng: np.random.Generator, frame: Grid, floor: float) -> None:
    paint = smoothstep(0.1, 1.0, frame.y) + 0 * frame.x
    paint_into(out, f32(scene.wall2), f32(paint))
    _sweep(out, scene.wall, frame, floor)


def _texture(out: Float, scene: SceneSpec, rng: np.random.Generator, frame: Grid, floor: float) -> None:
    cloud = 0.5 * noise(rng, frame.shape, (8, 6)) + 0.3 * noise(rng, frame.shape, (22, 17))
    paint_into(out, f32(scene.wall2), np.clip(np.float32(0.5) + np.float32(0.6) * cloud, 0, 1))
    if floor < 1.1:
        _floor(out, scene, rng, frame, floor)


def _floor(out: Float, scene: SceneSpec, rng: np.random.Generator, frame: Grid, floor: float) -> None:
    """Boards or a plain floor in perspective, with a skirting board above."""
    rows, cols = _box(frame, -9, floor, 9, 9)
    if rows.start >= rows.stop:
        return
    depth = 1.0 / (frame.y[rows] - np.float32(floor - 0.22))
    tone = f32(_scaled(scene.wall2, float(rng.uniform(0.5, 0.9)))) * f32((1.05, 0.98, 0.88))
    part = out[rows, cols]
    part[:] = tone
    if rng.uniform() < 0.6:
        lanes = frame.x * depth * np.float32(6)
        line = np.exp(-(((lanes - np.round(lanes)) * np.float32(1 / 0.05)) ** 2))
        board = np.sin(np.floor(lanes + 0.5) * 12.9898) * 0.06
        part *= rgb3(1.0 - 0.25 * line + board)
    _fill(out, frame, (-9, floor - 0.022, 9, floor), _scaled(scene.wall, 1.12))


def _room(out: Float, scene: SceneSpec, rng: np.random.Generator, frame: Grid, floor: float) -> None:
    """A room: wall, window, picture, shelf or sofa, a lamp and a plant."""
    side = float(rng.choice((-1, 1)))
    line = min(floor, float(rng.uniform(0.80, 0.95)) if floor > 1.05 else floor)
    _floor(out, scene, rng, frame, line)
    x0 = side * float(rng.uniform(0.20, 0.28))
    kind = int(rng.integers(3))
    if kind == 0:
        _window(out, scene, frame, x0, line)
    elif kind == 1:
        _shelf(out, scene, rng, frame, x0, line)
    else:
        _pictures(out, scene, rng, frame, x0)
        _sofa(out, scene, frame, x0, line)
    if rng.uniform() < 0.7:
        _plant(out, rng, frame, -side * float(rng.uniform(0.24, 0.34)), line)
    out[:] = blur(out, scene.defocus * frame.shape[0])


def _window(out: Float, scene: SceneSpec, frame: Grid, x0: float, line: float) -> None:
    border = _scaled(scene.wall, 1.15)
    _fill(out, frame, (x0 - 0.17, 0.06, x0 + 0.17, 0.56), border)
    for dx in (-0.15, 0.008):
        for y0, y1 in ((0.08, 0.30), (0.315, 0.54)):
            rows, cols = _box(frame, x0 + dx, y0, x0 + dx + 0.142, y1)
            sky = 0.98 - 0.35 * (frame.y[rows] - np.float32(0.08))
            out[rows, cols] = np.minimum(f32((0.93, 0.97, 1.0)) * rgb3(sky), 1.0)
    _fill(out, frame, (x0 - 0.19, 0.56, x0 + 0.19, 0.575), _scaled(scene.wall, 0.85))


def _shelf(out: Float, scene: SceneSpec, rng: np.random.Generator, frame: Grid, x0: float, line: float) -> None:
    wood = _scaled(scene.wall2, 0.55)
    _fill(out, frame, (x0 - 0.17, 0.10, x0 + 0.17, line), _scaled(scene.wall, 0.72))
    for y in np.arange(0.10, line, 0.155):
        x = x0 - 0.16
        while x < x0 + 0.13:
            w, h = float(rng.uniform(0.012, 0.035)), float(rng.uniform(0.07, 0.125))
            if rng.uniform() < 0.85:
                color = 0.75 * rng.uniform(0.15, 0.9, 3) + 0.25 * np.array(scene.accent)
                _fill(out, frame, (x, float(y) + 0.145 - h, x + w, float(y) + 0.145), f32(color))
            x += w + 0.002
        _fill(out, frame, (x0 - 0.175, float(y) + 0.145, x0 + 0.175, float(y) + 0.157), wood)
    for x in (x0 - 0.175, x0 + 0.163):
        _fill(out, frame, (x, 0.09, x + 0.012, line), wood)


def _pictures(out: Float, scene: SceneSpec, rng: np.random.Generator, frame: Grid, x0: float) -> None:
    for k in range(int(rng.integers(1, 4))):
        x, y = x0 - 0.15 + 0.13 * k, 0.14 + 0.07 * float(rng.uniform(-1, 1))
        w, h = float(rng.uniform(0.08, 0.115)), float(rng.uniform(0.11, 0.20))
        _fill(out, frame, (x, y, x + w, y + h), (0.14, 0.13, 0.12))
        _fill(out, frame, (x + 0.008, y + 0.008, x + w - 0.008, y + h - 0.008), (0.94, 0.93, 0.90))
        _fill(out, frame, (x + 0.022, y + 0.025, x + w - 0.022, y + h - 0.025), f32(rng.uniform(0.2, 0.9, 3)))


def _sofa(out: Float, scene: SceneSpec, frame: Grid, x0: float, line: float) -> None:
    top = line - 0.20
    _fill(out, frame, (x0 - 0.24, top, x0 + 0.24, line + 0.05), scene.accent)
    _fill(out, frame, (x0 - 0.20, top + 0.10, x0 + 0.20, top + 0.17), _scaled(scene.accent, 1.18))
    for x in (x0 - 0.26, x0 + 0.20):
        _fill(out, frame, (x, top + 0.06, x + 0.06, line + 0.06), _scaled(scene.accent, 0.82))


def _plant(out: Float, rng: np.random.Generator, frame: Grid, cx: float, line: float) -> None:
    _fill(out, frame, (cx - 0.035, line - 0.07, cx + 0.035, line + 0.03), f32(rng.uniform(0.5, 0.85, 3)))
    height = frame.shape[0]
    for _ in range(11):
        angle, length = -math.pi / 2 + float(rng.uniform(-1.0, 1.0)), float(rng.uniform(0.10, 0.24))
        tip = cx + length * math.cos(angle), line - 0.07 + length * math.sin(angle)
        mid = (0.4 * cx + 0.6 * tip[0], 0.4 * (line - 0.07) + 0.6 * tip[1])
        green = f32((0.20, 0.36, 0.19)) * np.float32(rng.uniform(0.7, 1.5))
        at = (int((mid[0] - frame.x[0, 0]) * height), int((mid[1] - frame.y[0, 0]) * height))
        size = (max(int(0.26 * length * height), 1) * 2, max(int(0.010 * height), 1) + 1)
        cv2.ellipse(out, at, size, math.degrees(angle), 0, 360, green.tolist(), -1, cv2.LINE_AA)


def _street(out: Float, scene: SceneSpec, rng: np.random.Generator, frame: Grid, floor: float) -> None:
    """Facades with windows and a shop front, pavement, sky between."""
    line = min(floor, float(rng.uniform(0.78, 0.9)))
    sky = 0.95 - 0.25 * frame.y
    out[:] = np.minimum(f32((0.80, 0.88, 0.97)) * rgb3(sky), 1.0)
    x = float(frame.x[0, 0])
    while x < float(frame.x[0, -1]):
        w, top = float(rng.uniform(0.16, 0.34)), float(rng.uniform(-0.3, 0.22))
        color = f32(_scaled((0.80, 0.72, 0.64), float(rng.uniform(0.5, 1.1)))) + f32(rng.uniform(-0.07, 0.07, 3))
        _fill(out, frame, (x, top, x + w, line), color)
        _facade(out, scene, rng, frame, (x, top, x + w, line), color)
        x += w
    _fill(out, frame, (-9, line, 9, 9), (0.52, 0.51, 0.50))
    _fill(out, frame, (-9, line, 9, line + 0.012), (0.70, 0.69, 0.67))
    out[:] = blur(out, max(scene.defocus, 0.004) * frame.shape[0])


def _facade(
    out: Float,
    scene: SceneSpec,
    rng: np.random.Generator,
    frame: Grid,
    box: tuple[float, float, float, float],
    color: Float,
) -> None:
    x0, y0, x1, y1 = box
    step_x, step_y = float(rng.uniform(0.05, 0.085)), float(rng.uniform(0.10, 0.15))
    for y in np.arange(y0 + 0.04, y1 - 0.24, step_y):
        for x in np.arange(x0 + 0.02, x1 - step_x, step_x):
            tone = (0.26, 0.30, 0.36) if rng.uniform() < 0.75 else (0.90, 0.80, 0.55)
            _fill(out, frame, (float(x), float(y), float(x) + 0.55 * step_x, float(y) + 0.62 * step_y), tone)
    _fill(out, frame, (x0 + 0.01, y1 - 0.20, x1 - 0.01, y1 - 0.005), (0.22, 0.24, 0.27))
    _fill(out, frame, (x0 + 0.005, y1 - 0.235, x1 - 0.005, y1 - 0.195), scene.accent)
    _fill(out, frame, (x1 - 0.006, y0, x1, y1), color * np.float32(0.75))


def _park(out: Float, scene: SceneSpec, rng: np.random.Generator, frame: Grid, floor: float) -> None:
    """Greenery with discs of light far out of focus, over a lawn or path."""
    line = min(floor, float(rng.uniform(0.72, 0.88)))
    warm = float(rng.uniform(0.7, 1.2))
    low, high = f32((0.20 * warm, 0.29, 0.15)), f32((0.52 * warm, 0.60, 0.34))
    cloud = np.clip(0.5 + 0.5 * noise(rng, frame.shape, (9, 7)) + 0.3 * noise(rng, frame.shape, (18, 13)), 0, 1)
    out[:] = low + (high - low) * rgb3(cloud)
    height = frame.shape[0]
    glow = np.zeros(frame.shape, np.float32)
    for _ in range(26):
        x, y = float(rng.uniform(0, frame.shape[1] / height)), float(rng.uniform(0, line))
        radius = max(round(float(rng.uniform(0.012, 0.036)) * height), 1)
        disc = np.zeros_like(glow)
        cv2.circle(
            disc, (round(x * height), round(y * height)), radius, (float(rng.uniform(0.12, 0.4)),), -1, cv2.LINE_AA
        )
        glow += disc
    paint_into(out, f32((0.98, 0.95, 0.74)), np.clip(blur(glow, 0.004 * height), 0, 0.85))
    ground = f32((0.40, 0.46, 0.26)) if rng.uniform() < 0.5 else f32((0.66, 0.60, 0.52))
    paint_into(out, ground, smoothstep(line - 0.015, line + 0.03, frame.y) + 0 * frame.x)


def _pattern(out: Float, scene: SceneSpec, rng: np.random.Generator, frame: Grid, floor: float) -> None:
    """Wallpaper, tiles or bricks."""
    u, v = frame.x, frame.y
    kind, size = int(rng.integers(4)), float(rng.uniform(0.035, 0.08))
    edge = frame.px / size * 1.5
    if kind == 0:  # stripes
        phase = u / np.float32(size) + 0 * v
        mark = smoothstep(0.25 - edge, 0.25 + edge, np.abs(phase - np.round(phase)))
    elif kind == 1:  # dots
        row = np.round(v / np.float32(size))
        shifted = u / np.float32(size) + 0.5 * np.mod(row, 2)
        r = np.hypot(shifted - np.round(shifted), v / np.float32(size) - row)
        mark = 1.0 - smoothstep(0.26 - edge, 0.26 + edge, f32(r))
    elif kind == 2:  # tiles
        a, b = u / np.float32(size * 1.6), v / np.float32(size * 1.6)
        joint = np.minimum(0.5 - np.abs(a - np.round(a)), 0.5 - np.abs(b - np.round(b)))
        mark = 1.0 - smoothstep(0.02, 0.02 + edge + 0.02, f32(np.abs(joint)))
    else:  # bricks
        row = np.floor(v / np.float32(size * 0.6))
        a = u / np.float32(size * 1.5) + 0.5 * np.mod(row, 2)
        b = v / np.float32(size * 0.6) - row
        joint = np.minimum(0.5 - np.abs(a - np.round(a)), np.minimum(b, 1 - b) * 0.5)
        shade = np.mod(np.sin(row * 12.9898 + np.round(a) * 78.233) * 437.5, 1.0)
        out *= rgb3(0.86 + 0.22 * f32(shade))
        mark = 1.0 - smoothstep(0.03, 0.05 + edge, f32(joint))
    paint_into(out, f32(scene.wall2), f32(mark))
    if floor < 1.1:
        _floor(out, scene, rng, frame, floor)
    out[:] = blur(out, 0.35 * scene.defocus * frame.shape[0])


_PAINTERS: dict[str, Callable[[Float, SceneSpec, np.random.Generator, Grid, float], None]] = {
    "plain": _plain,
    "gradient": _gradient,
    "texture": _texture,
    "room": _room,
    "street": _street,
    "park": _park,
    "pattern": _pattern,
}
