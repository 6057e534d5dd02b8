"""Line charts as SVG text: several series against one axis, as `tryon.charts` draws the rest."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from tryon.charts import TOP, WIDTH, figure, x_axis

LEFT = 44  # px for what is written beside the vertical axis
TALL = 190
FLOOR = TALL - 20
MOST_POINTS = 300  # of a line; a run of 100,000 steps has thousands and the page holds them all
MOST_DOTS = 60
LOG_FROM = 50.0  # highest / lowest value from which a linear axis shows the high ones alone

Point = tuple[float, float]


@dataclass(frozen=True)
class Series:
    """One line.

    Attributes:
        name: for what the pointer shows.
        colour: CSS.
        points: (x, y), in the order of x; those that are not finite are left out, and the line has a gap there.
        cut: it was ended before its time: drawn as `cut` for the page's style, with a cross at its end.
    """

    name: str
    colour: str
    points: Sequence[Point]
    cut: bool = False


def curves(title: str, series: Sequence[Series]) -> str:
    """Draws the series over one another.

    Args:
        title: of what is drawn, read out where the drawing cannot be seen.
        series: at least one of them with a finite point.

    Raises:
        ValueError: there is no finite point at all.
    """
    points = [point for line in series for point in line.points if math.isfinite(point[1])]
    if not points:
        raise ValueError(f"{title}: there is no finite value to draw")
    left, right = 0.0, max(x for x, _ in points) or 1.0
    scale = _Scale.over([y for _, y in points])
    parts = [f'<svg class="curves" viewBox="0 0 {WIDTH} {TALL}" role="img" aria-label="{escape(title)}">']
    for value in scale.ticks():
        y = scale.place(value)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{figure(value)}</text>')
    ticks = [(x / right, figure(x)) for x in ticks_between(left, right) if x < 0.9 * right or x == right]
    parts += x_axis(LEFT, FLOOR, ticks)
    for line in series:
        parts += _line(line, right, scale)
    return "".join([*parts, "</svg>"])


def ticks_between(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) from `low` to `high`, both included where they are round."""
    if high <= low:
        return [low]
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{i * step:.12g}") for i in range(first, last + 1)]


def thinned(points: Sequence[Point], most: int = MOST_POINTS) -> list[Point]:
    """At most so many points: means of neighbours, the last one kept as it is."""
    if len(points) <= most:
        return list(points)
    size = math.ceil((len(points) - 1) / (most - 1))
    groups = [points[i : min(i + size, len(points) - 1)] for i in range(0, len(points) - 1, size)]
    means = [(sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group)) for group in groups]
    return [*means, points[-1]]


@dataclass(frozen=True)
class _Scale:
    """The vertical axis: linear, or by powers of ten where the values span many."""

    low: float
    high: float
    log: bool

    @classmethod
    def over(cls, values: Sequence[float]) -> _Scale:
        low, high = min(values), max(values)
        if low > 0 and high / low > LOG_FROM:
            return cls(low, high, log=True)
        room = 0.06 * (high - low) or 0.05 * abs(high) or 0.5
        floor = low - room if low < 0 else max(0.0, low - room)  # what is never below 0 has no axis below it
        return cls(floor, high + room, log=False)

    def place(self, value: float) -> float:
        """Px from the top."""
        low, high, at = (self.low, self.high, value)
        if self.log:
            low, high, at = math.log10(low), math.log10(high), math.log10(value)
        return FLOOR - (FLOOR - TOP) * (at - low) / (high - low)

    def ticks(self) -> list[float]:
        if not self.log:
            return ticks_between(self.low, self.high, 6)
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        near = [10.0**power * factor for power in powers for factor in ((1, 3) if len(powers) < 5 else (1,))]
        return [float(f"{value:.3g}") for value in near if self.low <= value <= self.high]


def _line(line: Series, right: float, scale: _Scale) -> list[str]:
    """A path for each stretch without a gap; dots where they are few, which also show a stretch of one point."""
    style = f'style="--series:{escape(line.colour)}"'
    parts: list[str] = []
    for stretch in _stretches(line.points):
        placed = [(LEFT + (WIDTH - LEFT) * x / right, scale.place(y), x, y) for x, y in thinned(stretch)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y, _, _ in placed)
        kind = "curve cut" if line.cut else "curve"
        parts.append(f'<polyline class="{kind}" {style} points="{path}"/>')
        if len(placed) <= MOST_DOTS:
            for x, y, step, value in placed:
                told = f"{escape(line.name)}, {figure(step)}: {figure(value)}"
                parts.append(
                    f'<circle class="dot" {style} cx="{x:.1f}" cy="{y:.1f}" r="2"><title>{told}</title></circle>'
                )
        if line.cut:
            x, y, _, _ = placed[-1]
            parts.append(f'<path class="cross" {style} d="M{x - 4:.1f} {y - 4:.1f}l8 8m0-8l-8 8"/>')
    return parts


def _stretches(points: Sequence[Point]) -> list[list[Point]]:
    found: list[list[Point]] = [[]]
    for point in points:
        if math.isfinite(point[1]):
            found[-1].append(point)
        elif found[-1]:
            found.append([])
    return [stretch for stretch in found if stretch]
