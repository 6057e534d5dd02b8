"""The VITON-HD layout (Choi et al. 2021): `train/` and `test/` with one folder a layer, and lists of pairs beside them.

| folder | names | read as |
|---|---|---|
| `image`, `cloth` | `00006_00.jpg` | the photos |
| `cloth-mask` | `00006_00.jpg` | `garment_mask` |
| `image-parse-v3`, else `image-parse` | `00006_00.png` | `lip_parse` as it is, `parse` mapped to ATR's labels |
| `openpose_json` | `00006_00_keypoints.json` | `pose` |
| `image-densepose` | `00006_00.jpg` or `.png` | `densepose_image`, or `dense` where it is a true IUV map |
| `agnostic-v3.2` | `00006_00.jpg` | not read: without its mask, which the layout has not, no stage can use it |

Any layer may be missing, for any sample; one that is damaged or of another size than its photo puts the sample into
quarantine.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from tryon import storage
from tryon.data.sources import layers
from tryon.data.sources.base import PHOTO_SUFFIXES, Pairing, Source
from tryon.data.sources.common import chunks, mark_duplicates, merge_names, row_or_error, stem_of
from tryon.data.sources.pairs import Pair, check_pair, listed_pairs
from tryon.errors import DataError, StorageError
from tryon.listing import LeftOut, iter_files
from tryon.sample import NUM_JOINTS, Row
from tryon.stages.labels import CIHP_TO_ATR

SPLITS = ("train", "val", "test")
ROWS_PER_TASK = 8  # with all layers at 1024x768 a sample takes about 15 MB
# The layout's papers speak of LIP, but its files mean CIHP's number 10, torso skin: neck and chest.
LIP_TO_ATR = CIHP_TO_ATR
_OTHER_FOLDERS = (
    "cloth-mask", "image-parse-v3", "image-parse", "openpose_json", "openpose_img", "image-densepose", "agnostic-v3.2",
)  # fmt: skip

Task = tuple[str, tuple[Pair, ...]]  # folder inside the root, pairs


def find_splits(uri: str) -> list[str]:
    """Folders inside the URI (``""``: itself) that hold `image/` with `cloth/` or another layer beside it."""
    return [name for name in ("", *SPLITS) if _is_split(storage.join(uri, name) if name else uri)]


def _is_split(folder: str) -> bool:
    return storage.exists(storage.join(folder, "image")) and any(
        storage.exists(storage.join(folder, layer)) for layer in ("cloth", *_OTHER_FOLDERS)
    )


class VitonHdSource(Source):
    """Samples of a VITON-HD folder, with the layers that are there.

    Attributes:
        left_out: what the last complete listing passed by; None before, and where pair lists were read.
    """

    fields: tuple[str, ...] = (
        "id", "category", "split", "person_id", "garment_id", "person_uri", "garment_uri", "person_file",
        "garment_file", "garment_mask", "pose", "parse", "lip_parse", "dense", "densepose_image",
    )  # fmt: skip
    licence = "CC BY-NC 4.0 (VITON-HD)"

    def __init__(self, uri: str, pairing: Pairing = "paired") -> None:
        """Finds the splits.

        Ids are names of photos: a folder whose splits share a name gives two samples of one id.

        Args:
            uri: folder with `train/` and `test/`, or one of them.
            pairing: ``"paired"``: each person of the list `<split>_pairs.txt` with its own garment; without a list, as
                ``"all"``. ``"unpaired"``: with the garment that `<split>_unpaired.txt`, else the same list, names.
                ``"all"``: every photo there is; those without a partner of their name are samples of one photo.

        Raises:
            DataError: no such layout, or no sample.
        """
        self._root = storage.absolute(uri)
        self._pairing: Pairing = pairing
        self._splits = find_splits(self._root)
        self.left_out: LeftOut | None = None
        if not self._splits:
            raise DataError(f"{uri} is no VITON-HD folder: no image/ with cloth/", code="data-missing", field="IN")
        if next(iter(self.tasks()), None) is None:
            raise DataError(f"{uri} has no {pairing} samples", code="data-empty", field="IN")

    def tasks(self) -> Iterator[Task]:
        left_out = LeftOut()
        for split in self._splits:
            for pairs in chunks(self._pairs(split, left_out), ROWS_PER_TASK):
                yield split, pairs
        self.left_out = left_out

    def read(self, task: Task) -> list[Row]:
        folder, pairs = task
        return mark_duplicates([self._row(folder, pair) for pair in pairs])

    def _folder(self, split: str) -> str:
        return storage.join(self._root, split) if split else self._root

    def _pairs(self, split: str, left_out: LeftOut) -> Iterator[Pair]:
        parent, name = self._folder(split).rsplit("/", 1)
        lists = {"paired": ("pairs",), "unpaired": ("unpaired", "pairs"), "all": ()}[self._pairing]
        for kind in lists:
            for folder in (parent, self._folder(split)):
                path = storage.join(folder, f"{name}_{kind}.txt")
                if storage.exists(path):
                    # The official list is of unpaired couples; the paired setting takes each person with its own.
                    return listed_pairs(path, own_garment=self._pairing == "paired")
        return iter(()) if self._pairing == "unpaired" else self._joined(split, left_out)

    def _joined(self, split: str, left_out: LeftOut) -> Iterator[Pair]:
        people, garments = (self._names(split, layer, left_out) for layer in ("image", "cloth"))
        for person, garment in merge_names(people, garments):
            yield person, garment, ""

    def _names(self, split: str, layer: str, left_out: LeftOut) -> Iterator[str]:
        folder = storage.join(self._folder(split), layer)
        if storage.exists(folder):
            for uri in iter_files(folder, PHOTO_SUFFIXES, left_out):
                yield uri.removeprefix(folder + "/")

    def _row(self, split: str, pair: Pair) -> Row:
        person, garment, fault = pair
        stems = [stem_of(name) for name in dict.fromkeys((person, garment)) if name]
        told: Row = {"id": "+".join(stems) or fault, "category": "upper", "split": self._split_name(split)}
        for kind, layer, name in (("person", "image", person), ("garment", "cloth", garment)):
            if name:
                told |= {f"{kind}_id": stem_of(name), f"{kind}_uri": self._path(split, layer, name)}

        def make() -> Row:
            check_pair(pair)
            return {
                **(self._person(split, person, told["person_uri"]) if person else {}),
                **(self._garment(split, garment, told["garment_uri"]) if garment else {}),
            }

        return row_or_error(told, make)

    def _split_name(self, split: str) -> str | None:
        name = split or self._root.rsplit("/", 1)[-1]
        return name if name in SPLITS else None

    def _path(self, split: str, layer: str, name: str) -> str:
        return storage.join(self._folder(split), layer, name)

    def _optional(self, split: str, *names: str) -> bytes | None:
        """The first of these files that is there."""
        for name in names:
            try:
                return storage.read_bytes(storage.join(self._folder(split), name))
            except StorageError as error:
                if error.code != "uri-missing":
                    raise
        return None

    def _garment(self, split: str, name: str, uri: str) -> Row:
        photo = storage.read_bytes(uri)
        data = self._optional(split, f"cloth-mask/{name}", f"cloth-mask/{stem_of(name)}.png")
        size = layers.upright_size(photo)
        mask = None if data is None or size is None else layers.mask(data, "cloth-mask", size)
        return {"garment_file": photo, "garment_mask": mask}

    def _person(self, split: str, name: str, uri: str) -> Row:
        photo = storage.read_bytes(uri)
        size = layers.upright_size(photo)
        row: Row = {"person_file": photo}
        if size is None:  # decoding names the fault of the photo; a layer has nothing to lie on
            return row
        return row | {
            **self._parse(split, stem_of(name), size),
            **self._dense(split, stem_of(name), size),
            "pose": self._pose(split, stem_of(name)),
        }

    def _parse(self, split: str, stem: str, size: layers.Size) -> Row:
        data = self._optional(split, f"image-parse-v3/{stem}.png", f"image-parse/{stem}.png")
        if data is None:
            return {}
        lip = layers.labels(data, "image-parse", len(LIP_TO_ATR), size)
        return {"lip_parse": lip, "parse": LIP_TO_ATR[lip]}

    def _dense(self, split: str, stem: str, size: layers.Size) -> Row:
        data = self._optional(split, f"image-densepose/{stem}.png", f"image-densepose/{stem}.jpg")
        if data is None:
            return {}
        image = layers.picture(data, "image-densepose", ("RGB",), size)
        iuv = layers.true_iuv(image) if data.startswith(b"\x89PNG") else None
        return {"densepose_image": image} if iuv is None else {"dense": iuv}

    def _pose(self, split: str, stem: str) -> npt.NDArray[np.float32] | None:
        data = self._optional(split, f"openpose_json/{stem}_keypoints.json")
        people: Any = [] if data is None else layers.parsed_json(data, "openpose_json").get("people")
        if people == []:
            return None
        try:
            return layers.keypoints(people[0]["pose_keypoints_2d"], "openpose_json", (NUM_JOINTS, 3))
        except (KeyError, TypeError, IndexError) as error:
            text = "openpose_json has no people[0].pose_keypoints_2d"
            raise DataError(text, code="layer-corrupt") from error
