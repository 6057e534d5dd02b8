"""The bundle: a folder of networks with what is needed to run and to trust them.

``bundle.json`` + one safetensors file a network, on any URI. Training writes it, evaluation and serving load it.
It lives beside the networks (not under training) because stages load it and stages know nothing of training.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field, ValidationError
from safetensors.torch import load as safetensors_load
from safetensors.torch import save as safetensors_save
from torch import nn

from tryon import __version__, storage
from tryon.config import Config, Size, StageSpec, explain
from tryon.errors import BundleError, ConfigError, StorageError
from tryon.models.contract import load_saved_state, needs_warp, saved_state
from tryon.models.registry import build_network, network_class, num_parameters
from tryon.models.versions import MANIFEST as MANIFEST
from tryon.models.versions import check_manifest, check_writable, pinned

SHIPPED_BUNDLE = Path(__file__).resolve().parents[1] / "default_bundle"  # in the package; CARD.md tells about it
Role = Literal["warp", "synthesis", "refinement", "parsing", "extraction", "reconstruction"]
ROLE_STAGES: Mapping[Role, str] = {"warp": "warp", "synthesis": "synthesize", "refinement": "refine"}
UNWARPED = "synthesize_unwarped"  # instead of `synthesize` where the network needs no warp
BY_GARMENT = "refine_by_garment"  # instead of `refine` where the network looks at the garment photo
PARSE = "parse"  # of photos, without weights
PARSE_BY_NETWORK = "parse_segment"  # instead of `parse` where the bundle has a parsing network
BackendName = Literal["onnx", "int8"]
PRESERVE = "preserve"  # last, where the garment itself is shown: a stage without a network
STAGE_ROLES: Mapping[str, Role] = {
    **{stage: role for role, stage in ROLE_STAGES.items()},
    UNWARPED: "synthesis",
    BY_GARMENT: "refinement",
}


class BackendFile(Config):
    """A network as another program runs it, beside its weights."""

    file: str = Field(pattern=r"^\w[\w.-]*$", description="in the bundle's folder")
    sha256: str = Field(description="of that file")
    difference: float = Field(0.0, ge=0, description="largest from PyTorch on an example, where it was made")


class NetworkEntry(Config):
    """One network of a bundle."""

    network: str = Field(description="a name of `tryon.models.registry`")
    config: Mapping[str, Any] = Field(default_factory=dict, description="the network's config")
    size: Size = Field(description="(height, width) px it was trained at and runs at")
    file: str = Field(pattern=r"^\w[\w.-]*$", description="safetensors file in the bundle's folder")
    sha256: str = Field(description="of that file")
    num_parameters: int = Field(ge=0, description="trainable and frozen")
    training: Mapping[str, Any] = Field(default_factory=dict, description="the resolved training config")
    metrics: Mapping[str, float] = Field(default_factory=dict, description="last validation figures")
    backends: Mapping[BackendName, BackendFile] = Field(
        default_factory=dict, description="what `tryon models optimize` made of these weights"
    )

    @property
    def files(self) -> dict[str, str]:
        """The sha256 of each of its files, by name; the weights first."""
        return {self.file: self.sha256, **{one.file: one.sha256 for one in self.backends.values()}}


class BundleManifest(Config):
    """What `bundle.json` holds."""

    format: Literal[1] = Field(description="version of this layout")
    tryon_version: str = Field(description="that wrote it")
    working_size: Size = Field((1024, 768), description="(height, width) px photos are letterboxed to")
    networks: Mapping[Role, NetworkEntry] = Field(default_factory=dict, description="by role")
    weights_licence: str = Field("unstated", description="licence of the weights")
    data_licence: str = Field("unstated", description="licence of the data they were trained on")


@dataclass(frozen=True)
class Bundle:
    """An opened bundle; its networks are loaded when they are asked for.

    Attributes:
        uri: where it came from.
        manifest: `bundle.json`.
    """

    uri: str
    manifest: BundleManifest

    def entry(self, role: Role) -> NetworkEntry:
        """What the manifest tells of a network.

        Raises:
            BundleError: the bundle has no such role.
        """
        entry = self.manifest.networks.get(role)
        if entry is None:
            have = ", ".join(self.manifest.networks) or "none"
            raise BundleError(f"bundle {self.uri} has no {role} network (it has: {have})", code="bundle-incomplete")
        return entry

    def network(self, role: Role) -> tuple[nn.Module, Size]:
        """A network, in eval mode, and the size it runs at; the second call in a process is free.

        Raises:
            BundleError: the bundle has no such role, the file is not the one the manifest names, or does not fit.
        """
        entry = self.entry(role)
        return _load_network(self.uri, entry.model_dump_json()), entry.size


def read_manifest(uri: str) -> BundleManifest:
    """Reads `bundle.json` of a bundle, which may be named ``<registry>/<name>@<alias or version>``.

    Raises:
        BundleError: nothing there, not a bundle, of another format, or a registry's that was changed since.
    """
    uri = pinned(uri)
    try:
        raw = storage.read_bytes(storage.join(uri, MANIFEST))
    except StorageError as error:
        why = "does not exist" if not storage.exists(uri) else f"is no bundle: it has no {MANIFEST}"
        text = f"bundle {uri!r} {why}; `tryon train` or `tryon demo` makes one"
        raise BundleError(text, code="bundle-missing", field="bundle") from error
    check_manifest(uri, raw)
    try:
        return BundleManifest.model_validate(json.loads(raw))
    except json.JSONDecodeError as error:
        raise BundleError(f"bundle {uri!r}: {MANIFEST} is no JSON: {error}", code="bundle-corrupt") from error
    except ValidationError as error:
        raise BundleError(f"bundle {uri!r}: {explain(error, MANIFEST)}", code="bundle-corrupt") from error


def load_bundle(uri: str) -> Bundle:
    """Opens a bundle.

    Args:
        uri: a folder, local or ``s3://``, or ``<registry>/<name>@<alias or version>``.

    Raises:
        BundleError: missing or of another format.
    """
    uri = pinned(uri)
    return Bundle(uri, read_manifest(uri))


@lru_cache(maxsize=8)
def _load_network(uri: str, entry_json: str) -> nn.Module:
    return open_network(uri, NetworkEntry.model_validate_json(entry_json))


def read_file(uri: str, file: str, sha256: str) -> bytes:
    """One of a bundle's files (`NetworkEntry.files`), checked by its sha256.

    Raises:
        BundleError: it is missing, or not the one that the manifest names.
    """
    try:
        data = storage.read_bytes(storage.join(uri, file))
    except StorageError as error:
        if error.code != "uri-missing":
            raise
        raise BundleError(f"bundle {uri!r} lacks {file}", code="bundle-incomplete") from error
    if storage.sha256(data) != sha256:
        text = f"bundle {uri!r}: {file} is not the file {MANIFEST} names (sha256 differs)"
        raise BundleError(text, code="bundle-corrupt")
    return data


def check_files(uri: str, entry: NetworkEntry) -> None:
    """Reads each of a network's files and compares its sha256.

    Raises:
        BundleError: of `read_file`.
    """
    for file, sha256 in entry.files.items():
        read_file(uri, file, sha256)


def open_network(uri: str, entry: NetworkEntry) -> nn.Module:
    """A network as `Bundle.network` gives it, read anew.

    Raises:
        BundleError: of `read_file`, or the weights do not fit the network.
    """
    data = read_file(uri, entry.file, entry.sha256)
    try:
        network = build_network(entry.network, entry.config)
        load_saved_state(network, safetensors_load(data))
    except (ConfigError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise BundleError(f"bundle {uri!r}: {entry.file} does not fit: {reason}", code="bundle-corrupt") from error
    return network.eval().requires_grad_(False)


def write_network(
    uri: str,
    role: Role,
    name: str,
    network: nn.Module,
    *,
    config: Config,
    size: Size,
    training: Mapping[str, Any],
    metrics: Mapping[str, float],
    working_size: Size | None = None,
    data_licence: str = "unstated",
) -> BundleManifest:
    """Writes a network into a bundle, beside the networks that are there; the manifest goes last.

    A reader sees the old bundle or the new one: the weights' file has their hash in its name.

    Args:
        uri: the bundle's folder; made if it is not there.
        role: what the network does in the pipeline.
        name: of the network in the registry.
        network: with its weights.
        config: the network's config.
        size: (height, width) px it was trained at.
        training: the resolved training config, kept for reading.
        metrics: validation figures.
        working_size: photos are letterboxed to it; None keeps the bundle's.
        data_licence: of the training data; it joins that of the data of the networks that are there.

    Raises:
        BundleError: the folder is a registry's version, which never changes.
    """
    check_writable(uri)
    state = {key: value.detach().cpu().contiguous() for key, value in saved_state(network).items()}
    data = safetensors_save(state)
    digest = storage.sha256(data)
    entry = NetworkEntry(
        network=name, config=config.model_dump(mode="json"), size=size, file=f"{role}-{digest[:12]}.safetensors",
        sha256=digest, num_parameters=num_parameters(network), training=training, metrics=metrics,
    )  # fmt: skip
    old = read_manifest(uri) if storage.exists(storage.join(uri, MANIFEST)) else None
    networks = {**(old.networks if old else {}), role: entry}
    licence = _joined_licence(old, role, data_licence)
    manifest = BundleManifest(
        format=1,
        tryon_version=__version__,
        working_size=working_size or (old.working_size if old else (1024, 768)),
        networks=networks,
        weights_licence=_weights_licence(networks, licence),
        data_licence=licence,
    )
    storage.write_bytes(storage.join(uri, entry.file), data)
    storage.write_bytes(storage.join(uri, MANIFEST), manifest.model_dump_json(indent=2).encode())
    _drop_files(uri, old.networks.get(role) if old else None, entry)
    return manifest


def add_backend(
    uri: str, role: Role, backend: BackendName, data: bytes | None, *, difference: float = 0.0
) -> BundleManifest:
    """Writes a network as another program runs it beside its weights; the manifest goes last.

    Args:
        uri: the bundle's folder.
        role: of a network that it has.
        backend: that runs it.
        data: the file; None: takes away the one that is there.
        difference: largest from PyTorch on an example.

    Raises:
        BundleError: no bundle, or a registry's version, which never changes.
    """
    check_writable(uri)
    manifest = read_manifest(uri)
    old = manifest.networks[role]
    files = {name: file for name, file in old.backends.items() if name != backend}
    if data is not None:
        digest = storage.sha256(data)
        name = f"{role}-{digest[:12]}.{backend}"
        files[backend] = BackendFile(file=name, sha256=digest, difference=difference)
        storage.write_bytes(storage.join(uri, name), data)
    entry = old.model_copy(update={"backends": files})
    manifest = manifest.model_copy(update={"networks": {**manifest.networks, role: entry}})
    storage.write_bytes(storage.join(uri, MANIFEST), manifest.model_dump_json(indent=2).encode())
    _drop_files(uri, old, entry)
    return manifest


def _drop_files(uri: str, old: NetworkEntry | None, new: NetworkEntry) -> None:
    """Deletes what a network no longer has."""
    for file in set(old.files if old else ()) - set(new.files):
        storage.delete(storage.join(uri, file))


def _joined_licence(old: BundleManifest | None, role: Role, data_licence: str) -> str:
    """The new network's data's, after what was told of the data of the others."""
    others = old is not None and set(old.networks) - {role}
    told = old.data_licence.split("; ") if old is not None and others else []
    return "; ".join(dict.fromkeys([*told, *data_licence.split("; ")]))


def _weights_licence(networks: Mapping[Role, NetworkEntry], data_licence: str) -> str:
    """Weights that were tuned from others' are under the licence of those too."""
    bases = [str(entry.config["base"]) for entry in networks.values() if entry.config.get("base")]
    if bases:
        return f"as that of {' and '.join(bases)}, and the data's"
    return "Apache-2.0" if data_licence == "Apache-2.0" else "as the data's"


def default_bundle() -> str:
    """The bundle used where none is named: ``TRYON_BUNDLE``, else the one that comes with the package."""
    return os.environ.get("TRYON_BUNDLE") or str(SHIPPED_BUNDLE)


def copy_bundle(source: str, target: str) -> None:
    """Copies a bundle's files to the byte, each checked by its sha256, the manifest last.

    Raises:
        BundleError: the source is no bundle, or a file is missing or damaged; then no manifest is written.
    """
    source = pinned(source)
    manifest = read_manifest(source)
    raw = storage.read_bytes(storage.join(source, MANIFEST))
    for entry in manifest.networks.values():
        for file, sha256 in entry.files.items():
            storage.write_bytes(storage.join(target, file), read_file(source, file, sha256))
    storage.write_bytes(storage.join(target, MANIFEST), raw)


def role_stages(manifest: BundleManifest) -> dict[Role, str]:
    """The stage that each of a bundle's networks runs in, for those that try on, in order.

    A network that needs no warp (`tryon.models.contract.SynthesisNetwork`) runs in a stage that reads none, as does a
    refinement by the garment photo, and a warp that no stage reads is left out.
    """
    stages = {role: stage for role, stage in ROLE_STAGES.items() if role in manifest.networks}
    if "synthesis" in stages and not needs_warp(network_class(manifest.networks["synthesis"].network)):
        stages["synthesis"] = UNWARPED
    if "refinement" in stages and manifest.networks["refinement"].config.get("context") == "garment":
        stages["refinement"] = BY_GARMENT
    if stages.get("synthesis") == UNWARPED and stages.get("refinement") != ROLE_STAGES["refinement"]:
        stages.pop("warp", None)
    return stages


def shows_warp(stages: Mapping[Role, str]) -> bool:
    """Whether the stages of `role_stages` make a try-on that shows the warped garment itself."""
    return stages.get("synthesis") == ROLE_STAGES["synthesis"]


def tryon_stages(uri: str, sampling: Mapping[str, Any] | None = None, backend: str | None = None) -> list[StageSpec]:
    """The stages that take an annotated sample to a try-on with this bundle, in order.

    Args:
        uri: of the bundle.
        sampling: steps, solver, seed or guidance of a synthesis network that samples (`tryon.stages.synthesize`).
        backend: that runs the networks (`tryon.models.backends`); None: auto.
    """
    told: Mapping[Role, Mapping[str, Any]] = {"synthesis": sampling or {}}
    uri = pinned(uri)
    stages = role_stages(read_manifest(uri))
    common = {"bundle": uri, **({"backend": backend} if backend else {})}
    specs = [StageSpec(name=stage, options={**common, **told.get(role, {})}) for role, stage in stages.items()]
    return [*specs, StageSpec(name=PRESERVE)] if shows_warp(stages) else specs


def parse_stage(uri: str) -> StageSpec:
    """The stage that parses photos for this bundle: its parsing network's, where it has one, else that without weights.

    Args:
        uri: of one version.
    """
    entry = read_manifest(uri).networks.get("parsing")
    if entry is None:
        return StageSpec(name=PARSE)
    return StageSpec(name=PARSE_BY_NETWORK, options={"weights": uri, "sha256": entry.sha256})


def place(network: nn.Module, device: torch.device) -> nn.Module:
    """Moves a network to the device, channels last, which convolutions prefer there."""
    return network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]
