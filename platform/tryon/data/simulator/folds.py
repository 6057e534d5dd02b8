"""Folds of worn cloth, as heights (heads) added to the body's before it is lit."""

from __future__ import annotations

import math

import numpy as np

from tryon.data.simulator.anatomy import UPPER_ARM
from tryon.data.simulator.body import ArmFrame
from tryon.data.simulator.figure import ArmPose, FigureSpec
from tryon.data.simulator.geometry import Float, Point, f32, smoothstep
from tryon.data.simulator.tops import HIP, TopSpec

AMPLITUDE = {"slim": 0.6, "regular": 1.0, "loose": 1.5}


def ridge(x: Float, y: Float, at: Point, angle: float, length: float, width: float) -> Float:
    """A soft ridge around a point, along an angle (radians from the x axis), slightly bent."""
    c, s = math.cos(angle), math.sin(angle)
    dx, dy = x - np.float32(at[0]), y - np.float32(at[1])
    along = dx * np.float32(c) + dy * np.float32(s)
    across = dy * np.float32(c) - dx * np.float32(s) + np.float32(0.25 / length) * along * along
    return f32(np.exp(-((along * np.float32(1 / length)) ** 2) - (across * np.float32(1 / width)) ** 2))


def add_ridge(
    out: Float, x: Float, y: Float, at: Point, angle: float, length: float, width: float, high: float
) -> None:
    """Adds a soft ridge of height `high` around a point to `out`, in place, on the rows that it can reach."""
    reach = 2.2 * (length * abs(math.sin(angle)) + 0.25 * length + width)
    near = np.flatnonzero(np.abs(y[:, y.shape[1] // 2] - at[1]) < reach)
    if near.size:
        rows = slice(int(near[0]), int(near[-1]) + 1)
        out[rows] += np.float32(high) * ridge(x[rows], y[rows], at, angle, length, width)


def trunk_folds(garment: TopSpec, figure: FigureSpec, x: Float, y: Float) -> Float:
    """Folds of the trunk panel at flat points: pulls from the armpits, creases at the waist, drop folds at the hem."""
    rng = np.random.Generator(np.random.PCG64([garment.detail_seed, figure.detail_seed]))
    size = AMPLITUDE[garment.fit]
    out = np.zeros(np.broadcast(x, y).shape, np.float32)
    for side in (1, -1):
        for _ in range(2):
            at = (side * rng.uniform(0.45, 0.68), rng.uniform(0.62, 0.92))
            high, angle = size * rng.uniform(0.010, 0.024), side * -rng.uniform(0.5, 1.1)
            add_ridge(out, x, y, at, angle, rng.uniform(0.2, 0.32), 0.045, high)
        for _ in range(3):
            at = (side * rng.uniform(0.15, 0.6), rng.uniform(1.25, 1.9))
            high, angle = size * rng.uniform(0.007, 0.019), side * rng.uniform(-0.1, 0.5)
            add_ridge(out, x, y, at, angle, rng.uniform(0.2, 0.4), 0.055, high)
    rates = rng.uniform(0, 6), rng.uniform(7, 11), rng.uniform(0, 6)
    if garment.category != "dress":
        # Drop folds hang from the bust and open towards the hem.
        sway = x + np.float32(0.05) * np.sin(y * np.float32(2.3) + np.float32(rates[0]))
        waves = np.sin(sway * np.float32(rates[1]) + np.float32(rates[2]))
        out += np.float32(0.012 * (size - 0.35)) * waves * np.clip((y - 1.0) * np.float32(0.75), 0.0, 1.2)
    return out


def dress_folds(garment: TopSpec, figure: FigureSpec, s: Float, y: Float) -> Float:
    """Folds of a dress's skirt, heads; `s` is the place across it, -1..1, and `y` its flat y."""
    rng = np.random.Generator(np.random.PCG64([garment.detail_seed, figure.detail_seed, 1]))
    depth = 0.008 + 0.28 * max(garment.hem_width - garment.hip, 0.0)
    return hanging_folds(rng, s, y, start=1.75, end=max(garment.length, HIP + 0.8), depth=depth)


def hanging_folds(rng: np.random.Generator, s: Float, y: Float, *, start: float, end: float, depth: float) -> Float:
    """Folds that begin at `start` and deepen down to `end`: waves across the cloth that sway and differ in depth."""
    n1, n2 = rng.uniform(9, 13), rng.uniform(4, 6)
    phases = [np.float32(p) for p in rng.uniform(0, 6.28, 4)]
    bent = s + np.float32(0.035) * np.sin(y * np.float32(1.7) + phases[0])
    wave = np.sin(bent * np.float32(n1) + phases[1]) * (1.0 + np.float32(0.5) * np.sin(s * np.float32(n2) + phases[2]))
    wave += np.float32(0.5) * np.sin(bent * np.float32(n1 * 1.7) + phases[3])
    opened = smoothstep(start, end, y)
    return f32(np.float32(0.55 * depth) * wave * (opened * np.float32(0.85) + np.float32(0.15) * (opened > 0)))


def sleeve_folds(garment: TopSpec, pose: ArmPose, joint: Point, frame: ArmFrame) -> Float:
    """Folds of a sleeve: rings at a bent elbow, creases below the shoulder, gathers at the cuff."""
    rng = np.random.Generator(np.random.PCG64([garment.detail_seed, 7]))
    size = AMPLITUDE[garment.fit]
    u, v = np.subtract(pose.elbow, joint), np.subtract(pose.wrist, pose.elbow)
    bend = abs(math.remainder(math.atan2(v[1], v[0]) - math.atan2(u[1], u[0]), 2 * math.pi))
    tilt = frame.t + np.float32(rng.uniform(0.3, 0.7)) * frame.d
    near = np.exp(-(((frame.t - np.float32(UPPER_ARM)) * np.float32(1 / 0.30)) ** 2))
    out = np.float32(size * (0.008 + 0.014 * min(bend, 1.6))) * near * np.sin(tilt * 26 + np.float32(rng.uniform(0, 6)))
    upper = np.exp(-(((frame.t - np.float32(0.55)) * np.float32(1 / 0.35)) ** 2))
    out += np.float32(0.007 * size) * upper * np.sin((frame.t - 1.4 * frame.d) * 15 + np.float32(rng.uniform(0, 6)))
    if garment.sleeve_length > 1.9:
        cuff = np.exp(-(((frame.t - np.float32(garment.sleeve_length - 0.18)) * np.float32(1 / 0.20)) ** 2))
        out += np.float32(0.009 * size) * cuff * np.sin((frame.t + 0.3 * frame.d) * 34)
    return f32(out)
