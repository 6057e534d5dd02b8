"""Data sets without images for the tests of curation: ids, hashes and digests are all that it reads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tryon.data.shards import ManifestWriter, write_shard
from tryon.sample import ERROR_FIELDS
from tryon.stages.fingerprint import HASH_BITS, STRUCTURE_BITS

FIELDS = (
    "id", "category", "split", "person_id", "garment_id", "person_hash", "garment_hash", "person_digest",
    "garment_digest",
)  # fmt: skip


def write_rows(uri: str | Path, rows: Sequence[dict[str, Any]], rows_per_shard: int = 4) -> str:
    """Writes rows as a data set; what a row lacks is None. Returns the URI."""
    uri = str(uri)
    writer = ManifestWriter(uri, FIELDS, {}, {}, (), "test")
    for shard, first in enumerate(range(0, len(rows), rows_per_shard)):
        some = rows[first : first + rows_per_shard]
        batch = {name: [row.get(name) for row in some] for name in (*FIELDS, *ERROR_FIELDS)}
        writer.add(write_shard(uri, shard, batch, FIELDS, "test"))
    writer.finish()
    return uri


def random_code(rng: np.random.Generator) -> str:
    """A random hash."""
    return rng.bytes(HASH_BITS // 8).hex()


def flipped(code: str, rng: np.random.Generator, structure: int = 0, colour: int = 0) -> str:
    """The hash with some bits of each part turned."""
    bits = np.unpackbits(np.frombuffer(bytes.fromhex(code), np.uint8))
    bits[rng.choice(STRUCTURE_BITS, structure, replace=False)] ^= 1
    bits[STRUCTURE_BITS + rng.choice(HASH_BITS - STRUCTURE_BITS, colour, replace=False)] ^= 1
    return np.packbits(bits).tobytes().hex()


def photo_row(row_id: str, rng: np.random.Generator, **values: Any) -> dict[str, Any]:
    """A row with a person and a garment of its own; `values` replace."""
    row = {
        "id": row_id, "category": "upper", "person_hash": random_code(rng), "garment_hash": random_code(rng),
        "person_digest": rng.bytes(8).hex(), "garment_digest": rng.bytes(8).hex(),
    }  # fmt: skip
    return {**row, **values}
