"""Drawing garments: tops, open jackets, dresses and lower garments with random cuts and cloth."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np

from tryon.data.simulator.config import DEFAULT, SimulatorConfig
from tryon.data.simulator.garment import COLORS, sample_cloth, sample_color
from tryon.data.simulator.geometry import Color
from tryon.data.simulator.lowers import CUTS, LENGTHS, SKIRTS, LowerKind, LowerSpec
from tryon.data.simulator.tops import NECKLINES, SLEEVE_LENGTH, SLEEVES, Fit, Hem, Neckline, Sleeve, Style, TopSpec

GarmentSpec: TypeAlias = TopSpec | LowerSpec

FILLS = (0.50, 0.95)  # of a photo's width or height
SLEEVE_ANGLES = (0.2, 0.6)  # from the vertical, radians
CROPPED, LONG = (1.56, 2.15), (2.80, 3.30)  # lengths of tops, flat units; usual ones are between
FITS: tuple[Fit, ...] = ("slim", "regular", "loose")
TROUSER_COLORS: tuple[Color, ...] = (
    (0.13, 0.14, 0.17), (0.17, 0.22, 0.34), (0.45, 0.43, 0.40), (0.62, 0.55, 0.44), (0.80, 0.77, 0.71),
    (0.36, 0.20, 0.22), (0.24, 0.32, 0.26), (0.88, 0.88, 0.90), (0.33, 0.30, 0.27), (0.55, 0.60, 0.66),
)  # fmt: skip
DENIM: tuple[Color, ...] = ((0.16, 0.21, 0.32), (0.27, 0.37, 0.52), (0.44, 0.55, 0.69), (0.20, 0.21, 0.24))


def sample_garment(rng: np.random.Generator, category: str = "upper", config: SimulatorConfig = DEFAULT) -> GarmentSpec:
    """Draws a garment to try on.

    Args:
        rng: its random stream.
        category: upper, lower or dress.
        config: says how many tops are open jackets, of which cloths garments are, and how far they go beyond the usual.
    """
    while True:
        garment = _any_cloth(rng, category, config)
        if garment.texture in config.textures:
            break
    return _varied(rng, garment) if config.variety > 0 and rng.uniform() < config.variety else garment


def _varied(rng: np.random.Generator, garment: GarmentSpec) -> GarmentSpec:
    """The garment on a photo that it does not fill, sleeves at any angle; of tops two in five cropped, as many long."""
    fill = float(rng.uniform(*FILLS))
    if isinstance(garment, TopSpec):
        garment = replace(garment, sleeve_angle=float(rng.uniform(*SLEEVE_ANGLES)))
    if not isinstance(garment, TopSpec) or garment.category != "upper" or garment.opening > 0:
        return replace(garment, fill=fill)
    kind = int(rng.choice(3, p=(0.4, 0.4, 0.2)))
    if kind == 2:
        return replace(garment, fill=fill)
    length = float(rng.uniform(*(CROPPED, LONG)[kind]))
    wider = 0.06 if kind == 1 else 0.0  # a long top goes over the hips
    return replace(garment, fill=fill, length=length, hem_width=garment.hem_width + wider, tucked=False)


def _any_cloth(rng: np.random.Generator, category: str, config: SimulatorConfig) -> GarmentSpec:
    if category == "lower":
        return sample_lower(rng)
    if category == "dress":
        return sample_dress(rng)
    return sample_jacket(rng) if rng.uniform() < config.open_garments else sample_top(rng)


def _neck(rng: np.random.Generator, shares: tuple[float, ...]) -> tuple[Neckline, float, float]:
    neckline = NECKLINES[int(rng.choice(5, p=shares))]
    width, depth = {
        "crew": (0.33, 0.27), "v": (0.35, 0.56), "scoop": (0.42, 0.47), "boat": (0.52, 0.20), "square": (0.44, 0.42),
    }[neckline]  # fmt: skip
    return neckline, width * float(rng.uniform(0.96, 1.06)), depth * float(rng.uniform(0.90, 1.12))


def _sleeve(rng: np.random.Generator, sleeve: Sleeve, top: float) -> dict[str, Any]:
    length = SLEEVE_LENGTH[sleeve] * float(rng.uniform(0.95, 1.04 if sleeve != "long" else 1.0))
    taper = {"none": 1.0, "cap": 1.0, "short": 0.95, "elbow": 0.85, "three-quarter": 0.66, "long": 0.5}[sleeve]
    return {
        "sleeve": sleeve,
        "sleeve_length": length,
        "sleeve_top": top * float(rng.uniform(0.97, 1.05)),
        "sleeve_end": top * taper * float(rng.uniform(0.95, 1.1)),
        "sleeve_angle": float(rng.uniform(0.36, 0.55) if length < 1.0 else rng.uniform(0.27, 0.40)),
    }


def sample_top(rng: np.random.Generator) -> TopSpec:
    """Draws a top: six sleeve lengths, five necklines, three fits, five kinds of texture; a sixth are shirts."""
    sleeve = SLEEVES[int(rng.choice(6, p=(0.14, 0.07, 0.32, 0.10, 0.12, 0.25)))]
    neckline, neck_width, neck_depth = _neck(rng, (0.38, 0.22, 0.18, 0.12, 0.10))
    style: Style = "shirt" if neckline == "v" and rng.uniform() < 0.6 else "tee"
    if style == "shirt":
        neck_depth *= 0.75
    fit = FITS[int(rng.choice(3, p=(0.35, 0.40, 0.25)))]
    hems: tuple[Hem, ...] = ("straight", "curved", "flared")
    hem = hems[int(rng.choice(3, p=(0.6, 0.22, 0.18)))]
    chest, waist, end = {"slim": (0.82, 0.70, 0.80), "regular": (0.90, 0.86, 0.92), "loose": (1.02, 1.02, 1.06)}[fit]
    shares = (0.34, 0.26, 0.24, 0.16, 0.0) if style == "shirt" else (0.24, 0.22, 0.14, 0.22, 0.18)
    cloth = sample_cloth(rng, shares)
    if style == "shirt" and cloth["texture"] == "printed":
        cloth["motif"] -= cloth["motif"] % 2
    return TopSpec(
        **cloth,
        **_sleeve(rng, sleeve, {"slim": 0.27, "regular": 0.30, "loose": 0.36}[fit]),
        category="upper",
        style=style,
        opening=0.0,
        neckline=neckline,
        fit=fit,
        hem=hem,
        neck_width=neck_width,
        neck_depth=neck_depth,
        tip=(0.74 if sleeve == "none" else {"slim": 0.84, "regular": 0.87, "loose": 0.92}[fit])
        + float(rng.uniform(-0.02, 0.02)),
        chest=chest * float(rng.uniform(0.98, 1.03)),
        waist=(waist_ := waist * float(rng.uniform(0.96, 1.03))),
        hip=waist_,
        hem_width=end * float(rng.uniform(0.97, 1.03)) + (0.16 if hem == "flared" else 0.0),
        length=float(rng.uniform(2.22, 2.75)) + (0.1 if fit == "loose" else 0.0),
        tucked=bool(rng.uniform() < 0.22 and fit != "loose"),
        inside_back=bool(rng.uniform() < 0.6),
    )


def sample_jacket(rng: np.random.Generator) -> TopSpec:
    """Draws an open jacket: a cardigan, a blazer or a zip jacket, long-sleeved."""
    styles: tuple[Style, ...] = ("cardigan", "blazer", "zip")
    style = styles[int(rng.integers(3))]
    end = {"cardigan": 2.75, "blazer": 2.85, "zip": 2.30}[style] + float(rng.uniform(-0.10, 0.15))
    chest = float(rng.uniform(0.95, 1.03))
    shares = {"cardigan": (0.6, 0.2, 0.1, 0.1, 0.0), "blazer": (0.65, 0.1, 0.25, 0.0, 0.0)}
    cloth = sample_cloth(rng, shares.get(style, (0.8, 0.1, 0.1, 0.0, 0.0)))
    cloth["motif"] = min(cloth["motif"], 4) - min(cloth["motif"], 4) % 2
    if style == "blazer":
        cloth["trim"] = cloth["color"]
    waist = chest * float(rng.uniform(0.90, 0.97))
    return TopSpec(
        **cloth,
        **_sleeve(rng, "long", 0.325),
        category="upper",
        style=style,
        opening=float(rng.uniform(0.26, 0.46)),
        neckline="v" if style != "zip" else "crew",
        fit="regular" if style == "blazer" else "loose",
        hem="straight",
        neck_width=0.36,
        neck_depth=0.85 if style == "blazer" else 0.50,
        tip=0.87,
        chest=chest,
        waist=waist,
        hip=waist,
        hem_width=chest * float(rng.uniform(0.97, 1.05)),
        length=end,
        tucked=False,
        inside_back=True,
    )


def sample_dress(rng: np.random.Generator) -> TopSpec:
    """Draws a dress: sleeveless to long sleeves, mini to maxi, sheath to flared."""
    sleeve = SLEEVES[int(rng.choice(6, p=(0.34, 0.10, 0.24, 0.08, 0.08, 0.16)))]
    neckline, neck_width, neck_depth = _neck(rng, (0.24, 0.26, 0.20, 0.12, 0.18))
    length = float(rng.choice((3.25, 3.95, 4.6, 5.6), p=(0.25, 0.35, 0.22, 0.18)) + rng.uniform(-0.2, 0.15))
    loose = rng.uniform() < 0.3
    fit: Fit = "regular" if loose else "slim"
    flare = float(rng.choice((0.02, 0.16, 0.34), p=(0.3, 0.35, 0.35)) * rng.uniform(0.8, 1.2))
    hip = float(rng.uniform(0.80, 0.86)) + 0.35 * flare
    below = length - 2.42
    style: Style = "shirt" if neckline == "v" and rng.uniform() < 0.4 else "tee"
    cloth = sample_cloth(rng, (0.30, 0.20, 0.16, 0.34, 0.0))
    if cloth["texture"] == "printed":
        cloth["motif"] -= cloth["motif"] % 2
    return TopSpec(
        **cloth,
        **_sleeve(rng, sleeve, 0.31 if loose else 0.27),
        category="dress",
        style=style,
        opening=0.0,
        neckline=neckline,
        fit=fit,
        hem="flared" if flare > 0.1 else "straight",
        neck_width=neck_width,
        neck_depth=neck_depth,
        tip=(0.72 if sleeve == "none" else 0.85) + float(rng.uniform(-0.02, 0.02)),
        chest=float(rng.uniform(0.83, 0.88)) + (0.05 if loose else 0.0),
        waist=float(rng.uniform(0.64, 0.70)) + (0.12 if loose else 0.0),
        hip=hip,
        hem_width=hip + flare * below * 1.15 - (0.03 * below if flare < 0.1 else 0.0),
        length=length,
        tucked=False,
        inside_back=bool(rng.uniform() < 0.6),
    )


def sample_lower(rng: np.random.Generator, kind: LowerKind | None = None) -> LowerSpec:
    """Draws a lower garment.

    Args:
        rng: its random stream.
        kind: trousers, jeans, shorts or skirt; None draws one.
    """
    kinds: tuple[LowerKind, ...] = ("trousers", "jeans", "shorts", "skirt")
    kind = kind or kinds[int(rng.choice(4, p=(0.30, 0.24, 0.10, 0.36)))]
    names = SKIRTS if kind == "skirt" else tuple(CUTS)
    cut = names[int(rng.integers(len(names)))]
    choice = LENGTHS[kind]
    length = choice[int(rng.integers(len(choice)))] + float(rng.uniform(-0.12, 0.08))
    palette = {"jeans": DENIM, "skirt": COLORS}.get(kind, TROUSER_COLORS)
    ground = sample_color(rng, palette)
    shares = {
        "jeans": (1.0, 0.0, 0.0, 0.0, 0.0), "skirt": (0.45, 0.15, 0.20, 0.20, 0.0), "shorts": (0.7, 0.1, 0.1, 0.1, 0.0),
    }.get(kind, (0.66, 0.12, 0.14, 0.08, 0.0))  # fmt: skip
    cloth = sample_cloth(rng, shares, ground)
    cloth["motif"] -= cloth["motif"] % 2
    if kind == "trousers" and cloth["texture"] == "striped":
        cloth["angle"] = float(np.pi / 2)
    return LowerSpec(
        **cloth,
        kind=kind,
        cut=cut,
        length=length,
        waist=float(rng.uniform(0.56, 0.60)),
        hip=float(rng.uniform(0.74, 0.78)),
        flare=float(rng.uniform(0.8, 1.2)),
        band=float(rng.choice((0.14, 0.18, 0.22))),
        crease=bool(kind == "trousers" and rng.uniform() < 0.5),
        pleats=int(rng.integers(12, 22)),
    )
