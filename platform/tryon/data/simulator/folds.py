"""Folds of worn cloth, as heights (heads) added to the body's before it is lit."""

from __future__ import annotations

import math

import numpy as np

from tryon.data.simulator.body import ArmFrame
from tryon.data.simulator.figure import UPPER_ARM, ArmPose, FigureSpec
from tryon.data.simulator.garment import GarmentSpec
from tryon.data.simulator.geometry import Float, Point, f32

AMPLITUDE = {"slim": 0.6, "regular": 1.0, "loose": 1.5}


def _ridge(x: Float, y: Float, at: Point, angle: float, length: float, width: float) -> Float:
    """A soft ridge around a point, along an angle (radians from the x axis), slightly bent."""
    c, s = math.cos(angle), math.sin(angle)
    dx, dy = x - np.float32(at[0]), y - np.float32(at[1])
    along = dx * np.float32(c) + dy * np.float32(s)
    across = dy * np.float32(c) - dx * np.float32(s) + np.float32(0.25 / length) * along * along
    return f32(np.exp(-((along * np.float32(1 / length)) ** 2) - (across * np.float32(1 / width)) ** 2))


def trunk_folds(garment: GarmentSpec, figure: FigureSpec, x: Float, y: Float) -> Float:
    """Folds of the trunk panel at flat points: pulls from the armpits, creases at the waist, drop folds at the hem."""
    rng = np.random.Generator(np.random.PCG64([garment.detail_seed, figure.detail_seed]))
    size = AMPLITUDE[garment.fit]
    out = np.zeros(np.broadcast(x, y).shape, np.float32)
    for side in (1, -1):
        for _ in range(2):
            at = (side * rng.uniform(0.45, 0.68), rng.uniform(0.62, 0.92))
            angle = side * -rng.uniform(0.5, 1.1)
            out += np.float32(size * rng.uniform(0.010, 0.022)) * _ridge(x, y, at, angle, rng.uniform(0.2, 0.32), 0.045)
        for _ in range(3):
            at = (side * rng.uniform(0.15, 0.6), rng.uniform(1.25, 1.9))
            angle = side * rng.uniform(-0.1, 0.5)
            out += np.float32(size * rng.uniform(0.010, 0.022)) * _ridge(x, y, at, angle, rng.uniform(0.2, 0.4), 0.055)
    # Drop folds hang from the bust and open towards the hem.
    sway = x + np.float32(0.05) * np.sin(y * 2.3 + np.float32(rng.uniform(0, 6)))
    waves = np.sin(sway * np.float32(rng.uniform(7, 11)) + np.float32(rng.uniform(0, 6)))
    open_up = np.clip((y - 1.0) * np.float32(0.75), 0.0, 1.2)
    out += np.float32(0.012 * (size - 0.35)) * waves * open_up
    return out


def sleeve_folds(garment: GarmentSpec, pose: ArmPose, joint: Point, frame: ArmFrame) -> Float:
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
