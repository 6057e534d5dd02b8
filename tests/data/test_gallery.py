from __future__ import annotations

import base64
import re
from pathlib import Path

import numpy as np
import pytest

from tryon.codec import decode_image
from tryon.data.gallery import PAPER, VIEWS, draw_dense, garment_title, pictures, write_gallery
from tryon.data.simulator import LowerSpec, SimulatorConfig, sample_specs, simulate

SIZE = (128, 96)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    out = tmp_path_factory.mktemp("gallery") / "gallery.html"
    assert write_gallery(str(out), num=6, size=SIZE, seed=4) == 6
    return out.read_text()


def test_the_page_holds_everything_it_shows(page: str) -> None:
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert len(sources) == 6 * len(VIEWS) + 6  # the row at the top repeats the persons
    assert all(source.startswith("data:image/jpeg;base64,") for source in sources)
    image = decode_image(base64.b64decode(sources[0].split(",")[1]))
    assert image.shape == (*SIZE, 3)
    assert image.std() > 10


def test_samples_are_grouped_by_category_with_counts(page: str) -> None:
    assert page.count("<small>2 shown</small>") == 3
    heads = [page.index(title) for title in ("Tops and open jackets", "Trousers, shorts and skirts", "Dresses")]
    assert heads == sorted(heads)
    assert re.search(r"<span>\d+ % of the garment seen</span>", page)


def test_the_same_seed_writes_the_same_page(tmp_path: Path) -> None:
    only = SimulatorConfig(categories=("lower",))
    outs = [tmp_path / name for name in "abc"]
    for out, seed in zip(outs, (1, 1, 2), strict=True):
        write_gallery(str(out), num=1, size=(64, 48), seed=seed, config=only)
    first, same, other = (out.read_bytes() for out in outs)
    assert first == same
    assert first != other


def test_views_show_what_they_say() -> None:
    row = simulate(2, 0, *SIZE)
    views = pictures(row)
    assert set(views) == set(VIEWS)
    assert (views["warped"][row["true_mask"] == 0] == PAPER).all()
    np.testing.assert_array_equal(views["warped"][row["true_mask"] == 1], row["true_garment"][row["true_mask"] == 1])
    assert (views["parse"] != row["person"]).any()


def test_dense_parts_get_colours_of_their_own() -> None:
    iuv = np.zeros((8, 3, 3), np.uint8)
    iuv[:, 1], iuv[:, 2] = (2, 40, 40), (9, 40, 40)
    drawn = draw_dense(iuv, np.full((8, 3, 3), 100, np.uint8))
    assert len({tuple(drawn[5, k].tolist()) for k in range(3)}) == 3
    assert np.ptp(drawn[5, 0]) == 0  # no part: grey


def test_titles_name_the_garment() -> None:
    for index in range(40):
        garment = sample_specs(0, index)[1]
        title = garment_title(garment)
        if isinstance(garment, LowerSpec):
            assert title.endswith(garment.kind)
        else:
            assert ("dress" in title) == (garment.category == "dress")
            assert title.endswith(", open") == (garment.opening > 0)
