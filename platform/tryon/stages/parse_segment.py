"""Parse stage with the parsing network of a bundle: what `tryon train segment` wrote."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tryon.config import parse_config
from tryon.errors import BundleError
from tryon.images import Placement, letterbox
from tryon.models.bundle import load_bundle
from tryon.sample import NUM_LABELS
from tryon.stages._parse_network import NetworkParser, Runtime

UInt8 = npt.NDArray[np.uint8]


class SegmentParse(NetworkParser):
    """Labels the 18 ATR classes with a network of this project's own, at the size it was trained at.

    Reads ``person``; adds ``parse``.
    """

    name: ClassVar[str] = "parse_segment"

    def __init__(self, weights: str, *, sha256: str | None = None, **runtime: Any) -> None:
        """Loads the network.

        Args:
            weights: URI of a bundle.
            sha256: of its parsing network's weights; None takes whatever is there.
            runtime: fields of `Runtime`: device, bf16, batch_size, threads.

        Raises:
            BundleError: no such bundle, one without a parsing network, or changed since the run began.
            ConfigError: a runtime option is unknown or out of bounds.
        """
        settings = parse_config(Runtime, runtime, self.name)
        bundle = load_bundle(weights)
        if sha256 is not None and bundle.entry("parsing").sha256 != sha256:
            text = f"the parsing network of bundle {weights} is not the one that this run began with (sha256 differs)"
            raise BundleError(f"{text}: give its own bundle again", code="weights-changed", field="weights")
        network, self._size = bundle.network("parsing")
        super().__init__(network, np.arange(NUM_LABELS, dtype=np.uint8), settings)

    def _prepare(self, photo: UInt8) -> Tensor:
        placed, _ = letterbox(photo, *self._size)
        return torch.from_numpy(placed).permute(2, 0, 1).float().div_(127.5).sub_(1.0)

    def _logits(self, inputs_bchw: Tensor) -> Tensor:
        logits: Tensor = self._network(inputs_bchw)
        return logits

    def _grid(self, photo: tuple[int, int], logits: tuple[int, int]) -> tuple[Tensor, Tensor]:
        place = Placement.within(photo, *logits)
        rows = (torch.arange(photo[0]) + 0.5) * (place.height / photo[0]) - 0.5
        columns = (torch.arange(photo[1]) + 0.5) * (place.width / photo[1]) - 0.5
        return rows + place.y, columns + place.x
