"""Paste: outside the mask the photo itself, inside it the try-on, at the photo's own size."""

from __future__ import annotations

import numpy as np
import pytest

from tryon.stages.fit import FitPerson
from tryon.stages.paste import Paste

SIZES = [(128, 96), (127, 95), (301, 97), (53, 211), (33, 32), (640, 481)]


@pytest.mark.parametrize("size", SIZES)
def test_outside_the_mask_every_pixel_is_the_photos_own(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(size[0])
    photo = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    fitted = FitPerson((128, 96)).process({"person_photo": photo})
    mask = (rng.random((128, 96)) < 0.3).astype(np.uint8)
    tryon = np.full((128, 96, 3), (3, 5, 7), dtype=np.uint8)
    row = Paste().process({"person_photo": photo, **fitted, "agnostic_mask": mask, "tryon": tryon})
    result, result_mask = row["result"], row["result_mask"]
    assert result.shape == photo.shape
    assert result.dtype == np.uint8
    assert result_mask.shape == size
    assert set(np.unique(result_mask)) == {0, 1}
    assert np.array_equal(result[result_mask == 0], photo[result_mask == 0])
    assert (result[result_mask == 1] == (3, 5, 7)).all()


def test_the_mask_lands_where_the_placement_says() -> None:
    photo = np.zeros((100, 200, 3), dtype=np.uint8)
    fitted = FitPerson((128, 96)).process({"person_photo": photo})
    x, y, width, height = fitted["person_placement"].astype(int)
    mask = np.zeros((128, 96), dtype=np.uint8)
    mask[y : y + height // 2, x : x + width // 2] = 1
    mask[:y] = 1  # on the border: belongs to no pixel of the photo
    tryon = np.full((128, 96, 3), 9, dtype=np.uint8)
    row = Paste().process({"person_photo": photo, **fitted, "agnostic_mask": mask, "tryon": tryon})
    assert row["result_mask"][:48, :98].all()
    assert not row["result_mask"][52:].any()
    assert not row["result_mask"][:, 102:].any()


def test_at_the_working_size_nothing_is_resampled() -> None:
    rng = np.random.default_rng(1)
    photo, tryon = rng.integers(0, 256, (2, 128, 96, 3), dtype=np.uint8)
    mask = (rng.random((128, 96)) < 0.5).astype(np.uint8)
    fitted = FitPerson((128, 96)).process({"person_photo": photo})
    row = Paste().process({"person_photo": photo, **fitted, "agnostic_mask": mask, "tryon": tryon})
    assert np.array_equal(row["result"], np.where(mask[..., None] == 1, tryon, photo))
    assert np.array_equal(row["result_mask"], mask)


def test_an_empty_mask_gives_the_photo_and_the_photo_is_not_written_to() -> None:
    photo = np.full((70, 50, 3), 200, dtype=np.uint8)
    fitted = FitPerson((128, 96)).process({"person_photo": photo})
    blank = {"agnostic_mask": np.zeros((128, 96), np.uint8), "tryon": np.zeros((128, 96, 3), np.uint8)}
    row = Paste().process({"person_photo": photo, **fitted, **blank})
    assert np.array_equal(row["result"], photo)
    Paste().process({"person_photo": photo, **fitted, **blank, "agnostic_mask": np.ones((128, 96), np.uint8)})
    assert (photo == 200).all()
