"""The networks that images are judged by, LPIPS and FID's Inception: loaded where their weights were given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tryon.errors import BundleError, StorageError
from tryon.evaluation.config import EvaluateConfig
from tryon.models.bundle import place
from tryon.models.device import pick_device
from tryon.models.inception import NUM_CLASSES, NUM_FEATURES, SIDE_PX, InceptionOutput, load_inception
from tryon.models.lpips import WHICH_FILE, load_lpips
from tryon.models.tensors import images_to_tensor
from tryon.models.weights import digest, local_file

Images = Sequence[npt.NDArray[np.uint8]]
BATCH = 16  # images that go through Inception at once


class Judges:
    """LPIPS and Inception on this machine's device, float32.

    Attributes:
        judges_pairs: whether there is LPIPS.
        judges_sets: whether there is Inception.
    """

    def __init__(self, config: EvaluateConfig, name: Callable[[str], str] = lambda key: f"--{key}") -> None:
        """Loads what is asked for.

        Args:
            config: names the files.
            name: what the user calls an option, e.g. ``lpips-weights``.

        Raises:
            BundleError: a file is missing, damaged or of another network; the message says which option, which file.
        """
        self._device = pick_device()
        self._lpips: nn.Module | None = None
        self._inception: nn.Module | None = None
        if config.lpips_weights is not None:
            try:
                lpips = load_lpips(config.lpips_weights, config.lpips_heads)
            except (BundleError, StorageError) as error:
                raise _fault(error, name("lpips-weights"), f"{error.message}; {WHICH_FILE}") from error
            self._kind, self._least_px = lpips.kind, lpips.least_px
            self._lpips = place(lpips, self._device)
        if config.fid_weights is not None:
            try:
                self._inception = place(load_inception(config.fid_weights), self._device)
            except BundleError as error:
                raise _fault(error, name("fid-weights"), error.message) from error
        self.judges_pairs, self.judges_sets = self._lpips is not None, self._inception is not None

    @torch.inference_mode()
    def distances(self, results: Images, truths: Images) -> list[float | None]:
        """LPIPS of each result from its truth, at their own size; None under the size that the network needs."""
        return [self._distance(result, truth) for result, truth in zip(results, truths, strict=True)]

    @torch.inference_mode()
    def features(self, images: Images) -> InceptionOutput:
        """Inception's features (n, 2048) and logits (n, 1008), float32, on the CPU."""
        assert self._inception is not None
        features, logits = [torch.zeros(0, NUM_FEATURES)], [torch.zeros(0, NUM_CLASSES)]
        for start in range(0, len(images), BATCH):
            part = torch.cat([self._to_side(image) for image in images[start : start + BATCH]])
            out = self._inception(part)
            features.append(out.features.float().cpu())
            logits.append(out.logits.float().cpu())
        return InceptionOutput(torch.cat(features), torch.cat(logits))

    def provenance(self, config: EvaluateConfig) -> dict[str, Any]:
        """Which weights: network and sha256 of each file."""
        told: dict[str, Any] = {}
        if config.lpips_weights is not None:
            told["lpips"] = {"network": self._kind, "sha256": digest(local_file(config.lpips_weights))}
            heads = config.lpips_heads
            told["lpips"]["heads_sha256"] = digest(local_file(heads)) if heads else "torchmetrics' copy of version 0.1"
        if config.fid_weights is not None:
            told["fid"] = {"network": "Inception v3 of FID", "sha256": digest(local_file(config.fid_weights))}
        return told

    def _distance(self, result: npt.NDArray[np.uint8], truth: npt.NDArray[np.uint8]) -> float | None:
        assert self._lpips is not None
        if min(truth.shape[:2]) < self._least_px:
            return None
        return float(self._lpips(self._tensor(result), self._tensor(truth)))

    def _to_side(self, image: npt.NDArray[np.uint8]) -> Tensor:
        """Resized as FID is: Inception itself would do the same, but takes images of one size alone."""
        return F.interpolate(self._tensor(image), size=(SIDE_PX, SIDE_PX), mode="bilinear", align_corners=False)

    def _tensor(self, image: npt.NDArray[np.uint8]) -> Tensor:
        return images_to_tensor([image], (image.shape[0], image.shape[1])).to(self._device)


def _fault(error: BundleError | StorageError, option: str, sentence: str) -> BundleError:
    return BundleError(f"{option}: {sentence}", code=error.code, field=option)
