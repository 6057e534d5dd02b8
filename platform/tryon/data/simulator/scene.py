"""The scene: camera, light and background."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from tryon.data.simulator.geometry import Color, Float, Grid, blur, f32, make_grid, mix, noise, smoothstep
from tryon.data.simulator.layers import Light

Background = Literal["plain", "gradient", "texture", "room"]
BACKGROUNDS: tuple[Background, ...] = get_args(Background)


@dataclass(frozen=True)
class SceneSpec:
    """Everything around the figure.

    Attributes:
        head_size: height of the head, share of the frame's height.
        top: gap above the head, share of the frame's height.
        shift: of the figure's middle from the frame's, share of the frame's height.
        light_azimuth: of the key light, radians from the camera, positive from the image's right.
        light_elevation: radians above the camera's axis.
        ambient: share of light without direction, 0..1.
        tint: RGB factor of the key light.
        background: kind of background.
        wall: RGB 0..1.
        wall2: RGB 0..1, the gradient's other end or the room's second colour.
        blur: camera blur, sigma as share of the frame's height.
        noise: camera noise, standard deviation in 0..1.
        detail_seed: seeds background and camera noise.
    """

    head_size: float
    top: float
    shift: float
    light_azimuth: float
    light_elevation: float
    ambient: float
    tint: Color
    background: Background
    wall: Color
    wall2: Color
    blur: float
    noise: float
    detail_seed: int

    @property
    def light(self) -> Light:
        """The key light with its fill."""
        c = math.cos(self.light_elevation)
        direction = (
            c * math.sin(self.light_azimuth),
            -math.sin(self.light_elevation),
            c * math.cos(self.light_azimuth),
        )
        return Light(direction, self.ambient, self.tint)

    def grid(self, height: int, width: int) -> Grid:
        """The canvas in heads: a 3:4 frame fitted into it, in the middle."""
        frame = min(float(height), width * 4.0 / 3.0)
        scale = self.head_size * frame
        return make_grid(height, width, scale, width / 2 + self.shift * frame, (height - frame) / 2 + self.top * frame)


def sample_scene(rng: np.random.Generator) -> SceneSpec:
    """Draws a scene: a studio three times out of four, light from either side, mild blur and noise."""
    level = float(rng.uniform(0.62, 0.95))
    hue = rng.uniform(-0.05, 0.05, 3)
    wall = np.clip(level + hue, 0, 1)
    wall2 = np.clip(level * rng.uniform(0.72, 1.0) + hue * 2 + rng.uniform(-0.04, 0.04, 3), 0, 1)
    warmth = float(rng.uniform(-0.04, 0.04))
    return SceneSpec(
        head_size=float(rng.uniform(0.172, 0.205)),
        top=float(rng.uniform(0.035, 0.085)),
        shift=float(rng.uniform(-0.03, 0.03)),
        light_azimuth=float(rng.choice((-1, 1)) * rng.uniform(0.2, 0.85)),
        light_elevation=float(rng.uniform(0.30, 0.75)),
        ambient=float(rng.uniform(0.38, 0.58)),
        tint=(1.0 + warmth, 1.0, 1.0 - warmth),
        background=BACKGROUNDS[int(rng.choice(4, p=(0.25, 0.30, 0.20, 0.25)))],
        wall=(float(wall[0]), float(wall[1]), float(wall[2])),
        wall2=(float(wall2[0]), float(wall2[1]), float(wall2[2])),
        blur=float(rng.uniform(0.0, 0.0016)),
        noise=float(rng.uniform(0.0, 0.008)),
        detail_seed=int(rng.integers(2**31)),
    )


def paint_background(scene: SceneSpec, height: int, width: int) -> Float:
    """Background without the figure, (H, W, 3) in 0..1."""
    rng = np.random.Generator(np.random.PCG64(scene.detail_seed))
    frame = make_grid(height, width, float(height), width / 2, 0.0)
    u, v = frame.x, frame.y
    wall = np.broadcast_to(f32(scene.wall), (height, width, 3))
    glow = f32(1.0 - ((u - math.copysign(0.12, scene.light_azimuth)) ** 2 + (v - 0.35) ** 2) * np.float32(0.45))
    if scene.background == "plain":
        out = f32(wall)
    elif scene.background == "gradient":
        out = mix(scene.wall, scene.wall2, f32(smoothstep(0.1, 1.0, v) + 0 * u))
    elif scene.background == "texture":
        cloud = 0.5 * noise(rng, (height, width), (8, 6)) + 0.3 * noise(rng, (height, width), (22, 17))
        out = mix(scene.wall, scene.wall2, f32(np.clip(0.5 + 0.6 * cloud, 0, 1)))
    else:
        out = _room(scene, rng, u, v, frame.px)
    return f32(np.clip(out * glow[..., None], 0, 1))


def _box(u: Float, v: Float, x0: float, y0: float, x1: float, y1: float, soft: float) -> Float:
    inside = np.minimum(
        np.minimum(u - np.float32(x0), np.float32(x1) - u), np.minimum(v - np.float32(y0), np.float32(y1) - v)
    )
    return smoothstep(-soft, soft, f32(inside))


def _room(scene: SceneSpec, rng: np.random.Generator, u: Float, v: Float, px: float) -> Float:
    """A room out of focus: wall, panelling, a window or a picture, a plant-like shape."""
    out = mix(scene.wall, scene.wall2, f32(smoothstep(0.70, 0.73, v) * 0.6 + 0 * u))
    side = float(rng.choice((-1, 1)))
    x0 = side * float(rng.uniform(0.16, 0.24)) - 0.09
    bright = f32((0.97, 0.97, 0.95))
    pane = _box(u, v, x0 - 0.06, 0.05, x0 + 0.24, 0.48, 0.012)
    frame = _box(u, v, x0 - 0.075, 0.035, x0 + 0.255, 0.495, 0.012)
    out = mix(out, f32(f32(scene.wall2) * 0.8), frame)
    out = mix(out, bright, f32(pane * 0.85))
    bars = np.exp(-(((u - np.float32(x0 + 0.09)) / np.float32(0.008)) ** 2)) + 0 * v
    out = mix(out, f32(f32(scene.wall2) * 0.8), f32(bars * pane))
    cx, green = -side * float(rng.uniform(0.26, 0.33)), f32((0.42, 0.50, 0.40))
    for k in range(5):
        angle = -math.pi / 2 + (k - 2) * 0.35
        px_, py = cx + 0.10 * math.cos(angle), 0.62 + 0.16 * math.sin(angle)
        leaf = np.exp(-(((u - px_) / 0.035) ** 2) - ((v - py) / 0.09) ** 2)
        out = mix(out, green, f32(0.55 * leaf))
    return blur(out, 0.008 / px)
