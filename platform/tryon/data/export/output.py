"""A file written as a stream that appears whole or not at all."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tryon import storage
from tryon.errors import StorageError

if TYPE_CHECKING:
    from pyarrow import NativeFile


@contextmanager
def open_output(uri: str) -> Iterator[NativeFile]:
    """Opens a file for writing; what fails inside the block leaves no half of it behind.

    Raises:
        StorageError: the place cannot be written.
    """
    from pyarrow import fs

    filesystem, path = storage.resolve(uri)
    local = isinstance(filesystem, fs.LocalFileSystem)
    target = f"{path}.{uuid.uuid4().hex[:8]}.tmp" if local else path
    try:
        if local:
            filesystem.create_dir(os.path.dirname(path), recursive=True)
        with filesystem.open_output_stream(target) as stream:
            yield stream
        if local:
            os.replace(target, path)
    except BaseException as error:
        if filesystem.get_file_info(target).type == fs.FileType.File:
            filesystem.delete_file(target)
        if isinstance(error, OSError):
            raise StorageError(f"{uri} cannot be written: {error}", code="uri-unwritable") from error
        raise
