"""Fit: onto the working size, or at the photo's own."""

from __future__ import annotations

import numpy as np
import pytest

from tryon.stages.fit import FitGarment, FitPerson


@pytest.mark.parametrize("photo", [(51, 37), (300, 40), (40, 300), (128, 96)])
def test_person_is_letterboxed_and_remembers_where_it_went(photo: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*photo, 3), dtype=np.uint8)
    row = FitPerson((128, 96)).process({"person_photo": pixels})
    x, y, width, height = row["person_placement"].astype(int)
    assert row["person"].shape == (128, 96, 3)
    assert row["person"].dtype == np.uint8
    assert row["person_placement"].dtype == np.float32
    assert abs(width / height - photo[1] / photo[0]) < 0.05 * width / height + 1 / height
    inside = row["person"][y : y + height, x : x + width]
    assert abs(float(inside.mean()) - float(pixels.mean())) < 4


def test_without_a_size_photos_stay_what_they_are() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (51, 37, 3), dtype=np.uint8)
    row = FitPerson().process({"person_photo": pixels})
    assert np.array_equal(row["person"], pixels)
    assert row["person_placement"].tolist() == [0, 0, 37, 51]
    assert np.array_equal(FitGarment(None).process({"garment_photo": pixels})["garment"], pixels)


def test_sizes_may_come_from_json_as_a_list() -> None:
    pixels = np.zeros((60, 60, 3), dtype=np.uint8)
    assert FitGarment([64, 48]).process({"garment_photo": pixels})["garment"].shape == (64, 48, 3)
