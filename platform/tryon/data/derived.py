"""Data sets made from the rows of another: what augmentation, downsampling and triplets have in common."""

from __future__ import annotations

import hashlib
import re
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

import numpy as np

from tryon import storage
from tryon.codec import decode_value
from tryon.data.rows import iter_rows, open_parquet
from tryon.data.shards import ROWS_PER_SHARD, Manifest, Parent, read_manifest, shard_uri
from tryon.data.sources.base import Source, error_row
from tryon.errors import DataError, SampleError
from tryon.sample import Row

# A photo kept as the JPEG it came as is handed on with its file, or it would grow tenfold on its way as a PNG.
_FILES = {"person": ("person_file", "person_notices"), "garment": ("garment_file", "garment_notices")}
# Rows made of one sample show the same person and garment: who splits or pairs by these keeps them together.
_KIN = {"person_id": ("person_digest", "id"), "garment_id": ("garment_digest", "id")}
KIN_FIELDS = tuple(_KIN)
_MADE = re.compile(r"(#[agu]\d+)+$")  # a variant of augmentation, a generated triplet, an un-warped garment
FILE_FIELDS = tuple(name for pair in _FILES.values() for name in pair)


class DerivedSource(Source):
    """Rows of a data set, each turned into some; subclasses implement `derive`.

    A shard of the parent is cut into so many tasks that a task makes about a shard's worth of rows.
    """

    def __init__(self, uri: str, rows_a_row: int = 1) -> None:
        """Reads the manifest.

        Args:
            uri: of the parent.
            rows_a_row: how many rows a row is turned into, at the most.

        Raises:
            DataError: no data set, or another schema version.
        """
        self._uri = storage.absolute(uri)
        self._manifest = read_manifest(self._uri)
        self._parts = _parts(self._manifest, rows_a_row)
        self.fields: tuple[str, ...] = tuple(dict.fromkeys((*self._manifest.fields, *FILE_FIELDS)))
        self.licence = self._manifest.licence

    @property
    def parent(self) -> Parent:
        """The data set the rows come from."""
        return Parent(uri=self._uri, sha256=self._manifest.sha256)

    @property
    def parent_fields(self) -> tuple[str, ...]:
        """Columns of the data set the rows come from."""
        return self._manifest.fields

    def tasks(self) -> Iterable[Any]:
        """One task a part of a shard: its number, the part, of how many."""
        for shard in range(self._manifest.num_shards):
            for part in range(self._parts):
                yield shard, part, self._parts

    def read(self, task: tuple[int, int, int]) -> list[Row]:
        """The rows made of a part of a shard."""
        shard, part, parts = task
        uri = shard_uri(self._uri, shard)
        with open_parquet(uri) as file:
            total = file.metadata.num_rows
        start, stop = total * part // parts, total * (part + 1) // parts
        return self.derive_all(decode_row(row) for row in islice(iter_rows(uri), start, stop))

    def content_hash(self) -> str:
        """Of the parent."""
        return self._manifest.sha256

    def derive_all(self, rows: Iterable[Row]) -> list[Row]:
        """What all these rows are turned into; one that cannot be comes as a row with the error fields set."""
        made: list[Row] = []
        for row in rows:
            try:
                made += self.derive(row)
            except SampleError as error:
                made.append(error_row(row["id"], error, error.code, "source"))
        return made

    @abstractmethod
    def derive(self, row: Row) -> Sequence[Row]:
        """Turns one decoded row into some.

        Raises:
            SampleError: this row cannot be used.
        """


def _parts(manifest: Manifest, rows_a_row: int) -> int:
    mean_rows = -(-manifest.rows // max(1, manifest.num_shards))
    return max(1, -(-mean_rows * rows_a_row // ROWS_PER_SHARD))


def decode_row(row: Row) -> Row:
    """A row in memory from its shard form; a photo kept as a JPEG brings that file along, to be written again."""
    decoded = {name: decode_value(name, value) for name, value in row.items()}
    for name, (file, notices) in _FILES.items():
        data = row.get(name)
        if isinstance(data, bytes) and data[:3] == b"\xff\xd8\xff" and row.get(file) is None:
            decoded |= {file: data, notices: ""}
    return decoded


def with_kin(row: Row) -> Row:
    """The row with a person and a garment id; of one that has none the photo's digest, else the row's id."""
    named = {name: next(str(row[key]) for key in (name, *others) if row.get(key)) for name, others in _KIN.items()}
    return {**row, **named}


def without_files(row: Row, keep: Sequence[str] = ()) -> Row:
    """The row less the files its photos were decoded from: for rows whose photos are about to change."""
    return {name: None if name in FILE_FIELDS and name not in keep else value for name, value in row.items()}


def require_fields(uri: str, fields: Sequence[str], needed: Sequence[str], purpose: str) -> None:
    """Makes sure that a data set has columns.

    Raises:
        DataError: some are missing; the message names them and how to get them.
    """
    missing = [name for name in needed if name not in fields]
    if missing:
        text = f"data set {uri!r} lacks {', '.join(missing)} for {purpose}; `tryon data annotate {uri} --out …` adds it"
        raise DataError(text, code="data-fields", field="IN")


def row_rng(seed: int, row_id: str, *words: str | int) -> np.random.Generator:
    """A random stream that depends on the seed, the row's id and the words alone: the same on every machine."""
    text = "\0".join([str(seed), row_id, *map(str, words)])
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "big")))


def base_id(row_id: str) -> str:
    """Id of the sample that a row was made from, in however many steps: ``x`` for ``x``, ``x#a3`` and ``x#a3#g1``."""
    return _MADE.sub("", row_id)
