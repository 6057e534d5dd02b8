"""A bundle for handing out: its weights in half precision, half as large."""

from __future__ import annotations

import torch
from safetensors.torch import load as safetensors_load
from safetensors.torch import save as safetensors_save

from tryon import storage
from tryon.errors import BundleError
from tryon.models.bundle import MANIFEST, BundleManifest, NetworkEntry, read_file, read_manifest
from tryon.models.versions import check_writable

LARGEST = torch.finfo(torch.float16).max


def pack_bundle(source: str, target: str) -> BundleManifest:
    """Copies a bundle with all weights in float16; networks are float32 again once they are loaded.

    Args:
        source: URI of a bundle.
        target: URI of the folder to write.

    Returns:
        The manifest of what was written.

    Raises:
        BundleError: no bundle, a file is missing or damaged, or a weight is too large for float16.
    """
    check_writable(target)
    manifest = read_manifest(source)
    networks: dict[str, NetworkEntry] = {}
    for role, entry in manifest.networks.items():
        state = safetensors_load(read_file(source, entry.file, entry.sha256))
        data = safetensors_save({name: _half(name, value) for name, value in state.items()})
        digest = storage.sha256(data)
        # Without what was made of the weights as they were.
        told = {"file": f"{role}-{digest[:12]}.safetensors", "sha256": digest, "backends": {}}
        networks[role] = entry.model_copy(update=told)
        storage.write_bytes(storage.join(target, networks[role].file), data)
    packed = manifest.model_copy(update={"networks": networks})
    storage.write_bytes(storage.join(target, MANIFEST), packed.model_dump_json(indent=2).encode())
    return packed


def _half(name: str, value: torch.Tensor) -> torch.Tensor:
    if not value.is_floating_point():
        return value
    if float(value.abs().max() if value.numel() else 0) > LARGEST:
        raise BundleError(f"{name} has a weight beyond {LARGEST:g}, the largest of float16", code="bundle-mismatch")
    return value.to(torch.float16).contiguous()
