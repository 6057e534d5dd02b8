"""The box in which something is made: what is made there is what the whole would have been."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from tryon.stages._region import Region, paint

SIZE = (64, 48)


def mask_of(top: int, bottom: int, left: int, right: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    mask = np.zeros(size, dtype=np.uint8)
    mask[top:bottom, left:right] = 1
    return mask


def test_the_box_is_the_masks() -> None:
    assert Region.around(mask_of(5, 9, 2, 40)) == Region(slice(5, 9), slice(2, 40))
    assert Region.around(mask_of(0, 64, 0, 48)) == Region(slice(0, 64), slice(0, 48))
    assert Region.around(mask_of(0, 0, 0, 0)).is_empty


@pytest.mark.parametrize("size", [(128, 96), (150, 100), (64, 48), (40, 31)])
def test_in_an_image_of_another_size_no_pixel_of_it_is_left_out(size: tuple[int, int]) -> None:
    mask = mask_of(5, 9, 2, 47)
    region = Region.around(mask, size, margin=2)
    large = cv2.resize(mask.astype(np.float32), size[::-1], interpolation=cv2.INTER_LINEAR)
    large[region.rows, region.columns] = 0
    assert not large.any()
    assert region.columns.stop == size[1]  # cut off at the border
    assert region.rows.start < 6 * size[0] // 64


@pytest.mark.parametrize("channels", [(), (3,)])
@pytest.mark.parametrize("size", [(64, 48), (128, 96), (256, 48), (100, 75), (61, 50)])
@pytest.mark.parametrize("box", [(0, 64, 0, 48), (10, 31, 7, 8), (0, 3, 40, 48), (61, 64, 0, 5)])
def test_enlarged_there_alone_it_is_as_if_the_whole_were(
    box: tuple[int, int, int, int], size: tuple[int, int], channels: tuple[int, ...]
) -> None:
    image = np.random.default_rng(0).normal(size=(16, 12, *channels)).astype(np.float32)
    region = Region.around(mask_of(*box), size)
    whole = cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR)
    part = region.enlarged(image, size)
    assert part.shape == whole[region.rows, region.columns].shape
    assert np.allclose(part, whole[region.rows, region.columns], atol=1e-5)


def test_paint_rounds_and_keeps_what_is_not_masked() -> None:
    image = np.full((*SIZE, 3), 7, dtype=np.uint8)
    mask = mask_of(10, 20, 10, 20)
    mask[12, 12] = 0
    region = Region.around(mask)
    made = np.full((10, 10, 3), 99.6, dtype=np.float32)
    made[0, 0], made[0, 1] = -5, 300
    paint(image, region, mask, made)
    assert (image[10, 10], image[10, 11], image[11, 11]) == pytest.approx((0, 255, 100))
    assert (image[12, 12] == 7).all()
    assert (image[mask == 0] == 7).all()
