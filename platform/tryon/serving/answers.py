"""Finished rows as answers of the API."""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from tryon.codec import UInt8, encode_file, encode_png
from tryon.images import Placement
from tryon.sample import Label
from tryon.serving.api import (
    AnnotateResponse,
    ExtractOptions,
    ExtractResponse,
    GarmentAnnotation,
    ModelInfo,
    NetworkInfo,
    PersonAnnotation,
    Resolution,
    TryOnMetadata,
    TryOnResponse,
    TryOnSettings,
)
from tryon.serving.graph import LAYERS
from tryon.serving.router import Model

CLASSES = [label.name.lower().replace("_", "-") for label in Label]
Row = Mapping[str, Any]


def encode_result(image: UInt8, options: ExtractOptions) -> bytes:
    """The file of an image (h, w, 3)."""
    return encode_file(image, options.output_format, options.quality)


def tryon_response(rows: Sequence[Row], options: TryOnSettings, start: float) -> TryOnResponse:
    """The answer for finished rows, one a sample, of a request that came at `start` (`time.perf_counter`)."""
    row = rows[0]
    size = _file_resolution(row["result_file"])
    pictures = [_base64(one["result_file"]) for one in rows]
    return TryOnResponse(
        result_image=pictures[0],
        samples=pictures if len(pictures) > 1 else None,
        mask_image=_mask(row["result_mask"]) if options.return_mask else None,
        layers=_layers(row) if options.return_layers else None,
        processing_time=_seconds(start),
        metadata=TryOnMetadata(
            input_resolution=size, output_resolution=size, notices=_notices(row, "person_notices", "garment_notices")
        ),
    )


def extract_response(row: Row, options: ExtractOptions, start: float) -> ExtractResponse:
    """As `tryon_response`, for an extraction."""
    return ExtractResponse(
        garment_image=_base64(encode_result(row["garment"], options)),
        mask_image=_mask(row["garment_mask"]) if options.return_mask else None,
        processing_time=_seconds(start),
        resolution=_resolution(row["garment"]),
        notices=_notices(row, "person_notices"),
    )


def annotate_response(person: Row | None, garment: Row | None, start: float) -> AnnotateResponse:
    """As `tryon_response`, for an annotation; either photo may not have been given."""
    return AnnotateResponse(
        person=_person(person) if person is not None else None,
        garment=_garment(garment) if garment is not None else None,
        classes=CLASSES,
        processing_time=_seconds(start),
    )


def _layers(row: Row) -> dict[str, str]:
    """What was made on the way, at the photo's own size."""
    place = Placement.of_vector(row["person_placement"])
    shown = {name: place.crop(row[name], row["result_mask"].shape) for name in LAYERS if name in row}
    return {name: _base64(encode_png(image)) for name, image in shown.items()}


def _person(row: Row) -> PersonAnnotation:
    photo: UInt8 = row["person_photo"]
    place = Placement.of_vector(row["person_placement"])
    layers = {
        name: place.crop(row[name], photo.shape, nearest=True) for name in ("parse", "person_mask", "agnostic_mask")
    }
    return PersonAnnotation(
        resolution=_resolution(photo),
        parse_image=_base64(encode_png(layers["parse"])),
        mask_image=_mask(layers["person_mask"]),
        agnostic_mask_image=_mask(layers["agnostic_mask"]),
        keypoints=_keypoints(row["pose"], place, photo),
        notices=_notices(row, "person_notices"),
    )


def _keypoints(pose: npt.NDArray[np.float32], place: Placement, photo: UInt8) -> list[tuple[float, float, float]]:
    """Of the photo, in px of its own size."""
    scale = (photo.shape[1] / place.width, photo.shape[0] / place.height)
    return [
        (round((x - place.x) * scale[0], 2), round((y - place.y) * scale[1], 2), round(seen, 4)) if seen else (0, 0, 0)
        for x, y, seen in pose.tolist()
    ]


def _garment(row: Row) -> GarmentAnnotation:
    photo: UInt8 = row["garment_photo"]
    mask: UInt8 = row["garment_mask"]
    place = Placement.within((photo.shape[0], photo.shape[1]), mask.shape[0], mask.shape[1])
    return GarmentAnnotation(
        resolution=_resolution(photo),
        mask_image=_mask(place.crop(mask, photo.shape, nearest=True)),
        notices=_notices(row, "garment_notices"),
    )


def model_info(name: str, model: Model) -> ModelInfo:
    """A bundle, of where it lies the folder's name alone."""
    manifest = model.manifest
    networks = [
        NetworkInfo(
            role=role,
            network=entry.network,
            resolution=Resolution(width=entry.size[1], height=entry.size[0]),
            num_parameters=entry.num_parameters,
            sha256=entry.sha256,
            metrics=dict(entry.metrics),
        )
        for role, entry in manifest.networks.items()
    ]
    height, width = manifest.working_size
    return ModelInfo(
        model=name,
        name=model.uri.rstrip("/").rpartition("/")[2],
        tryon_version=manifest.tryon_version,
        working_resolution=Resolution(width=width, height=height),
        weights_licence=manifest.weights_licence,
        data_licence=manifest.data_licence,
        networks=networks,
    )


def _resolution(image: UInt8) -> Resolution:
    return Resolution(width=image.shape[1], height=image.shape[0])


def _file_resolution(data: bytes) -> Resolution:
    width, height = Image.open(io.BytesIO(data)).size  # reads the header alone
    return Resolution(width=width, height=height)


def _mask(mask: UInt8) -> str:
    """Base64 of a PNG: 255 where the mask is 1."""
    return _base64(encode_png(mask * 255))


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _notices(row: Row, *names: str) -> list[str]:
    return [line for name in names for line in row[name].splitlines()]


def _seconds(start: float) -> float:
    return round(time.perf_counter() - start, 4)
