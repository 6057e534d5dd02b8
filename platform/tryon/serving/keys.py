"""API keys: a JSON file on any storage that holds their hashes, never the keys.

A key is ``tryon_<id>_<secret>``: the id finds it and is shown wherever a key is spoken of; the secret is 32 random
bytes. Of those a fast hash is right: slow ones (bcrypt, argon2) make up for secrets that can be guessed, 2^256 cannot
be, and every request would pay for them. BLAKE2b is keyed with a salt of each key's own, so that the file does not tell
which keys are alike, and compared in constant time.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Literal, get_args

from pydantic import AwareDatetime, Field, ValidationError

from tryon import storage
from tryon.config import Config, explain, parse_choice
from tryon.errors import ConfigError, StorageError, TryonError
from tryon.serving.limits import Rule
from tryon.write_once import write_once

Scope = Literal["tryon", "extract", "annotate", "batch", "models", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
BRAND = "tryon"  # scanners for leaked secrets know a key by it
SECRET_BYTES = 32
RELOAD_S = 10.0  # a revoked key works that long at most
PATIENCE_S = 2.0  # so long a request waits for the file to be read again
MAX_TOKEN_CHARS = 200
logger = logging.getLogger("ray.serve")


class AccessError(TryonError):
    """A key does not let its request in; the code is key-missing, key-invalid, key-revoked or key-expired."""


class Key(Config):
    """One key as it is kept."""

    id: str = Field(pattern=r"^[0-9a-f]{12}$", description="part of the key; no secret")
    name: str = Field(min_length=1, max_length=100, description="who has it")
    salt: str = Field(pattern=r"^[0-9a-f]{32}$", description="hex")
    hash: str = Field(pattern=r"^[0-9a-f]{64}$", description="keyed BLAKE2b of the secret, hex")
    scopes: tuple[Scope, ...] = Field(min_length=1, description="what it may do; admin may do all")
    created_at: AwareDatetime
    expires_at: AwareDatetime | None = Field(None, description="None: never")
    revoked_at: AwareDatetime | None = None
    rule: Rule = Field(default_factory=Rule, description="how often")

    @property
    def shown(self) -> str:
        """How the key begins, to know it by."""
        return f"{BRAND}_{self.id}_…"

    def allows(self, scope: Scope) -> bool:
        """Whether the key may do that."""
        return scope in self.scopes or "admin" in self.scopes


class KeyFile(Config):
    """The file of keys."""

    version: Literal[1] = 1
    keys: tuple[Key, ...] = ()


def create_key(
    uri: str, name: str, scopes: Iterable[str], *, days: float | None = None, rule: Rule | None = None
) -> tuple[str, Key]:
    """Adds a key to a file of keys, which is made if there is none.

    Args:
        uri: of the file.
        name: who gets it.
        scopes: of `SCOPES`.
        days: until it expires; None: never.
        rule: how often and how many at once; None: as it likes.

    Returns:
        The key itself, which is kept nowhere, and what is kept of it.

    Raises:
        ConfigError: a scope is unknown, or another value out of bounds.
        StorageError: the file cannot be read or written, or somebody else is at it.
    """
    secret, salt, now = secrets.token_urlsafe(SECRET_BYTES), secrets.token_hex(16), _now()
    chosen = tuple(dict.fromkeys(parse_choice(scope, Scope, "--scope") for scope in scopes))
    if days is not None and not 0 < days <= 36_500:
        raise ConfigError(f"--days {days:g} is not in 0 to 36500", code="option-invalid", field="--days")
    values = {
        "id": secrets.token_hex(6),
        "name": name,
        "salt": salt,
        "hash": _hash(secret, salt),
        "scopes": chosen,
        "created_at": now,
        "expires_at": None if days is None else now + timedelta(days=days),
        "rule": rule or Rule(),
    }
    try:
        key = Key.model_validate(values)
    except ValidationError as error:
        raise ConfigError(explain(error, "the key"), code="option-invalid") from error
    with _held(uri):
        known = read_keys(uri) if storage.exists(uri) else ()
        _write(uri, (*known, key))
    return f"{BRAND}_{key.id}_{secret}", key


def revoke_key(uri: str, which: str) -> Key:
    """Ends a key at once, apart from processes that read the file up to `RELOAD_S` ago. It stays in the file.

    Args:
        uri: of the file.
        which: the key's id, or how it begins (`Key.shown`).

    Raises:
        ConfigError: no such key.
        StorageError: the file cannot be read or written, or somebody else is at it.
    """
    wanted = which.removeprefix(f"{BRAND}_").partition("_")[0]
    with _held(uri):
        keys = list(read_keys(uri))
        at = next((index for index, key in enumerate(keys) if key.id == wanted), None)
        if at is None:
            raise ConfigError(f"no key {wanted!r} in {uri}; see `tryon keys list`", code="key-unknown", field="KEY")
        if keys[at].revoked_at is None:
            keys[at] = keys[at].model_copy(update={"revoked_at": _now()})
            _write(uri, keys)
        return keys[at]


def read_keys(uri: str) -> tuple[Key, ...]:
    """Keys of a file, in the order they were made.

    Raises:
        StorageError: missing or unreadable.
        ConfigError: no file of keys.
    """
    data = storage.read_bytes(uri)
    try:
        return KeyFile.model_validate_json(data).keys
    except ValidationError as error:  # without what stands there: hashes are nobody's business
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise ConfigError(f"{uri} is no file of keys: {where}: {first['msg']}", code="keys-invalid") from error


def verify(keys: Mapping[str, Key], token: str, now: datetime) -> Key:
    """The key that a caller shows.

    Args:
        keys: by id.
        token: what was sent.
        now: with time zone.

    Raises:
        AccessError: unknown, revoked or expired. That it is one of the latter two learns only who has the secret.
    """
    brand, _, rest = token[:MAX_TOKEN_CHARS].partition("_")
    name, _, secret = rest.partition("_")
    key = keys.get(name) if brand == BRAND else None
    # An unknown id costs the same hash as a known one.
    known = hmac.compare_digest(_hash(secret, key.salt if key else "00" * 16), key.hash if key else "00" * 32)
    if key is None or not known:
        raise AccessError("the API key is not known", code="key-invalid")
    if key.revoked_at is not None:
        raise AccessError(f"the API key {key.shown} has been revoked", code="key-revoked")
    if key.expires_at is not None and key.expires_at <= now:
        text = f"the API key {key.shown} expired at {key.expires_at:%Y-%m-%d %H:%M} UTC"
        raise AccessError(text, code="key-expired")
    return key


class KeyRing:
    """The keys of a file as the service sees them: read again every `reload_s`, kept while the storage is away."""

    def __init__(self, uri: str, reload_s: float = RELOAD_S, clock: Callable[[], float] = time.monotonic) -> None:
        """Reads nothing yet."""
        self._uri = uri
        self._reload_s = reload_s
        self._clock = clock
        self._keys: dict[str, Key] | None = None
        self._fault: TryonError = StorageError(f"{uri} is still being read", code="uri-unreadable")
        self._reading: asyncio.Task[None] | None = None
        self._read_again_at = self._wait_until = 0.0

    async def find(self, token: str) -> Key:
        """The key that a caller shows.

        Raises:
            AccessError: it is not known, revoked or expired.
            StorageError, ConfigError: the file could not be read even once.
        """
        if self._reading is None or (self._reading.done() and self._clock() >= self._read_again_at):
            self._wait_until = self._clock() + PATIENCE_S
            self._reading = asyncio.create_task(self._read())
        if not self._reading.done():  # a storage that hangs holds up those who come at its start, and not for long
            await asyncio.wait({self._reading}, timeout=max(0.0, self._wait_until - self._clock()))
        if self._keys is None:
            raise self._fault
        return verify(self._keys, token, _now())

    async def _read(self) -> None:
        try:
            self._keys = {key.id: key for key in await asyncio.to_thread(read_keys, self._uri)}
        except TryonError as error:
            self._fault = error
            if self._keys is None:
                return  # the next request tries again
            logger.warning("the keys stay as they were: %s", error.message)
        self._read_again_at = self._clock() + self._reload_s


@contextmanager
def _held(uri: str) -> Iterator[None]:
    """Keeps other writers out, so that no key and no revocation is lost."""
    lock = f"{uri}.lock"
    if not write_once(lock, f"{secrets.token_hex(8)} {_now():%Y-%m-%d %H:%M:%S}".encode()):
        since = storage.read_bytes(lock).decode(errors="replace").partition(" ")[2]
        text = f"{uri} has been held by another command since {since} UTC; if that one has died, delete {lock}"
        raise ConfigError(text, code="keys-busy")
    try:
        yield
    finally:
        storage.delete(lock)


def _write(uri: str, keys: Sequence[Key]) -> None:
    storage.write_bytes(uri, KeyFile(keys=tuple(keys)).model_dump_json(indent=1).encode() + b"\n")


def _hash(secret: str, salt: str) -> str:
    return hashlib.blake2b(secret.encode(), key=bytes.fromhex(salt), digest_size=32).hexdigest()


def _now() -> datetime:
    return datetime.now(UTC)
