"""Report: the page says what is there, holds all it needs, and comes out the same however it is made."""

from __future__ import annotations

import base64
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data.assets import clean_rows, write_clean, write_rows
from tryon.charts import BINS, Bar, bars, figure, histogram
from tryon.codec import encode_jpeg
from tryon.data.look.report import ReportConfig, report
from tryon.data.look.samples import EXAMPLES, spread
from tryon.data.look.tally import PPM, Tally
from tryon.sample import Joint, Label, Row

VOID = {"meta", "img", "br"}


class Tags(HTMLParser):
    """Checks that tags close, and collects what the page points to."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.count: dict[str, int] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.count[tag] = self.count.get(tag, 0) + 1
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.count[tag] = self.count.get(tag, 0) + 1

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def page(uri: str, out: Path, config: ReportConfig | None = None, *, num_actors: int = 0) -> str:
    report(uri, str(out), config, num_actors=num_actors)
    return out.read_text(encoding="utf-8")


def parsed(html: str) -> Tags:
    tags = Tags()
    tags.feed(html)
    assert tags.open == []
    return tags


@pytest.fixture
def data(tmp_path: Path) -> str:
    uri = str(tmp_path / "data")
    write_clean(uri)
    return uri


def test_page_is_whole_and_alone(data: str, tmp_path: Path) -> None:
    html = page(data, tmp_path / "r.html", ReportConfig(num_samples=4, height=100))
    tags = parsed(html)
    assert all(link.startswith("data:image/jpeg;base64,") for link in tags.links)
    assert "url(" not in html
    assert "<script" not in html
    assert html.count("<figure") == 4
    assert tags.count["img"] == 4 * 5  # pose, parse, agnostic, dense, garment
    first = Image.open(io.BytesIO(base64.b64decode(tags.links[0].split(",")[1])))
    assert first.format == "JPEG"
    assert first.size[1] == 100


def test_page_tells_counts_reasons_and_charts(data: str, tmp_path: Path) -> None:
    html = page(data, tmp_path / "r.html")
    for text in ("6 rows in = 5 kept", "1 set aside", "image-truncated", "torn.jpg is cut short", "found by decode"):
        assert text in html, text
    for text in ("Person share", "Painted-out share", "Keypoint confidence", "upper clothes", "left shoulder", "blur"):
        assert text in html, text


def test_rejected_photos_are_shown_where_they_can_be_read(tmp_path: Path) -> None:
    photo = tmp_path / "a.jpg"
    photo.write_bytes(encode_jpeg(np.full((64, 48, 3), 90, np.uint8)))
    bad: list[Row] = [
        {"id": f"bad-{i}", "error_code": "no-person", "error": f"nobody in {i}", "error_stage": "pose",
         "person_uri": uri}
        for i, uri in enumerate([str(photo), str(tmp_path / "gone.jpg"), "https://shop/x.jpg", str(photo), str(photo)])
    ]  # fmt: skip
    uri = str(tmp_path / "data")
    write_rows(uri, [*clean_rows()[:1], *bad])
    html = page(uri, tmp_path / "r.html", ReportConfig(num_samples=0))
    assert parsed(html).count["img"] == 2
    assert html.count('class="case"') == EXAMPLES
    assert "5 rows" in html
    assert "bad-4" not in html


def test_words_from_outside_are_escaped(tmp_path: Path) -> None:
    rows = clean_rows()[:1]
    rows[0] |= {"id": "<script>alert(1)</script>", "category": "<b>"}
    bad = {"id": "<i>", "error_code": "<u>", "error": '"><img src=x>', "error_stage": "<s>"}
    uri = str(tmp_path / "data")
    write_rows(uri, [*rows, bad], config={"a": "</pre><script>"})
    html = page(uri, tmp_path / "r.html")
    parsed(html)
    for text in ("<script", "<u>", "<s>", "<img src=x", "<b>&lt;b"):
        assert text not in html
    assert "&lt;script&gt;" in html


@pytest.mark.parametrize("keep", [("id", "category"), ("id", "category", "person"), ("id", "category", "garment")])
def test_data_sets_that_lack_most(keep: tuple[str, ...], tmp_path: Path) -> None:
    uri = str(tmp_path / "data")
    write_rows(uri, [{name: row[name] for name in keep} for row in clean_rows()])
    parsed(page(uri, tmp_path / "r.html"))


def test_nothing_but_rejected_rows(tmp_path: Path) -> None:
    uri = str(tmp_path / "data")
    write_rows(uri, [{"id": "x", "category": None, "error_code": "c", "error": "e", "error_stage": "s"}])
    html = page(uri, tmp_path / "r.html")
    parsed(html)
    assert "100.0 % of 1" in html


@pytest.mark.ray
def test_same_bytes_with_actors(data: str, tmp_path: Path, ray_local: None) -> None:
    assert page(data, tmp_path / "a.html") == page(data, tmp_path / "b.html", num_actors=2)


def test_tally_adds_up_in_any_order() -> None:
    rows = clean_rows()
    whole, parts = Tally(), [Tally() for _ in rows]
    for row, part in zip(rows, parts, strict=True):
        whole.add_row(row)
        part.add_row(row)
    for order in (parts, parts[::-1]):
        total = Tally()
        for part in order:
            total.add(Tally.load(json.loads(json.dumps(part.dump()))))
        assert total.dump() == whole.dump()
    assert whole.numbers["quality blur"] == {0.5: 5}
    assert whole.joints[Joint.NECK] == 5
    share = np.mean([(row["parse"] == Label.HAIR).mean() for row in rows])
    assert whole.labels[Label.HAIR] / (5 * PPM) == pytest.approx(share, abs=1e-5)


@pytest.mark.parametrize("quality", ["", "no json", "[1]", '{"a": null, "b": "x", "c": NaN}'])
def test_quality_that_is_none(quality: str) -> None:
    tally = Tally()
    tally.add_row({"quality": quality})
    assert tally.numbers == {}


def bar_heights(svg: str) -> list[float]:
    return [float(h) for h in re.findall(r'class="bar"[^>]* height="([\d.]+)"', svg)]


def test_histogram_draws_what_is_there() -> None:
    counts = {0.1: 10, 0.52: 30, 0.9: 20}
    drawn = histogram(counts, (0.0, 1.0))
    heights = bar_heights(drawn.svg)
    assert len(heights) == BINS
    assert sorted(h for h in heights if h) == pytest.approx(
        [max(heights) / 3, 2 * max(heights) / 3, max(heights)], abs=0.1
    )
    assert (drawn.count, drawn.median, drawn.low, drawn.high) == (60, 0.52, 0.1, 0.9)


def test_histogram_of_whole_numbers_has_a_bar_each() -> None:
    svg = histogram({0.0: 5, 1.0: 3, 2.0: 1}).svg
    assert [h for h in bar_heights(svg) if h] == pytest.approx([104, 62.4, 20.8])
    assert re.findall(r">([\d.]+)</text>", svg) == ["0", "1", "2"]


def test_histogram_of_one_value() -> None:
    assert sum(h > 0 for h in bar_heights(histogram({0.25: 7}).svg)) == 1
    assert sum(h > 0 for h in bar_heights(histogram({768.0: 7}).svg)) == 1


def test_bars_are_as_long_as_their_share() -> None:
    svg = bars([Bar("all", 1.0, "2"), Bar("half <&", 0.5, "1"), Bar("none", 0.0, "0")])
    widths = [float(w) for w in re.findall(r'class="bar"[^>]* width="([\d.]+)"', svg)]
    assert widths == [150.0, 75.0, 0.0]
    assert "half &lt;&amp;" in svg


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (1234.5, "1,234"), (99.94, "99.9"), (0.5, "0.5"), (0.00083, "0.00083"), (-1.5, "-1.5"), (100, "100")],
)
def test_figures(value: float, text: str) -> None:
    assert figure(value) == text


def test_samples_are_spread_evenly() -> None:
    assert spread([2, 3, 0, 1], 6) == {0: [0, 1], 1: [0, 1, 2], 3: [0]}
    assert spread([10, 10], 3) == {0: [0], 1: [0, 9]}
    assert spread([10, 10], 1) == {0: [0]}
    assert spread([], 5) == {}
    assert spread([4], 0) == {}
    assert sum(len(places) for places in spread([32] * 100, 48).values()) == 48
