"""Listing: the files below a folder one at a time, in an order that is the same on every machine and for every run.

A folder is sorted before it is walked; names beyond `NAMES_IN_MEMORY` go to sorted runs on disk, so a flat local folder
of ten million photos takes no more memory than one of a hundred thousand (35 MB). An S3 prefix is listed by one call
that returns all its direct children at 0.2 kB each, as that is what the filesystem offers: ten million photos belong
into many prefixes, or into a manifest.
"""

from __future__ import annotations

import heapq
import io
import itertools
import os
import pickle
import tempfile
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, NamedTuple

from tryon import storage
from tryon.errors import DataError, StorageError

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

NAMES_IN_MEMORY = 100_000
NAMED = 5  # of each reason, in a notice


class _Entry(NamedTuple):
    """One child of a folder; sorts by folded name first, so that names that collide are neighbours."""

    key: str
    name: str
    kind: str  # "file", "folder", "link-folder" or "other"


@dataclass
class LeftOut:
    """Files that a listing passed by: how many for each reason, and the first names."""

    counts: dict[str, int] = field(default_factory=dict)
    names: dict[str, list[str]] = field(default_factory=dict)

    def add(self, reason: str, name: str) -> None:
        """Counts one file or folder."""
        self.counts[reason] = self.counts.get(reason, 0) + 1
        first = self.names.setdefault(reason, [])
        if len(first) < NAMED:
            first.append(plain_name(name))

    def __len__(self) -> int:
        return sum(self.counts.values())

    def notice(self) -> str:
        """A line for each reason, with the first names; empty if nothing was left out."""
        lines = []
        for reason, count in sorted(self.counts.items()):
            more = ", ..." if count > len(self.names[reason]) else ""
            lines.append(f"{count:,} left out ({reason}): {', '.join(self.names[reason])}{more}")
        return "\n".join(lines)


def plain_name(name: str) -> str:
    """A name without what breaks lines and tables: control characters and bytes that are no UTF-8 become %XX."""
    return name if name.isprintable() else "".join(_plain(char) for char in name)


def _plain(char: str) -> str:
    if "\udc80" <= char <= "\udcff":  # Python's stand-in for a byte that is no UTF-8
        return f"%{ord(char) - 0xDC00:02X}"
    return f"%{ord(char):02X}" if unicodedata.category(char) in ("Cc", "Zl", "Zp") else char


def folded(name: str) -> str:
    """What a file system that ignores case and Unicode normalisation takes a name for."""
    if name.isascii() and name.isprintable():
        return name.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", plain_name(name)).casefold())


def iter_files(
    uri: str, suffixes: tuple[str, ...] = (), left_out: LeftOut | None = None, *, ordered: bool = True
) -> Iterator[str]:
    """URIs of the files below a folder (or the file itself), folder by folder, each folder sorted by folded name.

    Hidden files and folders, folders that begin with ``_`` (they hold what programs wrote), links back to a folder
    above, and what is no regular file are left out, and counted.

    Args:
        uri: folder or file.
        suffixes: lower-case endings to keep, e.g. ``(".jpg", ".png")``; none keeps all.
        left_out: is told what was passed by.
        ordered: False gives the first files of a large folder at once, in no order.

    Raises:
        StorageError: nothing is there, or the folder cannot be listed. A folder below it that cannot is left out.
    """
    from pyarrow import fs

    filesystem, root = storage.resolve(uri)
    try:
        kind = filesystem.get_file_info(root).type
        if kind == fs.FileType.NotFound:
            raise StorageError(f"{uri} does not exist", code="uri-missing")
        if kind == fs.FileType.File:
            yield uri
            return
        local = isinstance(filesystem, fs.LocalFileSystem)
        walk = _Walk(
            root, suffixes, LeftOut() if left_out is None else left_out, None if local else filesystem, ordered
        )
    except OSError as error:
        raise StorageError(f"{uri} cannot be read: {error}", code="uri-unreadable") from error
    prefix = "s3://" if uri.startswith("s3://") else ""
    for path in walk:
        yield prefix + path


def direct_files(uri: str, suffixes: tuple[str, ...]) -> list[str]:
    """URIs of the files with these endings directly in a folder, sorted; empty for a file.

    Raises:
        StorageError: the folder cannot be listed.
    """
    from pyarrow import fs

    filesystem, root = storage.resolve(uri)
    try:
        if filesystem.get_file_info(root).type != fs.FileType.Directory:
            return []
        local = isinstance(filesystem, fs.LocalFileSystem)
        names = (
            [entry.name for entry in os.scandir(root) if entry.name.lower().endswith(suffixes)]
            if local
            else [entry.name for entry in _remote_entries(filesystem, root)]
        )
    except OSError as error:
        raise StorageError(f"{uri} cannot be read: {error}", code="uri-unreadable") from error
    return [
        storage.join(uri, name) for name in sorted(names) if name.lower().endswith(suffixes) and name[0] not in "._"
    ]


class _Walk:
    """Depth first, with a stack of open listings: Python's own stack would end at a thousand folders deep."""

    def __init__(
        self, root: str, suffixes: tuple[str, ...], left_out: LeftOut, remote: FileSystem | None, ordered: bool
    ) -> None:
        self._root = root.rstrip("/")
        self._suffixes = suffixes
        self._left_out = left_out
        self._remote = remote
        self._ordered = ordered
        # Opened here, so that a root that cannot be listed is an error of the call and not of the first step.
        self._stack = [(root.rstrip("/"), self._identity(root), self._children(root))]

    def __iter__(self) -> Iterator[str]:
        while self._stack:
            folder, _, children = self._stack[-1]
            entry = next(children, None)
            if entry is None:
                self._stack.pop()
                continue
            path = f"{folder}/{entry.name}"
            reason = self._reason_to_skip(entry, path)
            if reason:
                self._left_out.add(reason, path.removeprefix(self._root + "/") + "/" * ("folder" in entry.kind))
            elif entry.kind == "file":
                yield path
            else:
                self._enter(path)

    def _reason_to_skip(self, entry: _Entry, path: str) -> str:
        if entry.name.startswith("."):
            return "hidden"
        if entry.kind == "other":
            return "no regular file"
        if entry.kind == "file":
            wanted = not self._suffixes or entry.name.lower().endswith(self._suffixes)
            return "" if wanted else "other suffix"
        if entry.name.startswith("_"):
            return "folder that begins with _"
        if entry.kind == "link-folder" and self._identity(path) in [identity for _, identity, _ in self._stack]:
            return "link back to a folder above"
        return ""

    def _enter(self, path: str) -> None:
        try:
            self._stack.append((path, self._identity(path), self._children(path)))
        except OSError as error:
            reason = error.strerror or str(error).splitlines()[0]
            self._left_out.add(f"folder that cannot be listed: {reason}", path.removeprefix(self._root + "/") + "/")

    def _identity(self, path: str) -> tuple[int, int] | None:
        if self._remote is not None:
            return None
        status = os.stat(path)
        return status.st_dev, status.st_ino

    def _children(self, path: str) -> Iterator[_Entry]:
        entries = (
            (_local_entry(entry) for entry in os.scandir(path))
            if self._remote is None
            else _remote_entries(self._remote, path)
        )
        return _sorted_on_disk(entries) if self._ordered else entries


def _local_entry(entry: os.DirEntry[str]) -> _Entry:
    if entry.is_dir():
        kind = "link-folder" if entry.is_symlink() else "folder"
    else:
        # A link to nowhere counts as a file: reading it names the fault. A pipe would block the reader for ever.
        kind = "file" if entry.is_file() or entry.is_symlink() else "other"
    return _Entry(folded(entry.name), entry.name, kind)


def _remote_entries(filesystem: FileSystem, path: str) -> Iterator[_Entry]:
    from pyarrow import fs

    infos = filesystem.get_file_info(fs.FileSelector(path, recursive=False))  # here: a denial is an error of the call
    kinds = {True: "folder", False: "file"}
    return (_Entry(folded(info.base_name), info.base_name, kinds[info.type == fs.FileType.Directory]) for info in infos)


def _sorted_on_disk(entries: Iterable[_Entry]) -> Iterator[_Entry]:
    """Merge sort with runs on disk; a folder that fits into one run never touches the disk."""
    stream = iter(entries)
    runs: list[IO[bytes]] = []
    run = sorted(itertools.islice(stream, NAMES_IN_MEMORY))
    while len(run) == NAMES_IN_MEMORY:
        runs.append(_spill(run))
        run = sorted(itertools.islice(stream, NAMES_IN_MEMORY))
    return heapq.merge(*(_unspill(file) for file in runs), run)


def _spill(run: list[_Entry]) -> IO[bytes]:
    file = tempfile.TemporaryFile()  # noqa: SIM115 - closed, and with that deleted, by `_unspill`
    for i in range(0, len(run), 1000):
        pickle.dump([tuple(entry) for entry in run[i : i + 1000]], file, protocol=pickle.HIGHEST_PROTOCOL)
    file.seek(0)
    return file


def _unspill(file: IO[bytes]) -> Iterator[_Entry]:
    with file:
        while True:
            try:
                block = pickle.load(file)
            except EOFError:
                return
            yield from (_Entry(*entry) for entry in block)


def iter_lines(uri: str) -> Iterator[str]:
    """Lines of a text file, streamed, without their ends; UTF-8 with or without a mark.

    Raises:
        StorageError: the file is missing or cannot be read.
        DataError: it is no UTF-8.
    """
    filesystem, path = storage.resolve(uri)
    try:
        with filesystem.open_input_stream(path) as stream:
            for line in io.TextIOWrapper(stream, encoding="utf-8-sig"):
                yield line.rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{uri} is no UTF-8 text: {error.reason}", code="list-invalid") from error
    except FileNotFoundError as error:
        raise StorageError(f"{uri} does not exist", code="uri-missing") from error
    except OSError as error:
        raise StorageError(f"{uri} cannot be read: {error}", code="uri-unreadable") from error
