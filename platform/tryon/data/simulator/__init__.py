"""The simulator: a procedural, seeded generator of try-on samples.

A 2.5-D figure wears a garment that also exists as a flat garment photo. Because both are drawn from the
same pattern, every truth is known: the flow from the body to the photo, parse, pose, masks and the person
without the garment. Sizes only change the sampling: a seed and an index are the same scene at every size.
"""

from __future__ import annotations

import numpy as np

from tryon.data.simulator.anatomy import NECK_Y
from tryon.data.simulator.config import DEFAULT, SimulatorConfig
from tryon.data.simulator.figure import ArmPose, FigureSpec, sample_figure
from tryon.data.simulator.lowers import LowerSpec
from tryon.data.simulator.render import check_size, draw_worn, render, warp_by_flow
from tryon.data.simulator.scene import SceneSpec, sample_scene
from tryon.data.simulator.tops import TopSpec
from tryon.data.simulator.wardrobe import GarmentSpec, sample_garment
from tryon.sample import CATEGORIES, Row

__all__ = [
    "ArmPose",
    "FigureSpec",
    "GarmentSpec",
    "LowerSpec",
    "SceneSpec",
    "SimulatorConfig",
    "TopSpec",
    "draw_worn",
    "render",
    "sample_figure",
    "sample_garment",
    "sample_scene",
    "sample_specs",
    "simulate",
    "warp_by_flow",
]


def sample_specs(seed: int, index: int, config: SimulatorConfig = DEFAULT) -> tuple[FigureSpec, GarmentSpec, SceneSpec]:
    """The figure, garment and scene of one sample; each has its own random stream."""
    figure, garment, scene, mix = (
        np.random.Generator(np.random.PCG64(stream)) for stream in np.random.SeedSequence([seed, index]).spawn(4)
    )
    category = str(mix.choice(CATEGORIES, p=[config.share(name) for name in CATEGORIES]))
    person, worn = sample_figure(figure, config, category), sample_garment(garment, category, config)
    return person, worn, sample_scene(scene, config, _reach(person, worn))


def _reach(figure: FigureSpec, garment: GarmentSpec) -> float | None:
    """Heads below the crown that the frame must show; None for tops."""
    if isinstance(garment, LowerSpec):
        return figure.waist_y + garment.length
    return None if garment.category == "upper" else NECK_Y + garment.length


def simulate(seed: int, index: int, height: int, width: int, config: SimulatorConfig = DEFAULT) -> Row:
    """Draws one paired sample.

    Args:
        seed: of the data set, 0 or more.
        index: of the sample, 0 or more.
        height: of all images, px, 64..4096.
        width: of all images, px, 48..4096.
        config: what share of samples shows what.

    Returns:
        A row with the fields id, category, person, garment, garment_mask, pose, person_mask, parse, dense,
        true_flow, true_garment, true_mask, true_amodal_mask and unoccluded_person, as `tryon.sample.FIELDS`
        defines them; `tryon.data.simulator.dense` has the charts of `dense`. The same arguments give the same
        bytes in every process.

    Raises:
        ConfigError: the size is out of bounds.
    """
    check_size(height, width)
    figure, garment, scene = sample_specs(seed, index, config)
    return {"id": f"sim-{seed}-{index:08d}", **render(figure, garment, scene, height, width)}
