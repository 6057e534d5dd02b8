"""A registry of bundles: push, pull, verify, promote, list. What a registry is made of is told in `versions`.

Every file that goes in, comes out or is promoted is compared with the sha256 that the bundle's manifest names, and the
manifest with the digest in its folder's name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from tryon import storage
from tryon.errors import BundleError, PromotionError, StorageError
from tryon.models.bundle import (
    MANIFEST,
    BundleManifest,
    check_files,
    copy_bundle,
    open_network,
    read_file,
    read_manifest,
)
from tryon.models.versions import (
    ALIAS,
    LATEST,
    REFERENCE,
    Alias,
    Version,
    aliases_in,
    claim_version,
    find_version,
    move_alias,
    pinned,
    read_aliases,
    versions,
    versions_in,
)

NOTHING = "none"  # what --expect calls an alias that stands for nothing yet


@dataclass(frozen=True)
class Pushed:
    """What a push came to.

    Attributes:
        version: of the bundle.
        new: False where the same bundle was pushed before.
        manifest: of the bundle.
    """

    version: Version
    new: bool
    manifest: BundleManifest


@dataclass(frozen=True)
class Promoted:
    """What a promotion came to.

    Attributes:
        version: that the alias stands for now.
        before: number of the one it stood for; None: it stood for nothing.
        manifest: of the version.
    """

    version: Version
    before: int | None
    manifest: BundleManifest


@dataclass(frozen=True)
class Row:
    """A version in a list.

    Attributes:
        version: which.
        manifest: of its bundle.
        pushed_at: UTC, ISO 8601.
        aliases: of the model, number by name; also those of its other versions.
        count: versions that the model has.
    """

    version: Version
    manifest: BundleManifest
    pushed_at: str
    aliases: Mapping[str, int]
    count: int


@dataclass(frozen=True)
class Checked:
    """A bundle that was looked at file by file.

    Attributes:
        uri: of its folder.
        num_files: that the manifest names.
        problems: a sentence each; none: all is well.
    """

    uri: str
    num_files: int
    problems: Sequence[str]


def push(bundle: str, model: str) -> Pushed:
    """Copies a bundle into a registry as the next version; one that is there already keeps its version.

    Args:
        bundle: URI.
        model: URI, ``<registry>/<name>``.

    Raises:
        BundleError: no such bundle, a file of it is missing or damaged, or the model's URI cannot be one.
        StorageError: the registry cannot be written.
    """
    bundle, model = pinned(bundle), storage.absolute(model)
    if "@" in model.rsplit("/", 1)[-1] or storage.exists(storage.join(model, MANIFEST)):
        text = f"{model!r} cannot be a model: give REGISTRY/NAME, a folder that is no bundle, without a version"
        raise BundleError(text, code="model-invalid", field="model")
    manifest = read_manifest(bundle)
    for entry in manifest.networks.values():  # a damaged bundle takes no number
        check_files(bundle, entry)
    version = claim_version(model, storage.sha256(storage.read_bytes(storage.join(bundle, MANIFEST))))
    if storage.exists(storage.join(version.uri, MANIFEST)):
        return Pushed(version, False, manifest)
    copy_bundle(bundle, version.uri)
    return Pushed(version, True, manifest)


def locate(uri: str) -> str:
    """URI of a bundle's folder: a bundle itself, ``REGISTRY/NAME@VERSION``, or ``REGISTRY/NAME`` for its last version.

    Raises:
        BundleError: there is no such model or version.
    """
    if REFERENCE.fullmatch(uri) or storage.exists(storage.join(uri, MANIFEST)) or not versions(storage.absolute(uri)):
        return pinned(uri)
    return find_version(storage.absolute(uri), LATEST).uri


def sizes_bytes(uri: str, manifest: BundleManifest) -> dict[str, int | None]:
    """Of a bundle's files, by role; None where the file is missing."""
    filesystem, path = storage.resolve(uri)
    found: dict[str, int | None] = {}
    for role, entry in manifest.networks.items():
        sizes = [info.size for info in filesystem.get_file_info([f"{path}/{file}" for file in entry.files])]
        found[role] = None if None in sizes else sum(size for size in sizes if size is not None)
    return found


def pull(uri: str, out: str) -> BundleManifest:
    """Copies a bundle out of a registry, or from anywhere; what an earlier call began is finished.

    Args:
        uri: of `locate`.
        out: URI of the folder to write.

    Raises:
        BundleError: no such bundle, a damaged one, or another bundle is at `out`.
    """
    source = locate(uri)
    manifest = read_manifest(source)
    there = storage.join(out, MANIFEST)
    if storage.exists(there) and storage.read_bytes(there) != storage.read_bytes(storage.join(source, MANIFEST)):
        text = f"{out!r} holds another bundle already; give a folder that holds none"
        raise BundleError(text, code="out-taken", field="out")
    copy_bundle(source, out)
    return manifest


def verify(uri: str) -> Checked:
    """Compares every file with its sha256 and loads every network.

    Args:
        uri: of `locate`.

    Raises:
        BundleError: there is no such bundle, or its manifest is damaged.
    """
    source = locate(uri)
    manifest = read_manifest(source)
    problems = []
    for entry in manifest.networks.values():
        try:
            open_network(source, entry)
            for one in entry.backends.values():
                read_file(source, one.file, one.sha256)
        except (BundleError, StorageError) as error:
            problems.append(error.message)
    num = sum(len(entry.files) for entry in manifest.networks.values())
    return Checked(source, num + 1, problems)


def promote(model: str, wanted: str, alias: str, expect: str | None = None) -> Promoted:
    """Makes an alias stand for a version: all at once, and only if it still stands for what it did when this began.

    Args:
        model: URI, ``<registry>/<name>``.
        wanted: number, another alias, or ``latest``.
        alias: lower-case letters, digits and dashes, e.g. ``production``.
        expect: number that the alias must stand for now, or ``none``; None: whatever it does.

    Raises:
        PromotionError: it stands for another version than expected, or was moved meanwhile.
        BundleError: no such version, a damaged one, or a bad name.
    """
    model = storage.absolute(model)
    if not ALIAS.fullmatch(alias) or alias in (LATEST, NOTHING):
        text = f"alias {alias!r} is not allowed: lower-case letters, digits and dashes, not {LATEST} or {NOTHING}"
        raise BundleError(text, code="alias-invalid", field="--to")
    seen = read_aliases(model).get(alias, Alias())
    version = find_version(model, wanted)
    _check_expected(model, alias, seen, expect)
    manifest = read_manifest(version.uri)
    for entry in manifest.networks.values():
        check_files(version.uri, entry)
    if seen.version != version.number:
        move_alias(version, alias, seen)
    return Promoted(version, seen.version, manifest)


def _check_expected(model: str, alias: str, seen: Alias, expect: str | None) -> None:
    current = NOTHING if seen.version is None else str(seen.version)
    if expect is None or current == (expect.lstrip("0") if expect.isdecimal() else expect):
        return
    stands = "stands for nothing yet" if seen.version is None else f"stands for version {current}"
    text = f"{alias} of {model} {stands}, not for {expect}: it was not moved"
    raise PromotionError(text, code="promotion-unexpected", field="--expect")


def list_models(uri: str) -> list[Row]:
    """The last version of each model of a registry, or all the versions of one model.

    Args:
        uri: of a registry or of ``<registry>/<name>``.

    Raises:
        BundleError: there is neither.
    """
    uri = storage.absolute(uri)
    files = storage.list_files(uri) if storage.exists(uri) else []
    found = versions_in(files)
    if not found:
        text = f"there is no model in {uri!r}: `tryon models push` brings one"
        raise BundleError(text, code="model-missing", field="registry")
    rows = []
    for model, group in groupby(found, key=lambda v: v.model):
        own = list(group)
        state = aliases_in([file for file in files if file.startswith(f"{model}/aliases/")])
        aliases = {name: alias.version for name, alias in state.items() if alias.version is not None}
        shown = own if model == uri else own[-1:]
        rows += [Row(v, read_manifest(v.uri), v.claim().pushed_at, aliases, len(own)) for v in shown]
    return rows
