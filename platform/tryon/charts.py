"""Charts as SVG text: no library in the page, sharp at any size, colours from the page's style sheet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]

WIDTH, HEIGHT = 340, 132
TOP, BOTTOM = 8, 20
BINS = 28
MIN_WHOLE, MAX_WHOLE = 5, 14  # bars where values are whole numbers


@dataclass(frozen=True)
class Histogram:
    """A distribution, ready for the page.

    Attributes:
        svg: the drawing.
        count: values in it.
        median: of them.
        low: the 5 % quantile.
        high: the 95 % quantile.
    """

    svg: str
    count: int
    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Bar:
    """One bar of a bar chart: its name, length 0..1, text beside it, and a colour (None: the page's own)."""

    name: str
    share: float
    text: str
    colour: str | None = None


def figure(value: float) -> str:
    """A number for a label: three significant digits, no exponent, thousands apart."""
    if value == 0 or abs(value) >= 1000:
        return f"{value:,.0f}"
    decimals = max(0, 2 - int(np.floor(np.log10(abs(value)))))
    text = f"{value:.{min(decimals, 5)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def histogram(counts: Mapping[float, int], span: tuple[float, float] | None = None) -> Histogram:
    """Draws how often each value came; whole numbers that are few get a bar each.

    Args:
        counts: by value, at least one.
        span: lowest and highest value on the axis; None takes them from the values, a far tail of 0.5 % cut off.
    """
    values = np.array(sorted(counts), dtype=np.float64)
    weights = np.array([counts[v] for v in sorted(counts)], dtype=np.int64)
    low, high = span or (_quantile(values, weights, 0.005), _quantile(values, weights, 0.995))
    whole = bool((values == np.rint(values)).all()) and high - low < MAX_WHOLE and span is None
    if whole:
        middle = (low + high) / 2
        reach = max(MIN_WHOLE, high - low + 1) / 2
        edges = np.arange(np.floor(middle - reach) + 0.5, np.ceil(middle + reach))
    else:
        edges = np.linspace(low, high, BINS + 1) if high > low else np.linspace(low - 0.5, low + 0.5, BINS + 1)
    place = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2)
    tall = np.bincount(place, weights=weights, minlength=len(edges) - 1).astype(np.float64)
    quantiles = [_quantile(values, weights, q) for q in (0.05, 0.5, 0.95)]
    ticks = [(0.0, edges[0]), (0.5, (edges[0] + edges[-1]) / 2), (1.0, edges[-1])]
    if whole:
        ticks = [((i + 0.5) / len(tall), (edges[i] + edges[i + 1]) / 2) for i in range(len(tall)) if tall[i]]
    svg = _histogram_svg(edges, tall, quantiles[1], ticks)
    return Histogram(svg, int(weights.sum()), quantiles[1], quantiles[0], quantiles[2])


def _quantile(values: Floats, weights: Counts, q: float) -> float:
    at = int(np.searchsorted(np.cumsum(weights), q * weights.sum()))
    return float(values[min(at, len(values) - 1)])


def _histogram_svg(edges: Floats, tall: Floats, median: float, ticks: Sequence[tuple[float, float]]) -> str:
    floor, total = HEIGHT - BOTTOM, max(1.0, float(tall.sum()))
    step = WIDTH / len(tall)
    parts = [
        f'<svg class="hist" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="histogram of {total:.0f} values">'
    ]
    for i, count in enumerate(tall):
        up = max((floor - TOP) * count / tall.max(), 1.5) if count else 0
        told = f"{figure(edges[i])} to {figure(edges[i + 1])}: {int(count):,} ({count / total:.1%})"
        box = f'x="{i * step + 0.6:.1f}" y="{floor - up:.1f}" width="{step - 1.2:.1f}" height="{up:.1f}" rx="1.5"'
        parts.append(f'<rect class="bar" {box}><title>{told}</title></rect>')
    parts += x_axis(0, floor, [(share, figure(value)) for share, value in ticks])
    x = WIDTH * float(np.clip((median - edges[0]) / (edges[-1] - edges[0]), 0, 1))
    parts.append(f'<line class="median" x1="{x:.1f}" x2="{x:.1f}" y1="2" y2="{floor}"/>')
    return "".join([*parts, "</svg>"])


def x_axis(left: float, floor: float, ticks: Sequence[tuple[float, str]]) -> list[str]:
    """The line below a chart and what is written under it.

    Args:
        left: px at which it begins; it ends at `WIDTH`.
        floor: px from the top.
        ticks: place 0..1 along the line, and the text there.
    """
    parts = [f'<line class="axis" x1="{left:.0f}" x2="{WIDTH}" y1="{floor:.0f}" y2="{floor:.0f}"/>']
    for share, text in ticks:
        anchor = "start" if share == 0 else "end" if share == 1 else "middle"
        x, y = left + share * (WIDTH - left), floor + BOTTOM - 6
        parts.append(f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}">{escape(text)}</text>')
    return parts


def bars(rows: Sequence[Bar], *, name_px: int = 120, text_px: int = 70) -> str:
    """Draws bars below one another, names on the left and figures on the right."""
    line, tall = 22, 10
    room = WIDTH - name_px - text_px
    parts = [f'<svg class="bars" viewBox="0 0 {WIDTH} {line * len(rows)}" role="img" aria-label="bar chart">']
    for i, row in enumerate(rows):
        y = i * line
        fill = f' style="fill:{row.colour}"' if row.colour else ""
        long = max(1.5, room * min(1.0, row.share)) if row.share > 0 else 0
        top = y + (line - tall) / 2
        parts.append(f'<text x="{name_px - 8}" y="{y + 15}" text-anchor="end">{escape(row.name)}</text>')
        parts.append(f'<rect class="track" x="{name_px}" y="{top}" width="{room}" height="{tall}" rx="5"/>')
        parts.append(f'<rect class="bar" x="{name_px}" y="{top}" width="{long:.1f}" height="{tall}" rx="5"{fill}/>')
        parts.append(f'<text class="figure" x="{WIDTH}" y="{y + 15}" text-anchor="end">{escape(row.text)}</text>')
    return "".join([*parts, "</svg>"])
