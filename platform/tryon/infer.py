"""`tryon infer`: one try-on from files, in process."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tryon import storage
from tryon.codec import encode_jpeg, encode_png
from tryon.config import StageSpec
from tryon.data.annotate import ANNOTATION_STAGES
from tryon.engines.in_process import Pipeline, build_pipeline
from tryon.errors import ConfigError
from tryon.models.bundle import default_bundle, read_manifest, tryon_stages
from tryon.sample import CATEGORIES, PALETTE, Row

GIVEN = ("id", "category", "person_file", "garment_file")
WRITERS: dict[str, Callable[[npt.NDArray[np.uint8]], bytes]] = {
    ".png": encode_png,
    ".jpg": encode_jpeg,
    ".jpeg": encode_jpeg,
}


def tryon_pipeline(bundle: str, person_label: str = "person_image", garment_label: str = "garment_image") -> Pipeline:
    """The whole way from two photo files to the result at the person photo's own size.

    Args:
        bundle: URI.
        person_label: what messages call the person photo.
        garment_label: what messages call the garment photo.

    Raises:
        BundleError: no such bundle, or it lacks a network.
    """
    bundle = storage.absolute(bundle)
    size = read_manifest(bundle).working_size
    options = {
        "decode_person": {"label": person_label},
        "decode_garment": {"label": garment_label},
        "fit_person": {"size": size},
        "fit_garment": {"size": size},
    }
    specs = [StageSpec(name=name, options=options.get(name, {})) for name in ANNOTATION_STAGES]
    return build_pipeline([*specs, *tryon_stages(bundle), StageSpec(name="paste")], GIVEN)


def infer_files(
    person: Path, garment: Path, out: Path, *, category: str, bundle: str | None, layers: Path | None = None
) -> None:
    """Reads two photos, writes the try-on, and says what was done.

    Args:
        person: photo of one person.
        garment: photo of the garment.
        out: file to write, ``.png``, ``.jpg`` or ``.jpeg``.
        category: upper, lower or dress.
        bundle: URI; None takes the default.
        layers: folder to write the intermediate layers into, or None.

    Raises:
        TryonError: a photo, an option or the bundle cannot be used; the message names it.
    """
    if out.suffix.lower() not in WRITERS:
        text = f"--out {str(out)!r} must end in .png, .jpg or .jpeg"
        raise ConfigError(text, code="format-unknown", field="--out")
    if category not in CATEGORIES:
        text = f"--category {category!r} is not known; it is one of {', '.join(CATEGORIES)}"
        raise ConfigError(text, code="category-unknown", field="--category")
    files = {"person_file": storage.read_bytes(str(person)), "garment_file": storage.read_bytes(str(garment))}
    pipeline = tryon_pipeline(bundle or default_bundle(), str(person), str(garment))
    start = time.perf_counter()
    row = pipeline.run_row({"id": person.name, "category": category, **files})
    seconds = time.perf_counter() - start
    storage.write_bytes(str(out), WRITERS[out.suffix.lower()](row["result"]))
    if layers is not None:
        write_layers(row, layers)
    for notice in [*row["person_notices"].splitlines(), *row["garment_notices"].splitlines()]:
        print(f"note: {notice}", file=sys.stderr)
    height, width = row["result"].shape[:2]
    print(f"{out}: {width}x{height} px in {seconds:.1f} s")


def write_layers(row: Row, folder: Path) -> None:
    """Writes the intermediate layers as pictures; the parse in the palette's colours."""
    pictures = {name: row[name] for name in ("person", "garment", "agnostic", "warped_garment", "tryon")}
    pictures |= {name: row[name] * 255 for name in ("person_mask", "garment_mask", "agnostic_mask")}
    pictures |= {name: row[name] for name in ("warped_mask", "composition_mask")}
    pictures["parse"] = PALETTE[row["parse"]]
    for name, picture in pictures.items():
        storage.write_bytes(str(folder / f"{name}.png"), encode_png(picture))
