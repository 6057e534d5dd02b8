"""Drawing tools the simulator is built from: a grid in body units, distance fields, splines, noise.

Lengths are in *heads* (chin to crown of the figure is 1), x to the right and y down; the canvas grid
says how many heads a pixel is, so the same shapes draw alike at every resolution. Distance fields are
positive inside, in heads. Shapes are anti-aliased by `coverage`, never by supersampling.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

Float: TypeAlias = npt.NDArray[np.float32]
UInt8: TypeAlias = npt.NDArray[np.uint8]
Window: TypeAlias = tuple[slice, slice]
Point: TypeAlias = tuple[float, float]
Color: TypeAlias = tuple[float, float, float]


@dataclass(frozen=True)
class Grid:
    """Pixel centres of a canvas, or of a window of it, in heads.

    Attributes:
        x: float32 (1, W), heads.
        y: float32 (H, 1), heads.
        px: heads a pixel.
        window: rows and columns of the canvas that this grid covers.
    """

    x: Float
    y: Float
    px: float
    window: Window

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width, px."""
        return self.y.shape[0], self.x.shape[1]

    def crop(self, x0: float, y0: float, x1: float, y1: float) -> Grid:
        """The part of the grid inside a box in heads; at least one pixel, clipped to the canvas."""
        rows = _span(self.y[:, 0], y0, y1)
        cols = _span(self.x[0], x0, x1)
        top, left = self.window[0].start, self.window[1].start
        window = (slice(top + rows.start, top + rows.stop), slice(left + cols.start, left + cols.stop))
        return Grid(self.x[:, cols], self.y[rows], self.px, window)

    def around(self, points: Sequence[Point], margin: float) -> Grid:
        """The part of the grid around points, with a margin in heads."""
        xs, ys = [p[0] for p in points], [p[1] for p in points]
        return self.crop(min(xs) - margin, min(ys) - margin, max(xs) + margin, max(ys) + margin)


def _span(axis: Float, low: float, high: float) -> slice:
    start = int(np.searchsorted(axis, low))
    stop = int(np.searchsorted(axis, high))
    start = min(max(start, 0), axis.size - 1)
    return slice(start, max(stop, start + 1))


def make_grid(height: int, width: int, scale: float, origin_x: float, origin_y: float) -> Grid:
    """Grid of a canvas: pixel (i, j) has its centre at ((j + 0.5, i + 0.5) - origin) / scale.

    Args:
        height: px.
        width: px.
        scale: px a head.
        origin_x: px position of x = 0.
        origin_y: px position of y = 0.
    """
    x = ((np.arange(width) + 0.5 - origin_x) / scale).astype(np.float32)[None, :]
    y = ((np.arange(height) + 0.5 - origin_y) / scale).astype(np.float32)[:, None]
    return Grid(x, y, 1.0 / scale, (slice(0, height), slice(0, width)))


def f32(array: Any) -> Float:
    """As float32."""
    return np.asarray(array, dtype=np.float32)


def rgb3(gray: Float) -> Float:
    """A grey image, (H, W), as three equal channels: numpy takes sixteen times as long over `gray[..., None]`."""
    if gray.size == 0:
        return np.zeros((*gray.shape, 3), np.float32)
    plane = f32(gray)
    return f32(cv2.merge((plane, plane, plane)))


def coverage(distance: Float, px: float) -> Float:
    """Share of each pixel that a shape covers, 0..1, from its distance field."""
    return np.clip(distance * np.float32(1.0 / px) + np.float32(0.5), 0.0, 1.0)


def smoothstep(low: float, high: float, x: Float) -> Float:
    """0 below `low`, 1 above `high`, a smooth cubic between."""
    t = np.clip((x - np.float32(low)) * np.float32(1.0 / (high - low)), 0.0, 1.0)
    return f32(t * t * (3.0 - 2.0 * t))


def smooth_max(a: Float, b: Float, radius: float) -> Float:
    """Maximum of two fields with a fillet of the given radius (heads)."""
    h = np.maximum(np.float32(radius) - np.abs(a - b), 0.0) * np.float32(1.0 / radius)
    return f32(np.maximum(a, b) + h * h * np.float32(radius * 0.25))


def ellipse(x: Float, y: Float, cx: float, cy: float, rx: float, ry: float) -> Float:
    """Approximate distance field of an axis-aligned ellipse."""
    ux, uy = (x - cx) / np.float32(rx), (y - cy) / np.float32(ry)
    k = np.sqrt(ux * ux + uy * uy)
    slope = np.sqrt((ux / rx) ** 2 + (uy / ry) ** 2) + np.float32(1e-6)
    return f32((1.0 - k) * np.maximum(k, 1e-3) / slope)


def capsule(x: Float, y: Float, start: Point, end: Point, r0: float, r1: float) -> Float:
    """Distance field of a capsule whose radius goes from `r0` at `start` to `r1` at `end`."""
    ax, ay = end[0] - start[0], end[1] - start[1]
    length2 = max(ax * ax + ay * ay, 1e-9)
    px, py = x - np.float32(start[0]), y - np.float32(start[1])
    t = np.clip((px * np.float32(ax) + py * np.float32(ay)) * np.float32(1.0 / length2), 0.0, 1.0)
    dx, dy = px - t * np.float32(ax), py - t * np.float32(ay)
    return f32(r0 + (r1 - r0) * t - np.sqrt(dx * dx + dy * dy))


def spline(x: Float, knots: Sequence[float], values: Sequence[float], blur: float = 0.08) -> Float:
    """A smooth curve near the knots: their polyline, smoothed by a Gaussian of sigma `blur`."""
    table_x, table = _spline_table(tuple(knots), tuple(values), blur)
    # A table lookup with linear interpolation; np.interp's binary search is five times slower.
    step = (table_x[-1] - table_x[0]) / (table.size - 1)
    at = np.clip((x - np.float32(table_x[0])) * np.float32(1.0 / step), 0.0, table.size - 1.001)
    cell = at.astype(np.int32)
    left = table[cell]
    return f32(left + (table[cell + 1] - left) * (at - cell))


@functools.lru_cache(maxsize=64)
def _spline_table(knots: tuple[float, ...], values: tuple[float, ...], blur: float) -> tuple[Float, Float]:
    table_x = np.linspace(knots[0], knots[-1], 256)
    pad = 64
    table = np.pad(np.interp(table_x, knots, values), pad, mode="reflect", reflect_type="odd")
    sigma = max(blur / (table_x[1] - table_x[0]), 0.3)
    taps = np.arange(-pad, pad + 1)
    kernel = np.exp(-0.5 * (taps / min(sigma, pad / 3)) ** 2)
    smooth = np.convolve(table, kernel / kernel.sum(), mode="valid")
    return f32(table_x), f32(smooth)


def noise(rng: np.random.Generator, shape: tuple[int, int], cells: tuple[int, int]) -> Float:
    """Smooth noise of about -1..1 with the given number of cells over the canvas; alike at every resolution."""
    coarse = rng.uniform(-1.0, 1.0, size=cells).astype(np.float32)
    return f32(cv2.resize(coarse, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC))


def blur(image: Float, sigma_px: float) -> Float:
    """Gaussian blur. Wide ones run on a shrunken image, which is as smooth and much cheaper."""
    if sigma_px < 0.2:
        return image
    height, width = image.shape[:2]
    factor = int(min(max(sigma_px // 3, 1), min(height, width) // 4 or 1))
    if factor == 1:
        return f32(cv2.GaussianBlur(image, (0, 0), sigma_px, borderType=cv2.BORDER_REPLICATE))
    size = (max(width // factor, 2), max(height // factor, 2))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), sigma_px / factor, borderType=cv2.BORDER_REPLICATE)
    return f32(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR))


def mix(a: Float | Color, b: Float | Color, t: Float) -> Float:
    """Linear blend of two colours or colour images; `t` is (H, W), 0 gives `a`."""
    first, second = f32(a), f32(b)
    if first.ndim < 3 and second.ndim < 3:
        return f32(first + (second - first) * rgb3(t))
    # Most blends touch a small part of the picture (a seam, a lip): work on that part alone.
    shape = np.broadcast_shapes(first.shape, second.shape, (*t.shape, 1))
    t = np.broadcast_to(t, shape[:2])
    out = np.array(np.broadcast_to(first, shape), dtype=np.float32)
    rows, cols = support(t)
    weight = rgb3(t[rows, cols])
    base = out[rows, cols]
    over = second if second.ndim < 3 or second.shape[:2] == (1, 1) else np.broadcast_to(second, shape)[rows, cols]
    base += (over - base) * weight
    return out


def paint_into(rgb: Float, color: Float, alpha: Float) -> None:
    """Blends a colour, (3,), or a colour image, (H, W, 3), into an image of the same size, in place."""
    alpha = np.broadcast_to(alpha, rgb.shape[:2])
    rows, cols = support(alpha)
    part = rgb[rows, cols]
    over = color if color.ndim == 1 else color[rows, cols]
    part += (over - part) * rgb3(alpha[rows, cols])


def support(t: Float) -> Window:
    """Window of the rows and columns in which `t` is not 0."""
    rows = np.flatnonzero(t.any(axis=1))
    if rows.size == 0:
        return slice(0, 0), slice(0, 0)
    cols = np.flatnonzero(t.any(axis=0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(cols[0]), int(cols[-1]) + 1)


def rotate(x: Float, y: Float, centre: Point, angle_rad: float) -> tuple[Float, Float]:
    """Coordinates in a frame turned by an angle (clockwise on the screen) about a centre; centre-relative."""
    dx, dy = x - np.float32(centre[0]), y - np.float32(centre[1])
    c, s = np.float32(np.cos(angle_rad)), np.float32(np.sin(angle_rad))
    return f32(dx * c + dy * s), f32(dy * c - dx * s)
