"""Records grouped by key without holding them all: they are spilled to files by the hash of their key."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

RECORDS_A_BUCKET = 100_000
MAX_BUCKETS = 512  # files open at once; 512 x 100,000 records are 51 million rows, beyond that buckets grow


class Buckets:
    """Records by key, on local disk; reading them back holds one bucket in memory.

    Use it as a context manager: the files go with it.
    """

    def __init__(self, expected: int) -> None:
        """Opens enough buckets for about `expected` records."""
        self._folder = tempfile.TemporaryDirectory(prefix="tryon-buckets-")
        count = min(MAX_BUCKETS, max(1, -(-expected // RECORDS_A_BUCKET)))
        self._paths = [Path(self._folder.name) / f"{i}.jsonl" for i in range(count)]
        self._files = [path.open("w", encoding="utf-8") for path in self._paths]

    def add(self, key: str, record: Any) -> None:
        """Spills a record (JSON-like) under its key."""
        digest = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        file = self._files[int.from_bytes(digest, "big") % len(self._files)]
        file.write(json.dumps([key, record], separators=(",", ":")) + "\n")

    def groups(self) -> Iterator[tuple[str, list[Any]]]:
        """Each key with its records, sorted inside each bucket; the same records come in the same order always."""
        for file in self._files:
            file.close()
        for path in self._paths:
            groups: dict[str, list[Any]] = {}
            with path.open(encoding="utf-8") as lines:
                for line in lines:
                    key, record = json.loads(line)
                    groups.setdefault(key, []).append(record)
            for key in sorted(groups):
                yield key, sorted(groups[key])

    def __enter__(self) -> Buckets:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for file in self._files:
            file.close()
        self._folder.cleanup()
