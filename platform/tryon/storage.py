"""Any URI (a path, ``file://``, ``s3://``) to a pyarrow filesystem, and the few operations on it."""

from __future__ import annotations

import hashlib
import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from tryon.errors import StorageError

if TYPE_CHECKING:
    from pyarrow import NativeFile
    from pyarrow.fs import FileSystem

SCHEMES = ("file", "s3")


def resolve(uri: str) -> tuple[FileSystem, str]:
    """Finds the filesystem that a URI names.

    S3 credentials, region and ``AWS_ENDPOINT_URL`` (for S3-compatible servers) come from the environment.

    Args:
        uri: a local path (relative ones are taken from the working directory), ``file://…`` or ``s3://bucket/key``.

    Returns:
        A pyarrow filesystem and the path inside it.

    Raises:
        StorageError: an empty URI or a scheme that is not supported.
    """
    from pyarrow import fs

    if not uri:
        raise StorageError("an empty URI was given; a path or s3://bucket/prefix is needed", code="uri-invalid")
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return fs.LocalFileSystem(), os.path.abspath(os.path.expanduser(uri))
    if scheme == "file":
        return fs.LocalFileSystem(), os.path.abspath(rest)
    if scheme != "s3":
        text = f"{uri!r}: scheme {scheme!r} is not supported; a path, file:// or s3:// is"
        raise StorageError(text, code="uri-invalid")
    if not rest.strip("/"):
        raise StorageError(f"{uri!r} names no bucket", code="uri-invalid")
    return _s3(rest.partition("/")[0]), rest.rstrip("/")


def _s3(bucket: str) -> FileSystem:
    told = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_DEFAULT_REGION")
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
    return _connect(bucket, endpoint, tuple(os.environ.get(name) for name in told))


@lru_cache(maxsize=64)
def _connect(bucket: str, endpoint: str, told: tuple[str | None, ...]) -> FileSystem:
    """One client for a bucket, an endpoint and credentials: a new one costs 10 ms and its connections."""
    from pyarrow import fs

    if endpoint:
        scheme, _, host = endpoint.partition("://")
        return fs.S3FileSystem(endpoint_override=host, scheme=scheme)
    *_, region, default_region = told
    try:
        return fs.S3FileSystem(region=region or default_region or fs.resolve_s3_region(bucket))
    except OSError as error:
        text = f"bucket {bucket!r} cannot be reached: {error}; set AWS_REGION, or AWS_ENDPOINT_URL for another server"
        raise StorageError(text, code="uri-unreadable") from error


def absolute(uri: str) -> str:
    """The URI with a local path made absolute, so that it means the same in every process."""
    if "://" in uri and not uri.startswith("file://"):
        return uri.rstrip("/")
    return resolve(uri)[1]


def join(uri: str, *parts: str) -> str:
    """URI of something below another."""
    return "/".join([uri.rstrip("/"), *parts])


def exists(uri: str) -> bool:
    """True for a file or a folder that holds something.

    Raises:
        StorageError: access is denied, or the place cannot be reached.
    """
    from pyarrow import fs

    filesystem, path = resolve(uri)
    try:
        return bool(filesystem.get_file_info(path).type != fs.FileType.NotFound)
    except OSError as error:
        raise StorageError(f"{uri} cannot be read: {error}", code="uri-unreadable") from error


def list_files(uri: str, suffixes: tuple[str, ...] = (), *, recursive: bool = True) -> list[str]:
    """URIs of the files below a folder (or the file itself), sorted by path.

    Args:
        uri: folder or file.
        suffixes: lower-case endings to keep, e.g. ``(".jpg", ".png")``; none keeps all.
        recursive: look into subfolders.

    Raises:
        StorageError: nothing is there, or it cannot be read.
    """
    from pyarrow import fs

    filesystem, path = resolve(uri)
    try:
        info = filesystem.get_file_info(path)
        if info.type == fs.FileType.NotFound:
            raise StorageError(f"{uri} does not exist", code="uri-missing")
        if info.type == fs.FileType.File:
            return [uri]
        found = filesystem.get_file_info(fs.FileSelector(path, recursive=recursive))
    except OSError as error:
        raise StorageError(f"{uri} cannot be read: {error}", code="uri-unreadable") from error
    prefix = "s3://" if uri.startswith("s3://") else ""
    paths = [f.path for f in found if f.type == fs.FileType.File]
    return sorted(prefix + p for p in paths if not suffixes or p.lower().endswith(suffixes))


def read_bytes(uri: str) -> bytes:
    """Reads a whole file.

    Raises:
        StorageError: the file is missing, a folder, or cannot be read; the message says which.
    """
    from pyarrow import fs

    filesystem, path = resolve(uri)
    try:
        info = filesystem.get_file_info(path)
        if info.type == fs.FileType.NotFound:
            raise StorageError(f"{uri} does not exist", code="uri-missing")
        if info.type == fs.FileType.Directory:
            raise StorageError(f"{uri} is a folder, a file is needed", code="uri-unreadable")
        with filesystem.open_input_stream(path, compression=None) as stream:  # else a .gz is unpacked
            data: bytes = stream.read()
            return data
    except OSError as error:
        raise StorageError(f"{uri} cannot be read: {error}", code="uri-unreadable") from error


@contextmanager
def open_file(uri: str) -> Iterator[NativeFile]:
    """Opens a file for random access, so that a Parquet footer can be read without the rest.

    Raises:
        StorageError: the file is missing or cannot be read.
    """
    filesystem, path = resolve(uri)
    try:
        file = filesystem.open_input_file(path)
    except OSError as error:
        code = "uri-missing" if isinstance(error, FileNotFoundError) else "uri-unreadable"
        raise StorageError(f"{uri} cannot be read: {error}", code=code) from error
    with file:
        yield file


def write_bytes(uri: str, data: bytes) -> None:
    """Writes a whole file, whole or not at all: locally by rename, on S3 because a PUT is atomic.

    Raises:
        StorageError: the place cannot be written.
    """
    from pyarrow import fs

    filesystem, path = resolve(uri)
    local = isinstance(filesystem, fs.LocalFileSystem)
    target = f"{path}.{uuid.uuid4().hex[:8]}.tmp" if local else path
    try:
        if local:
            filesystem.create_dir(os.path.dirname(path), recursive=True)
        with filesystem.open_output_stream(target, compression=None) as stream:
            stream.write(data)
        if local:
            os.replace(target, path)
    except OSError as error:
        if local and os.path.exists(target):
            os.remove(target)
        raise StorageError(f"{uri} cannot be written: {error}", code="uri-unwritable") from error


def check_writable(uri: str) -> None:
    """Makes sure that files can be written below a URI, before hours of work end there; leaves nothing behind.

    Raises:
        StorageError: they cannot; the message says what is in the way.
    """
    from pyarrow import fs

    filesystem, path = resolve(uri)
    if not isinstance(filesystem, fs.LocalFileSystem):
        probe = join(uri, f".probe-{uuid.uuid4().hex[:8]}")
        write_bytes(probe, b"")
        delete(probe)
        return
    there = next(parent for parent in (Path(path), *Path(path).parents) if parent.exists())
    if not there.is_dir():
        raise StorageError(f"{uri} cannot be written: {there} is a file", code="uri-unwritable")
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise StorageError(f"{uri} cannot be written: {there}: {error.strerror}", code="uri-unwritable") from error


def delete(uri: str) -> None:
    """Removes a file or a folder with all in it; nothing happens if it is not there."""
    from pyarrow import fs

    filesystem, path = resolve(uri)
    kind = filesystem.get_file_info(path).type
    if kind == fs.FileType.Directory:
        filesystem.delete_dir(path)
    elif kind == fs.FileType.File:
        filesystem.delete_file(path)


def sha256(data: bytes) -> str:
    """Hex digest."""
    return hashlib.sha256(data).hexdigest()
