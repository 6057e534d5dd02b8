"""Warp of a film's frames: the network looks at some of them, and what it says is smoothed in time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch

from tryon.config import Backend
from tryon.errors import ConfigError
from tryon.models.tensors import CONDITION_READS
from tryon.smoothing import runs, smooth
from tryon.stages.warp import Warp

WINDOW = (2.0, 1.0)  # weights of a looked-at frame and of its neighbours among those
CHUNK = 8  # frames that go through the network together


class WarpClip(Warp):
    """As `Warp`, for rows that are frames in order; ``id`` is the frame's number."""

    name = "warp_clip"
    reads: ClassVar[tuple[str, ...]] = (*CONDITION_READS, "id")

    def __init__(self, bundle: str, *, every: int = 2, backend: Backend = "auto") -> None:
        """Loads the network.

        Args:
            bundle: URI.
            every: the network looks at each so many-th frame; the warps of those between lie between theirs.
            backend: of `NetworkStage`.

        Raises:
            BundleError: no such bundle, or it lacks the network.
            ConfigError: `every` is below 1.
        """
        if every < 1:
            raise ConfigError(f"every = {every} must be 1 or more", code="config-invalid", field="every")
        super().__init__(bundle, backend=backend)
        self._every = every

    @staticmethod
    def reach_of(every: int) -> int:
        """Frames before and after that a frame's warp depends on."""
        return every * len(WINDOW)

    def _field(self, inputs: dict[str, torch.Tensor], batch: Mapping[str, list[Any]]) -> torch.Tensor:
        numbers = [int(one) for one in batch["id"]]
        found = runs(numbers, batch["pose"])
        keys = [self._keys(numbers, start, stop) for start, stop in found]
        seen = self._seen(inputs, [key for group in keys for key in group])
        out = np.empty((len(numbers), *seen.shape[1:]), dtype=np.float32)
        done = 0
        for (start, stop), group in zip(found, keys, strict=True):
            steady = smooth(seen[done : done + len(group)], WINDOW)
            done += len(group)
            for i in range(start, stop):
                after = min(j for j, key in enumerate(group) if key >= i)
                before = max(j for j, key in enumerate(group) if key <= i)
                share = 0.0 if after == before else (i - group[before]) / (group[after] - group[before])
                out[i] = (1 - share) * steady[before] + share * steady[after]
        return torch.from_numpy(out).to(self._device)

    def _keys(self, numbers: list[int], start: int, stop: int) -> list[int]:
        """Places of the frames that the network looks at: by number, so that it does not matter where a task begins."""
        return [i for i in range(start, stop) if numbers[i] % self._every == 0 or i in (start, stop - 1)]

    def _seen(self, inputs: dict[str, torch.Tensor], keys: list[int]) -> Any:
        made = []
        for i in range(0, len(keys), CHUNK):
            part = {name: tensor[keys[i : i + CHUNK]] for name, tensor in inputs.items()}
            made.append(self.runner(part)["field"].float().cpu())
        return torch.cat(made).numpy()
