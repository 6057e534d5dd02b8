"""The figures of an evaluation: what they are called, how they are written, and which way is better."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

METHOD = "bundle"  # what the bundle's figures are under, beside the baselines'
METHOD_TITLES = {METHOD: "this bundle", "agnostic": "grey agnostic person", "affine_paste": "affine paste"}


@dataclass(frozen=True)
class Figure:
    """One figure.

    Attributes:
        title: for tables.
        form: format specification of its value.
        higher_is_better: None where neither is, e.g. of a spread.
    """

    title: str
    form: str
    higher_is_better: bool | None

    @property
    def heading(self) -> str:
        """Title with an arrow to where it is better."""
        arrow = {True: " ↑", False: " ↓", None: ""}[self.higher_is_better]
        return self.title + arrow

    def show(self, value: float | None) -> str:
        """The value as text; a dash where there is none."""
        return "-" if value is None else format(value, self.form)


def of_category(category: str) -> str:
    """What the bundle's figures of one category are under."""
    return f"{METHOD}:{category}"


def method_title(method: str) -> str:
    """For tables."""
    _, _, category = method.partition(":")
    return f"- of {category}" if category else METHOD_TITLES.get(method, method)


# Of each sample against its truth, all of it and the worn garment alone; the result holds their means.
SAMPLE_FIGURES: Mapping[str, Figure] = {
    "ssim": Figure("SSIM", ".4f", True),
    "ms_ssim": Figure("MS-SSIM", ".4f", True),
    "psnr": Figure("PSNR, dB", ".2f", True),
    "vif": Figure("VIF", ".4f", True),
    "lpips": Figure("LPIPS", ".4f", False),
    "garment_ssim": Figure("SSIM, garment", ".4f", True),
    "garment_ms_ssim": Figure("MS-SSIM, garment", ".4f", True),
    "garment_psnr": Figure("PSNR, garment, dB", ".2f", True),
    "print": Figure("correlation of prints", ".3f", True),
}
# Of each sample without a truth, against its two photos.
UNPAIRED_FIGURES: Mapping[str, Figure] = {
    "colour": Figure("colour, Lab", ".2f", False),
    "texture": Figure("texture, octaves", ".2f", False),
    "outside": Figure("changed outside", ".2%", False),
    "head": Figure("changed of the head", ".2%", False),
    "hands": Figure("changed of the hands", ".2%", False),
}
# Of all results together against all person photos.
SET_FIGURES: Mapping[str, Figure] = {
    "fid": Figure("FID", ".3f", False),
    "kid": Figure("KID", ".5f", False),
    "kid_std": Figure("± of KID", ".5f", None),
    "is": Figure("IS", ".3f", True),
    "is_std": Figure("± of IS", ".3f", None),
}
FIGURES: Mapping[str, Figure] = {**SAMPLE_FIGURES, **UNPAIRED_FIGURES, **SET_FIGURES}


# What samples are sorted by, worst first; of each sample the first of them that it has.
SORTED_BY = ("garment_ssim", "ssim", "colour")


def badness(figures: Mapping[str, float | None]) -> float:
    """How bad a sample is, by its figures under ``method/name``; -infinity where nothing tells."""
    for name in SORTED_BY:
        value = figures.get(f"{METHOD}/{name}")
        if value is not None:
            return -value if FIGURES[name].higher_is_better else value
    return -math.inf


def columns(figures: Iterable[Mapping[str, float]]) -> dict[str, Figure]:
    """The figures that any of the methods has, in the tables' order."""
    there = {name for row in figures for name in row}
    return {name: figure for name, figure in FIGURES.items() if name in there}
