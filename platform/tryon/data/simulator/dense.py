"""The dense map: which part of the body, and where on it, every pixel of the bare body shows.

Parts are those of DensePose (Güler et al., CVPR 2018), as its results for people seen from the front have them: 2 the
front of the trunk; 3 and 4 the right and left hand; 5 and 6 the left and right foot; 9 and 10 the front of the right
and left upper leg; 13 and 14 of the lower leg; 15 and 16 the inner side of the left and right upper arm, 17 and 18 its
outer side; 19 to 22 likewise the lower arms; 23 and 24 the right and left half of the head. Nobody here shows the
back, so 1, 7, 8, 11 and 12 do not occur.

The charts are the figure's own, 0..255, and run as those of `tryon.stages.dense`: U along each part, away from the
trunk (down the trunk and the head), V across it, from the person's right to the left as the limb hangs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tryon.data.simulator.anatomy import ANKLE_Y, FOREARM, HIP_Y, KNEE_Y, UPPER_ARM
from tryon.data.simulator.geometry import Float, Grid, UInt8, Window, f32

OUTER_UPPER, OUTER_LOWER = 0.4, -0.2  # of an arm's radius, from which on its outer side is seen


@dataclass(frozen=True)
class Piece:
    """Parts of the body in a window of the canvas.

    Attributes:
        window: rows and columns of the canvas.
        on: (h, w) bool.
        iuv: uint8 (h, w, 3).
    """

    window: Window
    on: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]
    iuv: UInt8

    @staticmethod
    def of(grid: Grid, cover: Float, part: UInt8 | int, u: Float, v: Float) -> Piece:
        """From coverage, part numbers and chart coordinates in 0..1."""
        iuv = np.empty((*cover.shape, 3), np.uint8)
        iuv[..., 0] = part
        iuv[..., 1] = np.clip(u * np.float32(255), 0, 255)
        iuv[..., 2] = np.clip(v * np.float32(255), 0, 255)
        return Piece(grid.window, cover > 0.5, iuv)

    @staticmethod
    def flat(grid: Grid, cover: Float, part: UInt8 | int, x: Float, y: Float, half: float, height: float) -> Piece:
        """A part whose chart is the image plane: V is x from -half to half, U is y from 0 to height, heads."""
        return Piece.of(grid, cover, part, f32(y / height), f32((x + half) / (2 * half)))


def leg_piece(side: int, grid: Grid, cover: Float, d: Float, radius: Float) -> Piece:
    """Upper and lower leg; `d` is the distance from the middle line, outwards positive."""
    lower = grid.y > KNEE_Y
    upper_part, lower_part = (10, 14) if side > 0 else (9, 13)
    u = np.where(lower, (grid.y - KNEE_Y) / (ANKLE_Y - KNEE_Y), (grid.y - HIP_Y) / (KNEE_Y - HIP_Y))
    part = np.where(lower, lower_part, upper_part).astype(np.uint8)
    return Piece.of(grid, cover, np.broadcast_to(part, cover.shape), f32(u), f32(0.5 + 0.5 * side * d / radius))


def arm_piece(side: int, grid: Grid, cover: Float, t: Float, d: Float, radius: Float, hand: UInt8) -> Piece:
    """Upper arm, lower arm and hand.

    Args:
        side: +1 the person's left.
        grid: where.
        cover: (h, w) coverage.
        t: (h, w) length along the arm, heads.
        d: (h, w) distance across it, outwards positive, heads.
        radius: (h, w) of the arm, heads.
        hand: (h, w) nonzero on the hand.
    """
    lower = t > UPPER_ARM
    inner_upper, inner_lower, palm = (15, 19, 4) if side > 0 else (16, 20, 3)
    part = np.where(lower, inner_lower, inner_upper) + 2 * (d > np.where(lower, OUTER_LOWER, OUTER_UPPER) * radius)
    u = np.where(lower, (t - UPPER_ARM) / FOREARM, t / UPPER_ARM)
    v = 0.5 + 0.5 * side * d / radius
    on_hand = hand > 0
    u = np.where(on_hand, (t - np.float32(UPPER_ARM + FOREARM)) / np.float32(0.62), u)
    v = np.where(on_hand, 0.5 + side * d / np.float32(0.5), v)
    return Piece.of(grid, cover, np.where(on_hand, palm, part).astype(np.uint8), f32(u), f32(v))


def compose(pieces: Sequence[Piece], shape: tuple[int, int]) -> UInt8:
    """The map, uint8 (H, W, 3); later pieces lie over earlier ones."""
    out = np.zeros((*shape, 3), np.uint8)
    for piece in pieces:
        out[piece.window][piece.on] = piece.iuv[piece.on]
    return out
