"""Photos from outside: what is converted, what is refused and by which code, and where a letterboxed photo sits."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from tryon.config import ImageLimits
from tryon.errors import ImageError
from tryon.images import Placement, decode_photo, letterbox, resize

UInt8 = npt.NDArray[np.uint8]
LEVELS = {"PNG": 0, "BMP": 0, "TIFF": 0, "JPEG": 6, "WEBP": 6, "GIF": 6}  # mean difference that is allowed


def scene(height: int = 48, width: int = 64) -> UInt8:
    """Four quarters of different colours: no turn or flip of it equals another."""
    image = np.zeros((height, width, 3), dtype=np.uint8)
    image[: height // 2, : width // 2] = (250, 20, 20)
    image[: height // 2, width // 2 :] = (20, 250, 20)
    image[height // 2 :, : width // 2] = (20, 20, 250)
    image[height // 2 :, width // 2 :] = (240, 240, 240)
    return image


def saved(image: Image.Image, format: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=format, **options)
    return buffer.getvalue()


def code_of(data: bytes, limits: ImageLimits | None = None) -> str:
    with pytest.raises(ImageError) as caught:
        decode_photo(data, "person.jpg", limits)
    assert "person.jpg" in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.field == "person.jpg"
    return caught.value.code


def png_header(width: int, height: int) -> bytes:
    """A PNG of a few bytes that says it is this large; its pixels are missing."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def near(a: UInt8, b: UInt8, levels: int = 6) -> bool:
    return a.shape == b.shape and float(np.abs(a.astype(int) - b.astype(int)).mean()) <= levels


@pytest.mark.parametrize(
    ("format", "levels"), [("PNG", 0), ("BMP", 0), ("TIFF", 0), ("JPEG", 6), ("WEBP", 6), ("GIF", 6)]
)
def test_formats_are_read_without_a_notice(format: str, levels: int) -> None:
    photo = decode_photo(saved(Image.fromarray(scene()), format), "p")
    assert photo.pixels.dtype == np.uint8
    assert near(photo.pixels, scene(), levels)
    assert photo.notices == () or format == "GIF"


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int) -> None:
    upright = scene()
    stored = {  # what a camera stores so that the turn that the orientation asks for gives the upright scene
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1],
        5: upright.transpose(1, 0, 2), 6: np.rot90(upright), 7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo = decode_photo(saved(Image.fromarray(np.ascontiguousarray(stored)), "PNG", exif=exif), "p")
    assert np.array_equal(photo.pixels, upright)
    assert bool(photo.notices) == (orientation != 1)


def test_cmyk_jpeg() -> None:
    photo = decode_photo(saved(Image.fromarray(scene()).convert("CMYK"), "JPEG", quality=95), "p")
    assert near(photo.pixels, scene())
    assert "CMYK" in photo.notices[0]


def test_grey_becomes_three_equal_channels() -> None:
    grey = np.arange(64 * 64, dtype=np.uint32).reshape(64, 64).astype(np.uint8)
    photo = decode_photo(saved(Image.fromarray(grey)), "p")
    assert np.array_equal(photo.pixels, np.dstack([grey] * 3))


def test_16_bit_grey_keeps_its_range() -> None:
    ramp = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    photo = decode_photo(saved(Image.fromarray(ramp)), "p")
    assert np.abs(photo.pixels[..., 0].astype(float) - ramp / 257).max() <= 0.51
    assert "16 bits" in photo.notices[0]


def test_transparency_is_laid_over_white() -> None:
    rgba = np.dstack([scene(), np.full((48, 64), 255, np.uint8)])
    rgba[:10, :10, 3] = 0
    rgba[20, 20, 3] = 128
    photo = decode_photo(saved(Image.fromarray(rgba)), "p")
    assert (photo.pixels[:10, :10] == 255).all()
    assert photo.pixels[40, 40].tolist() == [240, 240, 240]
    assert np.abs(photo.pixels[20, 20].astype(int) - (252, 137, 137)).max() <= 2
    assert "white" in photo.notices[0]


def test_palette_with_and_without_transparency() -> None:
    palette = Image.fromarray(scene()).quantize(8)
    assert near(decode_photo(saved(palette), "p").pixels, scene(), 2)
    index = palette.getpixel((40, 40))
    clear = decode_photo(saved(palette, transparency=index), "p")
    assert clear.pixels[40, 40].tolist() == [255, 255, 255]


def test_a_phones_picture_pair_is_taken_as_its_first_picture() -> None:
    first, preview = Image.fromarray(scene()), Image.fromarray(scene()[::-1].copy())
    data = saved(first, "MPO", save_all=True, append_images=[preview])
    assert Image.open(io.BytesIO(data)).n_frames == 2  # type: ignore[attr-defined]
    assert near(decode_photo(data, "p").pixels, scene())


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "TIFF"])
def test_animations_are_refused(format: str) -> None:
    frames = [Image.fromarray(np.roll(scene(), 9 * i, axis=1)) for i in range(3)]
    assert code_of(saved(frames[0], format, save_all=True, append_images=frames[1:])) == "image-animated"


def test_nothing_and_no_image() -> None:
    assert code_of(b"") == "image-empty"
    assert code_of(b"just some text, not a photo\n" * 20) == "not-an-image"
    assert code_of(b"<svg xmlns='http://www.w3.org/2000/svg'/>") == "not-an-image"
    assert code_of(bytes(1000)) == "not-an-image"


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "BMP"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_truncated_files_are_refused(format: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = saved(Image.fromarray(noise), format)
    assert code_of(data[: int(share * len(data))]) in ("image-truncated", "not-an-image")


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "TIFF"])
def test_damaged_files_are_read_or_refused_by_name(format: str, seed: int) -> None:
    data = bytearray(saved(Image.fromarray(scene()), format))
    rng = np.random.default_rng(seed)
    for at in rng.integers(0, len(data), 12):
        data[at] = rng.integers(0, 256)
    try:
        photo = decode_photo(bytes(data), "p")
    except ImageError as error:
        assert error.code.startswith(("image-", "not-an-image"))  # noqa: PT017 - both ends are in order
    else:
        assert photo.pixels.ndim == 3


def test_limits_are_checked_on_the_header() -> None:
    assert code_of(png_header(20_000, 100)) == "image-too-large"
    assert code_of(png_header(9_000, 9_000)) == "image-too-large"
    assert code_of(png_header(60_000, 60_000)) == "image-too-large"  # Pillow's own guard against bombs
    assert code_of(png_header(31, 400)) == "image-too-small"
    data = saved(Image.fromarray(scene()))
    assert code_of(data, ImageLimits(max_bytes=len(data) - 1)) == "image-too-large"
    assert code_of(data, ImageLimits(max_side_px=63)) == "image-too-large"
    assert code_of(data, ImageLimits(max_pixels=48 * 64 - 1)) == "image-too-large"
    assert code_of(data, ImageLimits(min_side_px=49)) == "image-too-small"
    edge = ImageLimits(max_bytes=len(data), max_side_px=64, max_pixels=48 * 64, min_side_px=48)
    assert decode_photo(data, "p", edge).pixels.shape == (48, 64, 3)


@pytest.mark.parametrize("size", [(48, 64), (101, 33), (33, 101), (1, 500), (500, 1), (128, 96), (127, 95)])
@pytest.mark.parametrize("canvas", [(128, 96), (97, 131), (64, 48)])
def test_letterbox_geometry(size: tuple[int, int], canvas: tuple[int, int]) -> None:
    out, place = letterbox(np.full((*size, 3), 77, dtype=np.uint8), *canvas)
    assert out.shape == (*canvas, 3)
    assert place.width == canvas[1] or place.height == canvas[0]
    assert place.x >= 0
    assert place.y >= 0
    assert place.x + place.width <= canvas[1]
    assert place.y + place.height <= canvas[0]
    assert abs(2 * place.x + place.width - canvas[1]) <= 1
    assert abs(2 * place.y + place.height - canvas[0]) <= 1
    scale = min(canvas[0] / size[0], canvas[1] / size[1])
    assert abs(place.width - size[1] * scale) <= 1
    assert abs(place.height - size[0] * scale) <= 1
    assert (out == 77).all(), "borders repeat the edge's colour"


def test_letterbox_of_the_canvas_size_is_the_photo_itself() -> None:
    out, place = letterbox(scene(), 48, 64)
    assert np.array_equal(out, scene())
    assert place == Placement(0, 0, 64, 48)


def test_letterbox_keeps_the_photo_where_it_says() -> None:
    out, place = letterbox(scene(), 64, 64)
    assert place == Placement(0, 8, 64, 48)
    assert np.array_equal(out[8:56], scene())


def test_placements_survive_their_vector() -> None:
    place = Placement(3, 5, 101, 207)
    assert place.vector().dtype == np.float32
    assert Placement.of_vector(place.vector()) == place


def test_resize_of_labels_makes_no_new_ones() -> None:
    labels = np.random.default_rng(1).choice(np.array([2, 9, 17], np.uint8), (31, 47))
    for size in ((64, 48), (13, 7)):
        out = resize(labels, *size, nearest=True)
        assert out.shape == size
        assert set(np.unique(out)) <= {2, 9, 17}


def test_resize_keeps_the_mean_brightness() -> None:
    image = np.random.default_rng(2).integers(0, 256, (96, 64, 3), dtype=np.uint8)
    for size in ((48, 32), (192, 128)):
        assert abs(float(resize(image, *size).mean()) - float(image.mean())) < 1
