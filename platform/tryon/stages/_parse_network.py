"""What the parsers with weights have in common: batches, device and precision, and labels at the photo's own size.

Shape legend: b batch, k classes, h, w network or logits size, H, W the photo's size in px.
"""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor, nn

from tryon.config import Config
from tryon.errors import ConfigError, SampleError
from tryon.models.bundle import place
from tryon.models.device import autocast, autocast_dtype, pick_device
from tryon.sample import Row
from tryon.stages.base import Stage

UInt8 = npt.NDArray[np.uint8]
GPU_BATCH = 8
BAND_PX = 1 << 18  # photo pixels whose logits are in memory at once: 19 MB of 18 classes


class Runtime(Config):
    """What a parser with weights runs with; each is an option of the stage."""

    device: str | None = Field(None, description="as torch names it; None: what this machine has")
    bf16: bool = Field(False, description="bfloat16 where it is fast (GPU, CPU with AMX); changes a few pixels")
    batch_size: int | None = Field(None, ge=1, description="photos at once; None: 1 on a CPU, where more is no faster")
    threads: int | None = Field(
        1,
        ge=1,
        description="of torch, on a CPU; None: its own choice. The sums' order, so a few pixels, depend on it: 1 gives "
        "the same labels in an actor of one CPU and in a process with many",
    )


class NetworkParser(Stage):
    """Parses photos with a trained network. Subclasses say how it is fed and asked."""

    reads: ClassVar[tuple[str, ...]] = ("person",)
    adds: ClassVar[tuple[str, ...]] = ("parse",)

    def __init__(self, network: nn.Module, table: UInt8, runtime: Runtime) -> None:
        """Places the network.

        Args:
            network: in eval mode.
            table: ATR class of each of its classes.
            runtime: what it runs with.

        Raises:
            ConfigError: no such device.
        """
        self._device = _device(runtime.device)
        if runtime.bf16 and autocast_dtype(self._device) is None:
            warnings.warn(f"bf16 is ignored: this {self._device.type} has no fast bfloat16", stacklevel=2)
        self._network = place(network.requires_grad_(False), self._device)
        self._table = table
        self._runtime = runtime
        self._batch_size = runtime.batch_size or (1 if self._device.type == "cpu" else GPU_BATCH)

    @abstractmethod
    def _prepare(self, photo: UInt8) -> Tensor:
        """A photo, RGB (H, W, 3), as the network takes it: float32 (3, h, w)."""

    @abstractmethod
    def _logits(self, inputs_bchw: Tensor) -> Tensor:
        """Logits (b, k, h, w)."""

    @abstractmethod
    def _grid(self, photo: tuple[int, int], logits: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Where the photo's pixel rows and columns lie in the logits.

        Args:
            photo: (H, W).
            logits: (h, w).

        Returns:
            float32 (H,) rows 0..h-1 and (W,) columns 0..w-1; what lies outside takes the border's logits.
        """

    @torch.inference_mode()
    def run(self, batch: Mapping[str, list[Any]], num: int) -> Sequence[Row | SampleError]:
        with _threads(self._runtime.threads):
            return [{"parse": parse} for parse in self._parse(batch["person"])]

    def _parse(self, photos: Sequence[UInt8]) -> list[UInt8]:
        parses: list[UInt8] = []
        for start in range(0, len(photos), self._batch_size):
            inputs = [self._prepare(photo) for photo in photos[start : start + self._batch_size]]
            for _, alike in groupby(inputs, key=lambda x: x.shape):
                stacked = torch.stack(list(alike)).to(self._device, memory_format=torch.channels_last)
                with autocast(self._device, "auto" if self._runtime.bf16 else "fp32"):
                    logits = self._logits(stacked)
                parses += [self._labels(one, photos[len(parses) + i]) for i, one in enumerate(logits.float())]
        return parses

    def _labels(self, logits_khw: Tensor, photo: UInt8) -> UInt8:
        size = (photo.shape[0], photo.shape[1])
        rows, columns = self._grid(size, (logits_khw.shape[1], logits_khw.shape[2]))
        return self._table[enlarge_labels(logits_khw, rows, columns)]


def enlarge_labels(logits_khw: Tensor, rows: Tensor, columns: Tensor) -> UInt8:
    """The likeliest class of each pixel of a photo, from bilinearly interpolated logits.

    Works in bands of rows: the logits of a 60-megapixel photo would take 4 GB at once.

    Args:
        logits_khw: float32 (k, h, w).
        rows: (H,) where each row of the photo lies in the logits' rows.
        columns: (W,) likewise.

    Returns:
        uint8 (H, W), 0..k-1.
    """
    across = _weights(columns.to(logits_khw.device), logits_khw.shape[2]).T.contiguous()
    bands = []
    for band in torch.split(rows.to(logits_khw.device), max(1, BAND_PX // len(columns))):
        down = _weights(band, logits_khw.shape[1])
        bands.append(_argmax(down @ logits_khw @ across))
    return torch.cat(bands).cpu().numpy()


def _argmax(scores_khw: Tensor) -> Tensor:
    """uint8 (h, w): the first of the highest classes. A class at a time is 3 times as fast as `Tensor.argmax` here."""
    best, out = scores_khw[0].clone(), torch.zeros_like(scores_khw[0], dtype=torch.uint8)
    for k in range(1, len(scores_khw)):
        out.masked_fill_(scores_khw[k] > best, k)
        torch.maximum(best, scores_khw[k], out=best)
    return out


def _weights(positions: Tensor, size: int) -> Tensor:
    """(n, size): each row has the two weights of linear interpolation at its position."""
    clamped = positions.clamp(0, size - 1)
    return (1 - (clamped[:, None] - torch.arange(size, device=positions.device)).abs()).clamp_min(0)


@contextmanager
def _threads(num: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(num or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _device(name: str | None) -> torch.device:
    if name is None:
        return pick_device()
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"device = {name!r} is no device: cpu or cuda", code="config-invalid") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        text = f"device = {name!r}: torch finds no CUDA on this machine; leave it out or give cpu"
        raise ConfigError(text, code="config-invalid")
    return device
