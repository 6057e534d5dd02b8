"""Listing: everything once, in one order, nothing passed by without a word."""

from __future__ import annotations

import os
import subprocess
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.s3 import denying_bucket, s3_bucket
from tryon import listing, storage
from tryon.errors import DataError, StorageError
from tryon.listing import LeftOut, direct_files, folded, iter_files, iter_lines, plain_name


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def listed(root: Path, suffixes: tuple[str, ...] = (".jpg",), left_out: LeftOut | None = None) -> list[str]:
    return [path.removeprefix(f"{root}/") for path in iter_files(str(root), suffixes, left_out)]


def test_folders_of_folders_are_listed_in_order(tmp_path: Path) -> None:
    touch(tmp_path, "b.jpg", "a/z.jpg", "a/y/x.jpg", "C/d.JPG", "a.jpg", "a b/1.jpg", "ü/ö.jpg")
    assert listed(tmp_path) == ["a/y/x.jpg", "a/z.jpg", "a b/1.jpg", "a.jpg", "b.jpg", "C/d.JPG", "ü/ö.jpg"]
    assert sorted(iter_files(str(tmp_path), (".jpg",), ordered=False)) == sorted(iter_files(str(tmp_path), (".jpg",)))


@pytest.mark.parametrize("in_memory", [1, 3, 7, 100])
def test_order_does_not_depend_on_how_much_fits_into_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_memory: int
) -> None:
    touch(tmp_path, *(f"{i * 7919 % 101:03d}.jpg" for i in range(21)), "sub/1.jpg", "sub/0.jpg")
    expected = sorted(path.name for path in tmp_path.glob("*.jpg"))
    monkeypatch.setattr(listing, "NAMES_IN_MEMORY", in_memory)
    assert listed(tmp_path) == [*expected, "sub/0.jpg", "sub/1.jpg"]


def test_what_is_left_out_is_counted_and_named(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", ".hidden.jpg", ".git/x.jpg", "_out/shard.jpg", "_MG_1.jpg", "notes.txt", "b.jpg.part")
    os.mkfifo(tmp_path / "pipe.jpg")
    left_out = LeftOut()
    assert listed(tmp_path, left_out=left_out) == ["_MG_1.jpg", "a.jpg"]
    assert left_out.counts == {
        "hidden": 2, "folder that begins with _": 1, "other suffix": 2, "no regular file": 1,
    }  # fmt: skip
    assert len(left_out) == 6
    assert "2 left out (other suffix): b.jpg.part, notes.txt" in left_out.notice()
    assert "hidden): .git/, .hidden.jpg" in left_out.notice()


def test_notice_names_the_first_and_counts_the_rest() -> None:
    left_out = LeftOut()
    assert left_out.notice() == ""
    for i in range(1234):
        left_out.add("other suffix", f"{i}\n.txt")
    assert left_out.notice() == "1,234 left out (other suffix): 0%0A.txt, 1%0A.txt, 2%0A.txt, 3%0A.txt, 4%0A.txt, ..."


def test_links(tmp_path: Path) -> None:
    touch(tmp_path, "in/a.jpg", "in/deep/b.jpg", "elsewhere/c.jpg")
    root = tmp_path / "in"
    (root / "loop").symlink_to(root)
    (root / "deep" / "up").symlink_to("..")
    (root / "other").symlink_to(tmp_path / "elsewhere")
    (root / "gone.jpg").symlink_to("nowhere")
    left_out = LeftOut()
    assert listed(root, left_out=left_out) == ["a.jpg", "deep/b.jpg", "gone.jpg", "other/c.jpg"]
    assert left_out.counts == {"link back to a folder above": 2}


def test_names_that_a_line_cannot_hold(tmp_path: Path) -> None:
    long = "x" * 251 + ".jpg"
    touch(tmp_path, "a\nb.jpg", " .jpg", "tab\t.jpg", long)
    with open(os.fsencode(tmp_path) + b"/\xff.jpg", "w"):
        pass
    names = listed(tmp_path)
    assert set(names) == {"a\nb.jpg", " .jpg", "tab\t.jpg", long, "\udcff.jpg"}
    assert [plain_name(name) for name in ("a\nb", "\udcff", "Größe ☃")] == ["a%0Ab", "%FF", "Größe ☃"]


def test_names_that_some_file_systems_take_for_one() -> None:
    assert folded("Ä.JPG") == folded(unicodedata.normalize("NFD", "ä.jpg"))
    assert folded("straße") == folded("STRASSE")
    assert folded("a") != folded("b")


def test_a_folder_that_cannot_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a.jpg", "locked/b.jpg")
    scandir = os.scandir

    def denied(path: str) -> os.ScandirIterator[str]:  # type: ignore[name-defined]
        if path.endswith("locked"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", denied)
    left_out = LeftOut()
    assert listed(tmp_path, left_out=left_out) == ["a.jpg"]
    assert left_out.notice() == "1 left out (folder that cannot be listed: Permission denied): locked/"
    with pytest.raises(StorageError, match=r"locked cannot be read: .*Permission denied"):
        list(iter_files(str(tmp_path / "locked")))


def test_a_file_is_its_own_list_and_nothing_is_an_error(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg")
    assert list(iter_files(str(tmp_path / "a.jpg"))) == [str(tmp_path / "a.jpg")]
    with pytest.raises(StorageError, match="nowhere does not exist"):
        next(iter_files(str(tmp_path / "nowhere")))
    (tmp_path / "empty").mkdir()
    assert list(iter_files(str(tmp_path / "empty"))) == []


def test_deep_folders(tmp_path: Path) -> None:
    deep = "/".join(["d"] * 1200)
    folder = os.open(tmp_path, os.O_RDONLY)
    for _ in range(1200):  # the whole path is too long for one call only from 4,096 bytes on
        os.mkdir("d", dir_fd=folder)
        below = os.open("d", os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = below
    os.close(os.open("a.jpg", os.O_CREAT, dir_fd=folder))
    os.close(folder)
    try:
        assert listed(tmp_path) == [f"{deep}/a.jpg"]
    finally:
        subprocess.run(["rm", "-r", str(tmp_path / "d")], check=True)  # Python's own removal stops at this depth


def test_direct_files(tmp_path: Path) -> None:
    touch(tmp_path, "b.parquet", "a.parquet", "sub/c.parquet", "_x.parquet", "d.csv")
    assert direct_files(str(tmp_path), (".parquet",)) == [f"{tmp_path}/a.parquet", f"{tmp_path}/b.parquet"]
    assert direct_files(str(tmp_path / "d.csv"), (".parquet",)) == []


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with s3_bucket("listing-test") as uri:
        yield uri


def test_a_bucket_is_listed_like_a_folder(bucket: str, tmp_path: Path) -> None:
    names = ("b.jpg", "a/z.jpg", "A/z.jpg", "a/y/ö ü.jpg", "notes.txt", "_out/x.jpg", ".h.jpg", "a+b%20c#d?.jpg")
    touch(tmp_path, *names)
    for name in names:
        storage.write_bytes(f"{bucket}/in/{name}", b"x")
    on_s3, local = LeftOut(), LeftOut()
    found = [uri.removeprefix(f"{bucket}/in/") for uri in iter_files(f"{bucket}/in", (".jpg",), on_s3)]
    assert found == listed(tmp_path, left_out=local)
    assert on_s3 == local
    assert all(storage.read_bytes(uri) == b"x" for uri in iter_files(f"{bucket}/in"))
    assert direct_files(f"{bucket}/in", (".jpg",)) == [f"{bucket}/in/a+b%20c#d?.jpg", f"{bucket}/in/b.jpg"]


def test_a_bucket_that_denies_access() -> None:
    with denying_bucket("locked") as bucket:
        for read in (
            lambda: list(iter_files(f"{bucket}/in")),
            lambda: list(iter_files(f"{bucket}/in", ordered=False)),
            lambda: direct_files(f"{bucket}/in", (".jpg",)),
        ):
            with pytest.raises(StorageError, match=r"s3://locked/in cannot be read: .*ACCESS_DENIED") as caught:
                read()
            assert caught.value.code == "uri-unreadable"
        for use in (storage.exists, storage.read_bytes):
            with pytest.raises(StorageError, match="ACCESS_DENIED"):
                use(f"{bucket}/in")


def test_lines(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes("\ufeffä b\r\nc\n\n d ".encode())
    assert list(iter_lines(str(path))) == ["ä b", "c", "", " d "]
    path.write_bytes(b"a\n\xff\n")
    with pytest.raises(DataError, match="no UTF-8"):
        list(iter_lines(str(path)))
    with pytest.raises(StorageError, match="does not exist"):
        list(iter_lines(str(tmp_path / "none.txt")))
