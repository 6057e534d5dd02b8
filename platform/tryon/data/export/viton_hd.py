"""The VITON-HD layout, as the loaders of VITON-HD (Choi et al. 2021) and HR-VITON (Lee et al. 2022) read it.

| folder in `train/`, `val/` or `test/` | name | mode | read by |
|---|---|---|---|
| `image`, `cloth` | `X.jpg` | RGB | both |
| `cloth-mask` | `X.jpg` | L, 1 from 128 on | both |
| `image-parse-v3` | `X.png` | P, LIP's 20 classes | HR-VITON |
| `image-parse` | `X.png` | the same | VITON-HD |
| `image-parse-agnostic-v3.2` | `X.png` | P | HR-VITON |
| `openpose_json`, `openpose_img` | `X_keypoints.json`, `X_rendered.png` | RGB | HR-VITON |
| `openpose-json`, `openpose-img` | the same | | VITON-HD |
| `image-densepose` | `X.jpg`; `X.png` is the IUV map itself | RGB | HR-VITON the JPEG |
| `agnostic-v3.2` | `X.jpg` | RGB | neither: both paint it themselves; others do |
| `agnostic-mask` | `X_mask.png` | L | neither; StableVITON and IDM-VTON do |

Beside the folders `<split>_pairs.txt` names each person with its own garment and, where `tryon data split` has made
pairs, `<split>_unpaired.txt` with another one. Both loaders find a garment that is worn by its person's name, so a
sample's two photos share one; `metadata.jsonl` in each folder says which id it stands for. `gt_cloth_warped_mask`,
which neither reads, is not written.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from tryon.codec import decode_value, encode_jpeg, encode_png
from tryon.data.export.fit import fit_row
from tryon.data.export.layout import JPEG_QUALITY, ExportConfig, Exported, mask_jpeg, photo_jpeg
from tryon.data.export.lip import encode_lip, lip_of, parse_agnostic
from tryon.data.export.openpose import draw_openpose, pose_json
from tryon.data.look.info import image_size
from tryon.data.look.overlays import draw_dense
from tryon.sample import Joint, Label, Row

UInt8 = npt.NDArray[np.uint8]
TOLD = ("id", "category", "split", "person_id", "garment_id")
LOADER_SIZE = (1024, 768)
_TRUNK = (Joint.NECK, Joint.LEFT_SHOULDER, Joint.RIGHT_SHOULDER, Joint.LEFT_HIP, Joint.RIGHT_HIP)
_NEEDED = ("garment_mask", "parse", "pose", "dense")  # what the loaders need beside the photos


class VitonHdLayout:
    """Samples as files in VITON-HD's folders."""

    reads: tuple[str, ...] = (
        *TOLD, "person", "garment", "garment_mask", "pose", "parse", "lip_parse", "dense", "densepose_image",
        "agnostic", "agnostic_mask",
    )  # fmt: skip

    def export(self, row: Row, stem: str, split: str, config: ExportConfig) -> Exported:
        """See `Layout`."""
        photos: dict[str, bytes] = {name: row[name] for name in ("person", "garment") if row.get(name) is not None}
        layers = {n: decode_value(n, row.get(n)) for n in self.reads if n not in ("person", "garment")}
        done = Exported(notices=_losses(photos, layers))
        size = image_size(photos["person"]) if "person" in photos else None
        if config.size is not None and any(image_size(photo) != config.size for photo in photos.values()):
            layers |= {name: decode_value(name, photo) for name, photo in photos.items()}
            layers = fit_row(layers, config.size)
            size = config.size
            photos = {name: encode_jpeg(layers[name], JPEG_QUALITY) for name in photos}
        if size is not None and size != LOADER_SIZE:
            done.notices.append(
                "not 768x1024 px, the only size HR-VITON's loader takes (--size 1024x768 brings it there)"
            )
        for name, folder in (("person", "image"), ("garment", "cloth")):
            if name in photos:
                done.files[f"{split}/{folder}/{stem}.jpg"] = photo_jpeg(photos[name])
        done.files |= {f"{split}/{path.format(stem)}": data for path, data in _layer_files(layers, size).items()}
        done.entry = _entry(layers, stem, split, photos)
        return done

    def lines(self, entry: Mapping[str, Any]) -> Mapping[str, str]:
        """See `Layout`."""
        split, name = entry["folder"], f"{entry['stem']}.jpg"
        told = {key: entry[key] for key in ("file_name", *TOLD) if entry[key] is not None}
        lines = {f"{split}/metadata.jsonl": json.dumps(told, ensure_ascii=False)}
        if entry["paired"]:
            lines[f"{split}_pairs.txt"] = f"{name} {name}"
        if entry.get("unpaired") is not None:
            lines[f"{split}_unpaired.txt"] = f"{name} {entry['unpaired']}.jpg"
        return lines


def _entry(layers: Row, stem: str, split: str, photos: Mapping[str, Any]) -> dict[str, Any]:
    told = {name: layers[name] for name in TOLD}
    folder = "image" if "person" in photos else "cloth"
    return {"folder": split, "stem": stem, "file_name": f"{folder}/{stem}.jpg", **told, "paired": len(photos) == 2}


def _layer_files(layers: Row, size: tuple[int, int] | None) -> dict[str, bytes]:
    """Content by path, in which {} is the file's stem."""
    files: dict[str, bytes] = {}
    pose, lip = layers["pose"], layers["lip_parse"]
    if layers["garment_mask"] is not None:
        files["cloth-mask/{}.jpg"] = mask_jpeg(layers["garment_mask"])
    if lip is None and layers["parse"] is not None:
        lip = lip_of(layers["parse"], pose)
    if lip is not None:
        files["image-parse-v3/{}.png"] = files["image-parse/{}.png"] = encode_lip(lip)
    if pose is not None and size is not None:
        picture = encode_png(draw_openpose(pose, size))
        for dash in "_-":  # HR-VITON's spelling, and VITON-HD's
            files[f"openpose{dash}json/{{}}_keypoints.json"] = pose_json(pose)
            files[f"openpose{dash}img/{{}}_rendered.png"] = picture
    if lip is not None and pose is not None:
        files["image-parse-agnostic-v3.2/{}.png"] = encode_lip(parse_agnostic(lip, pose))
    return files | _dense_files(layers) | _agnostic_files(layers)


def _dense_files(layers: Row) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    drawing = layers["densepose_image"]
    if layers["dense"] is not None:
        files["image-densepose/{}.png"] = encode_png(layers["dense"])
        drawing = draw_dense(layers["dense"]) if drawing is None else drawing
    if drawing is not None:
        files["image-densepose/{}.jpg"] = encode_jpeg(drawing, JPEG_QUALITY)
    return files


def _agnostic_files(layers: Row) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    if layers["agnostic"] is not None:
        files["agnostic-v3.2/{}.jpg"] = encode_jpeg(layers["agnostic"], JPEG_QUALITY)
    if layers["agnostic_mask"] is not None:
        files["agnostic-mask/{}_mask.png"] = encode_png(layers["agnostic_mask"] * np.uint8(255))
    return files


def _losses(photos: Mapping[str, bytes], layers: Row) -> list[str]:
    """What this layout cannot say of the sample, or its loaders will miss."""
    told = []
    if layers["category"] not in (None, "upper"):
        told.append(f"category {layers['category']}: the layout knows only upper garments (metadata.jsonl keeps it)")
    for photo, folder in (("person", "image"), ("garment", "cloth")):
        if photo not in photos:
            told.append(f"no {photo} photo: nothing in {folder}/, in no pair list")
    for name in _NEEDED:
        has_photo = ("garment" if name == "garment_mask" else "person") in photos
        drawn = name == "dense" and layers["densepose_image"] is not None
        if layers[name] is None and has_photo and not drawn:
            told.append(f"no {name}: HR-VITON's loader needs it (`tryon data annotate` adds it)")
    if layers["pose"] is not None and (layers["pose"][list(_TRUNK), :2] == 0).all(axis=1).any():
        told.append("neck, a shoulder or a hip has no place: both loaders measure the body by them")
    if layers["lip_parse"] is None and layers["parse"] is not None:
        lost = [label.name.lower() for label in (Label.BELT, Label.BAG) if (layers["parse"] == label).any()]
        told += [f"{name} in the parse: LIP has no such class" for name in lost]
    return told
