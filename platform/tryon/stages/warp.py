"""Warp: the garment photo onto the body."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol, cast

import numpy as np
import numpy.typing as npt
import torch

from tryon.errors import SampleError
from tryon.models.layers import sample_image
from tryon.models.tensors import CONDITION_READS
from tryon.sample import Row
from tryon.stages._region import Region
from tryon.stages.network import NetworkStage

UInt8 = npt.NDArray[np.uint8]
MARGIN = 2  # px of the network's size around where it sees the garment lie: a finer grid ends a little beyond


class WarpNetwork(Protocol):
    """What this stage asks of a network: `gmm`, `flow`, or one more."""

    def field(self, condition: dict[str, torch.Tensor]) -> torch.Tensor:
        """The predicted warp, whatever the network predicts, a row a sample."""

    def at(self, field: torch.Tensor, size: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Sampling grid (b, height, width, 2) and the share of the warped mask to keep (b, 1, height, width)."""


class Warp(NetworkStage):
    """Predicts the warp at the network's size and samples the garment once, at its own size."""

    name = "warp"
    role = "warp"
    reads: ClassVar[tuple[str, ...]] = CONDITION_READS
    adds = ("warped_garment", "warped_mask")

    @torch.inference_mode()
    def run_whole(self, batch: Mapping[str, list[Any]], num: int) -> Sequence[Row | SampleError]:
        inputs = self._condition(batch)
        network = cast("WarpNetwork", self._network)
        field = self._field(inputs, batch)
        regions = self._regions(
            network, inputs["garment_mask"], field, [image.shape[:2] for image in batch["agnostic"]]
        )
        return [self._warp_one(network, batch, i, field[i : i + 1], regions[i]) for i in range(num)]

    @torch.inference_mode()
    def grids(self, batch: Mapping[str, list[Any]], size: tuple[int, int]) -> npt.NDArray[np.float32]:
        """The predicted sampling grids, for measuring: float32 (n, height, width, 2) in [-1, 1].

        Args:
            batch: the `reads` columns of rows that are all in order.
            size: (height, width) px of the grids.
        """
        network = cast("WarpNetwork", self._network)
        field = self._field(self._condition(batch), batch)
        return network.at(field, size)[0].float().cpu().numpy()

    def _field(self, inputs: dict[str, torch.Tensor], batch: Mapping[str, list[Any]]) -> torch.Tensor:
        """The predicted warps, float32, a row a sample."""
        del batch
        return self.runner(inputs)["field"].float()

    def _regions(
        self, network: WarpNetwork, masks: torch.Tensor, field: torch.Tensor, sizes: Sequence[tuple[int, int]]
    ) -> list[Region]:
        """Where each warped garment lies in an image of its size, by a warp at the network's size."""
        grid, _ = network.at(field, self._size)
        covers = (sample_image(masks, grid, padding="zeros")[:, 0] > 0).to(torch.uint8).cpu().numpy()
        return [Region.around(cover, size, margin=MARGIN) for cover, size in zip(covers, sizes, strict=True)]

    def _warp_one(
        self, network: WarpNetwork, batch: Mapping[str, list[Any]], i: int, field: torch.Tensor, region: Region
    ) -> Row:
        size = batch["agnostic"][i].shape[:2]
        garment, mask = np.zeros((*size, 3), dtype=np.uint8), np.zeros(size, dtype=np.uint8)
        if not region.is_empty:
            grid, visible = network.at(field, size)
            part = grid[:, region.rows, region.columns]
            cover = sample_image(self._planes(batch["garment_mask"][i]), part, padding="zeros")
            if visible is not None:
                cover = cover * visible[..., region.rows, region.columns]
            warped = sample_image(self._planes(batch["garment"][i]), part)[0].round_().to(torch.uint8)
            shown = (cover > 0)[0]
            region.of(garment)[:] = (warped * shown).permute(1, 2, 0).cpu().numpy()
            region.of(mask)[:] = cover[0, 0].mul(255).round_().to(torch.uint8).cpu().numpy()
        return {"warped_garment": garment, "warped_mask": mask}

    def _planes(self, image: UInt8) -> torch.Tensor:
        """An image (H, W) or (H, W, c) with its own values: float32 (1, c, H, W)."""
        pixels = image.reshape(*image.shape[:2], -1).astype(np.float32)
        return torch.from_numpy(pixels).to(self._device).permute(2, 0, 1)[None]
