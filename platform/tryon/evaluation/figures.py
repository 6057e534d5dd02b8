"""The figures of an evaluation: what they are called, how they are written, and which way is better."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


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


# Of each sample against its truth; the result holds their means.
SAMPLE_FIGURES: Mapping[str, Figure] = {
    "ssim": Figure("SSIM", ".4f", True),
    "ms_ssim": Figure("MS-SSIM", ".4f", True),
    "psnr": Figure("PSNR, dB", ".2f", True),
    "vif": Figure("VIF", ".4f", True),
    "lpips": Figure("LPIPS", ".4f", False),
}
# Of all results together against all person photos.
SET_FIGURES: Mapping[str, Figure] = {
    "fid": Figure("FID", ".3f", False),
    "kid": Figure("KID", ".5f", False),
    "kid_std": Figure("± of KID", ".5f", None),
    "is": Figure("IS", ".3f", True),
    "is_std": Figure("± of IS", ".3f", None),
}
FIGURES: Mapping[str, Figure] = {**SAMPLE_FIGURES, **SET_FIGURES}


def columns(figures: Iterable[Mapping[str, float]]) -> dict[str, Figure]:
    """The figures that any of the methods has, in the tables' order."""
    there = {name for row in figures for name in row}
    return {name: figure for name, figure in FIGURES.items() if name in there}
