"""Plain folders of photos with `metadata.jsonl`, as Hugging Face's image folders are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tryon.codec import decode_value, encode_png
from tryon.data.export.fit import fit_row
from tryon.data.export.layout import JPEG_START, ExportConfig, Exported
from tryon.data.look.info import image_size
from tryon.sample import Row

TOLD = ("id", "category", "split", "person_id", "garment_id", "quality")
_PHOTOS = ("person", "garment")


class FolderLayout:
    """`<split>/person/X.jpg` and `<split>/garment/X.jpg`, PNG where the photo is stored so: nothing is lost."""

    reads: tuple[str, ...] = (*TOLD, *_PHOTOS)

    def export(self, row: Row, stem: str, split: str, config: ExportConfig) -> Exported:
        """See `Layout`."""
        photos = {name: row[name] for name in _PHOTOS if row.get(name) is not None}
        if config.size is not None and any(image_size(photo) != config.size for photo in photos.values()):
            fitted = fit_row({name: decode_value(name, photo) for name, photo in photos.items()}, config.size)
            photos = {name: encode_png(fitted[name]) for name in photos}
        suffix = {name: "jpg" if photo.startswith(JPEG_START) else "png" for name, photo in photos.items()}
        names = {name: f"{name}/{stem}.{suffix[name]}" for name in photos}
        entry: dict[str, Any] = {"folder": split, "file_name": names.get("person") or names.get("garment")}
        if "person" in names and "garment" in names:
            entry["garment_file_name"] = names["garment"]
        entry |= {name: row.get(name) for name in TOLD}
        notices = [f"no {name} photo" for name in _PHOTOS if name not in photos]
        return Exported({f"{split}/{names[name]}": photos[name] for name in photos}, entry, notices)

    def lines(self, entry: Mapping[str, Any]) -> Mapping[str, str]:
        """See `Layout`."""
        if entry["file_name"] is None:
            return {}
        told = {key: value for key, value in entry.items() if key not in ("folder", "unpaired")}
        return {f"{entry['folder']}/metadata.jsonl": json.dumps(told, ensure_ascii=False)}
