"""Parallel coordinates: what is more stands higher, lines are told apart, labels can be read."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from tryon.parallel import BOTTOM, HEIGHT, TOP, Axis, Track, parallel

AXES = (Axis("rate", 1e-6, 1e-2, log=True), Axis("kind", choices=("a", "b")), Axis("l1", 0.4, 0.2))
FOOT = HEIGHT - BOTTOM


def points(svg: ElementTree.Element) -> list[list[tuple[float, float]]]:
    lines = [line for line in svg.iter("polyline") if line.get("class") == "track"]
    told = [[p.split(",") for p in (line.get("points") or "").split()] for line in lines]
    return [[(float(x), float(y)) for x, y in line] for line in told]


def test_lines_go_through_their_values() -> None:
    tracks = [Track("worst <1>", "pruned", [1e-6, "a", 0.4]), Track("best", "best", [1e-2, "b", 0.2])]
    svg = ElementTree.fromstring(parallel("t", AXES, tracks))
    low, high = points(svg)
    assert [y for _, y in low] == pytest.approx([FOOT, FOOT - (FOOT - TOP) / 4, FOOT], abs=0.1)
    assert [y for _, y in high] == pytest.approx([TOP, TOP + (FOOT - TOP) / 4, TOP], abs=0.1)
    assert [x for x, _ in low] == [x for x, _ in high]
    assert [(g.get("class"), g.findtext("title")) for g in svg.iter("g")] == [("pruned", "worst <1>"), ("best", "best")]


def test_a_line_without_a_last_value_ends_before_the_axis() -> None:
    svg = ElementTree.fromstring(parallel("t", AXES, [Track("failed", "failed", [1e-4, "a"])]))
    assert len(points(svg)[0]) == 2
    assert points(svg)[0][0][1] == pytest.approx((TOP + FOOT) / 2, abs=0.1), "half of the powers of ten"


@pytest.mark.parametrize(
    ("axis", "labels"),
    [
        (AXES[0], ["1e-6", "1e-5", "1e-4", "0.001", "0.01"]),
        (AXES[1], ["a", "b"]),
        (AXES[2], ["0.2", "0.25", "0.3", "0.35", "0.4"]),
        (Axis("narrow", 2.0, 2.5, log=True), ["2", "2.5"]),
    ],
)
def test_labels(axis: Axis, labels: list[str]) -> None:
    assert [text for _, text in axis.ticks()] == labels
    assert all(0 <= place <= 1 for place, _ in axis.ticks())


def test_an_axis_of_one_value_has_it_in_the_middle() -> None:
    assert Axis("same", 3.0, 3.0).place(3.0) == 0.5
