"""Decode: photo files, as someone sent them, to upright RGB arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tryon.config import ImageLimits, parse_config
from tryon.images import Photo, decode_photo
from tryon.sample import Row
from tryon.stages.base import RowStage


class _Decode(RowStage):
    """Common part; `label` is what messages call the photo, `limits` are fields of `ImageLimits`."""

    def __init__(self, label: str, limits: Mapping[str, Any] | None = None) -> None:
        self._label = label
        self._limits = parse_config(ImageLimits, limits or {}, "limits")

    def _decode(self, data: bytes) -> Photo:
        return decode_photo(data, self._label, self._limits)


class DecodePerson(_Decode):
    """Decodes the person photo."""

    name = "decode_person"
    reads = ("person_file",)
    adds = ("person_photo", "person_notices")

    def __init__(self, label: str = "person_image", limits: Mapping[str, Any] | None = None) -> None:
        """Sets what messages call the photo, and the bounds (fields of `ImageLimits`)."""
        super().__init__(label, limits)

    def process(self, row: Row) -> Row:
        photo = self._decode(row["person_file"])
        return {"person_photo": photo.pixels, "person_notices": "\n".join(photo.notices)}


class DecodeGarment(_Decode):
    """Decodes the garment photo."""

    name = "decode_garment"
    reads = ("garment_file",)
    adds = ("garment_photo", "garment_notices")

    def __init__(self, label: str = "garment_image", limits: Mapping[str, Any] | None = None) -> None:
        """Sets what messages call the photo, and the bounds (fields of `ImageLimits`)."""
        super().__init__(label, limits)

    def process(self, row: Row) -> Row:
        photo = self._decode(row["garment_file"])
        return {"garment_photo": photo.pixels, "garment_notices": "\n".join(photo.notices)}
