"""Layers of the picture and the light that falls on them."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from tryon.data.simulator.geometry import Color, Float, Window, f32


@dataclass(frozen=True)
class Light:
    """A key light with ambient fill.

    Attributes:
        direction: unit vector towards the light; x right, y down, z towards the camera.
        ambient: share of light without direction, 0..1.
        tint: RGB factor of the key light, near 1.
    """

    direction: tuple[float, float, float]
    ambient: float
    tint: Color


@dataclass(frozen=True)
class Layer:
    """One painted layer.

    Attributes:
        window: rows and columns of the canvas it covers.
        alpha: (h, w), 0..1.
        rgb: (h, w, 3), 0..1.
        label: ATR class of its pixels in the parse.
        shaded: arms and head throw their shadow on it.
        cloth: part of the clothes, which arms lie upon.
        hides: (h, w) what it hides of the garment below; None: `alpha`.
        extent: (h, w) whose upper half is its place in the parse; None: `alpha`.
        upon_cloth: painted only where clothes lie below it: an arm whose bare form is another layer.
    """

    window: Window
    alpha: Float
    rgb: Float
    label: int
    shaded: bool = False
    cloth: bool = False
    hides: Float | None = None
    extent: Float | None = None
    upon_cloth: bool = False


def overlap(a: Window, b: Window) -> tuple[Window, Window] | None:
    """The common part of two windows, as slices into each; None when they do not meet."""
    starts = [max(p.start, q.start) for p, q in zip(a, b, strict=True)]
    stops = [min(p.stop, q.stop) for p, q in zip(a, b, strict=True)]
    if any(start >= stop for start, stop in zip(starts, stops, strict=True)):
        return None
    in_a, in_b = (
        tuple(slice(s - w.start, e - w.start) for s, e, w in zip(starts, stops, window, strict=True))
        for window in (a, b)
    )
    return (in_a[0], in_a[1]), (in_b[0], in_b[1])


def shade(height: Float, px: float, light: Light) -> Float:
    """Brightness of a surface given as a height field: about 1 where it faces the camera, less where it turns away.

    Args:
        height: (H, W) towards the camera, heads.
        px: heads a pixel.
        light: the light.
    """
    if min(height.shape) < 2:
        return f32(np.ones_like(height))
    gy, gx = _gradient(height, px)
    norm = 1.0 / np.sqrt(1.0 + gx * gx + gy * gy)
    lx, ly, lz = light.direction
    lambert = (np.float32(lz) - np.float32(lx) * gx - np.float32(ly) * gy) * norm
    wrapped = np.maximum(lambert + np.float32(0.25), 0.0) * np.float32(1.0 / (lz + 0.25))
    facing = np.float32(0.80) + np.float32(0.20) * norm
    return f32((light.ambient + (1.0 - light.ambient) * wrapped) * facing)


def _gradient(height: Float, px: float) -> tuple[Float, Float]:
    """Slopes down and across, -3..3, by central differences."""
    gy, gx = np.empty_like(height), np.empty_like(height)
    np.subtract(height[2:], height[:-2], out=gy[1:-1])
    np.subtract(height[:, 2:], height[:, :-2], out=gx[:, 1:-1])
    gy[0], gy[-1] = 2 * (height[1] - height[0]), 2 * (height[-1] - height[-2])
    gx[:, 0], gx[:, -1] = 2 * (height[:, 1] - height[:, 0]), 2 * (height[:, -1] - height[:, -2])
    for slope in (gy, gx):
        slope *= np.float32(0.5 / px)
        np.clip(slope, -3, 3, out=slope)
    return gy, gx


def tinted(rgb: Float | Color, brightness: Float, light: Light, *, skin: bool = False) -> Float:
    """Colour under a brightness; shadows on skin grow warmer, as light scatters in it."""
    power = (0.80, 1.02, 1.12) if skin else (0.97, 1.0, 1.02)
    log = np.log(np.maximum(brightness, np.float32(1e-3)))
    color = np.asarray(rgb, dtype=np.float32)
    one = color.ndim == 1
    planes = [
        np.exp(log * np.float32(p)) * np.float32(light.tint[c] * (color[c] if one else 1.0))
        for c, p in enumerate(power)
    ]
    lit = f32(cv2.merge(planes))
    if not one:
        lit *= color
    return np.minimum(lit, np.float32(0.45) + np.float32(0.5) * lit)  # highlights above 0.9 roll off
