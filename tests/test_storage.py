"""Storage on a local disk and on an S3 server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.s3 import s3_bucket
from tryon import storage
from tryon.errors import StorageError


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with s3_bucket("storage-test") as uri:
        yield uri


@pytest.fixture(params=["local", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty place to write to."""
    if request.param == "local":
        return str(tmp_path / "place")
    return f"{request.getfixturevalue('bucket')}/{tmp_path.name}"


def test_write_read_list_delete(root: str) -> None:
    assert not storage.exists(root)
    for name in ("b/two.PNG", "a.txt", "b/deep/three.txt"):
        storage.write_bytes(storage.join(root, *name.split("/")), name.encode())
    assert storage.exists(root)
    assert storage.exists(storage.join(root, "b"))
    assert storage.read_bytes(storage.join(root, "b", "two.PNG")) == b"b/two.PNG"
    assert storage.list_files(root) == [f"{root}/{name}" for name in ("a.txt", "b/deep/three.txt", "b/two.PNG")]
    assert storage.list_files(root, (".png",)) == [f"{root}/b/two.PNG"]
    assert storage.list_files(root, recursive=False) == [f"{root}/a.txt"]
    assert storage.list_files(f"{root}/a.txt") == [f"{root}/a.txt"]
    storage.delete(f"{root}/a.txt")
    assert not storage.exists(f"{root}/a.txt")
    storage.delete(root)
    assert not storage.exists(root)
    storage.delete(root)


def test_every_listed_uri_can_be_read(root: str) -> None:
    for name in ("ä ö.bin", "100%.bin", "a+b=c.bin"):
        storage.write_bytes(storage.join(root, name), name.encode())
    assert sorted(storage.read_bytes(uri).decode() for uri in storage.list_files(root)) == sorted(
        ["ä ö.bin", "100%.bin", "a+b=c.bin"]
    )


def test_overwriting_replaces_the_whole_file(root: str) -> None:
    storage.write_bytes(f"{root}/x", b"long content")
    storage.write_bytes(f"{root}/x", b"short")
    assert storage.read_bytes(f"{root}/x") == b"short"
    storage.write_bytes(f"{root}/x", b"")
    assert storage.read_bytes(f"{root}/x") == b""


def test_what_is_missing_is_named(root: str) -> None:
    for call in (storage.read_bytes, storage.list_files):
        with pytest.raises(StorageError, match=r"nowhere.*does not exist") as caught:
            call(f"{root}/nowhere")
        assert caught.value.code == "uri-missing"


def test_a_folder_is_no_file(root: str) -> None:
    storage.write_bytes(f"{root}/folder/x", b"1")
    with pytest.raises(StorageError, match="is a folder"):
        storage.read_bytes(f"{root}/folder")


def test_missing_bucket(bucket: str) -> None:
    with pytest.raises(StorageError, match="no-such-bucket"):
        storage.read_bytes("s3://no-such-bucket/x")
    with pytest.raises(StorageError, match=r"no-such-bucket.*cannot be written"):
        storage.write_bytes("s3://no-such-bucket/x", b"1")


def test_file_scheme_and_path_mean_the_same(tmp_path: Path) -> None:
    storage.write_bytes(f"file://{tmp_path}/x", b"1")
    assert storage.read_bytes(str(tmp_path / "x")) == b"1"
    assert storage.absolute(f"file://{tmp_path}/x") == str(tmp_path / "x")


def test_relative_paths_are_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert storage.absolute("out/x") == str(tmp_path / "out" / "x")
    assert storage.absolute("s3://b/k/") == "s3://b/k"


@pytest.mark.parametrize("uri", ["", "ftp://host/x", "gs://bucket/x", "s3://", "s3:///"])
def test_uris_that_cannot_be_understood(uri: str) -> None:
    with pytest.raises(StorageError) as caught:
        storage.resolve(uri)
    assert caught.value.code == "uri-invalid"
    assert repr(uri) in caught.value.message or not uri


def test_writing_leaves_no_partial_file(tmp_path: Path) -> None:
    storage.write_bytes(str(tmp_path / "deep" / "x"), b"1")
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["x"]
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "y").touch()
    with pytest.raises(StorageError, match="cannot be written"):
        storage.write_bytes(str(tmp_path / "folder"), b"1")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["deep", "folder"]


def test_a_file_in_the_way_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    with pytest.raises(StorageError, match="cannot be written") as caught:
        storage.write_bytes(str(tmp_path / "x" / "y"), b"1")
    assert caught.value.code == "uri-unwritable"


def test_sha256_is_the_published_digest_of_abc() -> None:
    assert storage.sha256(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_names_do_not_change_bytes(tmp_path: Path) -> None:
    storage.write_bytes(f"{tmp_path}/a.gz", b"not packed")
    assert (tmp_path / "a.gz").read_bytes() == storage.read_bytes(f"{tmp_path}/a.gz") == b"not packed"
    with s3_bucket("names-test") as bucket:
        storage.write_bytes(f"{bucket}/a.gz", b"not packed")
        with storage.open_file(f"{bucket}/a.gz") as file:
            assert file.read() == storage.read_bytes(f"{bucket}/a.gz") == b"not packed"
