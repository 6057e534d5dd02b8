"""Garment masks of drawn garments, whose true mask is known, and of real photos where those are at hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from tryon.data.simulator.photo import take_photo
from tryon.data.simulator.render import pattern_of
from tryon.data.simulator.wardrobe import sample_garment
from tryon.errors import SampleError
from tryon.stages.garment_mask import GarmentMask

UInt8 = npt.NDArray[np.uint8]


def shirt(height: int = 256, width: int = 192) -> UInt8:
    """True mask of a t-shirt, uint8 (height, width)."""
    outline = np.array(
        [(0.36, 0.15), (0.5, 0.2), (0.64, 0.15), (0.9, 0.3), (0.82, 0.45), (0.7, 0.38), (0.7, 0.85), (0.3, 0.85),
         (0.3, 0.38), (0.18, 0.45), (0.1, 0.3)]
    )  # fmt: skip
    mask = np.zeros((height, width), dtype=np.uint8)
    cv2.fillPoly(mask, [np.rint(outline * (width, height)).astype(np.int32)], (1,))
    return mask


def photo(mask: UInt8, colour: tuple[int, int, int], background: tuple[int, int, int], noise: float = 0.0) -> UInt8:
    image = np.where(mask[..., None] > 0, np.array(colour), np.array(background)).astype(np.float32)
    image += np.random.default_rng(0).normal(0, noise, image.shape) if noise else 0
    return np.clip(image, 0, 255).astype(np.uint8)


def shadowed(mask: UInt8, image: UInt8) -> UInt8:
    """The photo with a garment's soft shadow, fallen a little downwards, on its background."""
    shadow = cv2.GaussianBlur(np.roll(mask, 8, axis=0).astype(np.float32), (0, 0), 10)[..., None]
    return np.where(mask[..., None] > 0, image, image * (1 - 0.16 * shadow)).astype(np.uint8)


def iou(a: UInt8, b: UInt8) -> float:
    return float(((a > 0) & (b > 0)).sum() / ((a > 0) | (b > 0)).sum())


def mask_of(image: UInt8) -> UInt8:
    mask: UInt8 = GarmentMask().process({"garment": image})["garment_mask"]
    assert mask.dtype == np.uint8
    assert mask.shape == image.shape[:2]
    assert set(np.unique(mask)) <= {0, 1}
    return mask


@pytest.mark.parametrize(
    ("colour", "background", "noise"),
    [
        ((200, 30, 40), (255, 255, 255), 0.0),
        ((200, 30, 40), (128, 128, 128), 4.0),
        ((20, 20, 20), (120, 160, 200), 2.0),
        ((255, 255, 255), (245, 245, 245), 0.0),
        ((250, 250, 250), (255, 255, 255), 0.0),
        ((240, 235, 225), (250, 250, 250), 1.0),
    ],
)
def test_plain_backgrounds(colour: tuple[int, int, int], background: tuple[int, int, int], noise: float) -> None:
    truth = shirt()
    assert iou(mask_of(photo(truth, colour, background, noise)), truth) > 0.97


def test_white_on_white_with_a_faint_edge() -> None:
    """Inside and outside have the very same colour: only the outline tells."""
    truth = shirt(512, 384)
    image = np.full((*truth.shape, 3), 250, dtype=np.uint8)
    contours, _ = cv2.findContours(truth, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(image, contours, -1, (240, 240, 240), 2)
    assert iou(mask_of(image), truth) > 0.97


def test_a_light_gradient_in_the_background_is_followed() -> None:
    truth = shirt()
    shade = np.linspace(255, 215, truth.shape[0], dtype=np.float32)[:, None, None]
    image = np.where(truth[..., None] > 0, np.array((30, 60, 150), dtype=np.float32), shade)
    assert iou(mask_of(np.broadcast_to(image, (*truth.shape, 3)).astype(np.uint8)), truth) > 0.97


@pytest.mark.parametrize("colour", [(200, 30, 40), (20, 20, 20), (150, 190, 220)])
def test_a_soft_shadow_is_background(colour: tuple[int, int, int]) -> None:
    truth = shirt(640, 480)
    image = shadowed(truth, photo(truth, colour, (245, 245, 245)))
    assert iou(mask_of(image), truth) > 0.97


@pytest.mark.parametrize("inside", [240, 250])
def test_a_pale_garment_is_not_taken_for_its_shadow(inside: int) -> None:
    """What cannot be told from a shadow stays: a garment with too wide an edge rather than one with holes."""
    truth = shirt(640, 480)
    image = shadowed(truth, photo(truth, (inside, inside, inside), (245, 245, 245)))
    cv2.circle(image, (240, 300), 40, (200, 30, 40), -1)  # a print that a flood could end at
    mask = mask_of(image)
    assert mask[truth > 0].mean() > 0.99
    assert iou(mask, truth) > 0.8


def test_drawn_garments_have_their_own_outline() -> None:
    """Of any pattern and cut that the simulator draws, each with a soft shadow below it."""
    scores = []
    for seed in range(12):
        rng = np.random.default_rng([5, seed])
        drawn = take_photo(pattern_of(sample_garment(rng)), 512, 384)
        scores.append(iou(mask_of(drawn.image), drawn.mask))
    assert np.median(scores) > 0.98
    assert min(scores) > 0.9


def test_busy_background() -> None:
    truth = shirt()
    noise = np.random.default_rng(1).integers(60, 200, (32, 24, 3), dtype=np.uint8)
    noise[..., 0] //= 3
    image = cv2.resize(noise, (192, 256), interpolation=cv2.INTER_NEAREST)
    image[truth > 0] = (220, 40, 60)
    assert iou(mask_of(np.asarray(image, dtype=np.uint8)), truth) > 0.9


def test_see_through_gap_is_background_and_a_print_is_not() -> None:
    truth = shirt(512, 384)
    image = photo(truth, (30, 90, 60), (245, 245, 245))
    cv2.circle(image, (192, 200), 25, (245, 245, 245), -1)  # a hole: the background's very colour
    cv2.circle(image, (192, 330), 25, (200, 220, 240), -1)  # a print
    mask = mask_of(image)
    assert mask[200, 192] == 0
    assert mask[330, 192] == 1


@pytest.mark.parametrize(
    "make", [lambda: np.full((64, 48, 3), 255, np.uint8), lambda: np.zeros((65, 201, 3), np.uint8)]
)
def test_blank_photo_is_an_error_row(make: Callable[[], UInt8]) -> None:
    stage = GarmentMask()
    batch = stage({"garment": [make(), photo(shirt(), (200, 0, 0), (255, 255, 255))]})
    assert batch["error_code"] == ["no-garment", None]
    assert batch["error_stage"] == ["garment_mask", None]
    assert batch["garment_mask"][0] is None
    assert batch["garment_mask"][1].sum() > 0


@pytest.mark.parametrize("size", [(64, 64), (65, 49), (1023, 767), (2400, 300)])
def test_any_size(size: tuple[int, int]) -> None:
    truth = shirt(*size)
    image = photo(truth, (200, 30, 40), (255, 255, 255))
    mask = mask_of(image)
    assert iou(mask, truth) > 0.9
    assert np.array_equal(mask, mask_of(image))


def test_fault_is_a_sample_error() -> None:
    with pytest.raises(SampleError, match="no garment") as caught:
        GarmentMask().process({"garment": np.full((80, 80, 3), 130, np.uint8)})
    assert caught.value.code == "no-garment"


@pytest.mark.parametrize("name", ["00006_00", "03751_00", "08348_00"])
def test_agrees_with_official_masks(name: str, shared: Path) -> None:
    folder = shared / "vitonhd" / "test"
    image = cv2.cvtColor(cv2.imread(str(folder / "cloth" / f"{name}.jpg")), cv2.COLOR_BGR2RGB)
    official = cv2.imread(str(folder / "cloth-mask" / f"{name}.jpg"), cv2.IMREAD_GRAYSCALE)
    assert iou(mask_of(np.asarray(image, np.uint8)), (np.asarray(official) > 127).astype(np.uint8)) > 0.97
