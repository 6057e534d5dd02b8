"""The scene: camera, light and the choice of background."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from tryon.data.simulator.config import DEFAULT, SimulatorConfig
from tryon.data.simulator.geometry import Color, Grid, make_grid
from tryon.data.simulator.layers import Light

Background = Literal["plain", "gradient", "texture", "room", "street", "park", "pattern"]
BACKGROUNDS: tuple[Background, ...] = get_args(Background)
WHOLE_FIGURE = 7.62  # heads from the crown to below the shoes


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
        accent: RGB 0..1, of things in rooms and streets.
        defocus: blur of the background, sigma as share of the frame's height.
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
    accent: Color
    defocus: float
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


def sample_scene(rng: np.random.Generator, config: SimulatorConfig = DEFAULT, reach: float | None = None) -> SceneSpec:
    """Draws a scene: light from either side, mild blur and noise, a studio or a busy background.

    Args:
        rng: its random stream.
        config: knobs.
        reach: heads below the crown that the frame must show; None frames a top, down to the thighs. The frame shows
            the whole figure in two out of three of the others.
    """
    level = float(rng.uniform(0.55, 0.95))
    hue = rng.uniform(-0.06, 0.06, 3)
    wall = np.clip(level + hue, 0, 1)
    wall2 = np.clip(level * rng.uniform(0.72, 1.0) + hue * 2 + rng.uniform(-0.05, 0.05, 3), 0, 1)
    accent = rng.uniform(0.15, 0.75, 3)
    warmth = float(rng.uniform(-0.04, 0.04))
    busy = config.busy
    shares = (*((1 - busy) * v for v in (0.32, 0.40, 0.28)), *(busy * v for v in (0.34, 0.24, 0.20, 0.22)))
    top = float(rng.uniform(0.035, 0.085))
    head_size, spare = float(rng.uniform(0.172, 0.205)), float(rng.uniform(0.015, 0.05))
    if reach is not None:
        shown = WHOLE_FIGURE if rng.uniform() < 0.67 else min(max(reach + 0.25, 5.9), WHOLE_FIGURE)
        top *= 0.75
        head_size = (1.0 - top - spare) / shown
    return SceneSpec(
        head_size=head_size,
        top=top,
        shift=float(rng.uniform(-0.03, 0.03)),
        light_azimuth=float(rng.choice((-1, 1)) * rng.uniform(0.2, 0.85)),
        light_elevation=float(rng.uniform(0.30, 0.75)),
        ambient=float(rng.uniform(0.36, 0.56)),
        tint=(1.0 + warmth, 1.0, 1.0 - warmth),
        background=BACKGROUNDS[int(rng.choice(7, p=shares))],
        wall=(float(wall[0]), float(wall[1]), float(wall[2])),
        wall2=(float(wall2[0]), float(wall2[1]), float(wall2[2])),
        accent=(float(accent[0]), float(accent[1]), float(accent[2])),
        defocus=float(rng.uniform(0.002, 0.012)),
        blur=float(rng.uniform(0.0, 0.0016)) * config.noise,
        noise=float(rng.uniform(0.0, 0.012)) * config.noise,
        detail_seed=int(rng.integers(2**31)),
    )
