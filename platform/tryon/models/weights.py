"""Where weights trained elsewhere lie: a path, ``s3://`` or the Hugging Face hub, brought to local files once.

Bundles, which this package writes itself, are read by `tryon.models.bundle`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import uuid
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from tryon import storage
from tryon.errors import BundleError, ConfigError, StorageError
from tryon.models.checkpoint_layout import TRANSFORMERS, Layout

if TYPE_CHECKING:
    from pyarrow.fs import FileInfo

HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


def cache_folder() -> Path:
    """Where downloads are kept: ``TRYON_CACHE``, else ``tryon`` in the user's cache folder."""
    named = os.environ.get("TRYON_CACHE")
    return Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tryon"


def local_file(uri: str) -> Path:
    """A file of weights as a local one; one on ``s3://`` is downloaded once, and again when it has changed.

    Raises:
        StorageError: nothing there, a folder, or it cannot be read.
    """
    found = _look(uri)
    if len(found) != 1 or found[0].path != storage.resolve(uri)[1]:
        raise StorageError(f"{uri} is a folder, a file of weights is needed", code="uri-unreadable", field="weights")
    return _fetch(uri, found) / found[0].base_name if _is_remote(uri) else Path(found[0].path)


def local_folder(weights: str, revision: str | None = None, layout: Layout = TRANSFORMERS) -> Path:
    """A checkpoint of several files as a local folder.

    Args:
        weights: a folder, an ``s3://`` prefix (downloaded once, and again when it has changed) or a hub id
            ``owner/name`` (taken from the hub's own cache, downloaded where it is not there).
        revision: of a hub id: commit, tag or branch.
        layout: what its files are.

    Raises:
        StorageError: nothing there, or it cannot be read.
        BundleError: a hub id that is not in the cache and cannot be downloaded, or no checkpoint's folder.
        ConfigError: a revision of something that is no hub id.
    """
    hub = is_hub_id(weights)
    if revision is not None and not hub:
        text = f"revision = {revision!r} is of a hub id (owner/name), which {weights!r} is not"
        raise ConfigError(text, code="config-invalid", field="weights")
    if hub:
        folder = _hub_folder(weights, revision, layout)
    elif _is_remote(weights):
        folder = _fetch(weights, _look(weights, layout))
    else:
        _look(weights, layout)
        folder = Path(storage.resolve(weights)[1])
    missing = [name for name in layout.needed if not (folder / name).is_file()]
    if missing:
        text = f"{weights} is no {layout.what}: it has no {missing[0]}"
        raise BundleError(text, code="weights-incomplete", field="weights")
    return folder


def is_hub_id(weights: str) -> bool:
    """True for ``owner/name`` that is no path here."""
    return "://" not in weights and not storage.exists(weights) and HUB_ID.fullmatch(weights) is not None


def absolute(weights: str) -> str:
    """The same weights in every process: a path made absolute; a hub id is that as it is."""
    return weights if is_hub_id(weights) else storage.absolute(weights)


def digest(path: Path, layout: Layout = TRANSFORMERS) -> str:
    """Sha256 of a file's bytes, or of what matters of a checkpoint's folder: names and bytes."""
    if path.is_file():
        return _file_digest(path)
    lines = [f"{name} {_file_digest(path / name)}" for name in layout.wanted(_names(path))]
    return storage.sha256("\n".join(lines).encode())


def check_digest(path: Path, sha256: str | None, weights: str) -> None:
    """Makes sure that weights are still those a run began with; None: whatever is there will do.

    Raises:
        BundleError: they have changed.
    """
    if sha256 is not None and digest(path) != sha256:
        text = f"{weights} is not the checkpoint that this run began with (sha256 differs): give its own weights again"
        raise BundleError(text, code="weights-changed", field="weights")


def _file_digest(path: Path) -> str:
    status = path.stat()
    return _read_digest(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=256)
def _read_digest(path: Path, size: int, mtime_ns: int) -> str:
    """Once a process for a file that stays as it is: a run opens gigabytes several times."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _names(folder: Path) -> list[str]:
    """Files of a folder and of the folders in it, relative to it."""
    found = [*folder.glob("*"), *folder.glob("*/*")]
    return [path.relative_to(folder).as_posix() for path in found if path.is_file()]


def _is_remote(uri: str) -> bool:
    return uri.startswith("s3://")


def _look(uri: str, layout: Layout = TRANSFORMERS) -> list[FileInfo]:
    """The file itself, or the files of a folder that matter."""
    from pyarrow import fs

    filesystem, path = storage.resolve(uri)
    try:
        info = filesystem.get_file_info(path)
        if info.type == fs.FileType.NotFound:
            raise StorageError(f"{uri} does not exist", code="uri-missing", field="weights")
        if info.type == fs.FileType.File:
            return [info]
        found = filesystem.get_file_info(fs.FileSelector(path, recursive=layout.deep))
    except OSError as error:
        raise StorageError(f"{uri} cannot be read: {error}", code="uri-unreadable", field="weights") from error
    files = {_below(path, f.path): f for f in found if f.is_file}
    return [files[name] for name in layout.wanted(files)]


def _below(root: str, path: str) -> str:
    """A file's name relative to the folder that was named, or its own where it was named itself."""
    return PurePosixPath(path).name if path == root else PurePosixPath(path).relative_to(root).as_posix()


def _fetch(uri: str, files: list[FileInfo]) -> Path:
    """The folder of the cache that holds these files as they are now; written whole, so that processes may race."""
    parent = cache_folder() / "weights"
    made = parent / f"{uuid.uuid4().hex[:8]}.tmp"
    try:
        target = parent / storage.sha256(json.dumps(_versions(uri, files)).encode())[:16]
        if not target.is_dir():
            _download(uri, files, made)
            _publish(made, target)
    except OSError as error:
        text = f"{uri} cannot be fetched into {parent}: {error}"
        raise StorageError(text, code="uri-unreadable", field="weights") from error
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return target


def _versions(uri: str, files: list[FileInfo]) -> list[tuple[str, str]]:
    """Path and ETag of each file: what it holds now, without reading it."""
    filesystem, _ = storage.resolve(uri)
    found = []
    for file in files:
        with filesystem.open_input_file(file.path) as stream:
            found.append((file.path, stream.metadata().get("ETag", b"").decode()))
    return found


def _download(uri: str, files: list[FileInfo], folder: Path) -> None:
    filesystem, root = storage.resolve(uri)
    for file in files:
        path = folder / _below(root, file.path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with filesystem.open_input_stream(file.path) as source, path.open("wb") as target:
            shutil.copyfileobj(source, target, 1 << 22)


def _publish(made: Path, target: Path) -> None:
    try:
        os.rename(made, target)
    except OSError:
        if not target.is_dir():  # else another process was first, with the same files
            raise


def _hub_folder(name: str, revision: str | None, layout: Layout) -> Path:
    """The cache first: so a run neither waits for a network nor moves on to newer weights."""
    why: Exception | None = None
    for local in (True, False):
        try:
            return _snapshot(name, revision, layout, local=local)
        # The hub's client raises its own errors, OSError, and those of whichever HTTP library it is built on.
        except Exception as error:  # noqa: BLE001
            why = error
    reason = (str(why).strip() or type(why).__name__).splitlines()[0]
    text = (
        f"{name!r} is no folder here, and as a hub id it is not in the cache and cannot be downloaded ({reason}); "
        f"run `hf download {name}` where there is a network, or give a folder or s3:// prefix with "
        f"{', '.join(layout.needed)} and {layout.example}"
    )
    raise BundleError(text, code="weights-missing", field="weights") from why


def _snapshot(name: str, revision: str | None, layout: Layout, *, local: bool) -> Path:
    """Files of a hub repository: pickled weights only where there are no safe ones.

    Raises:
        FileNotFoundError: the repository has no weights, or not those of each of its parts.
    """
    from huggingface_hub import snapshot_download

    bare: str | None = "."
    for weights in (layout.safe, (*layout.safe, *layout.old)):
        wanted = [*layout.needed, *layout.optional, *weights]
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=wanted, local_files_only=local))
        bare = layout.bare(_names(folder))
        if bare is None:
            return folder
    raise FileNotFoundError(f"it holds no weights in {bare}")
