"""Faults made on purpose in the worn garment: noise, blur, compression and elastic shift."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from tryon.codec import decode_image, encode_jpeg
from tryon.config import Config

UInt8 = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]
FaultName = Literal["noise", "blur", "jpeg", "elastic"]
Bounds = tuple[float, float]

CELLS = 5  # of an elastic shift across the frame: wide as a fold, narrow enough to bend a print


class FaultConfig(Config):
    """How strong faults are: each is drawn between two bounds."""

    noise: Bounds = Field((8.0, 45.0), description="standard deviation of Gaussian noise, of 255")
    blur: Bounds = Field((0.003, 0.012), description="standard deviation of a Gaussian blur, share of the height")
    jpeg: Bounds = Field((3.0, 20.0), description="JPEG quality, 1..100")
    elastic: Bounds = Field((0.008, 0.03), description="largest shift, share of the height")

    @model_validator(mode="after")
    def _ordered(self) -> FaultConfig:
        tops = {"noise": 128, "blur": 0.1, "jpeg": 100, "elastic": 0.2}
        for name, top in tops.items():
            low, high = getattr(self, name)
            if not 0 <= low <= high <= top:
                raise ValueError(f"{name} goes from the least to the largest, 0..{top}")
        return self


def shift_field(size: tuple[int, int], amplitude_px: float, rng: np.random.Generator) -> Float32:
    """A smooth random shift, float32 (h, w, 2) px, nowhere longer than the amplitude."""
    coarse = rng.uniform(-1, 1, (CELLS, CELLS, 2)).astype(np.float32)
    field = cv2.resize(coarse, (size[1], size[0]), interpolation=cv2.INTER_CUBIC)
    longest = max(float(np.hypot(field[..., 0], field[..., 1]).max()), 1e-6)
    return np.asarray(field * np.float32(amplitude_px / longest), dtype=np.float32)


def shift(image: UInt8, field_hw2: Float32) -> UInt8:
    """The image sampled at each pixel displaced by the field, uint8 (H, W) or (H, W, 3); its edge goes on."""
    height, width = field_hw2.shape[:2]
    x = field_hw2[..., 0] + np.arange(width, dtype=np.float32)[None, :]
    y = field_hw2[..., 1] + np.arange(height, dtype=np.float32)[:, None]
    return np.asarray(cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), dtype=np.uint8)


def _noise(image: UInt8, sigma: float, rng: np.random.Generator) -> UInt8:
    grain = np.float32(sigma) * rng.standard_normal(image.shape, dtype=np.float32)
    return np.asarray(np.clip(np.rint(image + grain), 0, 255), dtype=np.uint8)


def _blur(image: UInt8, share: float, rng: np.random.Generator) -> UInt8:
    del rng
    return np.asarray(cv2.GaussianBlur(image, (0, 0), max(share * image.shape[0], 0.3)), dtype=np.uint8)


def _jpeg(image: UInt8, quality: float, rng: np.random.Generator) -> UInt8:
    del rng
    return decode_image(encode_jpeg(image, max(1, round(quality))))


def _elastic(image: UInt8, share: float, rng: np.random.Generator) -> UInt8:
    return shift(image, shift_field((image.shape[0], image.shape[1]), share * image.shape[0], rng))


FAULTS: Mapping[str, Callable[[UInt8, float, np.random.Generator], UInt8]] = {
    "noise": _noise,
    "blur": _blur,
    "jpeg": _jpeg,
    "elastic": _elastic,
}


def make_fault(name: str, image: UInt8, config: FaultConfig, rng: np.random.Generator) -> UInt8:
    """The image, RGB uint8 (H, W, 3), with a fault of drawn strength."""
    strength = rng.uniform(*getattr(config, name))
    return FAULTS[name](image, strength, rng)
