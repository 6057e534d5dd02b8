"""Files that are made only where there is none: what versions and promotions rest on in place of a lock."""

from __future__ import annotations

import os
import uuid
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from tryon import storage
from tryon.errors import StorageError

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

TRIES = 5
EXISTS, BUSY = 412, 409  # S3's answers to a conditional PUT: the key is there; another PUT is under way


def write_once(uri: str, data: bytes) -> bool:
    """Writes a file where there is none, whole or not at all; of several writers at once one does.

    On local disk by a hard link. On S3 by a PUT with ``If-None-Match: *``: AWS and MinIO take it, and a server that
    does not is found out and refused.

    Args:
        uri: of the file.
        data: unlike what another writer would write (a random token in it): a writer whose answer was lost, and who
            tried again, knows by it that the file is its own.

    Returns:
        False where another's file is there.

    Raises:
        StorageError: the place cannot be written, or has no such operation.
    """
    from pyarrow import fs

    filesystem, path = storage.resolve(uri)
    try:
        made = _link(path, data) if isinstance(filesystem, fs.LocalFileSystem) else _put(filesystem, path, data)
    except OSError as error:
        raise StorageError(f"{uri} cannot be written: {error}", code="uri-unwritable") from error
    return made or storage.read_bytes(uri) == data


def _link(path: str, data: bytes) -> bool:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    draft = f"{path}.{uuid.uuid4().hex[:8]}.tmp"
    try:
        with open(draft, "xb") as file:
            file.write(data)
        os.link(draft, path)
    except FileExistsError:
        return False
    finally:
        if os.path.exists(draft):
            os.remove(draft)
    return True


def _put(filesystem: FileSystem, path: str, data: bytes) -> bool:
    """True where this call made the object."""
    bucket, _, key = path.partition("/")
    if _put_if_none(filesystem, bucket, key, data) == EXISTS:
        return False
    if _put_if_none(filesystem, bucket, key, data) != EXISTS:  # now it is there, so it must be refused
        raise OSError("this S3 server does not honour If-None-Match, so writers could overwrite one another")
    return True


def _put_if_none(filesystem: FileSystem, bucket: str, key: str, data: bytes) -> int:
    """The status of the answer: 200 or `EXISTS`."""
    from botocore.exceptions import BotoCoreError, ClientError

    status = BUSY
    for _ in range(TRIES):
        try:
            _client(*_place(filesystem)).put_object(Bucket=bucket, Key=key, Body=data, IfNoneMatch="*")
            return 200
        except ClientError as error:
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            if status == EXISTS:
                return EXISTS
            if status != BUSY:
                raise OSError(str(error)) from error
        except BotoCoreError as error:
            raise OSError(str(error)) from error
    raise OSError(f"{TRIES} times another writer was at it (HTTP {status})")


def _place(filesystem: FileSystem) -> tuple[str | None, str]:
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    return endpoint or None, filesystem.region or "us-east-1"


@lru_cache(maxsize=16)
def _client(endpoint: str | None, region: str) -> Any:
    """boto3's client, as pyarrow's has no conditional PUT; both find credentials in the same places."""
    import boto3
    from botocore.config import Config

    # As pyarrow does: a server of one's own has the bucket in the path, not in its host name.
    style = {"addressing_style": "path"} if endpoint else {}
    config = Config(
        s3=style,
        retries={"max_attempts": TRIES, "mode": "standard"},
        connect_timeout=10,
        request_checksum_calculation="when_required",  # else in a trailer, which other servers than AWS's may not read
    )
    return boto3.client("s3", endpoint_url=endpoint, region_name=region, config=config)
