"""Photos that people send and that are no photos: one table, and a builder for each, for the CLI and HTTP tests."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

Build = Callable[[bytes], bytes]
"""From a good photo (PNG file) to the file that is sent in its place."""


@dataclass(frozen=True)
class Refused:
    """A file that must be refused.

    Attributes:
        name: of the case.
        build: makes the file.
        code: of the error.
        http: status of the answer.
        word: must be in the sentence.
        as_garment: the garment photo is refused for the same reason.
    """

    name: str
    build: Build
    code: str
    http: int
    word: str
    as_garment: bool = True


@dataclass(frozen=True)
class Converted:
    """A file that is unusual but can be read right: it is used, and a notice says what was converted.

    Attributes:
        name: of the case.
        build: makes the file from the photo; the decoded, upright image has the photo's size.
        word: must be in the notice.
    """

    name: str
    build: Build
    word: str


def pixels(png: bytes) -> Image.Image:
    return Image.open(io.BytesIO(png)).convert("RGB")


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    sink = io.BytesIO()
    image.save(sink, kind, **options)
    return sink.getvalue()


def still(kind: str, size: tuple[int, int] = (96, 128)) -> bytes:
    """A plain grey picture."""
    return saved(Image.new("RGB", size, "grey"), kind)


def png_claiming(width: int, height: int) -> bytes:
    """A PNG file whose header claims a size; it holds hardly any data."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", header)
        + _chunk(b"IDAT", zlib.compress(bytes(64)))
        + _chunk(b"IEND", b"")
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def truncated_jpeg(photo: bytes) -> bytes:
    data = saved(pixels(photo), "JPEG")
    return data[: len(data) // 2]


def truncated_png(photo: bytes) -> bytes:
    return photo[: len(photo) // 2]


def damaged_png(photo: bytes) -> bytes:
    """Bytes in the middle overwritten: the header is in order, a checksum or the stream is not."""
    middle = len(photo) // 2
    return photo[:middle] + bytes(64) + photo[middle + 64 :]


def animated(kind: str) -> bytes:
    frames = [Image.new("RGB", (96, 128), colour) for colour in ("red", "green", "blue")]
    return saved(frames[0], kind, save_all=True, append_images=frames[1:], duration=100)


def wide_png(_: bytes) -> bytes:
    """A real image of 20,000 x 40 px in a few kB."""
    return saved(Image.new("L", (20_000, 40)), "PNG")


def gradient(_: bytes) -> bytes:
    """A landscape without anybody."""
    ramp = np.linspace(40, 220, 256, dtype=np.uint8)
    return saved(Image.fromarray(np.dstack([np.tile(ramp[:, None], (1, 192))] * 3)), "PNG")


def cmyk_jpeg(photo: bytes) -> bytes:
    return saved(pixels(photo).convert("CMYK"), "JPEG", quality=95)


def deep_png(photo: bytes) -> bytes:
    """16-bit greyscale."""
    grey = np.asarray(pixels(photo).convert("L"), dtype=np.uint16) * 257
    done, data = cv2.imencode(".png", grey)
    assert done
    return bytes(data.tobytes())


def rotated_jpeg(photo: bytes) -> bytes:
    """The picture lies on its side and EXIF orientation 6 says how to set it up."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return saved(pixels(photo).transpose(Image.Transpose.ROTATE_90), "JPEG", exif=exif, quality=95)


def rgba_png(photo: bytes) -> bytes:
    image = pixels(photo)
    image.putalpha(254)
    return saved(image, "PNG")


def palette_png(photo: bytes) -> bytes:
    return saved(pixels(photo).quantize(256), "PNG")


REFUSED = (
    Refused("zero-bytes", lambda _: b"", "image-empty", 400, "0 bytes"),
    Refused("text", lambda _: b"this is a shopping list, renamed .jpg\n", "not-an-image", 415, "no image"),
    Refused("html", lambda _: b"<!DOCTYPE html><html><body>404</body></html>", "not-an-image", 415, "no image"),
    Refused("pdf", lambda _: b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n", "not-an-image", 415, "no image"),
    Refused(
        "jpeg-header-then-noise", lambda _: b"\xff\xd8\xff\xe0" + bytes(range(256)) * 8, "not-an-image", 415, "no image"
    ),
    Refused("truncated-jpeg", truncated_jpeg, "image-truncated", 400, "truncated"),
    Refused("truncated-png", truncated_png, "image-truncated", 400, "truncated"),
    Refused("damaged-png", damaged_png, "image-truncated", 400, "damaged"),
    Refused("animated-gif", lambda _: animated("GIF"), "image-animated", 400, "animated"),
    Refused("animated-webp", lambda _: animated("WEBP"), "image-animated", 400, "animated"),
    Refused("animated-png", lambda _: animated("PNG"), "image-animated", 400, "animated"),
    Refused("20000-px-wide", wide_png, "image-too-large", 413, "20000x40"),
    Refused("bomb", lambda _: png_claiming(50_000, 50_000), "image-too-large", 413, "pixels"),
    Refused("bomb-within-sides", lambda _: png_claiming(11_000, 11_000), "image-too-large", 413, "121,000,000"),
    Refused("one-pixel", lambda _: still("PNG", (1, 1)), "image-too-small", 400, "1x1"),
    Refused("nobody", gradient, "no-person", 422, "no person", as_garment=False),
)

CONVERTED = (
    Converted("cmyk", cmyk_jpeg, "CMYK"),
    Converted("16-bit", deep_png, "16"),
    Converted("exif-rotated", rotated_jpeg, "orientation 6"),
    Converted("transparent", rgba_png, "transparency"),
    Converted("palette", palette_png, "P was converted"),
)
