"""Walks: a simulated person who sways, turns, swings both arms and comes nearer, a frame at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from tryon.data.simulator import ArmPose, FigureSpec, SimulatorConfig, sample_specs
from tryon.data.simulator.geometry import Point
from tryon.data.simulator.render import render
from tryon.sample import Row

STEPS_PER_S = 0.9  # pairs of steps
SWAY, TURN, SWING, COMES, DRIFT = 0.05, 0.16, 0.16, 0.10, 0.03
NOISE = 2.0  # of the camera, standard deviation, new in each frame
TOPS = SimulatorConfig(categories=("upper",))


def walk(
    seed: int, num: int, height: int, width: int, rate: float = 25.0, config: SimulatorConfig = TOPS
) -> Iterator[Row]:
    """Draws a walk.

    Args:
        seed: of person, garment, scene and camera noise.
        num: frames.
        height: px, see `simulate`.
        width: px.
        rate: frames a second.
        config: what is drawn.

    Yields:
        Rows as `simulate` returns them; `id` is the frame's number. Background and garment photo stay the same.
    """
    figure, garment, scene = sample_specs(seed, 0, config)
    noise = np.random.default_rng([seed, num])
    for number in range(num):
        seconds = number / rate
        phase = 2 * math.pi * STEPS_PER_S * seconds
        moved = _stepped(figure, phase)
        nearer = replace(
            scene,
            head_size=scene.head_size * (1 + COMES * seconds / 4),
            shift=scene.shift + DRIFT * math.sin(phase / 3),
        )
        row = render(moved, garment, nearer, height, width)
        grain = noise.normal(0, NOISE, row["person"].shape)
        person = np.clip(np.rint(row["person"] + grain), 0, 255).astype(np.uint8)
        yield {"id": f"{number:08d}", **row, "person": person}


def _stepped(figure: FigureSpec, phase: float) -> FigureSpec:
    moved = replace(
        figure,
        lean=figure.lean + SWAY * math.sin(phase),
        yaw=figure.yaw + TURN * math.sin(phase / 2),
        head_yaw=figure.head_yaw + TURN * math.sin(phase / 2),
    )
    left, right = (_swung(figure, moved, side, SWING * math.sin(phase + side)) for side in (1, -1))
    return replace(moved, left_arm=left, right_arm=right)


def _swung(figure: FigureSpec, moved: FigureSpec, side: int, angle: float) -> ArmPose:
    """The arm taken along by its shoulder and turned about it."""
    before, now, arm = figure.shoulder_joint(side), moved.shoulder_joint(side), figure.arm_pose(side)

    def turned(point: Point) -> Point:
        x, y = point[0] - before[0], point[1] - before[1]
        return now[0] + x * math.cos(angle) - y * math.sin(angle), now[1] + x * math.sin(angle) + y * math.cos(angle)

    return replace(arm, elbow=turned(arm.elbow), wrist=turned(arm.wrist), hand_angle=arm.hand_angle - angle)
