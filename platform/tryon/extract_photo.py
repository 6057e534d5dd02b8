"""`tryon extract`: the garment a person wears as a photo of its own; and trying it on somebody else. In process."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tryon import storage
from tryon.config import StageSpec
from tryon.engines.in_process import Pipeline, build_pipeline
from tryon.errors import BundleError, SampleError
from tryon.infer import (
    check_category,
    check_out,
    say_done,
    say_notices,
    tryon_pipeline,
    write_layers,
    write_picture,
)
from tryon.models.bundle import default_bundle, parse_stage, read_manifest
from tryon.models.versions import pinned
from tryon.sample import Row

BEFORE_PARSE = ("decode_person", "fit_person", "pose")


def extraction_pipeline(bundle: str, label: str = "person_image", size: tuple[int, int] | None = None) -> Pipeline:
    """From a person photo's file to the worn garment.

    Args:
        bundle: URI.
        label: what messages call the photo.
        size: (height, width) px of the garment photo; None: the bundle's working size.

    Raises:
        BundleError: no such bundle, or it has no extraction network.
    """
    bundle = pinned(storage.absolute(bundle))
    manifest = read_manifest(bundle)
    if "extraction" not in manifest.networks:
        have = ", ".join(manifest.networks) or "none"
        text = f"bundle {bundle} has no extraction network (it has: {have}); `tryon train extract` adds one"
        raise BundleError(text, code="bundle-incomplete", field="--bundle")
    options = {
        "decode_person": {"label": label},
        "fit_person": {"size": size or manifest.working_size},
    }
    specs = [StageSpec(name=name, options=options.get(name, {})) for name in BEFORE_PARSE]
    specs += [parse_stage(bundle), StageSpec(name="extract", options={"bundle": bundle})]
    return build_pipeline(specs, ("id", "category", "person_file"))


def extract_files(
    person: Path, out: Path, *, category: str | None, bundle: str | None, size: tuple[int, int] | None = None
) -> None:
    """Reads a person photo, writes the photo of a garment that is worn in it, and says what was done.

    Args:
        person: photo of one person.
        out: file to write, ``.png``, ``.jpg`` or ``.jpeg``.
        category: upper, lower or dress; None: the garment that is worn most plainly.
        bundle: URI; None takes the default.
        size: (height, width) px of the garment photo; None: the bundle's working size.

    Raises:
        TryonError: the photo, an option or the bundle cannot be used; the message names it.
    """
    check_out(out)
    if category is not None:
        check_category(category)
    start = time.perf_counter()
    row = _extracted(person, category, bundle or default_bundle(), size)
    seconds = time.perf_counter() - start
    write_picture(row["garment"], out)
    say_notices(row["person_notices"])
    say_done(out, row["garment"], seconds)


def infer_from_person(
    person: Path,
    wearer: Path,
    out: Path,
    *,
    category: str,
    bundle: str | None,
    layers: Path | None = None,
    sampling: Mapping[str, Any] | None = None,
    backend: str | None = None,
) -> None:
    """Tries on a person what somebody else wears: extraction, then try-on.

    Args:
        person: photo of one person.
        wearer: photo of the person who wears the garment.
        out: file to write, ``.png``, ``.jpg`` or ``.jpeg``.
        category: upper, lower or dress.
        bundle: URI; None takes the default.
        layers: folder to write the intermediate layers into, the extracted garment among them; or None.
        sampling: of `tryon_pipeline`.
        backend: likewise.

    Raises:
        TryonError: a photo, an option or the bundle cannot be used; the message names it.
    """
    check_out(out)
    check_category(category)
    bundle = bundle or default_bundle()
    pipeline = tryon_pipeline(bundle, str(person), has_garment=True, sampling=sampling, backend=backend)
    file = storage.read_bytes(str(person))
    start = time.perf_counter()
    worn = _extracted(wearer, category, bundle, None)
    made = {name: worn[name] for name in ("garment", "garment_mask")}
    row = pipeline.run_row({"id": person.name, "category": category, "person_file": file, **made})
    seconds = time.perf_counter() - start
    write_picture(row["result"], out)
    if layers is not None:
        write_layers(row, layers)
    say_notices(row["person_notices"], worn["person_notices"])
    say_done(out, row["result"], seconds)


def _extracted(person: Path, category: str | None, bundle: str, size: tuple[int, int] | None) -> Row:
    """Runs the extraction; faults name the photo, which may be one of two with a person."""
    pipeline = extraction_pipeline(bundle, str(person), size)
    file = storage.read_bytes(str(person))
    try:
        return pipeline.run_row({"id": person.name, "category": category, "person_file": file})
    except SampleError as error:
        if str(person) in error.message:
            raise
        raise SampleError(f"{person}: {error.message}", code=error.code, field=error.field) from error
