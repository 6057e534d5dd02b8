"""Line charts: axes with round numbers, gaps where a value is not finite, few enough points."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import pytest

from tryon.curves import MOST_DOTS, MOST_POINTS, Series, curves, thinned, ticks_between


def drawn(*series: Series) -> ElementTree.Element:
    return ElementTree.fromstring(curves("loss <against> step", series))


def of_class(svg: ElementTree.Element, name: str) -> list[ElementTree.Element]:
    return [element for element in svg.iter() if element.get("class") == name]


def places(line: ElementTree.Element) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in (pair.split(",") for pair in (line.get("points") or "").split())]


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 3000, [0, 1000, 2000, 3000]),
        (0.23, 0.31, [0.24, 0.26, 0.28, 0.3]),
        (-1, 1, [-1, -0.5, 0, 0.5, 1]),
        (2, 2, [2]),
    ],
)
def test_ticks_are_round(low: float, high: float, ticks: list[float]) -> None:
    assert ticks_between(low, high) == pytest.approx(ticks)


def test_what_is_more_stands_higher_and_further_right() -> None:
    svg = drawn(Series("a", "#123", [(0, 1.0), (10, 3.0), (20, 2.0)]), Series("b & c", "red", [(0, 3.0), (20, 1.0)]))
    first, second = (places(line) for line in of_class(svg, "curve"))
    assert [x for x, _ in first] == sorted(x for x, _ in first)
    assert first[1][1] < first[2][1] < first[0][1]
    assert second[0][1] == first[1][1]
    assert second[1][0] == first[2][0]
    assert svg.get("aria-label") == "loss <against> step"
    assert "b & c, 20: 1" in [dot.findtext("title") for dot in of_class(svg, "dot")]


def test_a_value_that_is_not_finite_leaves_a_gap() -> None:
    points = [(0, 1.0), (1, 2.0), (2, math.nan), (3, math.inf), (4, 2.0)]
    lines = of_class(drawn(Series("a", "#123", points)), "curve")
    assert [len(places(line)) for line in lines] == [2, 1]
    with pytest.raises(ValueError, match="loss: there is no finite value"):
        curves("loss", [Series("a", "#123", [(0, math.nan)])])


def test_values_that_span_much_are_drawn_by_powers_of_ten() -> None:
    svg = drawn(Series("a", "#123", [(0, 1000.0), (1, 10.0), (2, 0.1)]))
    heights = [y for _, y in places(of_class(svg, "curve")[0])]
    assert heights[1] - heights[0] == pytest.approx(heights[2] - heights[1], abs=0.2)
    assert {"1", "100"} <= {text.text for text in svg.iter("text")}


def test_one_point_and_equal_values_are_drawn() -> None:
    for points in ([(5, 0.0)], [(0, 2.0), (9, 2.0)], [(0, 0.0)]):
        svg = drawn(Series("a", "#123", points))
        assert len(of_class(svg, "dot")) == len(points)
        assert not re.search("nan|inf", ElementTree.tostring(svg, "unicode"))


def test_long_lines_are_thinned_to_means_and_keep_their_end() -> None:
    points = [(float(i), float(i % 2)) for i in range(10_001)]
    few = thinned(points)
    assert len(few) <= MOST_POINTS
    assert few[-1] == points[-1]
    assert all(0.4 < y < 0.6 for _, y in few[:-1])
    assert thinned(points[:50]) == points[:50]
    svg = drawn(Series("a", "#123", points))
    assert len(places(of_class(svg, "curve")[0])) <= MOST_POINTS
    assert not of_class(svg, "dot")
    assert len(of_class(drawn(Series("a", "#123", points[:MOST_DOTS])), "dot")) == MOST_DOTS
