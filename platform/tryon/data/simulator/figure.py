"""The figure: proportions, skin, hair, face, pose and lower clothes, and the joints that follow.

Lengths are in heads; x = 0 is the middle of the hips and y = 0 is just above the crown of the head. `side` is +1 for
the person's own left, which is on the image's right.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from tryon.data.simulator.geometry import Color, Point
from tryon.sample import Joint

HairStyle = Literal["bald", "short", "crop", "bob", "long", "long-front", "bun", "ponytail"]
LowerKind = Literal["trousers", "jeans", "skirt", "shorts"]
Skeleton: TypeAlias = dict[Joint, Point]

NECK_Y = 1.28  # where the shoulder line meets the neck: a garment's high shoulder point hangs here
JOINT_Y = 1.66
HEAD_Y = 0.60  # middle of the head; its crown is half a head above
UPPER_ARM, FOREARM = 1.32, 1.10
ARM_POSES = ("hang", "hip", "bent", "across", "away", "front")
HAIR_STYLES: tuple[HairStyle, ...] = ("bald", "short", "crop", "bob", "long", "long-front", "bun", "ponytail")

SKIN_TONES: tuple[Color, ...] = (
    (0.96, 0.82, 0.73), (0.93, 0.76, 0.65), (0.87, 0.68, 0.55), (0.78, 0.58, 0.44),
    (0.66, 0.46, 0.33), (0.52, 0.35, 0.25), (0.42, 0.28, 0.20),
)  # fmt: skip
HAIR_COLORS: tuple[Color, ...] = (
    (0.09, 0.07, 0.07), (0.17, 0.11, 0.08), (0.28, 0.18, 0.11), (0.43, 0.28, 0.16),
    (0.62, 0.45, 0.26), (0.78, 0.64, 0.42), (0.50, 0.22, 0.12), (0.55, 0.54, 0.53),
)  # fmt: skip
LOWER_COLORS: tuple[Color, ...] = (
    (0.13, 0.14, 0.17), (0.17, 0.22, 0.34), (0.30, 0.40, 0.55), (0.45, 0.43, 0.40),
    (0.62, 0.55, 0.44), (0.80, 0.77, 0.71), (0.36, 0.20, 0.22), (0.24, 0.32, 0.26), (0.88, 0.88, 0.90),
)  # fmt: skip


@dataclass(frozen=True)
class ArmPose:
    """One arm on the image plane.

    Attributes:
        elbow: elbow position, heads.
        wrist: wrist position, heads.
        hand_angle: direction the hand points, radians clockwise from straight down towards the body's middle.
        in_front: the arm is drawn over the other arm.
    """

    elbow: Point
    wrist: Point
    hand_angle: float
    in_front: bool


@dataclass(frozen=True)
class FigureSpec:
    """A person: everything about the picture that is neither the garment nor the scene.

    Attributes:
        femininity: 0 to 1; bust, hips and face follow it.
        shoulder: half-distance of the shoulder joints, heads.
        chest: half-width of the trunk below the armpits, heads.
        waist: half-width at the waist, heads.
        hip: half-width at the hips, heads.
        neck: half-width of the neck, heads.
        arm: radius of the upper arm, heads.
        yaw: turn of the trunk, radians, positive towards the image's right.
        lean: sideways shift of the neck against the hips, heads.
        head_yaw: turn of the head, radians.
        head_tilt: tilt of the head, radians clockwise.
        skin: RGB 0..1.
        hair_style: one of HAIR_STYLES.
        hair: RGB 0..1.
        jaw: 0 (narrow) to 1 (wide).
        smile: -0.3 to 1.
        iris: RGB 0..1.
        lips: RGB 0..1, blended into the skin.
        left_arm: the person's own left.
        right_arm: the person's own right.
        lower: kind of lower clothes.
        lower_color: RGB 0..1.
        waist_y: height of the waistband, heads below the crown.
        base_color: colour of the base layer, RGB 0..1.
        detail_seed: seeds strands and creases.
    """

    femininity: float
    shoulder: float
    chest: float
    waist: float
    hip: float
    neck: float
    arm: float
    yaw: float
    lean: float
    head_yaw: float
    head_tilt: float
    skin: Color
    hair_style: HairStyle
    hair: Color
    jaw: float
    smile: float
    iris: Color
    lips: Color
    left_arm: ArmPose
    right_arm: ArmPose
    lower: LowerKind
    lower_color: Color
    waist_y: float
    base_color: Color
    detail_seed: int

    def centre(self, y: float) -> float:
        """X of the trunk's middle line at height y, heads."""
        return trunk_centre(self.lean, y)

    def shoulder_joint(self, side: int) -> Point:
        """Shoulder joint, heads."""
        return shoulder_joint(self.shoulder, self.lean, self.yaw, side)

    @property
    def tip_y(self) -> float:
        """Height of the shoulder's top above the joint, heads."""
        return JOINT_Y - 1.14 * self.arm - 0.012

    @property
    def head_centre(self) -> Point:
        """Middle of the head (half-way from chin to crown), heads."""
        return self.centre(1.2) + 0.10 * math.sin(self.yaw) + 0.55 * math.sin(self.head_tilt), HEAD_Y

    def joints(self) -> Skeleton:
        """BODY_25 joints that the figure has, heads; feet lie below any frame and are left out."""
        out: Skeleton = {Joint.NECK: (self.centre(1.45), 1.45), Joint.MID_HIP: (self.centre(3.75), 3.75)}
        sides = (
            (+1, Joint.LEFT_SHOULDER, Joint.LEFT_ELBOW, Joint.LEFT_WRIST, Joint.LEFT_HIP, Joint.LEFT_KNEE,
             self.left_arm),
            (-1, Joint.RIGHT_SHOULDER, Joint.RIGHT_ELBOW, Joint.RIGHT_WRIST, Joint.RIGHT_HIP, Joint.RIGHT_KNEE,
             self.right_arm),
        )  # fmt: skip
        for side, shoulder, elbow, wrist, hip, knee, arm in sides:
            out[shoulder] = self.shoulder_joint(side)
            out[elbow] = arm.elbow
            out[wrist] = arm.wrist
            out[hip] = (self.centre(3.75) + side * 0.58 * self.hip, 3.75)
            out[knee] = (side * 0.52 * self.hip, 5.6)
        turn = 0.36 * math.sin(self.head_yaw)
        out[Joint.NOSE] = self.head_point(turn * 1.15, 0.16)
        for side, eye, ear in ((+1, Joint.LEFT_EYE, Joint.LEFT_EAR), (-1, Joint.RIGHT_EYE, Joint.RIGHT_EAR)):
            out[eye] = self.head_point(side * 0.165 * math.cos(self.head_yaw) + turn * 0.85, -0.01)
            out[ear] = self.head_point(side * 0.355, 0.05)
        return out

    def head_point(self, x: float, y: float) -> Point:
        """Canvas position of a point given in the tilted head's own frame (from the head's centre), heads."""
        c, s = math.cos(self.head_tilt), math.sin(self.head_tilt)
        cx, cy = self.head_centre
        return cx + x * c - y * s, cy + x * s + y * c


def trunk_centre(lean: float, y: float) -> float:
    """X of the trunk's middle line at height y, heads."""
    return lean * max(3.9 - y, 0.0) / 2.5


def shoulder_joint(shoulder: float, lean: float, yaw: float, side: int) -> Point:
    """Shoulder joint of one side, heads; the shoulder that turns away draws in a little."""
    width = shoulder * (math.cos(yaw) + 0.06 * side * math.sin(yaw))
    return trunk_centre(lean, JOINT_Y) + side * width, JOINT_Y - side * 0.12 * lean


def _reach(shoulder: Point, target: Point, upper: float, fore: float, side: int) -> tuple[Point, Point]:
    """Elbow and wrist of an arm that reaches for a target, elbow outwards."""
    dx, dy = target[0] - shoulder[0], target[1] - shoulder[1]
    distance = min(max(math.hypot(dx, dy), abs(upper - fore) + 0.05), upper + fore - 0.01)
    along = (distance**2 + upper**2 - fore**2) / (2 * distance)
    off = math.sqrt(max(upper**2 - along**2, 0.0))
    length = math.hypot(dx, dy)
    ux, uy = dx / length, dy / length
    elbow = (shoulder[0] + ux * along + side * uy * off, shoulder[1] + uy * along - side * ux * off)
    return elbow, (shoulder[0] + ux * distance, shoulder[1] + uy * distance)


def _hanging(rng: np.random.Generator, joint: Point, side: int, low: float, high: float) -> tuple[Point, Point]:
    """A straight or slightly bent arm whose upper part makes an angle (radians) with the vertical."""
    upper = float(rng.uniform(low, high))
    fore = upper - float(rng.uniform(0.0, 0.30))
    elbow = (joint[0] + side * UPPER_ARM * math.sin(upper), joint[1] + UPPER_ARM * math.cos(upper))
    return elbow, (elbow[0] + side * FOREARM * math.sin(fore), elbow[1] + FOREARM * math.cos(fore))


def _sample_arm(rng: np.random.Generator, kind: str, joint: Point, side: int, hip: float) -> ArmPose:
    if kind == "hang":
        elbow, wrist = _hanging(rng, joint, side, 0.07, 0.20)
    elif kind == "away":
        elbow, wrist = _hanging(rng, joint, side, 0.28, 0.60)
    else:
        span = {
            "hip": ((hip + 0.10, 3.12), (0.06, 0.12), 0.90),
            "bent": ((hip - 0.20, 2.80), (0.15, 0.25), 0.86),
            "across": ((-0.12, 2.62), (0.15, 0.30), 0.92),
            "front": ((0.18, 3.55), (0.14, 0.20), 0.95),
        }[kind]
        (tx, ty), (jx, jy), fore = span
        target = (side * (tx + float(rng.uniform(-jx, jx))), ty + float(rng.uniform(-jy, jy)))
        elbow, wrist = _reach(joint, target, UPPER_ARM * 0.97, FOREARM * fore, side)
    along = math.atan2(side * -(wrist[0] - elbow[0]), wrist[1] - elbow[1])
    bend = {"hip": 0.5, "hang": -0.05, "away": 0.1}.get(kind, 0.12)
    return ArmPose(elbow, wrist, along + bend * float(rng.uniform(0.6, 1.2)), kind in ("across", "bent"))


def _pick(rng: np.random.Generator, colors: tuple[Color, ...], spread: float) -> Color:
    base = np.array(colors[int(rng.integers(len(colors)))])
    r, g, b = np.clip(base * (1 + rng.uniform(-spread, spread)) + rng.uniform(-spread, spread, 3) * 0.2, 0.02, 0.98)
    return float(r), float(g), float(b)


def sample_figure(rng: np.random.Generator) -> FigureSpec:
    """Draws a figure: two thirds women, arms in six kinds of poses, trunk turned by up to 20 degrees."""
    woman = rng.uniform() < 0.65
    femininity = float(rng.uniform(0.75, 1.0) if woman else rng.uniform(0.0, 0.2))
    build = float(rng.normal(0.0, 0.05))
    shoulder = float(0.80 - 0.11 * femininity + build * 0.4 + rng.uniform(-0.02, 0.03))
    yaw = float(np.clip(rng.normal(0.0, 0.16), -0.35, 0.35))
    lean = float(np.clip(rng.normal(0.0, 0.05), -0.12, 0.12))
    hip = float(0.66 + 0.05 * femininity + build)
    arms = [str(k) for k in rng.choice(ARM_POSES, size=2, p=(0.34, 0.18, 0.12, 0.10, 0.16, 0.10))]
    left, right = (
        _sample_arm(rng, kind, shoulder_joint(shoulder, lean, yaw, side), side, hip)
        for kind, side in zip(arms, (+1, -1), strict=True)
    )
    styles = (0.0, 0.08, 0.07, 0.19, 0.22, 0.22, 0.12, 0.10) if woman else (0.10, 0.45, 0.37, 0.0, 0.0, 0.04, 0.04, 0.0)
    kinds: tuple[LowerKind, ...] = ("trousers", "jeans", "skirt", "shorts")
    skin = _pick(rng, SKIN_TONES, 0.04)
    return FigureSpec(
        femininity=femininity,
        shoulder=shoulder,
        chest=float(shoulder - 0.06 - 0.01 * femininity + build * 0.6),
        waist=float(0.60 - 0.10 * femininity + build * 1.3),
        hip=hip,
        neck=float(0.265 - 0.045 * femininity + build * 0.2),
        arm=float(0.195 - 0.035 * femininity + build * 0.25),
        yaw=yaw,
        lean=lean,
        head_yaw=float(np.clip(yaw * 0.6 + rng.normal(0, 0.12), -0.4, 0.4)),
        head_tilt=float(np.clip(rng.normal(0, 0.05), -0.12, 0.12)),
        skin=skin,
        hair_style=HAIR_STYLES[int(rng.choice(len(HAIR_STYLES), p=styles))],
        hair=_pick(rng, HAIR_COLORS[:4] if sum(skin) < 1.6 else HAIR_COLORS, 0.08),
        jaw=float(np.clip(0.75 - 0.5 * femininity + rng.uniform(-0.15, 0.25), 0, 1)),
        smile=float(rng.uniform(-0.1, 0.8)),
        iris=_pick(rng, ((0.25, 0.16, 0.10), (0.35, 0.24, 0.12), (0.28, 0.40, 0.50), (0.30, 0.40, 0.28)), 0.1),
        lips=_pick(rng, ((0.72, 0.36, 0.35), (0.66, 0.30, 0.32), (0.78, 0.45, 0.42)), 0.1),
        left_arm=left,
        right_arm=right,
        lower=kinds[int(rng.choice(4, p=(0.35, 0.30, 0.25, 0.10) if woman else (0.5, 0.35, 0.0, 0.15)))],
        lower_color=_pick(rng, LOWER_COLORS, 0.10),
        waist_y=float(rng.uniform(2.86, 3.12) if woman else rng.uniform(3.1, 3.3)),
        base_color=_pick(rng, ((0.80, 0.76, 0.72), (0.55, 0.53, 0.52), (0.88, 0.86, 0.84)), 0.03),
        detail_seed=int(rng.integers(2**31)),
    )
