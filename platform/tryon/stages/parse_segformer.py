"""Parse stage with any `transformers` semantic-segmentation checkpoint; SegFormer-clothes has the 18 ATR classes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from tryon.config import parse_config
from tryon.errors import BundleError, ConfigError
from tryon.models.weights import check_digest, local_folder
from tryon.stages._parse_network import NetworkParser, Runtime
from tryon.stages.labels import label_table

UInt8 = npt.NDArray[np.uint8]


class SegformerParse(NetworkParser):
    """Labels the 18 ATR classes with a checkpoint that `AutoModelForSemanticSegmentation` loads.

    Reads ``person``; adds ``parse``.
    """

    name: ClassVar[str] = "parse_segformer"

    def __init__(
        self,
        weights: str,
        *,
        labels: Mapping[str, str] | None = None,
        revision: str | None = None,
        sha256: str | None = None,
        **runtime: Any,
    ) -> None:
        """Loads the checkpoint.

        Args:
            weights: folder, ``s3://`` prefix or hub id (``owner/name``).
            labels: its labels' ATR classes by name, where the names do not tell, e.g. ``{"blazer": "upper-clothes"}``.
            revision: of a hub id: commit, tag or branch.
            sha256: of the checkpoint (`tryon.models.weights.digest`); None takes whatever is there.
            runtime: fields of `Runtime`: device, bf16, batch_size, threads.

        Raises:
            BundleError: not there, no such checkpoint, incomplete, or changed since the run began.
            ConfigError: labels that cannot be matched, a runtime option unknown or out of bounds, or no `transformers`.
            StorageError: nothing at that URI.
        """
        settings = parse_config(Runtime, runtime, self.name)
        folder = local_folder(weights, revision)
        check_digest(folder, sha256, weights)
        self._processor = _load_processor(folder, weights)
        network, names = _load_network(folder, weights)
        super().__init__(network, label_table(names, labels or {}, weights), settings)

    def _prepare(self, photo: UInt8) -> Tensor:
        made = self._processor(images=photo, input_data_format="channels_last", return_tensors="pt")
        pixels: Tensor = made["pixel_values"][0].float()
        return pixels

    def _logits(self, inputs_bchw: Tensor) -> Tensor:
        logits: Tensor = self._network(pixel_values=inputs_bchw).logits
        return logits

    def _grid(self, photo: tuple[int, int], logits: tuple[int, int]) -> tuple[Tensor, Tensor]:
        rows, columns = (
            (torch.arange(full) + 0.5) * (small / full) - 0.5 for full, small in zip(photo, logits, strict=True)
        )
        return rows, columns


def _load_processor(folder: Path, weights: str) -> Any:
    """The checkpoint's own resizing and normalising, on Pillow: the other backend needs torchvision.

    Raises:
        BundleError: it cuts or pads photos, so that labels would not lie on them.
    """
    _quiet()
    from transformers import AutoImageProcessor

    try:
        processor = AutoImageProcessor.from_pretrained(folder, backend="pil", local_files_only=True)
    except (OSError, ValueError, ImportError, KeyError, TypeError) as error:
        raise _unusable(weights, error) from error
    for option in ("do_center_crop", "do_pad"):
        if getattr(processor, option, None):
            text = (
                f"{weights} has {option} in its preprocessor_config.json: its labels would not lie on the whole photo"
            )
            raise BundleError(text, code="weights-mismatch", field="weights")
    return processor


def _load_network(folder: Path, weights: str) -> tuple[nn.Module, list[str]]:
    """The network in float32 and its labels in order.

    Raises:
        BundleError: no semantic segmentation, or weights are missing, which transformers would make up.
    """
    _quiet()
    from transformers import AutoModelForSemanticSegmentation

    try:
        network, info = AutoModelForSemanticSegmentation.from_pretrained(
            folder, local_files_only=True, output_loading_info=True, dtype=torch.float32
        )
    # Damage shows as whatever the format's reader raises: safetensors, pickle and zip have errors of their own.
    except Exception as error:
        raise _unusable(weights, error) from error
    lacking = sorted(info["missing_keys"]) + sorted(map(str, info["mismatched_keys"]))
    if lacking:
        text = (
            f"{weights} is no complete semantic-segmentation checkpoint: {lacking[0]!r} is missing or of another size"
        )
        raise BundleError(text, code="weights-mismatch", field="weights")
    names = network.config.id2label
    return network.eval(), [str(names.get(i, f"LABEL_{i}")) for i in range(network.config.num_labels)]


def _unusable(weights: str, error: Exception) -> BundleError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return BundleError(
        f"{weights} cannot be used as a semantic-segmentation checkpoint: {reason}",
        code="weights-mismatch",
        field="weights",
    )


def _quiet() -> None:
    """Makes sure of transformers, without its progress bars and notices on stderr.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        from transformers.utils import logging
    except ImportError as error:
        text = "the segformer parser needs transformers: pip install transformers==5.23.0"
        raise ConfigError(text, code="parser-unavailable", field="parser") from error
    logging.set_verbosity_error()
    logging.disable_progress_bar()
