"""Prompts for garment photos: from their file names, from a column, or from their category."""

from __future__ import annotations

import json
import re
import unicodedata
from typing import Any
from urllib.parse import unquote

COPY = re.compile(r"\s*\(\d+\)\s*$")  # what a browser adds to a name that is taken: "shirt (1)"
NUMBER = re.compile(r"(?:[\s_-]+|^|(?<=[^\W\d_]{3}))\d+\s*$")  # a counter at the end; the 2 of "v2" is none
EXTENSION = re.compile(r"\.(jpe?g|jfif|png|webp|bmp|tiff?|gif|avif|heic)$", re.IGNORECASE)
COMPOUND = re.compile(r"(?<![^\W_])[^\W\d_]-(?=[^\W\d_])")  # "t-shirt", "v-neck": one letter, a hyphen, a letter


def words_of(uri: str) -> str:
    """The words in a photo's file name, lower case.

    Extension, copy counters and trailing numbers go; underscores and hyphens become spaces, but a hyphen after a
    single letter stays: ``t-shirt (1).jpg`` is "t-shirt", ``red-summer-dress_02.png`` is "red summer dress".

    Args:
        uri: of the photo: a path, ``s3://`` or ``http(s)://``, the last with its escapes and its query.

    Returns:
        The words; "" where the name has no letter, as ``00034_00.jpg``.
    """
    if uri.startswith(("http://", "https://")):
        uri = unquote(uri.partition("?")[0].partition("#")[0])
    name = unicodedata.normalize("NFC", uri.replace("\\", "/").rstrip("/").rpartition("/")[2])
    name = EXTENSION.sub("", name)
    shorter = None
    while shorter != name:
        shorter, name = name, NUMBER.sub("", COPY.sub("", name))
    name = COMPOUND.sub(lambda found: found[0].replace("-", "\0"), name)
    words = re.sub(r"[\s_+.-]+", " ", name).replace("\0", "-").strip().lower()
    return words if any(letter.isalpha() for letter in words) else ""


def words_in(metadata: str | None, key: str) -> str:
    """A text in a sample's `metadata`.

    Args:
        metadata: a JSON object, or None.
        key: of the text in it.

    Returns:
        The text without space around it; "" where there is none.

    Raises:
        ValueError: no JSON object, or something there that is no text; it quotes it.
    """
    try:
        held: Any = json.loads(metadata) if metadata else {}
    except json.JSONDecodeError as error:
        raise ValueError(f"metadata {metadata!r} is no JSON: {error}") from error
    if not isinstance(held, dict):
        raise ValueError(f"metadata {metadata!r} is no JSON object")
    value = held.get(key)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"metadata has {key} = {value!r}, which is no text to prompt with")
    return (value or "").strip()
