"""A folder of photos: ids that do not collide, what is broken set aside, what is no photo counted."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.data.reading import decoded, faults_of, quarantine, rows_of
from tests.data.shop import picture
from tests.s3 import denying_bucket, s3_bucket
from tryon import storage
from tryon.codec import encode_png
from tryon.data.shards import read_shard
from tryon.data.sources.base import Photos
from tryon.data.sources.common import PathIds
from tryon.data.sources.folder import FolderSource
from tryon.data.sources.open import open_source
from tryon.errors import DataError, StorageError
from tryon.listing import folded

PHOTO = picture()


def fill(root: Path, *names: str, data: bytes = PHOTO) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)


@pytest.mark.parametrize(("photos", "field"), [("auto", "photo"), ("person", "person"), ("garment", "garment")])
def test_what_the_photos_show_is_said_or_left_open(tmp_path: Path, photos: Photos, field: str) -> None:
    fill(tmp_path, "a b/Größe ☃.jpg")
    source = open_source(str(tmp_path), photos)
    assert isinstance(source, FolderSource)
    uris = {f"{kind}_uri": f"{tmp_path}/a b/Größe ☃.jpg" for kind in ("person", "garment") if photos in ("auto", kind)}
    assert rows_of(source) == [{"id": "a b/Größe ☃.jpg", "category": None, **uris, f"{field}_file": PHOTO}]


def test_a_category_that_is_known_is_kept(tmp_path: Path) -> None:
    fill(tmp_path, "a.jpg")
    assert rows_of(open_source(str(tmp_path), "garment", category="dress"))[0]["category"] == "dress"


def test_good_and_broken_photos(tmp_path: Path) -> None:
    root, out = tmp_path / "in", tmp_path / "out"
    fill(root, "good.jpg", "deep/er/good.JPEG")
    fill(root, "really.png", data=PHOTO)  # a JPEG by another name
    fill(root, "really.jpg", data=encode_png(np.zeros((40, 40, 3), np.uint8)))
    fill(root, "cut.jpg", data=PHOTO[: len(PHOTO) // 2])
    fill(root, "empty.jpg", data=b"")
    fill(root, "text.jpeg", data=b"no photo")
    fill(root, "photo.txt", data=PHOTO)
    (root / "gone.jpg").symlink_to("nowhere")
    source = FolderSource(str(root), "person")
    manifest = decoded(source, out)
    assert (manifest.rows_in, manifest.rows, manifest.quarantined) == (8, 4, 4)
    assert quarantine(out) == {
        "cut.jpg": "image-truncated",
        "empty.jpg": "image-empty",
        "text.jpeg": "not-an-image",
        "gone.jpg": "uri-missing",
    }
    assert read_shard(str(out / "shard-00000.parquet"))["id"] == [
        "deep/er/good.JPEG",
        "good.jpg",
        "really.jpg",
        "really.png",
    ]
    assert source.left_out is not None
    assert source.left_out.notice() == "1 left out (other suffix): photo.txt"


def test_photos_that_come_and_go(tmp_path: Path) -> None:
    fill(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    source = FolderSource(str(tmp_path))
    (task,) = source.tasks()
    (tmp_path / "a.jpg").unlink()
    (tmp_path / "b.jpg").unlink()
    (tmp_path / "b.jpg").mkdir()
    rows = source.read(task)
    assert faults_of(rows) == {"a.jpg": "uri-missing", "b.jpg": "uri-unreadable"}
    assert f"{tmp_path}/a.jpg does not exist" in rows[0]["error"]


def test_a_photo_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pyarrow import fs

    fill(tmp_path, "a.jpg", "locked.jpg")

    class Denying(fs.LocalFileSystem):  # type: ignore[misc]
        def open_input_stream(self, path: str, **more: object) -> object:
            if path.endswith("locked.jpg"):
                raise PermissionError(13, "Permission denied", path)
            return super().open_input_stream(path, **more)

    monkeypatch.setattr(fs, "LocalFileSystem", Denying)
    rows = rows_of(FolderSource(str(tmp_path)))
    assert faults_of(rows) == {"locked.jpg": "uri-unreadable"}
    assert "Permission denied" in rows[1]["error"]


def test_a_name_that_is_no_utf8_is_set_aside(tmp_path: Path) -> None:
    import os

    with open(os.fsencode(tmp_path) + b"/a\xff.jpg", "wb") as file:
        file.write(PHOTO)
    source = FolderSource(str(tmp_path), "person")
    assert faults_of(rows_of(source)) == {"a%FF.jpg": "name-invalid"}
    decoded(source, tmp_path / "out")
    assert quarantine(tmp_path / "out") == {"a%FF.jpg": "name-invalid"}


def test_ids_differ_where_case_and_normalisation_do_not_count(tmp_path: Path) -> None:
    nfc, nfd = unicodedata.normalize("NFC", "é.jpg"), unicodedata.normalize("NFD", "é.jpg")
    names = [
        "a.jpg",
        "A.jpg",
        "b/x.jpg",
        "B/x.jpg",
        "B/X.jpg",
        nfc,
        nfd,
        "n\n.jpg",
        "n%0A.jpg",
        "c.jpg",
        "noext/.x/y.jpg",
    ]
    fill(tmp_path, *names)
    rows = rows_of(FolderSource(str(tmp_path)))
    ids = [row["id"] for row in rows]
    assert len(ids) == len(names) - 1, "a hidden folder is left out"
    assert len({folded(row_id) for row_id in ids}) == len(ids), ids
    assert {"A.jpg", "B/X.jpg", "c.jpg", "n%0A.jpg"} <= set(ids), "the first of a group keeps its name"
    assert not any("\n" in row_id for row_id in ids)
    assert [row["person_uri"].removeprefix(f"{tmp_path}/") for row in rows] != ids


def test_ids_stay_the_same_when_other_folders_come() -> None:
    alone, among = PathIds(), PathIds()
    expected = [alone(path) for path in ("A/x.jpg", "A/y.jpg", "a/x.jpg", "b.jpg")]
    found = [among(path) for path in ("0/x.jpg", "A/x.jpg", "A/y.jpg", "a/x.jpg", "aa/x.jpg", "b.jpg", "c.jpg")]
    assert [found[i] for i in (1, 2, 3, 5)] == expected
    assert expected[:2] == ["A/x.jpg", "A/y.jpg"]
    assert expected[2].startswith("a~")


def test_tasks_are_cut_in_a_fixed_order(tmp_path: Path) -> None:
    fill(tmp_path, *(f"{i:03d}.jpg" for i in range(70)))
    tasks = list(FolderSource(str(tmp_path)).tasks())
    assert [len(task) for task in tasks] == [32, 32, 6]
    assert tasks[1][0] == ("032.jpg", "032.jpg")


def test_tasks_are_streamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import itertools

    from tryon.data.sources import folder

    endless = (f"{tmp_path}/{i:09d}.jpg" for i in itertools.count())
    fill(tmp_path, "a.jpg")
    source = FolderSource(str(tmp_path))
    monkeypatch.setattr(folder, "iter_files", lambda *_: endless)
    tasks = iter(source.tasks())
    assert next(tasks)[0] == ("000000000.jpg", "000000000.jpg")
    assert next(tasks)[0] == ("000000032.jpg", "000000032.jpg")


def test_one_photo_is_a_folder_of_one(tmp_path: Path) -> None:
    fill(tmp_path, "me.jpg")
    (row,) = rows_of(open_source(str(tmp_path / "me.jpg"), "person"))
    assert (row["id"], row["person_file"], row["person_uri"]) == ("me.jpg", PHOTO, f"{tmp_path}/me.jpg")


def test_a_folder_without_photos_says_what_it_has(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no photos") as caught:
        open_source(str(tmp_path))
    assert caught.value.code == "data-empty"
    fill(tmp_path, "a.heic", "_out/b.jpg", "b/c.txt")
    with pytest.raises(DataError, match=r"holds no photos \(\.jpg, .*2 left out \(other suffix\): .*a\.heic"):
        open_source(str(tmp_path))


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with s3_bucket("folder-test") as uri:
        yield uri


def test_a_folder_on_s3(bucket: str, tmp_path: Path) -> None:
    for name in ("a b/ü.jpg", "x.JPG", "X.jpg", "notes.txt"):
        storage.write_bytes(f"{bucket}/in/{name}", PHOTO)
    storage.write_bytes(f"{bucket}/in/cut.jpg", PHOTO[:200])
    source = open_source(f"{bucket}/in/", "person")
    rows = rows_of(source)
    assert [row["id"] for row in rows][:3] == ["a b/ü.jpg", "cut.jpg", "X.jpg"]
    assert rows[0]["person_uri"] == f"{bucket}/in/a b/ü.jpg"
    manifest = decoded(source, f"{bucket}/out")
    assert (manifest.rows, manifest.quarantined) == (3, 1)


def test_a_bucket_that_denies_access_is_refused() -> None:
    with denying_bucket("locked") as bucket, pytest.raises(StorageError, match="ACCESS_DENIED"):
        open_source(f"{bucket}/in")
