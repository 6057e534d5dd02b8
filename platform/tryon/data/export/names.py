"""File names from ids: any id becomes a name that every loader and file system takes, and no two the same."""

from __future__ import annotations

import hashlib
import re

MAX_CHARS = 120
HASH_CHARS = 16
# HR-VITON's loaders find layers by replacing `image` and `.jpg` in a path, and read pair lists by white space.
_TROUBLE = re.compile(r"image|\.jpg|\.png", re.IGNORECASE)
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")


def safe_stem(row_id: str) -> str:
    """The id itself where it can be a file's name; else its plain characters and 16 hex digits of its hash.

    Two ids get the same name only if their hashes' first 64 bits agree.
    """
    plain = _PLAIN.fullmatch(row_id) and not row_id.endswith(".") and len(row_id) <= MAX_CHARS
    if plain and not _TROUBLE.search(row_id):
        return row_id
    digest = hashlib.sha256(row_id.encode("utf-8", "surrogatepass")).hexdigest()[:HASH_CHARS]
    readable = re.sub(r"[^A-Za-z0-9_+-]+", "-", _TROUBLE.sub("-", row_id)).strip("-")[: MAX_CHARS - HASH_CHARS - 1]
    return f"{readable or 'sample'}~{digest}"
