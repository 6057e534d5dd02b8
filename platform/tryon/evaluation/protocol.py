"""The protocol: all that must be the same before two evaluations may be compared, written into every result."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import version
from typing import Any

import numpy as np
import numpy.typing as npt

from tryon import __version__, storage
from tryon.evaluation.config import EvaluateConfig
from tryon.evaluation.judges import Judges
from tryon.evaluation.sets import KID_ROWS, kid_subset_size
from tryon.models.bundle import BundleManifest
from tryon.models.inception import RESIZE

NETWORK_RESIZE = "photos to a network's size: area when shrinking, bilinear when growing; results back: bilinear"
UNCHANGED = "the photo's own pixels"


def changed_outside(result: npt.NDArray[np.uint8], photo: npt.NDArray[np.uint8], mask: npt.NDArray[np.uint8]) -> float:
    """The share of the pixels outside the agnostic mask in which a result differs from the photo; 0 where none are."""
    outside = mask == 0
    if not outside.any():
        return 0.0
    return float((result != photo).any(axis=-1)[outside].mean())


def settings(
    data: str, bundle: str, manifest: BundleManifest, config: EvaluateConfig, judges: Judges
) -> dict[str, Any]:
    """What is settled before the first sample."""
    return {
        "data": data,
        "bundle": bundle,
        "versions": {"tryon": __version__, "torch": version("torch"), "torchmetrics": version("torchmetrics")},
        "pairing": config.pairing,
        "network_sizes": {role: list(entry.size) for role, entry in manifest.networks.items()},
        "networks": {role: entry.sha256 for role, entry in manifest.networks.items()},
        "resize": {"networks": NETWORK_RESIZE, **({"fid": RESIZE} if judges.judges_sets else {})},
        "weights": judges.provenance(config),
    }


def findings(ids: Iterable[str], num: int, extent: Mapping[str, float], config: EvaluateConfig) -> dict[str, Any]:
    """What only the samples say.

    Args:
        ids: of the samples measured, in order.
        num: how many.
        extent: of `merge_extents`.
        config: of the evaluation.
    """
    changed = extent["changed_outside"]
    outside = UNCHANGED if changed == 0 else f"repainted: up to {changed:.2%} of an image's pixels there are changed"
    told: dict[str, Any] = {
        "height_px": [int(extent["min_height"]), int(extent["max_height"])],
        "width_px": [int(extent["min_width"]), int(extent["max_width"])],
        "outside_mask": outside,
        "pairs_sha256": hash_ids(ids),
    }
    if config.fid_weights is not None:
        told["kid"] = {
            "subsets": config.kid_subsets, "subset_size": kid_subset_size(config, num),
            "drawn_from": min(num, KID_ROWS), "seed": config.seed,
        }  # fmt: skip
        told["is"] = {"splits": min(config.is_splits, num)}
    return told


def extent_of(images: Iterable[npt.NDArray[np.uint8]], changed: Iterable[float]) -> dict[str, float]:
    """Smallest and largest sides of images, and the largest of the shares changed outside; empty without images."""
    sizes = [image.shape[:2] for image in images]
    if not sizes:
        return {}
    heights, widths = [h for h, _ in sizes], [w for _, w in sizes]
    sides = {"height": heights, "width": widths}
    bounds = {f"{end.__name__}_{side}": float(end(px)) for side, px in sides.items() for end in (min, max)}
    return {**bounds, "changed_outside": max(changed)}


def merge_extents(extents: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """The extent of all images from those of their parts."""
    merged: dict[str, float] = {}
    for extent in extents:
        for name, value in extent.items():
            end = min if name.startswith("min_") else max
            merged[name] = end(merged.get(name, value), value)
    return merged


def hash_ids(ids: Iterable[str]) -> str:
    """Sha256 of ids, a line each, in order: the list of pairs."""
    digest = hashlib.sha256()
    for row_id in ids:
        digest.update(f"{row_id}\n".encode())
    return digest.hexdigest()


def measured_ids(tables: Iterable[str]) -> Iterator[str]:
    """The ids in per-sample tables, streamed."""
    import pyarrow.parquet as pq

    for uri in tables:
        yield from pq.read_table(io.BytesIO(storage.read_bytes(uri)), columns=["id"])["id"].to_pylist()
