"""Fingerprints: near for the same photo however it was stored, far for another one, exact for the same pixels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest

from tryon.codec import decode_image, encode_jpeg
from tryon.data.simulator import simulate
from tryon.images import resize
from tryon.stages.fingerprint import STRUCTURE_BITS, Fingerprint, perceptual_hash, pixel_digest

GOLDEN = "6381f04fa7f75eff987ff1e802f80ec007c0016080f80f061ff0e1ff831fdf0cffff0000ff5f5f575505f3b230303030"
MAX_STRUCTURE, MAX_COLOUR = 32, 12  # what `DuplicateConfig` takes for the same photo


def distance(a: str, b: str) -> tuple[int, int]:
    """Differing bits of the structure and of the colour."""
    bits = np.unpackbits(np.frombuffer(bytes.fromhex(a), np.uint8) ^ np.frombuffer(bytes.fromhex(b), np.uint8))
    return int(bits[:STRUCTURE_BITS].sum()), int(bits[STRUCTURE_BITS:].sum())


@pytest.fixture(scope="module")
def persons() -> list[Any]:
    return [simulate(21, i, 256, 192)["person"] for i in range(8)]


def _crop(photo: Any) -> Any:
    height, width = photo.shape[:2]
    return photo[round(0.01 * height) : round(0.99 * height), round(0.01 * width) : round(0.99 * width)]


CHANGES: dict[str, Callable[[Any], Any]] = {
    "jpeg30": lambda photo: decode_image(encode_jpeg(photo, 30)),
    "jpeg95": lambda photo: decode_image(encode_jpeg(photo, 95)),
    "half": lambda photo: resize(photo, 128, 96),
    "double": lambda photo: cv2.resize(photo, (384, 512), interpolation=cv2.INTER_CUBIC),
    "crop": _crop,
    "darker": lambda photo: (photo * 0.87).astype(np.uint8),
    "brighter": lambda photo: np.minimum(photo.astype(np.int32) + 12, 255).astype(np.uint8),
}


@pytest.mark.parametrize("change", list(CHANGES))
def test_the_same_photo_stays_near(persons: list[Any], change: str) -> None:
    for photo in persons:
        structure, colour = distance(perceptual_hash(photo), perceptual_hash(CHANGES[change](photo)))
        assert structure <= MAX_STRUCTURE
        assert colour <= MAX_COLOUR


def test_other_photos_are_far(persons: list[Any]) -> None:
    hashes = [perceptual_hash(photo) for photo in persons]
    near = [distance(a, b)[0] for i, a in enumerate(hashes) for b in hashes[:i]]
    assert min(near) > 1.5 * MAX_STRUCTURE


def test_the_same_cut_in_another_colour_is_another_photo() -> None:
    row = simulate(21, 0, 256, 192)
    flat = np.full_like(row["garment"], 240)
    hues = [(190, 40, 40), (40, 60, 170), (60, 140, 70)]
    dyed = [np.where(row["garment_mask"][..., None] > 0, np.array(hue, np.uint8), flat) for hue in hues]
    hashes = [perceptual_hash(photo) for photo in dyed]
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert distance(hashes[a], hashes[b])[1] > MAX_COLOUR


def test_the_digest_is_of_the_pixels_and_the_shape(persons: list[Any]) -> None:
    photo = persons[0]
    other = photo.copy()
    other[5, 7, 1] ^= 1
    assert pixel_digest(photo) == pixel_digest(photo.copy())
    assert len({pixel_digest(p) for p in (photo, other, photo.reshape(192, 256, 3))}) == 3
    assert len(pixel_digest(photo)) == 16


def test_bits_are_those_of_earlier_releases() -> None:
    y, x = np.mgrid[0:96, 0:64]
    photo = np.dstack([(3 * x + y) % 256, (x * y) % 256, (5 * y) % 256]).astype(np.uint8)
    assert perceptual_hash(photo) == GOLDEN


def test_photos_that_are_absent_give_none(persons: list[Any]) -> None:
    batch = {"id": ["a", "b", "c"], "person": [persons[0], None, persons[0]], "garment": [None, persons[1], persons[1]]}
    out = Fingerprint()(batch, fill_missing=True)
    assert out["error_code"] == [None] * 3
    person, garment = perceptual_hash(persons[0]), perceptual_hash(persons[1])
    assert out["person_hash"] == [person, None, person]
    assert out["garment_hash"] == [None, garment, garment]
    assert out["garment_digest"] == [None, pixel_digest(persons[1]), pixel_digest(persons[1])]


def test_flat_and_tiny_photos_have_a_hash() -> None:
    for shape in ((64, 48), (1, 1), (3, 500)):
        assert len(perceptual_hash(np.full((*shape, 3), 255, np.uint8))) == 96
