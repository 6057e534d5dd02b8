"""`tryon infer`: one try-on from files, in process."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tryon import storage
from tryon.codec import encode_jpeg, encode_png
from tryon.data.batch import tryon_specs
from tryon.engines.in_process import Pipeline, build_pipeline
from tryon.errors import ConfigError
from tryon.models.bundle import default_bundle
from tryon.models.versions import pinned
from tryon.sample import CATEGORIES, PALETTE, Row

GIVEN = ("id", "category", "person_file", "garment_file")
GIVEN_WITH_GARMENT = ("id", "category", "person_file", "garment", "garment_mask")
WRITERS: dict[str, Callable[[npt.NDArray[np.uint8]], bytes]] = {
    ".png": encode_png,
    ".jpg": encode_jpeg,
    ".jpeg": encode_jpeg,
}


def tryon_pipeline(
    bundle: str,
    person_label: str = "person_image",
    garment_label: str = "garment_image",
    *,
    has_garment: bool = False,
    sampling: Mapping[str, Any] | None = None,
    backend: str | None = None,
) -> Pipeline:
    """The whole way from two photo files to the result at the person photo's own size.

    Args:
        bundle: URI.
        person_label: what messages call the person photo.
        garment_label: what messages call the garment photo.
        has_garment: rows bring `garment` and `garment_mask` at the working size in place of the garment's file.
        sampling: steps, solver, seed or guidance of a synthesis network that samples; None: its own.
        backend: that runs the networks (`tryon.models.backends`); None: auto.

    Raises:
        BundleError: no such bundle, or it lacks a network.
        ConfigError: a value of `sampling` is out of bounds, or the network does not sample.
    """
    bundle = pinned(storage.absolute(bundle))
    specs = tryon_specs(
        bundle, person_label, garment_label, has_garment=has_garment, sampling=sampling, backend=backend
    )
    return build_pipeline(specs, GIVEN_WITH_GARMENT if has_garment else GIVEN)


def infer_files(
    person: Path,
    garment: Path,
    out: Path,
    *,
    category: str,
    bundle: str | None,
    layers: Path | None = None,
    sampling: Mapping[str, Any] | None = None,
    backend: str | None = None,
) -> None:
    """Reads two photos, writes the try-on, and says what was done.

    Args:
        person: photo of one person.
        garment: photo of the garment.
        out: file to write, ``.png``, ``.jpg`` or ``.jpeg``.
        category: upper, lower or dress.
        bundle: URI; None takes the default.
        layers: folder to write the intermediate layers into, or None.
        sampling: of `tryon_pipeline`.
        backend: likewise.

    Raises:
        TryonError: a photo, an option or the bundle cannot be used; the message names it.
    """
    check_out(out)
    check_category(category)
    files = {"person_file": storage.read_bytes(str(person)), "garment_file": storage.read_bytes(str(garment))}
    bundle = bundle or default_bundle()
    pipeline = tryon_pipeline(bundle, str(person), str(garment), sampling=sampling, backend=backend)
    start = time.perf_counter()
    row = pipeline.run_row({"id": person.name, "category": category, **files})
    seconds = time.perf_counter() - start
    write_picture(row["result"], out)
    if layers is not None:
        write_layers(row, layers)
    say_notices(row["person_notices"], row["garment_notices"])
    say_done(out, row["result"], seconds)


def check_out(out: Path) -> None:
    """Makes sure that a picture can be written under this name.

    Raises:
        ConfigError: it ends in none of `WRITERS`.
    """
    if out.suffix.lower() not in WRITERS:
        text = f"--out {str(out)!r} must end in .png, .jpg or .jpeg"
        raise ConfigError(text, code="format-unknown", field="--out")


def check_category(category: str) -> None:
    """Makes sure that a category is one.

    Raises:
        ConfigError: it is not.
    """
    if category not in CATEGORIES:
        text = f"--category {category!r} is not known; it is one of {', '.join(CATEGORIES)}"
        raise ConfigError(text, code="category-unknown", field="--category")


def write_picture(pixels: npt.NDArray[np.uint8], out: Path) -> None:
    """Writes an RGB picture in the format of the file's name."""
    storage.write_bytes(str(out), WRITERS[out.suffix.lower()](pixels))


def say_notices(*notices: str) -> None:
    """Says on stderr what was converted on the way."""
    for notice in [line for lines in notices for line in lines.splitlines()]:
        print(f"note: {notice}", file=sys.stderr)


def say_done(out: Path, pixels: npt.NDArray[np.uint8], seconds: float) -> None:
    """Says what was written."""
    height, width = pixels.shape[:2]
    print(f"{out}: {width}x{height} px in {seconds:.1f} s")


def write_layers(row: Row, folder: Path) -> None:
    """Writes the intermediate layers as pictures; the parse in the palette's colours. Not all bundles warp."""
    shown = ("person", "garment", "agnostic", "warped_garment", "warped_mask", "tryon", "composition_mask")
    pictures = {name: row[name] for name in shown if name in row}
    pictures |= {name: row[name] * 255 for name in ("person_mask", "garment_mask", "agnostic_mask")}
    pictures["parse"] = PALETTE[row["parse"]]
    for name, picture in pictures.items():
        storage.write_bytes(str(folder / f"{name}.png"), encode_png(picture))
