"""The versions and aliases of a model in a registry, which is a folder on any storage.

    <registry>/<name>/versions/0003.json                       number 3 belongs to one digest; made once
    <registry>/<name>/versions/0003-<digest12>/bundle.json     its bundle, written last: without it there is no version
    <registry>/<name>/aliases/production/000007.json           the seventh promotion; the highest counts

There is no lock and no server: numbers and promotions are files that `tryon.write_once` makes where there is none, so
of two at once one wins and the other is told. ``<registry>/<name>@production`` names what an alias stands for,
``<registry>/<name>@3`` a version, ``<registry>/<name>@latest`` the last.
"""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from pydantic import Field, ValidationError

from tryon import storage
from tryon.config import Config
from tryon.errors import BundleError, PromotionError, StorageError
from tryon.write_once import write_once

LATEST = "latest"
REFERENCE = re.compile(r"(?P<model>.*[^/])@(?P<wanted>[\w.-]+)")
FOLDER = re.compile(r"(?P<model>.+)/versions/(?P<number>\d{4,})-(?P<digest>[0-9a-f]{12})")
CLAIM = re.compile(r".*/versions/(?P<number>\d{4,})\.json")
PROMOTION = re.compile(r".*/aliases/(?P<alias>[^/]+)/(?P<generation>\d{6,})\.json")
ALIAS = re.compile(r"[a-z][a-z0-9-]{0,31}")
MANIFEST = "bundle.json"
R = TypeVar("R", bound=Config)


class Claim(Config):
    """What `versions/0003.json` holds: whose the number is."""

    digest: str = Field(description="sha256 of bundle.json, which names every other file's")
    pushed_at: str = Field(description="UTC, ISO 8601")
    token: str = Field(description="random: tells a claim from another of the same digest")


class Promotion(Config):
    """What `aliases/production/000007.json` holds."""

    version: int = Field(ge=1, description="what the alias stands for from now on")
    promoted_at: str = Field(description="UTC, ISO 8601")
    token: str = Field(description="random")


@dataclass(frozen=True)
class Version:
    """One that is whole.

    Attributes:
        model: URI, ``<registry>/<name>``.
        number: from 1.
        digest: the first 12 hex digits of the sha256 of its `bundle.json`.
    """

    model: str
    number: int
    digest: str

    @property
    def uri(self) -> str:
        """Of its bundle."""
        return storage.join(self.model, "versions", f"{self.number:04d}-{self.digest}")

    def claim(self) -> Claim:
        """When it was pushed, and its full digest."""
        return _read(Claim, claim_uri(self.model, self.number))


@dataclass(frozen=True)
class Alias:
    """What an alias stands for; generation 0, version None: nothing yet."""

    generation: int = 0
    version: int | None = None


def now() -> str:
    """UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def claim_uri(model: str, number: int) -> str:
    """Of the file that says whose a number is."""
    return storage.join(model, "versions", f"{number:04d}.json")


def versions(model: str) -> list[Version]:
    """Those that are whole, by number; empty where there is no such model."""
    return versions_in(_files(storage.join(model, "versions")))


def versions_in(files: list[str]) -> list[Version]:
    """Those whose `bundle.json` is among the files."""
    folders = [FOLDER.fullmatch(file.removesuffix(f"/{MANIFEST}")) for file in files if file.endswith(f"/{MANIFEST}")]
    found = [Version(m["model"], int(m["number"]), m["digest"]) for m in folders if m]
    return sorted(found, key=lambda v: (v.model, v.number))


def claim_version(model: str, digest: str) -> Version:
    """The version of a digest: the one that has it, or the next number.

    Raises:
        StorageError: the registry cannot be written.
    """
    while True:
        files = _files(storage.join(model, "versions"))
        whole = {v.number: v for v in versions_in(files)}
        for version in whole.values():
            if version.digest == digest[:12]:
                return version
        claimed = [int(match["number"]) for match in map(CLAIM.fullmatch, files) if match]
        for number in sorted(set(claimed) - set(whole)):  # a push that was cut off, or is under way
            if _read(Claim, claim_uri(model, number)).digest == digest:
                return Version(model, number, digest[:12])
        number = max(claimed, default=0) + 1
        claim = Claim(digest=digest, pushed_at=now(), token=uuid.uuid4().hex)
        if write_once(claim_uri(model, number), claim.model_dump_json().encode()):
            return Version(model, number, digest[:12])


def find_version(model: str, wanted: str) -> Version:
    """A version by number, alias or ``latest``.

    Raises:
        BundleError: no such model, or it has no such version; the message says what it has.
    """
    there = versions(model)
    if not there:
        raise BundleError(f"there is no model {model!r}: nothing was pushed there", code="model-missing", field="model")
    if wanted == LATEST:
        return there[-1]
    aliases = read_aliases(model)
    number = int(wanted) if wanted.isdecimal() else aliases.get(wanted, Alias()).version
    chosen = next((v for v in there if v.number == number), None)
    if chosen is None:
        have = ", ".join([*(str(v.number) for v in there), *aliases])
        text = f"model {model!r} has no version {wanted!r} (it has: {have})"
        raise BundleError(text, code="version-missing", field="model")
    return chosen


def read_aliases(model: str) -> dict[str, Alias]:
    """What each alias stands for, by name."""
    return aliases_in(_files(storage.join(model, "aliases")))


def aliases_in(files: list[str]) -> dict[str, Alias]:
    """As `read_aliases`, from the files of one model."""
    last: dict[str, tuple[int, str]] = {}
    for file in files:
        match = PROMOTION.fullmatch(file)
        if match:
            last[match["alias"]] = max(last.get(match["alias"], (0, "")), (int(match["generation"]), file))
    return {name: Alias(number, _read(Promotion, uri).version) for name, (number, uri) in sorted(last.items())}


def move_alias(version: Version, alias: str, seen: Alias) -> None:
    """Makes an alias stand for a version, if it still stands for what was seen.

    Raises:
        PromotionError: it does not: another promotion came between; the message names what it stands for now.
        StorageError: the registry cannot be written.
    """
    promotion = Promotion(version=version.number, promoted_at=now(), token=uuid.uuid4().hex)
    uri = storage.join(version.model, "aliases", alias, f"{seen.generation + 1:06d}.json")
    if not write_once(uri, promotion.model_dump_json().encode()):
        current = read_aliases(version.model)[alias].version
        text = f"{alias} of {version.model} was moved at the same time, to version {current}: it was not moved to"
        raise PromotionError(f"{text} {version.number}", code="promotion-lost", field="alias")


def pinned(uri: str) -> str:
    """URI of a bundle's folder: ``<registry>/<name>@<alias>`` becomes the version that it stands for at this moment.

    Called once where a bundle is named, so that a promotion in the middle cannot mix the networks of two versions.
    Any other URI stays as it is, also that of a folder with an ``@`` in its name.

    Raises:
        BundleError: of `find_version`.
    """
    match = REFERENCE.fullmatch(uri)
    if match is None or storage.exists(storage.join(uri, MANIFEST)):
        return uri
    return find_version(storage.absolute(match["model"]), match["wanted"]).uri


def check_manifest(uri: str, data: bytes) -> None:
    """Compares the `bundle.json` of a registry's version with the digest in its folder's name.

    Raises:
        BundleError: it was changed.
    """
    match = FOLDER.fullmatch(storage.absolute(uri))
    if match and not storage.sha256(data).startswith(match["digest"]):
        text = f"{storage.join(uri, MANIFEST)} was changed since it was pushed (sha256 differs)"
        raise BundleError(text, code="bundle-corrupt", field="bundle")


def check_writable(uri: str) -> None:
    """Refuses to write a bundle where a registry's version is or would seem to be.

    Raises:
        BundleError: the message says what to do instead.
    """
    match = REFERENCE.fullmatch(uri)
    if FOLDER.fullmatch(storage.absolute(uri)) or (match and versions(match["model"])):
        text = f"{uri!r} is a version in a registry, and those never change: write elsewhere, then `tryon models push`"
        raise BundleError(text, code="version-immutable", field="bundle")


def _files(uri: str) -> list[str]:
    try:
        return storage.list_files(uri)
    except StorageError as error:
        if error.code == "uri-missing":
            return []
        raise


def _read(cls: type[R], uri: str) -> R:
    try:
        return cls.model_validate_json(storage.read_bytes(uri))
    except ValidationError as error:
        raise BundleError(f"{uri} is damaged: it is no {cls.__name__.lower()}", code="registry-corrupt") from error
