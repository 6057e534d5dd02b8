"""A contact sheet: what annotation made of a data set, at a look."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tryon import storage
from tryon.codec import encode_jpeg
from tryon.data.look.overlays import draw_pose, outline, overlay_parse
from tryon.data.shards import read_manifest, read_shard, shard_uris
from tryon.images import resize
from tryon.sample import Batch, num_rows

UInt8 = npt.NDArray[np.uint8]
COLUMNS = ("person", "parse", "agnostic", "garment")
SHEET_WIDTH_PX = 2400


def write_sheet(data: str, out: str, *, num: int = 48, height: int = 192) -> int:
    """Writes a JPEG with samples spread evenly over a data set: photo with pose, parse, agnostic, garment with mask.

    Args:
        data: URI of an annotated data set.
        out: URI of the picture.
        num: samples at the most.
        height: of each picture, px.

    Returns:
        Samples shown.

    Raises:
        DataError: no data set.
    """
    manifest = read_manifest(data)
    wanted = set(np.linspace(0, max(0, manifest.rows - 1), min(num, manifest.rows)).round().astype(int).tolist())
    tiles: list[UInt8] = []
    seen = 0
    for uri in shard_uris(data, manifest):
        batch = read_shard(uri, [*{"pose", "garment_mask", *COLUMNS} & set(manifest.fields)])
        tiles += [_tile(batch, i, height) for i in range(num_rows(batch)) if seen + i in wanted]
        seen += num_rows(batch)
    storage.write_bytes(out, encode_jpeg(_mosaic(tiles), 88))
    return len(tiles)


def _tile(batch: Batch, i: int, height: int) -> UInt8:
    views = [_view(name, batch, i) for name in COLUMNS if name in batch and batch[name][i] is not None]
    return np.hstack([resize(view, height, round(height * view.shape[1] / view.shape[0])) for view in views])


def _view(name: str, batch: Batch, i: int) -> UInt8:
    image: UInt8 = batch[name][i]
    if name == "person":
        return draw_pose(image, batch["pose"][i] if "pose" in batch else None)
    if name == "parse":
        return overlay_parse(batch["person"][i], image)
    if name == "garment":
        return outline(image, batch["garment_mask"][i] if "garment_mask" in batch else None)
    return image


def _mosaic(tiles: Sequence[UInt8]) -> UInt8:
    width = max(tile.shape[1] for tile in tiles)
    height = max(tile.shape[0] for tile in tiles)
    across = max(1, SHEET_WIDTH_PX // (width + 4))
    rows = -(-len(tiles) // across)
    canvas: npt.NDArray[Any] = np.full((rows * (height + 4), across * (width + 4), 3), 255, np.uint8)
    for k, tile in enumerate(tiles):
        y, x = k // across * (height + 4), k % across * (width + 4)
        canvas[y : y + tile.shape[0], x : x + tile.shape[1]] = tile
    return canvas
