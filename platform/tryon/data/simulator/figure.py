"""The figure: proportions, skin, hair, face, pose and lower clothes, and the joints that follow.

Lengths are in heads; x = 0 is the middle of the hips and y = 0 is just above the crown of the head. `side` is +1 for
the person's own left, which is on the image's right.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from tryon.data.simulator.anatomy import ANKLE_Y, FOREARM, HEAD_Y, JOINT_Y, KNEE_Y, SEEN_HIP_Y, SOLE_Y, UPPER_ARM
from tryon.data.simulator.config import DEFAULT, SimulatorConfig
from tryon.data.simulator.geometry import Color, Point
from tryon.data.simulator.outfit import Outfit, sample_outfit
from tryon.sample import Joint

HairStyle = Literal["bald", "short", "crop", "bob", "long", "long-front", "bun", "ponytail"]
Skeleton: TypeAlias = dict[Joint, Point]
TOES = {
    1: (Joint.LEFT_BIG_TOE, Joint.LEFT_SMALL_TOE, Joint.LEFT_HEEL),
    -1: (Joint.RIGHT_BIG_TOE, Joint.RIGHT_SMALL_TOE, Joint.RIGHT_HEEL),
}

FREE_POSES: tuple[str, ...] = ("hang", "away")
FREE_SHARES: tuple[float, ...] = (0.7, 0.3)
POSED_ARMS: tuple[str, ...] = ("hip", "bent", "across", "front", "thigh")
POSED_SHARES: tuple[float, ...] = (0.34, 0.20, 0.16, 0.18, 0.12)
HAIR_STYLES: tuple[HairStyle, ...] = ("bald", "short", "crop", "bob", "long", "long-front", "bun", "ponytail")

SKIN_TONES: tuple[Color, ...] = (
    (0.96, 0.82, 0.73), (0.93, 0.76, 0.65), (0.87, 0.68, 0.55), (0.78, 0.58, 0.44),
    (0.66, 0.46, 0.33), (0.52, 0.35, 0.25), (0.42, 0.28, 0.20),
)  # fmt: skip
HAIR_COLORS: tuple[Color, ...] = (
    (0.09, 0.07, 0.07), (0.17, 0.11, 0.08), (0.28, 0.18, 0.11), (0.43, 0.28, 0.16),
    (0.62, 0.45, 0.26), (0.78, 0.64, 0.42), (0.50, 0.22, 0.12), (0.55, 0.54, 0.53),
)  # fmt: skip


@dataclass(frozen=True)
class ArmPose:
    """One arm on the image plane.

    Attributes:
        elbow: elbow position, heads.
        wrist: wrist position, heads.
        hand_angle: direction the hand points, radians clockwise from straight down towards the body's middle.
        in_front: the arm is drawn over the other arm.
        behind: the arm hangs behind the turned trunk.
    """

    elbow: Point
    wrist: Point
    hand_angle: float
    in_front: bool
    behind: bool


@dataclass(frozen=True)
class LegPose:
    """One leg on the image plane, heads: its knee, its ankle, and the tip of its foot."""

    knee: Point
    ankle: Point
    toe: Point


@dataclass(frozen=True)
class FigureSpec:
    """A person with clothes: everything about the picture that is neither the garment tried on nor the scene.

    Attributes:
        femininity: 0 to 1; bust, hips and face follow it.
        shoulder: half-distance of the shoulder joints, heads; like the other widths as seen, the trunk turned.
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
        left_leg: the person's own left.
        right_leg: the person's own right.
        outfit: all clothes; the garment to try on takes the place of its like.
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
    left_leg: LegPose
    right_leg: LegPose
    outfit: Outfit
    waist_y: float
    base_color: Color
    detail_seed: int

    def centre(self, y: float) -> float:
        """X of the trunk's middle line at height y, heads."""
        return trunk_centre(self.lean, y)

    def shoulder_joint(self, side: int) -> Point:
        """Shoulder joint, heads."""
        return shoulder_joint(self.shoulder, self.lean, self.yaw, side)

    def arm_pose(self, side: int) -> ArmPose:
        """Pose of one arm."""
        return self.left_arm if side > 0 else self.right_arm

    def leg(self, side: int) -> LegPose:
        """Pose of one leg."""
        return self.left_leg if side > 0 else self.right_leg

    @property
    def tip_y(self) -> float:
        """Height of the shoulder's top above the joint, heads."""
        return JOINT_Y - 1.14 * self.arm - 0.012

    @property
    def head_centre(self) -> Point:
        """Middle of the head (half-way from chin to crown), heads."""
        return self.centre(1.2) + 0.10 * math.sin(self.yaw) + 0.55 * math.sin(self.head_tilt), HEAD_Y

    def joints(self) -> Skeleton:
        """BODY_25 joints that the figure has, heads."""
        left, right = self.shoulder_joint(1), self.shoulder_joint(-1)
        # BODY_25's neck is the middle of the shoulders.
        neck = (left[0] + right[0]) / 2, (left[1] + right[1]) / 2
        out: Skeleton = {Joint.NECK: neck, Joint.MID_HIP: (self.centre(SEEN_HIP_Y), SEEN_HIP_Y)}
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
            leg = self.leg(side)
            out[hip] = (self.centre(SEEN_HIP_Y) + side * 0.63 * self.hip, SEEN_HIP_Y)
            out[knee], out[Joint(knee + 1)] = leg.knee, leg.ankle
            toe, small_toe, heel = TOES[side]
            out[toe] = (leg.toe[0] - side * 0.03, leg.toe[1])
            out[small_toe] = (leg.toe[0] + side * 0.08, leg.toe[1] - 0.04)
            out[heel] = (leg.ankle[0] - side * 0.02, leg.ankle[1] + 0.13)
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
    """Shoulder joint of one side, heads; the shoulder that turns away (for yaw > 0 the left) draws in a little."""
    width = shoulder * (1.0 - 0.10 * side * math.sin(yaw))
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


def _sample_arm(rng: np.random.Generator, kind: str, joint: Point, side: int, hip: float, behind: bool) -> ArmPose:
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
            "thigh": ((hip - 0.10, 3.75), (0.10, 0.15), 1.0),
        }[kind]
        (tx, ty), (jx, jy), fore = span
        target = (side * (tx + float(rng.uniform(-jx, jx))), ty + float(rng.uniform(-jy, jy)))
        elbow, wrist = _reach(joint, target, UPPER_ARM * 0.97, FOREARM * fore, side)
    along = math.atan2(side * -(wrist[0] - elbow[0]), wrist[1] - elbow[1])
    bend = {"hip": 0.5, "hang": -0.05, "away": 0.1}.get(kind, 0.12)
    return ArmPose(elbow, wrist, along + bend * float(rng.uniform(0.6, 1.2)), kind in ("across", "bent"), behind)


def _pick(rng: np.random.Generator, colors: tuple[Color, ...], spread: float) -> Color:
    base = np.array(colors[int(rng.integers(len(colors)))])
    r, g, b = np.clip(base * (1 + rng.uniform(-spread, spread)) + rng.uniform(-spread, spread, 3) * 0.2, 0.02, 0.98)
    return float(r), float(g), float(b)


def _sample_legs(rng: np.random.Generator, hip: float, skirt: bool) -> tuple[LegPose, LegPose]:
    """Legs side by side, apart, or with the weight on one and the other knee bent."""
    spread = float(rng.uniform(-0.10, 0.04) if skirt else rng.uniform(-0.08, 0.16))
    relaxed = int(rng.choice((-1, 0, 1)))
    legs = []
    for side in (1, -1):
        bend = float(rng.uniform(0.03, 0.12)) if side == relaxed else 0.0
        knee = 0.50 * hip + 0.4 * spread - (0.4 if skirt else 1.0) * bend
        ankle = 0.40 * hip + spread + 0.2 * bend
        out = float(rng.uniform(0.02, 0.16))
        legs.append(
            LegPose(
                (side * knee, KNEE_Y + bend * 0.4),
                (side * ankle, ANKLE_Y - bend * 0.2),
                (side * (ankle + out), SOLE_Y - 0.06 + float(rng.uniform(-0.02, 0.02))),
            )
        )
    return legs[0], legs[1]


def _sample_arms(
    rng: np.random.Generator, config: SimulatorConfig, joints: dict[int, Point], hip: float, yaw: float
) -> dict[int, ArmPose]:
    """Both arms; the one on the side that turns away may hang behind the trunk."""
    arms = {}
    for side in (1, -1):
        kinds, shares = (POSED_ARMS, POSED_SHARES) if rng.uniform() < config.arms else (FREE_POSES, FREE_SHARES)
        kind = str(rng.choice(kinds, p=shares))
        behind = kind in FREE_POSES and yaw * side > 0.26
        arms[side] = _sample_arm(rng, kind, joints[side], side, hip, behind)
    return arms


def _turned(width: float, yaw: float, depth: float) -> float:
    """Half-width that a trunk of elliptic section shows when it turns; `depth` is its depth over its width."""
    return width * math.hypot(math.cos(yaw), depth * math.sin(yaw))


def _hair_style(rng: np.random.Generator, woman: bool, config: SimulatorConfig) -> HairStyle:
    over = min(0.30 * config.long_hair, 0.6) if woman else 0.04 * config.long_hair
    rest = (0.0, 0.08, 0.07, 0.20, 0.20, 0.0, 0.12, 0.10) if woman else (0.10, 0.45, 0.37, 0.0, 0.0, 0.0, 0.04, 0.0)
    shares = np.array(rest) * (1.0 - over) / sum(rest)
    shares[HAIR_STYLES.index("long-front")] = over
    return HAIR_STYLES[int(rng.choice(len(HAIR_STYLES), p=shares))]


def sample_figure(rng: np.random.Generator, config: SimulatorConfig = DEFAULT, category: str = "upper") -> FigureSpec:
    """Draws a figure: two thirds women, arms in seven kinds of poses, trunk turned by up to 35 degrees.

    Args:
        rng: its random stream.
        config: knobs.
        category: of the garment that will be tried on; two skirts out of three and dresses go to women.
    """
    woman = rng.uniform() < (0.65 if category != "dress" else 0.97)
    femininity = float(rng.uniform(0.75, 1.0) if woman else rng.uniform(0.0, 0.2))
    build = float(rng.normal(0.0, 0.05))
    yaw = float(np.clip(rng.normal(0.0, 0.24), -0.61, 0.61)) * config.turn
    lean = float(np.clip(rng.normal(0.0, 0.05), -0.12, 0.12))
    wide = float(0.80 - 0.11 * femininity + build * 0.4 + rng.uniform(-0.02, 0.03))
    shoulder, hip = _turned(wide, yaw, 0.42), _turned(float(0.66 + 0.05 * femininity + build), yaw, 0.72)
    joints = {side: shoulder_joint(shoulder, lean, yaw, side) for side in (1, -1)}
    arms = _sample_arms(rng, config, joints, hip, yaw)
    outfit = sample_outfit(rng, config, woman=woman)
    left_leg, right_leg = _sample_legs(rng, hip, outfit.lower.is_skirt or category == "dress")
    skin = _pick(rng, SKIN_TONES, 0.04)
    return FigureSpec(
        femininity=femininity,
        shoulder=shoulder,
        chest=_turned(float(wide - 0.06 - 0.01 * femininity + build * 0.6), yaw, 0.62),
        waist=_turned(float(0.60 - 0.10 * femininity + build * 1.3), yaw, 0.70),
        hip=hip,
        neck=float(0.265 - 0.045 * femininity + build * 0.2),
        arm=float(0.195 - 0.035 * femininity + build * 0.25),
        yaw=yaw,
        lean=lean,
        head_yaw=float(np.clip(yaw * 0.6 + rng.normal(0, 0.12), -0.5, 0.5)),
        head_tilt=float(np.clip(rng.normal(0, 0.05), -0.12, 0.12)),
        skin=skin,
        hair_style=_hair_style(rng, woman, config),
        hair=_pick(rng, HAIR_COLORS[:4] if sum(skin) < 1.6 else HAIR_COLORS, 0.08),
        jaw=float(np.clip(0.75 - 0.5 * femininity + rng.uniform(-0.15, 0.25), 0, 1)),
        smile=float(rng.uniform(-0.1, 0.8)),
        iris=_pick(rng, ((0.25, 0.16, 0.10), (0.35, 0.24, 0.12), (0.28, 0.40, 0.50), (0.30, 0.40, 0.28)), 0.1),
        lips=_pick(rng, ((0.72, 0.36, 0.35), (0.66, 0.30, 0.32), (0.78, 0.45, 0.42)), 0.1),
        left_arm=arms[1],
        right_arm=arms[-1],
        left_leg=left_leg,
        right_leg=right_leg,
        outfit=outfit,
        waist_y=float(rng.uniform(2.86, 3.06) if woman else rng.uniform(3.02, 3.18)),
        base_color=_pick(rng, ((0.80, 0.76, 0.72), (0.55, 0.53, 0.52), (0.88, 0.86, 0.84)), 0.03),
        detail_seed=int(rng.integers(2**31)),
    )
