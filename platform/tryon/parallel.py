"""Parallel coordinates as SVG text: an axis a quantity, a line a thing that has a value of each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from tryon.charts import figure
from tryon.curves import ticks_between

WIDTH, HEIGHT = 1120, 330
TOP, BOTTOM = 44, 16  # px for the axes' names; below the axes
SIDE = 76  # px for what is written beside the outer axes
MOST_NAME = 26  # letters of a name that fits above an axis


@dataclass(frozen=True)
class Axis:
    """One quantity.

    Attributes:
        name: above the axis.
        low: value at its foot; above `high` where the axis goes downwards.
        high: value at its top.
        log: by powers of ten.
        choices: values that are no numbers, or few; `low` and `high` mean nothing then.
    """

    name: str
    low: float = 0.0
    high: float = 1.0
    log: bool = False
    choices: tuple[str, ...] = ()

    def place(self, value: object) -> float:
        """0 at the foot, 1 at the top."""
        if self.choices:
            return (self.choices.index(str(value)) + 0.5) / len(self.choices)
        assert isinstance(value, int | float)
        low, high, at = self.low, self.high, float(value)
        if self.log:
            low, high, at = math.log(low), math.log(high), math.log(at)
        return 0.5 if high == low else (at - low) / (high - low)

    def ticks(self) -> list[tuple[float, str]]:
        """Places and what is written there."""
        if self.choices:
            return [(self.place(choice), choice) for choice in self.choices]
        low, high = sorted((self.low, self.high))
        if self.log:
            powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
            factors = (1, 3) if len(powers) < 5 else (1,)
            found = [10.0**power * factor for power in powers for factor in factors]
            values = [value for value in found if low * (1 - 1e-9) <= value <= high * (1 + 1e-9)] or [low, high]
        else:
            values = ticks_between(low, high, 6)
        return [(self.place(value), _short(value)) for value in values]


@dataclass(frozen=True)
class Track:
    """One line.

    Attributes:
        told: what the pointer shows.
        kind: CSS classes.
        values: one for each axis, from the first on; the line ends where they do.
    """

    told: str
    kind: str
    values: Sequence[object]


def parallel(title: str, axes: Sequence[Axis], tracks: Sequence[Track]) -> str:
    """Draws tracks over one another, the last on top.

    Args:
        title: of what is drawn, read out where the drawing cannot be seen.
        axes: two or more, from left to right.
        tracks: with a value for each axis, or for the first ones.
    """
    at = [SIDE + (WIDTH - 2 * SIDE) * i / (len(axes) - 1) for i in range(len(axes))]
    parts = [f'<svg class="parallel" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">']
    for track in tracks:
        told = zip(at, axes, track.values, strict=False)
        path = " ".join(f"{x:.1f},{_down(axis.place(value)):.1f}" for x, axis, value in told)
        parts.append(f'<g class="{escape(track.kind)}"><title>{escape(track.told)}</title>')
        parts.append(f'<polyline class="wide" points="{path}"/><polyline class="track" points="{path}"/></g>')
    for x, axis in zip(at, axes, strict=True):
        parts += _drawn(x, axis, is_last=axis is axes[-1])
    return "".join([*parts, "</svg>"])


def _drawn(x: float, axis: Axis, *, is_last: bool) -> list[str]:
    name = axis.name if len(axis.name) <= MOST_NAME else axis.name[: MOST_NAME - 1] + "…"
    parts = [
        f'<text class="name" x="{x:.0f}" y="20" text-anchor="middle">{escape(name)}</text>',
        f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>',
    ]
    side, anchor = (8, "start") if is_last else (-8, "end")
    for place, text in axis.ticks():
        y = _down(place)
        parts.append(f'<line class="axis" x1="{x - 3:.1f}" x2="{x + 3:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(
            f'<text class="tick" x="{x + side:.0f}" y="{y + 4:.0f}" text-anchor="{anchor}">{escape(text)}</text>'
        )
    return parts


def _short(value: float) -> str:
    """As other labels, but a power of ten where those would be all noughts."""
    if value == 0 or abs(value) >= 1e-3:
        return figure(value)
    mantissa, _, exponent = f"{value:.1e}".partition("e")
    return f"{mantissa.removesuffix('.0')}e{int(exponent)}"


def _down(place: float) -> float:
    return HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * place
