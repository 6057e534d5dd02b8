"""What a figure wears besides the garment to try on: clothes that fill the other places, shoes and accessories."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from tryon.data.simulator.config import SimulatorConfig
from tryon.data.simulator.garment import sample_color
from tryon.data.simulator.geometry import Color
from tryon.data.simulator.lowers import LowerKind, LowerSpec
from tryon.data.simulator.tops import TopSpec
from tryon.data.simulator.wardrobe import sample_jacket, sample_lower, sample_top

Shoes = Literal["sneakers", "flats", "boots", "heels"]
Hat = Literal["none", "beanie", "brim"]


@dataclass(frozen=True)
class Outfit:
    """All clothes of a figure.

    Attributes:
        top: worn under any jacket.
        lower: trousers, shorts or a skirt.
        jacket: an open jacket over the top, or None.
        shoes: kind of shoes.
        shoe_color: RGB 0..1.
        belt: its colour, or None.
        bag: colour of a bag on a strap across the trunk, or None.
        bag_side: on which side the bag hangs, +1 the person's left.
        scarf: its colour, or None.
        sunglasses: worn.
        hat: kind of hat.
        hat_color: RGB 0..1.
    """

    top: TopSpec
    lower: LowerSpec
    jacket: TopSpec | None
    shoes: Shoes
    shoe_color: Color
    belt: Color | None
    bag: Color | None
    bag_side: int
    scarf: Color | None
    sunglasses: bool
    hat: Hat
    hat_color: Color


LEATHER: tuple[Color, ...] = ((0.13, 0.11, 0.11), (0.36, 0.22, 0.14), (0.56, 0.38, 0.24), (0.75, 0.70, 0.64))


def sample_outfit(rng: np.random.Generator, config: SimulatorConfig, *, woman: bool) -> Outfit:
    """Draws an outfit."""
    kinds: tuple[LowerKind, ...] = ("trousers", "jeans", "skirt", "shorts")
    kind = kinds[int(rng.choice(4, p=(0.34, 0.32, 0.25, 0.09) if woman else (0.48, 0.38, 0.0, 0.14)))]
    shoes: tuple[Shoes, ...] = ("sneakers", "flats", "boots", "heels")
    worn = shoes[int(rng.choice(4, p=(0.35, 0.25, 0.15, 0.25) if woman else (0.6, 0.2, 0.2, 0.0)))]
    chances = rng.uniform(size=6)
    share = config.accessories / 3
    light = (0.93, 0.93, 0.92)
    return Outfit(
        top=sample_top(rng),
        lower=sample_lower(rng, kind),
        jacket=sample_jacket(rng) if chances[5] < config.jackets else None,
        shoes=worn,
        shoe_color=light if worn == "sneakers" and rng.uniform() < 0.6 else sample_color(rng, LEATHER),
        belt=sample_color(rng, LEATHER) if chances[0] < share * 3 else None,
        bag=sample_color(rng, LEATHER) if chances[1] < share else None,
        bag_side=int(rng.choice((-1, 1))),
        scarf=sample_color(rng) if chances[2] < share * 0.7 else None,
        sunglasses=bool(chances[3] < share * 0.7),
        hat=("beanie" if rng.uniform() < 0.5 else "brim") if chances[4] < share * 0.8 else "none",
        hat_color=sample_color(rng),
    )
