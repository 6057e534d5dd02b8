"""Solvers of a diffusion network compared: how near few steps come to the reference and the truth, and what they save.

Shape legend: b batch, h, w network size in px.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tryon import storage
from tryon.data.ingest import LocalBatches, check_fields
from tryon.data.shards import read_manifest
from tryon.errors import BundleError
from tryon.models.bundle import load_bundle, place
from tryon.models.contract import SampledSynthesis
from tryon.models.device import autocast, pick_device
from tryon.models.metrics import paired_metrics
from tryon.models.sampling import Sampling
from tryon.models.tensors import CONDITION_READS, condition, images_to_tensor, tensor_to_images
from tryon.models.tom import compose

REFERENCE: Mapping[str, Any] = {"solver": "ddim", "steps": 200}
CASES: tuple[Mapping[str, Any], ...] = (
    {"solver": "ddim", "steps": 20},
    {"solver": "dpm++", "steps": 20},
    {"solver": "unipc", "steps": 20},
    {"solver": "dpm++", "steps": 10},
    {"solver": "unipc", "steps": 10},
)


@dataclass(frozen=True)
class SolverFigures:
    """One way of sampling, means over samples and seeds.

    Attributes:
        solver: its name.
        steps: it took.
        ssim: of the try-on against the photo, 1 for equal images.
        psnr: against the photo, dB.
        ssim_to_reference: against the reference's try-on with the same seed.
        seconds: a sample. On a CPU its own time, which other processes do not change; else the clock's.
        speedup: the reference's seconds over these.
    """

    solver: str
    steps: int
    ssim: float
    psnr: float
    ssim_to_reference: float
    seconds: float
    speedup: float


def compare_solvers(
    network: SampledSynthesis,
    told: dict[str, Tensor],
    truth: Tensor,
    *,
    cases: Sequence[Mapping[str, Any]] = CASES,
    reference: Mapping[str, Any] = REFERENCE,
    seeds: Sequence[int] = (0,),
) -> list[SolverFigures]:
    """Samples the same inputs in each way.

    Args:
        network: in eval mode.
        told: of `tryon.models.tensors.condition`, with warped (b, 3, h, w) and warped_mask (b, 1, h, w).
        truth: photos (b, 3, h, w) in [-1, 1].
        cases: fields of `Sampling` that differ from the network's own.
        reference: the same; what the cases are held against.
        seeds: each case is sampled with each.

    Returns:
        The reference's figures, then each case's.
    """
    photos = list(tensor_to_images(truth))
    _sampled(network, told, Sampling(steps=1))  # what is made once is made here, untimed
    figures: list[SolverFigures] = []
    reference_images: list[Any] = []
    for case in (reference, *cases):
        images: list[Any] = []
        seconds = 0.0
        for seed in seeds:
            sampling = Sampling(**{**network.sampling.model_dump(), **case, "seed": seed})
            start = _now(truth.device)
            made = _sampled(network, told, sampling)
            seconds += _now(truth.device) - start
            images += list(tensor_to_images(made))
        reference_images = reference_images or images
        measured = paired_metrics(images, photos * len(seeds))
        seconds /= len(images)
        figures.append(
            SolverFigures(
                solver=sampling.solver,
                steps=sampling.steps,
                ssim=_mean(measured["ssim"]),
                psnr=_mean(measured["psnr"]),
                ssim_to_reference=_mean(paired_metrics(images, reference_images)["ssim"]),
                seconds=seconds,
                speedup=figures[0].seconds / seconds if figures else 1.0,
            )
        )
    return figures


def compare_bundle(bundle: str, data: str, num: int = 16, **options: Any) -> list[SolverFigures]:
    """The same for a bundle's synthesis network on its warp, on the first samples of a data set.

    Args:
        bundle: URI.
        data: URI of an annotated data set.
        num: samples.
        options: of `compare_solvers`.

    Raises:
        BundleError: no bundle, or its synthesis network does not sample.
        DataError: no data set, or fields missing.
    """
    opened, device = load_bundle(bundle), pick_device()
    network, size = opened.network("synthesis")
    if not isinstance(network, SampledSynthesis):
        name = opened.manifest.networks["synthesis"].network
        text = f"the synthesis network of {bundle!r} is {name}, which is not sampled: there are no solvers to compare"
        raise BundleError(text, code="bundle-unsampled", field="bundle")
    told, truth = read_inputs(data, size, num)
    told, truth = {name: value.to(device) for name, value in told.items()}, truth.to(device)
    place(network, device)
    with torch.inference_mode():
        told["warped"], told["warped_mask"] = place(opened.network("warp")[0], device).warp(told)[:2]  # type: ignore[operator]
    return compare_solvers(network, told, truth, **options)


def read_inputs(data: str, size: tuple[int, int], num: int) -> tuple[dict[str, Tensor], Tensor]:
    """The condition and the photos (b, 3, h, w) of a data set's first samples, at a network's size.

    Raises:
        DataError: no data set, or fields missing.
    """
    data, manifest = storage.absolute(data), read_manifest(data)
    columns = tuple(dict.fromkeys(("id", *CONDITION_READS, "person")))
    check_fields(data, manifest, columns)
    batch = next(LocalBatches(data, manifest, columns, size, 0.0)("train", min(num, manifest.rows), None))
    return condition(batch, size), images_to_tensor(batch["person"], size)


@torch.inference_mode()
def _sampled(network: SampledSynthesis, told: dict[str, Tensor], sampling: Sampling) -> Tensor:
    """The try-on (b, 3, h, w), as the `synthesize` stage composes it."""
    with autocast(told["warped"].device):
        out = network.synthesize(told, told["warped"], told["warped_mask"], sampling)
    return compose(told, told["warped"], out["composition_mask"], out["rendering"].float())


def _now(device: torch.device) -> float:
    if device.type == "cpu":
        return time.process_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()


def _mean(values: Sequence[float | None]) -> float:
    known = [value for value in values if value is not None]
    return sum(known) / len(known)
