"""How a field's value is written into a shard and read back. Lossless for every kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from tryon.errors import DataError
from tryon.sample import FIELDS, NUM_JOINTS, NUM_LANDMARKS, PALETTE, Batch, Kind

UInt8 = npt.NDArray[np.uint8]
# Level 1 is three times as fast as OpenCV's default and 6 % larger on simulator images.
PNG_PARAMS = [cv2.IMWRITE_PNG_COMPRESSION, 1]
FLOW_SCALE = 64.0  # KITTI's flow PNG: value = flow * 64 + 2**15, so +-512 px in steps of 1/64 px
FLOW_ZERO = 2**15


def encode_png(array: npt.NDArray[Any]) -> bytes:
    """Encodes uint8 (H, W), uint8 RGB (H, W, 3) or uint16 RGB (H, W, 3) as PNG."""
    if array.ndim == 3:
        array = cv2.cvtColor(array, cv2.COLOR_RGB2BGR)
    ok, data = cv2.imencode(".png", array, PNG_PARAMS)
    assert ok, "cv2.imencode refused a PNG"
    return data.tobytes()


def decode_image(data: bytes) -> UInt8:
    """Decodes PNG or JPEG bytes from a shard to RGB uint8 (H, W, 3)."""
    image: UInt8 = cv2.cvtColor(_imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)
    return image


def encode_jpeg(image_rgb: UInt8, quality: int = 95) -> bytes:
    """Encodes RGB uint8 (H, W, 3) as JPEG, quality 0..100, without chroma subsampling from 90 on."""
    sampling = cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444 if quality >= 90 else cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420
    params = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling]
    ok, data = cv2.imencode(".jpg", cv2.cvtColor(image_rgb, cv2.COLOR_RGB2BGR), params)
    assert ok, "cv2.imencode refused a JPEG"
    return data.tobytes()


def encode_file(image_rgb: UInt8, form: str, quality: int) -> bytes:
    """The file of an image: ``png``, or ``jpeg`` of a quality."""
    return encode_png(image_rgb) if form == "png" else encode_jpeg(image_rgb, quality)


def _imdecode(data: bytes, flags: int) -> npt.NDArray[Any]:
    array = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), flags)
    if array is None:
        raise DataError(f"a shard holds {len(data)} bytes that are no image", code="shard-corrupt")
    return array


def _encode_mask(mask: UInt8) -> bytes:
    return encode_png(mask * np.uint8(255))


def _decode_mask(data: bytes) -> UInt8:
    return (_imdecode(data, cv2.IMREAD_GRAYSCALE) > 127).astype(np.uint8)


def _encode_labels(labels: UInt8) -> bytes:
    """Palette PNG: a viewer shows colours, the indices are the labels. OpenCV cannot write palettes."""
    import io

    from PIL import Image

    image = Image.fromarray(labels, mode="P")
    image.putpalette(PALETTE.tobytes())
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()


def _decode_labels(data: bytes) -> UInt8:
    import io

    from PIL import Image

    return np.array(Image.open(io.BytesIO(data)), dtype=np.uint8)


def _encode_flow(flow_hw2: npt.NDArray[np.float32]) -> bytes:
    """KITTI's encoding; the third channel says where the flow is defined (finite)."""
    valid = np.isfinite(flow_hw2).all(axis=-1)
    filled = np.where(valid[..., None], flow_hw2, 0.0)
    coded = np.clip(np.rint(filled * FLOW_SCALE) + FLOW_ZERO, 0, 2**16 - 1).astype(np.uint16)
    return encode_png(np.dstack([coded, valid.astype(np.uint16)]))


def _decode_flow(data: bytes) -> npt.NDArray[np.float32]:
    coded = cv2.cvtColor(_imdecode(data, cv2.IMREAD_UNCHANGED), cv2.COLOR_BGR2RGB)
    flow = (coded[..., :2].astype(np.float32) - FLOW_ZERO) / FLOW_SCALE
    flow[coded[..., 2] == 0] = np.nan
    return flow


def _same(value: Any) -> Any:
    return value


def _keypoints(value: Any) -> npt.NDArray[np.float32]:
    return np.asarray(value, dtype=np.float32).reshape(NUM_JOINTS, 3)


def _landmarks(value: Any) -> npt.NDArray[np.float32]:
    return np.asarray(value, dtype=np.float32).reshape(NUM_LANDMARKS, 4)


def _vector(value: Any) -> npt.NDArray[np.float32]:
    return np.asarray(value, dtype=np.float32)


def _flat(value: Any) -> list[float]:
    flat: list[float] = np.asarray(value, dtype=np.float32).ravel().tolist()
    return flat


def _grey(data: bytes) -> UInt8:
    return _imdecode(data, cv2.IMREAD_GRAYSCALE)


_ENCODERS: dict[Kind, Callable[[Any], Any]] = {
    Kind.TEXT: _same,
    Kind.NUMBER: float,
    Kind.FILE: bytes,
    Kind.IMAGE: encode_png,
    Kind.MASK: _encode_mask,
    Kind.ALPHA: encode_png,
    Kind.LABELS: _encode_labels,
    Kind.IUV: encode_png,
    Kind.KEYPOINTS: _flat,
    Kind.LANDMARKS: _flat,
    Kind.FLOW: _encode_flow,
    Kind.VECTOR: _flat,
}
_DECODERS: dict[Kind, Callable[[Any], Any]] = {
    Kind.TEXT: _same,
    Kind.NUMBER: float,
    Kind.FILE: bytes,
    Kind.IMAGE: decode_image,
    Kind.MASK: _decode_mask,
    Kind.ALPHA: _grey,
    Kind.LABELS: _decode_labels,
    Kind.IUV: decode_image,
    Kind.KEYPOINTS: _keypoints,
    Kind.LANDMARKS: _landmarks,
    Kind.FLOW: _decode_flow,
    Kind.VECTOR: _vector,
}


# Fields that may be kept as the file they were decoded from, and where that file and its decoder's notices are.
_ORIGINALS = {"person": ("person_file", "person_notices"), "garment": ("garment_file", "garment_notices")}


def original_jpeg(data: bytes, pixels: UInt8) -> bytes | None:
    """The JPEG file that an image was decoded from, if it can stand for the image in a shard.

    A photo at its own size is a tenth of its PNG that way, and comes back byte for byte on export. Files with EXIF or
    other metadata lose it: cameras write positions and names there.

    Args:
        data: the file.
        pixels: RGB uint8 (H, W, 3), what it was decoded to.

    Returns:
        A JPEG without metadata that `decode_image` decodes to `pixels` exactly; None if there is none.
    """
    bare = _without_metadata(data)
    if bare is None:
        return None
    decoded = cv2.imdecode(np.frombuffer(bare, dtype=np.uint8), cv2.IMREAD_COLOR)
    if decoded is None or decoded.shape != pixels.shape:
        return None
    return bare if np.array_equal(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), pixels) else None


def _without_metadata(data: bytes) -> bytes | None:
    """A JPEG file less its comments and application segments but JFIF and Adobe's; None if it is no plain JPEG."""
    if data[:3] != b"\xff\xd8\xff":
        return None
    kept, at = [b"\xff\xd8"], 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xDA:  # start of scan: all the rest is the picture
            return b"".join([*kept, data[at:]])
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        is_metadata = 0xE1 <= marker <= 0xED or marker in (0xEF, 0xFE)
        if not is_metadata:
            kept.append(data[at:end])
        at = end
    return None


def _original(batch: Batch, name: str, i: int) -> bytes | None:
    file, notices = (batch[source][i] if source in batch else None for source in _ORIGINALS[name])
    # A notice says that the pixels are not the file's own (rotated, converted).
    return None if file is None or notices != "" else original_jpeg(file, batch[name][i])


def encode_value(name: str, value: Any) -> Any:
    """Shard form of one value of the field `name`; None stays None."""
    return None if value is None else _ENCODERS[FIELDS[name].kind](value)


def decode_value(name: str, value: Any) -> Any:
    """Value of the field `name` from its shard form; None stays None."""
    return None if value is None else _DECODERS[FIELDS[name].kind](value)


def encode_batch(batch: Batch, names: tuple[str, ...]) -> dict[str, list[Any]]:
    """Shard form of the columns `names` of a batch; photos as the JPEG they came as where that is lossless."""
    return {name: [_encode(batch, name, i) for i in range(len(batch[name]))] for name in names}


def _encode(batch: Batch, name: str, i: int) -> Any:
    original = _original(batch, name, i) if name in _ORIGINALS and batch[name][i] is not None else None
    return original or encode_value(name, batch[name][i])


def decode_batch(batch: Batch, names: tuple[str, ...]) -> Batch:
    """Batch in memory from the columns `names` of a batch in shard form."""
    return {name: [decode_value(name, value) for value in batch[name]] for name in names}
