"""The VITON-HD layout (Choi et al. 2021): image, cloth, cloth-mask, image-parse-v3, openpose_json, pair lists.

Any layer but the photos may be missing, for any sample.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from tryon import storage
from tryon.data.sources.base import chunk, error_row
from tryon.errors import DataError, StorageError
from tryon.sample import NUM_JOINTS, NUM_LABELS, Label, Row

Pairing = Literal["paired", "unpaired"]
# LIP's 20 classes, in order, as ATR classes. Neck and gloves have no class of their own there.
LIP_TO_ATR = np.array(
    [
        Label.BACKGROUND, Label.HAT, Label.HAIR, Label.BACKGROUND, Label.SUNGLASSES, Label.UPPER_CLOTHES, Label.DRESS,
        Label.UPPER_CLOTHES, Label.BACKGROUND, Label.PANTS, Label.FACE, Label.SCARF, Label.SKIRT, Label.FACE,
        Label.LEFT_ARM, Label.RIGHT_ARM, Label.LEFT_LEG, Label.RIGHT_LEG, Label.LEFT_SHOE, Label.RIGHT_SHOE,
    ],
    dtype=np.uint8,
)  # fmt: skip


def find_split(uri: str) -> str | None:
    """The folder that holds `image/` and `cloth/`: the URI itself or its `test/` or `train/`; None if neither."""
    for folder in (uri, storage.join(uri, "test"), storage.join(uri, "train")):
        if storage.exists(storage.join(folder, "image")) and storage.exists(storage.join(folder, "cloth")):
            return folder
    return None


class VitonHdSource:
    """Pairs of a VITON-HD split, with the layers that are there."""

    fields: tuple[str, ...] = ("id", "category", "person_file", "garment_file", "garment_mask", "pose", "parse")
    licence = "CC BY-NC 4.0 (VITON-HD)"

    def __init__(self, split: str, pairing: Pairing = "paired") -> None:
        """Reads the pair list, or pairs equal names where there is none.

        Args:
            split: folder with `image/` and `cloth/`.
            pairing: which list to take.

        Raises:
            DataError: no pair at all.
        """
        self._split = storage.absolute(split)
        self._pairs = _read_pairs(self._split, pairing)
        if not self._pairs:
            raise DataError(f"{split} has no {pairing} samples", code="data-empty", field="IN")

    def tasks(self) -> Sequence[Sequence[tuple[str, str]]]:
        return chunk(self._pairs, 8)

    def read(self, task: Sequence[tuple[str, str]]) -> list[Row]:
        return [self._read_pair(person, garment) for person, garment in task]

    def content_hash(self) -> str:
        return ""

    def _read_pair(self, person: str, garment: str) -> Row:
        row_id = _stem(person) if person == garment else f"{_stem(person)}+{_stem(garment)}"
        try:
            row: Row = {
                "id": row_id,
                "category": "upper",
                "person_file": storage.read_bytes(self._path("image", person)),
                "garment_file": storage.read_bytes(self._path("cloth", garment)),
                "garment_mask": self._mask(garment),
                "pose": self._pose(person),
                "parse": self._parse(person),
            }
            _check_size("image-parse-v3", row["parse"], row["person_file"])
            _check_size("cloth-mask", row["garment_mask"], row["garment_file"])
            return row
        except StorageError as error:
            return error_row(row_id, error, error.code, "source")
        except (DataError, OSError, ValueError, KeyError, TypeError) as error:
            return error_row(row_id, DataError(f"{row_id}: {error}", code="layer-corrupt"), "layer-corrupt", "source")

    def _path(self, layer: str, name: str) -> str:
        return storage.join(self._split, layer, name)

    def _optional(self, layer: str, name: str) -> bytes | None:
        path = self._path(layer, name)
        return storage.read_bytes(path) if storage.exists(path) else None

    def _mask(self, name: str) -> npt.NDArray[np.uint8] | None:
        data = self._optional("cloth-mask", name)
        return None if data is None else (_picture(data, "L") > 127).astype(np.uint8)

    def _parse(self, name: str) -> npt.NDArray[np.uint8] | None:
        data = self._optional("image-parse-v3", f"{_stem(name)}.png")
        if data is None:
            return None
        lip = _picture(data, "P")
        if lip.max() >= len(LIP_TO_ATR):
            raise DataError(f"image-parse-v3 has label {lip.max()}; LIP has 0..19", code="layer-corrupt")
        parse = LIP_TO_ATR[lip]
        assert parse.max() < NUM_LABELS
        return parse

    def _pose(self, name: str) -> npt.NDArray[np.float32] | None:
        data = self._optional("openpose_json", f"{_stem(name)}_keypoints.json")
        if data is None:
            return None
        people: list[dict[str, Any]] = json.loads(data)["people"]
        if not people:
            return None
        return np.array(people[0]["pose_keypoints_2d"], dtype=np.float32).reshape(NUM_JOINTS, 3)


def _read_pairs(split: str, pairing: Pairing) -> list[tuple[str, str]]:
    root, name = split.rsplit("/", 1)
    suffix = "pairs" if pairing == "paired" else "unpaired"
    for folder in (root, split):
        path = storage.join(folder, f"{name}_{suffix}.txt")
        if storage.exists(path):
            lines = storage.read_bytes(path).decode().splitlines()
            pairs = [line.split()[:2] for line in lines if len(line.split()) >= 2]
            # The official list is of unpaired couples; the paired setting takes each person with its own garment.
            return [(p, p if pairing == "paired" else g) for p, g in pairs]
    if pairing == "unpaired":
        return []
    garments = {path.rsplit("/", 1)[-1] for path in storage.list_files(storage.join(split, "cloth"))}
    people = [path.rsplit("/", 1)[-1] for path in storage.list_files(storage.join(split, "image"))]
    return [(name, name) for name in people if name in garments]


def _picture(data: bytes, mode: str) -> npt.NDArray[np.uint8]:
    from PIL import Image

    image = Image.open(io.BytesIO(data))
    return np.array(image if image.mode == mode else image.convert(mode), dtype=np.uint8)


def _check_size(layer: str, array: npt.NDArray[np.uint8] | None, photo: bytes) -> None:
    """A layer of another size than its photo cannot be laid on it. A fault of the photo itself, decoding names."""
    from PIL import Image

    if array is None:
        return
    try:
        width, height = Image.open(io.BytesIO(photo)).size
    except OSError:
        return
    if array.shape != (height, width):
        text = f"{layer} is {array.shape[1]}x{array.shape[0]} px, its photo {width}x{height} px"
        raise DataError(text, code="layer-corrupt")


def _stem(name: str) -> str:
    return name.rsplit(".", 1)[0]
