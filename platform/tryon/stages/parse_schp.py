"""Parse stage with the published SCHP checkpoints (Li et al. 2020): ATR, LIP and CIHP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tryon.config import parse_config
from tryon.errors import BundleError, ConfigError
from tryon.images import resize
from tryon.models.schp import load_schp
from tryon.models.weights import check_digest, local_file
from tryon.stages._parse_network import NetworkParser, Runtime
from tryon.stages.labels import LABEL_SETS, LabelSet

UInt8 = npt.NDArray[np.uint8]
INPUT_PX: Mapping[LabelSet, int] = {"atr": 512, "lip": 473, "cihp": 473}  # as the checkpoints were trained
NUM_CLASSES: Mapping[int, LabelSet] = {18: "atr", 20: "lip"}
MEAN_BGR = np.array((0.406, 0.456, 0.485), dtype=np.float32)
STD_BGR = np.array((0.225, 0.224, 0.229), dtype=np.float32)


class SchpParse(NetworkParser):
    """Labels the 18 ATR classes with SCHP.

    Reads ``person``; adds ``parse``.
    """

    name: ClassVar[str] = "parse_schp"

    def __init__(
        self,
        weights: str,
        *,
        classes: LabelSet | None = None,
        sha256: str | None = None,
        **runtime: Any,
    ) -> None:
        """Loads the checkpoint.

        Args:
            weights: URI of a checkpoint as published.
            classes: what its labels mean. None: ATR of 18, LIP of 20; the CIHP checkpoint, which has 20 too, needs it.
            sha256: of the checkpoint's file; None takes whatever is there.
            runtime: fields of `Runtime`: device, bf16, batch_size, threads.

        Raises:
            BundleError: not an SCHP checkpoint, or changed since the run began.
            ConfigError: `classes` does not fit the checkpoint, or a runtime option is unknown or out of bounds.
            StorageError: nothing there.
        """
        settings = parse_config(Runtime, runtime, self.name)
        file = local_file(weights)
        check_digest(file, sha256, weights)
        network = load_schp(str(file))
        labels = _label_set(classes, network.config.num_classes, weights)
        super().__init__(network, LABEL_SETS[labels], settings)
        self._size = INPUT_PX[labels]

    def _prepare(self, photo: UInt8) -> Tensor:
        return torch.from_numpy(prepare(photo, self._size))

    def _logits(self, inputs_bchw: Tensor) -> Tensor:
        logits: Tensor = self._network(inputs_bchw)["fusion"]
        return logits

    def _grid(self, photo: tuple[int, int], logits: tuple[int, int]) -> tuple[Tensor, Tensor]:
        scale, left, top = placement(photo, self._size)
        # The checkpoints' own upsampling to the input's size aligns corners.
        rows = (torch.arange(photo[0]) * scale + top) * ((logits[0] - 1) / (self._size - 1))
        columns = (torch.arange(photo[1]) * scale + left) * ((logits[1] - 1) / (self._size - 1))
        return rows, columns


def placement(photo: tuple[int, int], size: int) -> tuple[float, float, float]:
    """Where a photo lies in the network's square input: scaled about its centre so that the longer side fills it.

    Args:
        photo: (H, W) px.
        size: of the input, px.

    Returns:
        Scale and the photo's left and top: its pixel (x, y) lies at (x * scale + left, y * scale + top).
    """
    height, width = photo
    scale = size / max(height - 1, width - 1, 1)
    return scale, size / 2 - scale * (width - 1) / 2, size / 2 - scale * (height - 1) / 2


def prepare(photo: UInt8, size: int) -> npt.NDArray[np.float32]:
    """A photo as the checkpoints take it.

    Args:
        photo: RGB (H, W, 3).
        size: of the input, px.

    Returns:
        BGR float32 (3, size, size), normalised; black where the photo does not reach.
    """
    scale, left, top = placement((photo.shape[0], photo.shape[1]), size)
    # Bilinear sampling skips pixels below half size, so a photo twice that large or more is averaged first.
    shrink = max(1, max(photo.shape) // (2 * size))
    small = resize(photo, max(1, photo.shape[0] // shrink), max(1, photo.shape[1] // shrink))
    fy, fx = photo.shape[0] / small.shape[0], photo.shape[1] / small.shape[1]
    matrix = np.array([[scale * fx, 0, left + scale * (fx - 1) / 2], [0, scale * fy, top + scale * (fy - 1) / 2]])
    placed = cv2.warpAffine(small, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    normalised = (placed[..., ::-1].astype(np.float32) / 255 - MEAN_BGR) / STD_BGR
    return np.ascontiguousarray(normalised.transpose(2, 0, 1))


def _label_set(classes: LabelSet | None, num: int, weights: str) -> LabelSet:
    found = classes or NUM_CLASSES.get(num)
    if found is None:
        text = f"{weights} has {num} classes; the SCHP checkpoints that are known have 18 (ATR) or 20 (LIP, CIHP)"
        raise BundleError(text, code="weights-mismatch", field="weights")
    if found not in LABEL_SETS:
        text = f"classes = {classes!r} is not allowed: {', '.join(LABEL_SETS)}"
        raise ConfigError(text, code="config-invalid", field="classes")
    if len(LABEL_SETS[found]) != num:
        text = f"classes = {classes!r} has {len(LABEL_SETS[found])} labels, {weights} has {num}"
        raise ConfigError(text, code="config-invalid", field="classes")
    return found
