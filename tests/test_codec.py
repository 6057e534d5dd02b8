"""What goes into a shard comes out of it: every kind, any size, and what is missing stays missing."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tryon.codec import (
    decode_batch,
    decode_image,
    decode_value,
    encode_batch,
    encode_jpeg,
    encode_png,
    encode_value,
    original_jpeg,
)
from tryon.errors import DataError
from tryon.images import decode_photo
from tryon.sample import FIELDS, NUM_LABELS, PALETTE, Kind

RNG = np.random.default_rng(3)
SIZES = [(1, 1), (7, 5), (64, 48), (33, 127)]
FIELD_OF = {field.kind: name for name, field in FIELDS.items()}


def value_of(kind: Kind, height: int, width: int) -> Any:
    """A random value as the kind's row of the table in `tryon.sample` describes it."""
    shape = (height, width)
    return {
        Kind.TEXT: "rücken ☃",
        Kind.NUMBER: float(RNG.integers(0, 2**31)),
        Kind.FILE: bytes(RNG.integers(0, 256, 40, dtype=np.uint8)),
        Kind.IMAGE: RNG.integers(0, 256, (*shape, 3), dtype=np.uint8),
        Kind.MASK: RNG.integers(0, 2, shape, dtype=np.uint8),
        Kind.ALPHA: RNG.integers(0, 256, shape, dtype=np.uint8),
        Kind.LABELS: RNG.integers(0, NUM_LABELS, shape, dtype=np.uint8),
        Kind.IUV: RNG.integers(0, 256, (*shape, 3), dtype=np.uint8),
        Kind.LANDMARKS: RNG.normal(0, 1, (33, 4)).astype(np.float32),
        Kind.KEYPOINTS: RNG.normal(0, 500, (25, 3)).astype(np.float32),
        Kind.FLOW: RNG.integers(-(2**15), 2**15, (*shape, 2)).astype(np.float32) / 64,
        Kind.VECTOR: RNG.normal(0, 500, 4).astype(np.float32),
    }[kind]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", sorted(FIELD_OF, key=lambda kind: kind.value))
def test_round_trip(kind: Kind, size: tuple[int, int]) -> None:
    value = value_of(kind, *size)
    again = decode_value(FIELD_OF[kind], encode_value(FIELD_OF[kind], value))
    assert type(again) is type(value)
    if isinstance(value, np.ndarray):
        assert again.dtype == value.dtype
        assert again.shape == value.shape
        assert np.array_equal(again, value)
    else:
        assert again == value


@pytest.mark.parametrize("name", FIELDS)
def test_none_stays_none(name: str) -> None:
    assert encode_value(name, None) is None
    assert decode_value(name, None) is None


def test_flow_keeps_where_it_is_undefined_and_is_exact_to_half_a_step() -> None:
    flow = RNG.uniform(-500, 500, (21, 34, 2)).astype(np.float32)
    flow[3:9, 5:7] = np.nan
    flow[0, 0, 0] = np.nan  # half undefined is undefined
    flow[1, 1] = np.inf
    again = decode_value("true_flow", encode_value("true_flow", flow))
    defined = np.isfinite(flow).all(axis=-1)
    assert np.array_equal(np.isnan(again).all(axis=-1), ~defined)
    assert np.abs(again - flow)[defined].max() <= 1 / 128


def test_flow_out_of_range_is_clipped_not_wrapped() -> None:
    flow = np.array([[[9999.0, -9999.0]]], dtype=np.float32)
    again = decode_value("true_flow", encode_value("true_flow", flow))
    assert again.tolist() == [[[(2**15 - 1) / 64, -512.0]]]


def test_labels_are_a_palette_png_that_viewers_colour() -> None:
    labels = np.arange(NUM_LABELS, dtype=np.uint8).reshape(3, 6)
    image = Image.open(io.BytesIO(encode_value("parse", labels)))
    assert image.mode == "P"
    assert image.format == "PNG"
    assert np.array_equal(np.array(image.convert("RGB")), PALETTE[labels])


def test_masks_are_visible_in_a_viewer() -> None:
    image = Image.open(io.BytesIO(encode_value("person_mask", np.array([[0, 1]], dtype=np.uint8))))
    assert np.array(image).tolist() == [[0, 255]]


def test_colours_keep_their_order() -> None:
    red = np.zeros((8, 8, 3), dtype=np.uint8)
    red[..., 0] = 200
    assert np.array(Image.open(io.BytesIO(encode_png(red))))[0, 0].tolist() == [200, 0, 0]
    assert np.abs(decode_image(encode_jpeg(red))[4, 4].astype(int) - (200, 0, 0)).max() <= 3


def test_jpeg_quality_trades_size_for_fidelity() -> None:
    image = value_of(Kind.IMAGE, 64, 64)
    small, large = encode_jpeg(image, 30), encode_jpeg(image, 95)
    assert len(small) < len(large) / 2


def test_bytes_that_are_no_image() -> None:
    with pytest.raises(DataError, match="5 bytes that are no image") as caught:
        decode_value("person", b"hello")
    assert caught.value.code == "shard-corrupt"


def test_batches_take_the_named_columns_and_keep_rows_in_order() -> None:
    masks = [value_of(Kind.MASK, 4, 5), None, value_of(Kind.MASK, 9, 2)]
    batch = {"id": ["a", "b", "c"], "person_mask": masks, "category": ["upper"] * 3}
    again = decode_batch(encode_batch(batch, ("id", "person_mask")), ("id", "person_mask"))
    assert list(again) == ["id", "person_mask"]
    assert again["id"] == ["a", "b", "c"]
    assert again["person_mask"][1] is None
    assert np.array_equal(again["person_mask"][2], masks[2])


def test_a_photo_at_its_own_size_is_kept_as_its_jpeg_less_its_metadata() -> None:
    pixels = RNG.integers(0, 256, (48, 40, 3), dtype=np.uint8)
    plain = encode_jpeg(pixels, 80)
    decoded = decode_photo(plain, "photo").pixels
    assert original_jpeg(plain, decoded) == plain
    exif = Image.Exif()
    exif[0x010E] = "taken at home"
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", exif=exif, comment=b"secret", quality=80)
    told = buffer.getvalue()
    kept = original_jpeg(told, decode_photo(told, "photo").pixels)
    assert b"at home" in told
    assert kept is not None
    assert b"at home" not in kept
    assert b"secret" not in kept
    assert np.array_equal(decode_value("person", kept), decode_photo(told, "photo").pixels)


def test_a_file_that_is_not_the_image_is_not_kept_for_it() -> None:
    pixels = RNG.integers(0, 256, (40, 30, 3), dtype=np.uint8)
    file = encode_jpeg(pixels, 80)
    assert original_jpeg(file, pixels) is None  # other pixels
    assert original_jpeg(file, decode_image(file)[:20]) is None  # another size
    assert original_jpeg(encode_png(pixels), pixels) is None
    assert original_jpeg(file[:300], decode_image(file)) is None


@pytest.mark.parametrize(("notices", "kept"), [("", True), ("photo: EXIF orientation 6 was applied", False)])
def test_a_batch_keeps_the_file_unless_it_was_converted(notices: str, kept: bool) -> None:
    file = encode_jpeg(RNG.integers(0, 256, (40, 30, 3), dtype=np.uint8), 80)
    person = decode_image(file)
    batch = {"person": [person], "person_file": [file], "person_notices": [notices]}
    coded = encode_batch(batch, ("person",))["person"][0]
    assert (coded == file) is kept
    assert np.array_equal(decode_image(coded), person)
