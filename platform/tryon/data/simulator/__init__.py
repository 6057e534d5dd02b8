"""The simulator: a procedural, seeded generator of try-on samples.

A 2.5-D figure wears a garment that also exists as a flat garment photo. Because both are drawn from the
same pattern, every truth is known: the flow from the body to the photo, parse, pose, masks and the person
without the garment. Sizes only change the sampling: a seed and an index are the same scene at every size.
"""

from __future__ import annotations

import numpy as np

from tryon.data.simulator.figure import ArmPose, FigureSpec, sample_figure
from tryon.data.simulator.garment import GarmentSpec, sample_garment
from tryon.data.simulator.render import check_size, render, warp_by_flow
from tryon.data.simulator.scene import SceneSpec, sample_scene
from tryon.sample import Row

__all__ = [
    "ArmPose",
    "FigureSpec",
    "GarmentSpec",
    "SceneSpec",
    "render",
    "sample_figure",
    "sample_garment",
    "sample_scene",
    "sample_specs",
    "simulate",
    "warp_by_flow",
]


def sample_specs(seed: int, index: int) -> tuple[FigureSpec, GarmentSpec, SceneSpec]:
    """The figure, garment and scene of one sample; each has its own random stream."""
    figure, garment, scene = (
        np.random.Generator(np.random.PCG64(stream)) for stream in np.random.SeedSequence([seed, index]).spawn(3)
    )
    return sample_figure(figure), sample_garment(garment), sample_scene(scene)


def simulate(seed: int, index: int, height: int, width: int) -> Row:
    """Draws one paired sample.

    Args:
        seed: of the data set, 0 or more.
        index: of the sample, 0 or more.
        height: of all images, px, 64..4096.
        width: of all images, px, 48..4096.

    Returns:
        A row with the fields id, category, person, garment, garment_mask, pose, person_mask, parse,
        true_flow, true_garment, true_mask, true_amodal_mask and unoccluded_person, as `tryon.sample.FIELDS`
        defines them. The same arguments give the same bytes in every process.

    Raises:
        ConfigError: the size is out of bounds.
    """
    check_size(height, width)
    figure, garment, scene = sample_specs(seed, index)
    return {"id": f"sim-{seed}-{index:08d}", **render(figure, garment, scene, height, width)}
