"""Photos to show and to try with: a figure in one garment, and a garment that it does not wear."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tryon.data.simulator import render, sample_figure, sample_garment, sample_scene
from tryon.data.simulator.config import EASY_TOPS

SEED = 3
UInt8 = npt.NDArray[np.uint8]


def example_pair(index: int, height: int, width: int) -> tuple[UInt8, UInt8]:
    """Person photo and garment photo, RGB uint8 (height, width, 3); the same index is the same pair at every size."""
    rng = np.random.default_rng([SEED, index])
    figure, scene = sample_figure(rng, EASY_TOPS), sample_scene(rng, EASY_TOPS)
    worn, other = (sample_garment(rng, config=EASY_TOPS) for _ in range(2))
    return (
        render(figure, worn, scene, height, width)["person"],
        render(figure, other, scene, height, width)["garment"],
    )
