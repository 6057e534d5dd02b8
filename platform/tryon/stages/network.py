"""What the stages that run a network of a bundle have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tryon.config import Backend
from tryon.errors import SampleError
from tryon.models.backends import STEPS, runner
from tryon.models.bundle import Role, load_bundle, place
from tryon.models.checks import mask_faults
from tryon.models.device import pick_device
from tryon.models.tensors import CONDITION_READS, condition, images_to_tensor, masks_to_tensor
from tryon.sample import Row
from tryon.stages.base import Stage

UInt8 = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class _Condition:
    """A condition, kept for the stage that follows with the same arrays: warp and synthesis look at the same one."""

    columns: Mapping[str, list[Any]]
    size: tuple[int, int]
    tensors: Mapping[str, Tensor]

    def is_of(self, batch: Mapping[str, list[Any]], size: tuple[int, int], device: torch.device) -> bool:
        """Whether it was made of these very arrays."""
        if size != self.size or self.tensors["garment"].device != device:
            return False
        return all(
            len(batch[name]) == len(old) and all(a is b for a, b in zip(batch[name], old, strict=True))
            for name, old in self.columns.items()
        )


_last: _Condition | None = None


class NetworkStage(Stage):
    """A stage around one network, at the network's own size, on the device this machine has.

    Attributes:
        role: of the network in the bundle.
    """

    role: ClassVar[Role]

    def __init__(self, bundle: str, *, backend: Backend = "auto") -> None:
        """Loads the network.

        Args:
            bundle: URI.
            backend: that runs it, see `tryon.models.backends.runner`; of roles that have one.

        Raises:
            BundleError: no such bundle, it lacks the network, or what the backend needs.
            ConfigError: the backend cannot run this network here.
        """
        opened = load_bundle(bundle)
        network, self._size = opened.network(self.role)
        self._device = pick_device()
        self._network = place(network, self._device)
        if self.role in STEPS:
            self.runner = runner(opened, self.role, self._network, self._device, backend)

    def run(self, batch: Mapping[str, list[Any]], num: int) -> Sequence[Row | SampleError]:
        """Takes out rows whose own masks the network would turn away, with the code ``"mask-unusable"``."""
        faults = self._faults(batch)
        whole = [i for i in range(num) if i not in faults]
        columns = {name: [column[i] for i in whole] for name, column in batch.items()} if faults else batch
        made = iter(self.run_whole(columns, len(whole)) if whole else ())
        return [faults[i] if i in faults else next(made) for i in range(num)]

    @abstractmethod
    def run_whole(self, batch: Mapping[str, list[Any]], num: int) -> Sequence[Row | SampleError]:
        """As `Stage.run`, of rows that the network takes."""

    def _faults(self, batch: Mapping[str, list[Any]]) -> dict[int, SampleError]:
        faults: dict[int, SampleError] = {}
        for name in getattr(self._network, "checked_masks", ()):
            if name in batch:
                for row, fault in mask_faults(name, masks_to_tensor(batch[name], self._size)).items():
                    faults[row] = SampleError(f"{name} is {fault}", code="mask-unusable", field=name)
        return faults

    def _condition(self, batch: Mapping[str, list[Any]]) -> dict[str, Tensor]:
        """What the network is conditioned on, at its size, on its device; not to be written to."""
        global _last
        last = _last
        if last is None or not last.is_of(batch, self._size, self._device):
            made = {name: value.to(self._device) for name, value in condition(batch, self._size).items()}
            _last = last = _Condition({name: list(batch[name]) for name in CONDITION_READS}, self._size, made)
        return dict(last.tensors)

    def _images(self, images: Sequence[UInt8], size: tuple[int, int] | None = None) -> Tensor:
        """Images at the network's size, or at another, on its device."""
        return images_to_tensor(images, size or self._size).to(self._device)

    def _masks(self, masks: Sequence[UInt8], size: tuple[int, int] | None = None, top: float = 1.0) -> Tensor:
        """Masks at the network's size, or at another, on its device."""
        return masks_to_tensor(masks, size or self._size, top).to(self._device)
