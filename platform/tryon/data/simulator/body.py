"""The figure's trunk and arms as distance fields and height fields (both in heads)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tryon.data.simulator.anatomy import ARMPIT_Y, FOREARM, NECK_Y, UPPER_ARM
from tryon.data.simulator.figure import ArmPose, FigureSpec
from tryon.data.simulator.geometry import (
    Float,
    Grid,
    Point,
    Window,
    capsule,
    f32,
    smooth_max,
    smoothstep,
    spline,
    support,
)


@dataclass(frozen=True)
class Trunk:
    """Trunk coordinates of a grid.

    Attributes:
        x: (H, W) distance right of the trunk's middle line, heads.
        half_width: (H, 1) half-width of the bare trunk, heads.
        depth: (H, W) depth below the shoulder line, heads; negative above it.
        top: (H, W) y of the shoulder line, heads.
    """

    x: Float
    half_width: Float
    depth: Float
    top: Float


def half_width(figure: FigureSpec, y: Float) -> Float:
    """Half-width of the bare trunk at heights y, heads."""
    knots = (1.0, 1.5, 1.75, ARMPIT_Y, 2.4, 2.85, 3.3, 3.75, 4.3)
    rib = 0.55 * figure.chest + 0.45 * figure.waist
    high_hip = 0.45 * figure.waist + 0.55 * figure.hip
    s, c = figure.shoulder, figure.chest
    return spline(y, knots, (s, s, 0.5 * (s + c), c, rib, figure.waist, high_hip, figure.hip, figure.hip), 0.12)


def shoulder_line(figure: FigureSpec, ax: Float) -> Float:
    """Y of the shoulder line at a distance from the middle line, heads."""
    neck = figure.neck * 0.95
    t = np.clip((ax - neck) * np.float32(1.0 / (figure.shoulder - neck)), 0.0, 1.6)
    return f32(NECK_Y + (figure.tip_y - NECK_Y) * (0.15 * np.sqrt(t + 0.03) - 0.026 + 0.86 * t))


def trunk_fields(figure: FigureSpec, grid: Grid) -> Trunk:
    """Trunk coordinates of a grid."""
    centre = np.maximum(3.9 - grid.y, 0.0) * np.float32(figure.lean / 2.5)
    x = f32(grid.x - centre)
    top = shoulder_line(figure, np.abs(x))
    return Trunk(x, half_width(figure, grid.y), f32(grid.y - top), top)


def trunk_distance(figure: FigureSpec, grid: Grid, trunk: Trunk) -> Float:
    """Distance field of trunk and neck."""
    ax = np.abs(trunk.x)
    body = np.minimum(np.minimum(trunk.half_width - ax, trunk.depth * 0.9), 3.9 - grid.y)
    hx, hy = figure.head_centre
    base = (figure.centre(1.5), 1.6)
    neck = capsule(grid.x, grid.y, (hx, hy + 0.25), base, figure.neck * 0.98, figure.neck * 1.05)
    return smooth_max(f32(body), neck, 0.16)


def trunk_height(figure: FigureSpec, grid: Grid, trunk: Trunk, half: Float, soften: float) -> Float:
    """Height of the trunk's front for a silhouette of half-width `half`.

    Args:
        figure: the figure.
        grid: where.
        trunk: its trunk coordinates.
        half: (H, 1) or (H, W) half-width of the silhouette, heads.
        soften: 0 for skin; larger values (cloth) flatten the modelling.
    """
    # At the shoulders the trunk goes on into the arms: its dome must not fall off before them.
    s = np.clip(trunk.x / (half + 0.24 * (1.0 - smoothstep(1.55, 2.05, grid.y))), -1.0, 1.0)
    round_top = np.clip(trunk.depth * np.float32(1 / 0.30), 0.0, 1.0)
    dome = np.sqrt(np.maximum(1.0 - s * s, 0.0)) * np.sqrt(round_top * (2.0 - round_top))
    shift = 0.30 * math.sin(figure.yaw)
    fem, keep = figure.femininity, 1.0 - 0.5 * soften
    reach = (0.30 + 0.02 * fem) * figure.chest / 0.72
    bumps = np.zeros(grid.shape, np.float32)
    rows, _ = support(f32(np.abs(grid.y - 2.0) < 0.8))
    dy = (grid.y[rows] - np.float32(2.0 + 0.06 * fem)) * np.float32(1 / (0.20 + 0.12 * soften))
    fall = np.exp(-dy * dy) * np.float32((0.05 + 0.10 * fem) * keep)
    for side in (-1, 1):
        dx = (trunk.x[rows] - np.float32(side * reach + shift)) * np.float32(1 / (0.21 + 0.1 * soften))
        bumps[rows] += np.exp(-(dx * dx)) * fall
    s2 = s * s
    return f32(dome * np.float32(0.40) + bumps * (1.0 - s2 * s2))


@dataclass(frozen=True)
class ArmFrame:
    """Coordinates along one arm.

    Attributes:
        t: (H, W) length along the arm from the shoulder joint, in heads of a stretched-out arm.
        d: (H, W) signed distance across it, heads, outwards positive.
        lower: (H, W) weight of the forearm, 0..1.
        seam: (H, W) signed distance from the armhole seam, heads, positive on the arm's side.
        free: (H, W) like `seam`, but positive on the whole arm below the armpit: where the arm is its own surface.
    """

    t: Float
    d: Float
    lower: Float
    seam: Float
    free: Float


ARMPIT_T = 0.46  # along the arm, where it leaves the trunk


def arm_points(figure: FigureSpec, side: int) -> tuple[Point, ArmPose]:
    """Shoulder joint and pose of one arm."""
    return figure.shoulder_joint(side), figure.arm_pose(side)


def _along(grid: Grid, start: Point, end: Point, nominal: float, side: int) -> tuple[Float, Float]:
    dx, dy = end[0] - start[0], end[1] - start[1]
    length = math.hypot(dx, dy)
    ux, uy = np.float32(dx / length), np.float32(dy / length)
    px, py = grid.x - np.float32(start[0]), grid.y - np.float32(start[1])
    t = (px * ux + py * uy) * np.float32(nominal / length)
    return f32(t), f32((px * uy - py * ux) * np.float32(side))


def seam_distance(figure: FigureSpec, grid: Grid, side: int, tip: float, under: float) -> Float:
    """Signed distance from the armhole seam, positive on the arm's side.

    Args:
        figure: the figure.
        grid: where.
        side: +1 the person's left.
        tip: distance of the seam's upper end from the middle line, heads.
        under: distance of its lower end (in the armpit), heads.
    """
    ax, ay = figure.centre(figure.tip_y) + side * tip, figure.tip_y
    bx, by = figure.centre(ARMPIT_Y) + side * under, ARMPIT_Y
    length = math.hypot(bx - ax, by - ay)
    nx, ny = side * (by - ay) / length, -side * (bx - ax) / length
    return f32((grid.x - np.float32(ax)) * np.float32(nx) + (grid.y - np.float32(ay)) * np.float32(ny))


def arm_frame(figure: FigureSpec, grid: Grid, side: int, tip: float, under: float) -> ArmFrame:
    """Coordinates along one arm; `tip` and `under` as in `seam_distance`."""
    joint, pose = arm_points(figure, side)
    t1, d1 = _along(grid, joint, pose.elbow, UPPER_ARM, side)
    t2, d2 = _along(grid, pose.elbow, pose.wrist, FOREARM, side)
    u = np.array(pose.elbow) - np.array(joint)
    v = np.array(pose.wrist) - np.array(pose.elbow)
    n = u / np.linalg.norm(u) + v / np.linalg.norm(v)
    n /= max(float(np.linalg.norm(n)), 1e-6)
    along = (grid.x - np.float32(pose.elbow[0])) * np.float32(n[0]) + (grid.y - np.float32(pose.elbow[1])) * np.float32(
        n[1]
    )
    lower = smoothstep(-0.14, 0.14, f32(along))
    t = f32(t1 + (t2 + np.float32(UPPER_ARM) - t1) * lower)
    seam = seam_distance(figure, grid, side, tip, under)
    # From the armpit the arm's inner edge comes down slanted, as the crease between arm and chest does.
    free = np.maximum(seam, t - np.float32(ARMPIT_T) + np.float32(1.25) * np.minimum(seam, 0.0))
    return ArmFrame(t, f32(d1 + (d2 - d1) * lower), lower, seam, f32(free))


def arm_radius(figure: FigureSpec, t: Float) -> Float:
    """Radius of the bare arm at lengths along it, heads."""
    knots = (-0.4, 0.0, 0.5, 1.1, UPPER_ARM, 1.7, 2.1, UPPER_ARM + FOREARM, 3.2)
    shape = (1.10, 1.14, 1.0, 0.86, 0.82, 0.84, 0.66, 0.52, 0.5)
    return spline(t, knots, [figure.arm * v for v in shape], 0.1)


def tube_distance(grid: Grid, joint: Point, pose: ArmPose, radius: Callable[[Float], Float]) -> Float:
    """Distance field of a tube around an arm, its radius a function of the length along it."""
    best: Float | None = None
    parts = ((joint, pose.elbow, 0.0, UPPER_ARM), (pose.elbow, pose.wrist, UPPER_ARM, FOREARM))
    for start, end, offset, nominal in parts:
        ax, ay = end[0] - start[0], end[1] - start[1]
        px, py = grid.x - np.float32(start[0]), grid.y - np.float32(start[1])
        u = np.clip((px * np.float32(ax) + py * np.float32(ay)) * np.float32(1 / (ax * ax + ay * ay)), 0.0, 1.0)
        gap = np.sqrt((px - u * np.float32(ax)) ** 2 + (py - u * np.float32(ay)) ** 2)
        field = f32(radius(f32(offset + nominal * u)) - gap)
        best = field if best is None else smooth_max(best, field, 0.06)
    assert best is not None
    return best


def hand_distance(grid: Grid, pose: ArmPose, side: int, size: float) -> tuple[Float, Float]:
    """Distance field of a hand: palm, four fingers, thumb; and a field of creases between the fingers.

    Args:
        grid: where.
        pose: the arm it belongs to.
        side: +1 the person's left.
        size: 1 for a hand of 0.62 heads.
    """
    a = pose.hand_angle
    ux, uy = -side * math.sin(a), math.cos(a)
    vx, vy = -side * uy, side * ux  # towards the thumb: inwards while the arm hangs

    def at(along: float, across: float) -> Point:
        x = pose.wrist[0] + size * (along * ux + across * vx)
        return x, pose.wrist[1] + size * (along * uy + across * vy)

    box = grid.around((pose.wrist,), 0.68 * size + 0.1)
    palm = capsule(box.x, box.y, at(-0.02, 0.0), at(0.22, 0.0), 0.085 * size, 0.125 * size)
    thumb = capsule(box.x, box.y, at(0.08, 0.08), at(0.27, 0.185), 0.05 * size, 0.032 * size)
    fingers, crease = np.full(box.shape, -9.0, np.float32), np.full(grid.shape, -1.0, np.float32)
    rows, cols = inner_window(grid, box)
    for i, length in enumerate((0.52, 0.585, 0.56, 0.47)):
        across = 0.088 - 0.058 * i
        finger = capsule(box.x, box.y, at(0.2, across), at(length, across * 1.12 - 0.01), 0.036 * size, 0.028 * size)
        crease[rows, cols] = np.maximum(crease[rows, cols], np.minimum(finger, fingers))
        fingers = np.maximum(fingers, finger)
    hand = np.full(grid.shape, -9.0, np.float32)
    hand[rows, cols] = np.maximum(smooth_max(palm, thumb, 0.05), fingers)
    return hand, crease


def inner_window(grid: Grid, part: Grid) -> Window:
    """Where a crop of a grid lies in that grid."""
    rows, cols = part.window
    top, left = grid.window[0].start, grid.window[1].start
    return slice(rows.start - top, rows.stop - top), slice(cols.start - left, cols.stop - left)


def arm_window(grid: Grid, joint: Point, pose: ArmPose) -> Grid:
    """The part of the grid that an arm with its hand can reach."""
    (jx, jy), (ex, ey), (wx, wy) = joint, pose.elbow, pose.wrist
    low = min(jx - 0.3, ex - 0.3, wx - 0.8), min(jy - 0.3, ey - 0.3, wy - 0.8)
    return grid.crop(*low, max(jx + 0.3, ex + 0.3, wx + 0.8), max(jy + 0.3, ey + 0.3, wy + 0.8))
