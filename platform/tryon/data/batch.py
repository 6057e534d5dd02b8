"""Batch try-on: a table of pairs through a bundle into shards, for work of a catalogue's size."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tryon import storage
from tryon.config import StageSpec
from tryon.data.annotate import ANNOTATION_STAGES, TRAINING_LAYERS
from tryon.data.job import Job
from tryon.data.shards import Parent
from tryon.data.sources.base import Source
from tryon.errors import DataError
from tryon.models.bundle import MANIFEST, PARSE, parse_stage, read_manifest, tryon_stages
from tryon.models.versions import pinned
from tryon.sample import Row

GARMENT_STAGES = ("decode_garment", "fit_garment", "garment_mask")
FILES = ("person_file", "garment_file")
ORIGIN = ("person_id", "garment_id", "person_uri", "garment_uri", "metadata")
WRITTEN = ("result", "result_mask")


def tryon_specs(
    bundle: str,
    person_label: str,
    garment_label: str,
    *,
    has_garment: bool = False,
    sampling: Mapping[str, Any] | None = None,
    backend: str | None = None,
) -> list[StageSpec]:
    """The stages from two photo files to the result at the person photo's own size.

    A bundle's parsing network, where it has one, parses.

    Args:
        bundle: URI of one version.
        person_label: what messages call the person photo.
        garment_label: what messages call the garment photo.
        has_garment: rows bring `garment` and `garment_mask` at the working size in place of the garment's file.
        sampling: steps, solver, seed or guidance of a synthesis network that samples; None: its own.
        backend: that runs the networks (`tryon.models.backends`); None: auto.

    Raises:
        BundleError: no such bundle.
    """
    size = read_manifest(bundle).working_size
    options = {
        "decode_person": {"label": person_label},
        "decode_garment": {"label": garment_label},
        "fit_person": {"size": size},
        "fit_garment": {"size": size},
    }
    names = [name for name in ANNOTATION_STAGES if not (has_garment and name in GARMENT_STAGES)]
    parse = parse_stage(bundle)
    specs = [parse if name == PARSE else StageSpec(name=name, options=options.get(name, {})) for name in names]
    return [*specs, *tryon_stages(bundle, sampling, backend), StageSpec(name="paste")]


class PairSource(Source):
    """Another source's rows; one that lacks one of its photos is set aside."""

    def __init__(self, source: Source, uri: str) -> None:
        """Checks that pairs of photos can be had.

        Raises:
            DataError: the source has no persons or no garments, or brings layers that do not fit a bundle's size.
        """
        missing = [name for name in FILES if name not in source.fields]
        if missing:
            kinds = " and no ".join(name.removesuffix("_file") + " photos" for name in missing)
            text = f"{uri} has no {kinds}: give a table with the columns person_url and garment_url (or a dress-up set)"
            raise DataError(text, code="field-missing", field="IN")
        brought = [name for name in source.fields if name in TRAINING_LAYERS]
        if brought:
            text = f"{uri} brings {', '.join(brought)} at its own size: batch try-on takes photos, as a table of pairs"
            raise DataError(text, code="size-invalid", field="IN")
        self._source = source
        self.fields = source.fields
        self.complete = source.complete
        self.licence = source.licence

    def tasks(self) -> Iterable[Any]:
        """The other source's."""
        return self._source.tasks()

    def read(self, task: Any) -> list[Row]:
        """The other source's rows, those without a photo in error."""
        return [_whole(row) for row in self._source.read(task)]

    def content_hash(self) -> str:
        """The other source's."""
        return self._source.content_hash()


def _whole(row: Row) -> Row:
    missing = next((name for name in FILES if row.get(name) is None), None)
    if missing is None or row.get("error_code") is not None:
        return row
    text = f"the row names no {missing.removesuffix('_file')} photo"
    return {**row, "error_code": "field-missing", "error": text, "error_stage": "read"}


def batch_tryon_job(
    source: Source, bundle: str, uri: str, *, sampling: Mapping[str, Any] | None = None, mask: bool = False
) -> Job:
    """A job that tries each row's garment on its person.

    A row without a category is given the one that its garment's outline shows. Pairs that cannot be used go to
    quarantine.

    Args:
        source: of pairs of photos.
        bundle: URI; of an alias the version that it stands for now.
        uri: names the source in the manifest.
        sampling: see `tryon_specs`.
        mask: also write the agnostic mask, where pixels were generated.

    Raises:
        DataError: see `PairSource`.
        BundleError: no such bundle, or it lacks a network.
    """
    bundle = pinned(storage.absolute(bundle))
    manifest = read_manifest(bundle)
    pairs = PairSource(source, uri)
    specs = tryon_specs(bundle, "person photo", "garment photo", sampling=sampling)
    names = [spec.name for spec in specs]
    specs.insert(names.index("agnostic"), StageSpec(name="category"))
    origin = [name for name in ORIGIN if name in source.fields]
    fields = ("id", "category", *origin, *WRITTEN[: 2 if mask else 1])
    told = {"tryon": {"bundle": bundle, "sampling": dict(sampling or {}), "mask": mask}}
    digest = storage.sha256(storage.read_bytes(storage.join(bundle, MANIFEST)))
    parents = (
        Parent(uri=storage.absolute(uri), sha256=source.content_hash()),
        Parent(uri=bundle, sha256=digest),
    )
    if manifest.data_licence != pairs.licence:
        pairs.licence = f"{pairs.licence}; images by a bundle trained on data under: {manifest.data_licence}"
    return Job(pairs, specs, fields, told, parents, photos_recur=True)
