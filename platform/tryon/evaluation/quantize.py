"""Int8: a bundle's ONNX files with their convolutions in whole numbers, where its try-ons stay what they are.

Static quantisation (Jacob et al. 2018, arXiv 1712.05877): ranges of activations are taken from try-ons of an annotated
data set, weights have a scale a channel. Each network is tried by itself, after those that were kept.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tryon import storage
from tryon.data.ingest import LocalBatches, check_fields
from tryon.data.shards import read_manifest
from tryon.engines.in_process import Pipeline
from tryon.errors import BundleError, DataError
from tryon.models.backends import STEPS, Session, median_s
from tryon.models.bundle import (
    PRESERVE,
    Role,
    add_backend,
    copy_bundle,
    load_bundle,
    read_file,
    role_stages,
    tryon_stages,
)
from tryon.models.contract import Runnable
from tryon.models.export import Run
from tryon.models.metrics import paired_metrics
from tryon.models.tensors import CONDITION_READS
from tryon.models.versions import check_writable
from tryon.sample import Batch
from tryon.stages.network import NetworkStage
from tryon.stages.registry import build_stage

MAX_LOSS = 0.003  # of SSIM
CHUNK = 8


@dataclass(frozen=True)
class Quantized:
    """A network's int8 file.

    Attributes:
        role: of the network.
        num_bytes: of the file.
        ssim: of the try-ons without the file, and with it.
        seconds: of the network for one sample by it, median.
        kept: whether the loss is small enough; else the bundle has no such file.
    """

    role: Role
    num_bytes: int
    ssim: tuple[float, float]
    seconds: float
    kept: bool


def quantize_bundle(uri: str, data: str, *, num: int = 64, max_loss: float = MAX_LOSS) -> list[Quantized]:
    """Gives a bundle int8 files beside its ONNX files.

    Args:
        uri: of a bundle with ONNX files (`tryon.models.backends.optimize_bundle`).
        data: URI of an annotated data set of persons who wear the garments.
        num: samples; a half gives the ranges, the other half judges.
        max_loss: of SSIM, before the photo's own pixels are given back, that a network may cost.

    Raises:
        BundleError: the bundle has no ONNX file, or is a registry's version.
        DataError: no data set, fields missing, or samples that cannot be tried on.
    """
    check_writable(uri)
    roles = [role for role, entry in load_bundle(uri).manifest.networks.items() if "onnx" in entry.backends]
    if not roles:
        text = f"bundle {uri} has no ONNX files to quantise"
        raise BundleError(text, code="backend-missing", field="bundle")
    samples = _samples(uri, data, num)
    half = max(1, len(samples) // 2)
    told: dict[Role, str] = dict.fromkeys(STEPS, "eager")
    inputs: dict[Role, list[dict[str, Tensor]]] = {role: [] for role in STEPS}
    _tried_on(uri, samples[:half], told, inputs)
    judged = samples[half:] or samples
    ssim = _ssim(judged, _tried_on(uri, judged, told))
    made = []
    with TemporaryDirectory() as folder:
        trial = str(Path(folder) / "bundle")  # so that the bundle itself never has a file that was not judged
        copy_bundle(uri, trial)
        for role in sorted(roles, key=list(STEPS).index):
            file, found, seconds = _quantized(uri, role, inputs[role])
            add_backend(trial, role, "int8", file, difference=found)
            after = _ssim(judged, _tried_on(trial, judged, {**told, role: "int8"}))
            kept = ssim - after <= max_loss
            made.append(Quantized(role, len(file), (ssim, after), seconds, kept))
            if kept:
                told[role], ssim = "int8", after
            add_backend(uri, role, "int8", file if kept else None, difference=found)
    return made


def _samples(uri: str, data: str, num: int) -> list[Batch]:
    """The first samples of a data set at the bundle's size, a few at a time."""
    data, manifest = storage.absolute(data), read_manifest(data)
    size = next(iter(load_bundle(uri).manifest.networks.values())).size
    columns = tuple(dict.fromkeys(("id", *CONDITION_READS, "person")))
    check_fields(data, manifest, columns)
    batches = LocalBatches(data, manifest, columns, size, 0.0)("train", CHUNK, None)
    found: list[Batch] = []
    for batch in batches:
        found.append({name: list(column) for name, column in batch.items()})
        if len(found) * CHUNK >= num:
            break
    return found


def _tried_on(
    uri: str,
    batches: Sequence[Batch],
    told: Mapping[Role, str],
    inputs: Mapping[Role, list[dict[str, Tensor]]] | None = None,
) -> list[npt.NDArray[np.uint8]]:
    """Try-ons with each role's network on its backend; notes what the networks were given where that is asked for."""
    roles = {stage: role for role, stage in role_stages(load_bundle(uri).manifest).items()}
    specs = [spec for spec in tryon_stages(uri) if spec.name != PRESERVE]
    stages = [
        build_stage(spec.model_copy(update={"options": {**spec.options, "backend": told[roles[spec.name]]}}))
        for spec in specs
    ]
    for stage in stages:
        if inputs is not None and isinstance(stage, NetworkStage):
            stage.runner = _noting(stage.runner, inputs[stage.role], STEPS[stage.role].reads)
    pipeline = Pipeline(stages, batches[0].keys())
    made = []
    for batch in batches:
        out = pipeline(batch)
        fault = next((error for error in out["error"] if error is not None), None)
        if fault is not None:
            raise DataError(f"a sample cannot be tried on: {fault}", code="sample-invalid", field="data")
        made += out["tryon"]
    return made


def _noting(run: Run, noted: list[dict[str, Tensor]], names: Sequence[str]) -> Run:
    def noting(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        noted.append({name: inputs[name].float().cpu().clone() for name in names})
        return run(inputs)

    return noting


def _ssim(batches: Sequence[Batch], made: Sequence[npt.NDArray[np.uint8]]) -> float:
    truths = [person for batch in batches for person in batch["person"]]
    return statistics.fmean(value for value in paired_metrics(made, truths)["ssim"] if value is not None)


def _quantized(uri: str, role: Role, inputs: Sequence[dict[str, Tensor]]) -> tuple[bytes, float, float]:
    """The file, the largest difference from PyTorch on an example, and the seconds it takes for that."""
    bundle = load_bundle(uri)
    network, size = bundle.network(role)
    assert isinstance(network, Runnable)
    file = bundle.entry(role).backends["onnx"]
    data = _in_whole_numbers(read_file(uri, file.file, file.sha256), inputs)
    run, examples = Session(data, torch.get_num_threads()), network.example_inputs(1, *size)
    with torch.inference_mode():
        wanted, got = STEPS[role].run(network, examples), run(examples)
    difference = max(float((value - got[name]).abs().max()) for name, value in wanted.items())
    return data, difference, median_s(run, examples)


def _in_whole_numbers(data: bytes, inputs: Sequence[dict[str, Tensor]]) -> bytes:
    quantization: Any = import_module("onnxruntime.quantization")
    clean: Any = import_module("onnxruntime.quantization.shape_inference").quant_pre_process

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        """What the network was given, one batch after another."""

        def __init__(self, names: Sequence[str]) -> None:
            self._left: Iterator[dict[str, Any]] = ({name: batch[name].numpy() for name in names} for batch in inputs)

        def get_next(self) -> dict[str, Any] | None:
            return next(self._left, None)

    with TemporaryDirectory() as folder:
        given, cleaned, made = (Path(folder) / f"{name}.onnx" for name in ("given", "cleaned", "made"))
        given.write_bytes(data)
        clean(str(given), str(cleaned), skip_symbolic_shape=True)
        names = Session(data, 1).inputs
        quantization.quantize_static(
            str(cleaned), str(made), Reader(names), quant_format=quantization.QuantFormat.QDQ, per_channel=True,
            activation_type=quantization.QuantType.QUInt8, weight_type=quantization.QuantType.QInt8,
            op_types_to_quantize=["Conv"],
            reduce_range=True,  # weights of 7 bits: with 8, sums overflow on CPUs without VNNI
        )  # fmt: skip
        return made.read_bytes()
