"""Images handed in ahead of a job: kept under the hash of their bytes until their time-to-live, no longer."""

from __future__ import annotations

import uuid
from collections.abc import Collection
from dataclasses import dataclass

from tryon import storage
from tryon.errors import StorageError
from tryon.serving.jobs.database import Database, Row, Transaction
from tryon.serving.jobs.errors import UploadMissingError

MARGIN_S = 60.0  # an upload that ends so soon is not prolonged: a sweep may be at it


@dataclass(frozen=True)
class Upload:
    """An image that was taken. `id` is the sha256 of its bytes, hex; `expires_s` is Unix time."""

    id: str
    num_bytes: int
    expires_s: float


class UploadStore:
    """Uploaded images in a folder, and rows that say whose they are and until when.

    A file's name is new each time and its row is there before it, so whatever is killed in between, a row leads the
    sweep to every file. An owner sees only its own: else an id would tell who holds which image.

    Args:
        database: with the tables of `schema`.
        folder: URI.
        ttl_s: seconds an image is kept after it was last handed in.
    """

    def __init__(self, database: Database, folder: str, ttl_s: float) -> None:
        self._database = database
        self._folder = folder
        self._ttl_s = ttl_s

    def put(self, owner: str, data: bytes) -> Upload:
        """Keeps an image; handing the same in again prolongs it.

        Raises:
            StorageError: folder or database cannot be written.
        """
        sha256 = storage.sha256(data)
        known = self._database.write(lambda tx: self._prolong(tx, owner, sha256))
        if known is not None:
            return Upload(sha256, len(data), known["expires_s"])
        uri = storage.join(self._folder, uuid.uuid4().hex)
        expires_s = self._database.write(lambda tx: self._insert(tx, uri, owner, sha256, len(data)))
        storage.write_bytes(uri, data)
        written = "UPDATE batch_uploads SET written = 1 WHERE uri = :uri"
        self._database.write(lambda tx: tx.run(written, uri=uri))
        return Upload(sha256, len(data), expires_s)

    def _prolong(self, tx: Transaction, owner: str, sha256: str) -> Row | None:
        return tx.one(
            "UPDATE batch_uploads SET expires_s = now_s() + :ttl_s WHERE owner = :owner AND sha256 = :sha256"
            " AND written = 1 AND expires_s > now_s() + :margin_s RETURNING expires_s",
            ttl_s=self._ttl_s,
            owner=owner,
            sha256=sha256,
            margin_s=MARGIN_S,
        )

    def _insert(self, tx: Transaction, uri: str, owner: str, sha256: str, num_bytes: int) -> float:
        tx.run(
            "INSERT INTO batch_uploads (uri, owner, sha256, bytes, written, expires_s)"
            " VALUES (:uri, :owner, :sha256, :num_bytes, 0, now_s() + :ttl_s) ON CONFLICT DO NOTHING",
            uri=uri,
            owner=owner,
            sha256=sha256,
            num_bytes=num_bytes,
            ttl_s=self._ttl_s,
        )
        row = tx.one("SELECT expires_s FROM batch_uploads WHERE uri = :uri", uri=uri)
        assert row is not None
        return float(row["expires_s"])

    def read(self, owner: str, upload_id: str, field: str = "upload") -> bytes:
        """Bytes of an owner's upload.

        Args:
            owner: of the upload.
            upload_id: its sha256.
            field: what to call the input in an error.

        Raises:
            UploadMissingError: there is none, or it has expired.
        """
        row = self._database.read(lambda tx: _find(tx, owner, upload_id))
        if row is None:
            raise UploadMissingError(upload_id, field)
        try:
            return storage.read_bytes(row["uri"])
        except StorageError as error:
            if error.code == "uri-missing":  # it expired while it was looked for
                raise UploadMissingError(upload_id, field) from error
            raise

    def missing(self, owner: str, upload_ids: Collection[str]) -> set[str]:
        """Those among the ids that stand for no upload of the owner's."""

        def look(tx: Transaction) -> set[str]:
            return {one for one in upload_ids if _find(tx, owner, one) is None}

        return self._database.read(look)

    def sweep(self, limit: int = 1000) -> int:
        """Removes expired images, files first; how many."""
        expired = "SELECT uri FROM batch_uploads WHERE expires_s <= now_s() LIMIT :limit"
        rows = self._database.read(lambda tx: tx.all(expired, limit=limit))
        for row in rows:
            storage.delete(row["uri"])
        gone = "DELETE FROM batch_uploads WHERE uri = :uri"
        self._database.write(lambda tx: tx.many(gone, [{"uri": row["uri"]} for row in rows]))
        return len(rows)


def _find(tx: Transaction, owner: str, upload_id: str) -> Row | None:
    return tx.one(
        "SELECT uri FROM batch_uploads WHERE owner = :owner AND sha256 = :sha256 AND written = 1"
        " AND expires_s > now_s() ORDER BY expires_s DESC LIMIT 1",
        owner=owner,
        sha256=upload_id,
    )
