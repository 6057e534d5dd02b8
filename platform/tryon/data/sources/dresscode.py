"""The DressCode layout (Morelli et al. 2022): `upper_body/`, `lower_body/`, `dresses/`, each with one folder a layer.

| folder | names | read as |
|---|---|---|
| `images` | `000123_0.jpg`, `000123_1.jpg` | the person, the garment |
| `label_maps` | `000123_4.png` | `parse`: its 18 labels are ATR's, in the same order |
| `keypoints` | `000123_2.json` | `pose`: 18 COCO keypoints (x, y, score, number), drawn to 384x512 for any photo |
| `dense` | `000123_5.png`, `000123_5_uv.npz` | `dense`: part labels, and U and V in 0..1 as `uv` (2, H, W) |
| `skeletons` | `000123_5.jpg` | not read: a drawing of the keypoints |

Pairs come from `train_pairs.txt` and `test_pairs_paired.txt` (or `test_pairs_unpaired.txt`) in each category's folder,
else from those in the root, whose third column is the category: 0 upper, 1 lower, 2 dresses. Any layer may be missing.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from itertools import groupby

import numpy as np
import numpy.typing as npt

from tryon import storage
from tryon.data.sources import layers
from tryon.data.sources.base import PHOTO_SUFFIXES, Pairing, Source
from tryon.data.sources.common import chunks, mark_duplicates, row_or_error
from tryon.data.sources.pairs import check_pair, is_inside, listed_lines
from tryon.errors import DataError, StorageError
from tryon.listing import LeftOut, iter_files
from tryon.sample import NUM_JOINTS, NUM_LABELS, Joint, Row

CATEGORIES = {"upper_body": "upper", "lower_body": "lower", "dresses": "dress"}
ROWS_PER_TASK = 8
KEYPOINT_CANVAS = (384, 512)  # width, height px that the published keypoints lie on
# COCO's 18 keypoints, in OpenPose's order, as BODY_25's.
COCO_JOINTS = (
    Joint.NOSE, Joint.NECK, Joint.RIGHT_SHOULDER, Joint.RIGHT_ELBOW, Joint.RIGHT_WRIST, Joint.LEFT_SHOULDER,
    Joint.LEFT_ELBOW, Joint.LEFT_WRIST, Joint.RIGHT_HIP, Joint.RIGHT_KNEE, Joint.RIGHT_ANKLE, Joint.LEFT_HIP,
    Joint.LEFT_KNEE, Joint.LEFT_ANKLE, Joint.RIGHT_EYE, Joint.LEFT_EYE, Joint.RIGHT_EAR, Joint.LEFT_EAR,
)  # fmt: skip
_PERSON, _GARMENT = "0", "1"  # what a photo's name ends with
_LISTS: dict[Pairing, dict[str, str]] = {
    "paired": {"train": "train_pairs.txt", "test": "test_pairs_paired.txt"},
    "unpaired": {"test": "test_pairs_unpaired.txt"},
    "all": {},
}

# Category folder, split, person's name, garment's name, what is wrong with the line of the list.
Entry = tuple[str, str | None, str | None, str | None, str]
Task = tuple[Entry, ...]


def is_dresscode(uri: str) -> bool:
    """True for a folder in which a category's folder holds `images/`."""
    return any(storage.exists(storage.join(uri, folder, "images")) for folder in CATEGORIES)


class DressCodeSource(Source):
    """Samples of a DressCode folder, with the layers that are there.

    Attributes:
        left_out: what the last complete listing passed by; None before, and where pair lists were read.
    """

    fields: tuple[str, ...] = (
        "id", "category", "split", "person_id", "garment_id", "person_uri", "garment_uri", "person_file",
        "garment_file", "pose", "parse", "dense",
    )  # fmt: skip
    licence = "Dress Code Dataset licence: research only, no redistribution"

    def __init__(self, uri: str, pairing: Pairing = "paired") -> None:
        """Finds the categories.

        Args:
            uri: folder with `upper_body/`, `lower_body/` and `dresses/`, or some of them.
            pairing: which lists to take; ``"all"`` takes every photo there is and pairs those of one number, as
                ``"paired"`` does where there is no list.

        Raises:
            DataError: no such layout, or no sample.
        """
        self._root = storage.absolute(uri)
        self._pairing: Pairing = pairing
        self._folders = [name for name in CATEGORIES if storage.exists(storage.join(self._root, name, "images"))]
        self.left_out: LeftOut | None = None
        if not self._folders:
            text = f"{uri} is no DressCode folder: no images/ in {', '.join(CATEGORIES)}"
            raise DataError(text, code="data-missing", field="IN")
        if next(iter(self.tasks()), None) is None:
            raise DataError(f"{uri} has no {pairing} samples", code="data-empty", field="IN")

    def tasks(self) -> Iterator[Task]:
        left_out = LeftOut()
        yield from chunks(self._entries(left_out), ROWS_PER_TASK)
        self.left_out = left_out

    def read(self, task: Task) -> list[Row]:
        return mark_duplicates([self._row(entry) for entry in task])

    def _entries(self, left_out: LeftOut) -> Iterator[Entry]:
        lists = [(storage.join(self._root, folder, name), folder, split)
                 for folder in self._folders for split, name in _LISTS[self._pairing].items()]  # fmt: skip
        found = [entry for entry in lists if storage.exists(entry[0])]
        if not found:
            lists = [(storage.join(self._root, name), "", split) for split, name in _LISTS[self._pairing].items()]
            found = [entry for entry in lists if storage.exists(entry[0])]
        for path, folder, split in found:
            yield from _listed(path, folder, split)
        if not found and self._pairing != "unpaired":
            for folder in self._folders:
                yield from self._joined(folder, left_out)

    def _joined(self, folder: str, left_out: LeftOut) -> Iterator[Entry]:
        """Photos of one number are neighbours in a sorted folder."""
        images = storage.join(self._root, folder, "images")
        names = (uri.removeprefix(images + "/") for uri in iter_files(images, PHOTO_SUFFIXES, left_out))
        for _, group in groupby(names, key=_number):
            same = {}
            for name in group:
                role = _role(name)
                if role in same or role not in (_PERSON, _GARMENT):
                    left_out.add("name that does not end in _0 or _1", f"{folder}/images/{name}")
                else:
                    same[role] = name
            if same:
                yield folder, None, same.get(_PERSON), same.get(_GARMENT), ""

    def _row(self, entry: Entry) -> Row:
        folder, split, person, garment, fault = entry
        numbers = [_number(name) for name in (person, garment) if name]
        told: Row = {
            "id": f"{folder}/{'+'.join(dict.fromkeys(numbers))}" if numbers else fault,
            "category": CATEGORIES.get(folder),
            "split": split,
        }
        for kind, name in (("person", person), ("garment", garment)):
            if name:
                told |= {f"{kind}_id": f"{folder}/{_stem(name)}", f"{kind}_uri": self._path(folder, "images", name)}

        def make() -> Row:
            check_pair((person, garment, fault))
            brought = {} if garment is None else {"garment_file": storage.read_bytes(told["garment_uri"])}
            return brought if person is None else {**brought, **self._person(folder, person, told["person_uri"])}

        return row_or_error(told, make)

    def _path(self, folder: str, layer: str, name: str) -> str:
        return storage.join(self._root, folder, layer, name)

    def _optional(self, folder: str, layer: str, name: str) -> bytes | None:
        try:
            return storage.read_bytes(self._path(folder, layer, name))
        except StorageError as error:
            if error.code != "uri-missing":
                raise
            return None

    def _person(self, folder: str, name: str, uri: str) -> Row:
        photo = storage.read_bytes(uri)
        size = layers.upright_size(photo)
        row: Row = {"person_file": photo}
        if size is None:
            return row
        parse = self._optional(folder, "label_maps", f"{_number(name)}_4.png")
        return row | {
            "parse": None if parse is None else layers.labels(parse, "label_maps", NUM_LABELS, size),
            "pose": self._pose(folder, _number(name), size),
            "dense": self._dense(folder, _number(name), size),
        }

    def _pose(self, folder: str, number: str, size: layers.Size) -> npt.NDArray[np.float32] | None:
        data = self._optional(folder, "keypoints", f"{number}_2.json")
        if data is None:
            return None
        values = layers.parsed_json(data, "keypoints").get("keypoints")
        return body_25(layers.keypoints(values, "keypoints", (len(COCO_JOINTS), 4)), size)

    def _dense(self, folder: str, number: str, size: layers.Size) -> layers.UInt8 | None:
        part_png = self._optional(folder, "dense", f"{number}_5.png")
        uv_npz = self._optional(folder, "dense", f"{number}_5_uv.npz")
        if part_png is None or uv_npz is None:
            return None
        part = layers.labels(part_png, "dense", layers.PARTS + 1, size)
        uv = np.where(part > 0, _read_uv(uv_npz, part.shape), 0.0)
        return np.dstack([part, np.rint(uv[0] * 255), np.rint(uv[1] * 255)]).astype(np.uint8)


def body_25(coco_18x4: npt.NDArray[np.float32], size: layers.Size) -> npt.NDArray[np.float32]:
    """BODY_25 keypoints from DressCode's 18.

    Args:
        coco_18x4: float32 (18, 4): x, y on a canvas of 384x512, score, number. Joints not found have no positive x, y.
        size: (width, height) px of the photo.

    Returns:
        float32 (25, 3): x px, y px, confidence; the middle of the hips from both hips, toes and heels 0.
    """
    pose = np.zeros((NUM_JOINTS, 3), dtype=np.float32)
    scale = np.array(size, dtype=np.float32) / np.array(KEYPOINT_CANVAS, dtype=np.float32)
    for joint, (x, y, score, _) in zip(COCO_JOINTS, coco_18x4, strict=True):
        if x > 0 and y > 0:
            pose[joint] = (x * scale[0], y * scale[1], min(max(score, 0.0), 1.0))
    hips = pose[[Joint.RIGHT_HIP, Joint.LEFT_HIP]]
    if (hips[:, 2] > 0).all():
        pose[Joint.MID_HIP] = (*hips[:, :2].mean(axis=0), hips[:, 2].min())
    return pose


def _read_uv(data: bytes, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """U and V as float32 (2, H, W) in 0..1."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            uv = np.asarray(archive["uv"], dtype=np.float32)
    except Exception as error:
        raise DataError(f"dense uv is damaged: {error}", code="layer-corrupt") from error
    if uv.shape != (2, *shape):
        text = f"dense uv has shape {uv.shape}, the photo needs {(2, *shape)}"
        raise DataError(text, code="layer-size")
    if not np.isfinite(uv).all() or uv.min() < 0 or uv.max() > 1:
        raise DataError("dense uv has values outside 0..1", code="layer-corrupt")
    return uv


def _listed(uri: str, folder: str, split: str) -> Iterator[Entry]:
    by_number = list(CATEGORIES)
    for columns, line in listed_lines(uri):
        names = columns[:2]
        where = folder
        if not folder and len(columns) > 2:
            told = columns[2]
            where = told if told in CATEGORIES else by_number[int(told)] if told in ("0", "1", "2") else ""
        if len(names) < 2 or not where or not all(is_inside(name) for name in names):
            yield "", split, None, None, line
        else:
            yield where, split, names[0], names[1], ""


def _stem(name: str) -> str:
    return name.rsplit(".", 1)[0]


def _number(name: str) -> str:
    return _stem(name).rsplit("_", 1)[0]


def _role(name: str) -> str:
    return _stem(name).rpartition("_")[2]
