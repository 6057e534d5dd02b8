"""What the stages that run a network of a bundle have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from torch import Tensor

from tryon.models.bundle import Role, load_bundle, place
from tryon.models.device import pick_device
from tryon.models.tensors import condition, images_to_tensor, masks_to_tensor
from tryon.stages.base import Stage

UInt8 = npt.NDArray[np.uint8]


class NetworkStage(Stage):
    """A stage around one network, at the network's own size, on the device this machine has.

    Attributes:
        role: of the network in the bundle.
    """

    role: ClassVar[Role]

    def __init__(self, bundle: str) -> None:
        """Loads the network.

        Args:
            bundle: URI.

        Raises:
            BundleError: no such bundle, or it lacks the network.
        """
        network, self._size = load_bundle(bundle).network(self.role)
        self._device = pick_device()
        self._network = place(network, self._device)

    def _condition(self, batch: Mapping[str, list[Any]]) -> dict[str, Tensor]:
        """What the network is conditioned on, at its size, on its device."""
        return {name: value.to(self._device) for name, value in condition(batch, self._size).items()}

    def _images(self, images: Sequence[UInt8], size: tuple[int, int] | None = None) -> Tensor:
        """Images at the network's size, or at another, on its device."""
        return images_to_tensor(images, size or self._size).to(self._device)

    def _masks(self, masks: Sequence[UInt8], size: tuple[int, int] | None = None, top: float = 1.0) -> Tensor:
        """Masks at the network's size, or at another, on its device."""
        return masks_to_tensor(masks, size or self._size, top).to(self._device)
