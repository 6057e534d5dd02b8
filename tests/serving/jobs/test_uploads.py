"""Uploaded images: whose they are, until when, and that nothing is left of them then."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.s3 import s3_bucket
from tryon import storage
from tryon.serving.jobs.errors import UploadMissingError
from tryon.serving.jobs.store import JobStore
from tryon.serving.jobs.uploads import UploadStore

DATA = b"an image"
HOUR_S = 3600.0


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_an_upload_is_found_by_its_hash(store: JobStore, tmp_path: Path) -> None:
    uploads = UploadStore(store.database, str(tmp_path / "up"), HOUR_S)
    kept = uploads.put("shop", DATA)
    assert kept.id == storage.sha256(DATA)
    assert kept.num_bytes == len(DATA)
    assert uploads.read("shop", kept.id) == DATA
    assert uploads.missing("shop", {kept.id, "0" * 64}) == {"0" * 64}


def test_another_owner_does_not_see_it(store: JobStore, tmp_path: Path) -> None:
    uploads = UploadStore(store.database, str(tmp_path / "up"), HOUR_S)
    kept = uploads.put("shop", DATA)
    assert uploads.missing("other", {kept.id}) == {kept.id}
    with pytest.raises(UploadMissingError, match=f"no upload '{kept.id}'") as caught:
        uploads.read("other", kept.id, "person_id")
    assert caught.value.field == "person_id"
    assert uploads.put("other", DATA).id == kept.id
    assert len(files(tmp_path / "up")) == 2


def test_handing_in_again_prolongs(store: JobStore, tmp_path: Path) -> None:
    first = UploadStore(store.database, str(tmp_path / "up"), HOUR_S).put("shop", DATA)
    again = UploadStore(store.database, str(tmp_path / "up"), 2 * HOUR_S).put("shop", DATA)
    assert again.expires_s == pytest.approx(first.expires_s + HOUR_S, abs=60)
    assert len(files(tmp_path / "up")) == 1


def test_an_expired_one_is_gone_and_then_its_file(store: JobStore, tmp_path: Path) -> None:
    uploads = UploadStore(store.database, str(tmp_path / "up"), 0.0)
    kept = uploads.put("shop", DATA)
    with pytest.raises(UploadMissingError):
        uploads.read("shop", kept.id)
    longer = UploadStore(store.database, str(tmp_path / "up"), HOUR_S)
    longer.put("shop", DATA)
    assert len(files(tmp_path / "up")) == 2  # one that ends is not prolonged: a sweep may be at it
    assert uploads.sweep() == 1
    assert longer.read("shop", kept.id) == DATA
    assert len(files(tmp_path / "up")) == 1
    assert uploads.sweep() == 0


def test_one_whose_write_was_cut_off_is_swept_too(
    store: JobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploads = UploadStore(store.database, str(tmp_path / "up"), 0.0)
    write = storage.write_bytes

    def cut_off(uri: str, data: bytes) -> None:
        write(uri, data)
        raise KeyboardInterrupt

    monkeypatch.setattr(storage, "write_bytes", cut_off)
    with pytest.raises(KeyboardInterrupt):
        uploads.put("shop", DATA)
    assert len(files(tmp_path / "up")) == 1
    assert uploads.sweep() == 1
    assert files(tmp_path / "up") == []


def test_on_s3(sqlite_store: JobStore) -> None:
    with s3_bucket("uploads") as bucket:
        uploads = UploadStore(sqlite_store.database, f"{bucket}/up", 0.0)
        kept = UploadStore(sqlite_store.database, f"{bucket}/up", HOUR_S).put("shop", DATA)
        uploads.put("shop", b"another")
        assert uploads.read("shop", kept.id) == DATA
        assert uploads.sweep() == 1
        assert len(storage.list_files(f"{bucket}/up")) == 1
