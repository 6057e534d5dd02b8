"""Light, camera noise and compression of photos."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from tryon.codec import decode_image, encode_jpeg
from tryon.data.augment.config import JpegConfig, LightConfig, NoiseConfig

UInt8 = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]
LUMA = (0.299, 0.587, 0.114)  # of red, green, blue


@dataclass(frozen=True)
class Light:
    """A change of exposure and colour; all zero changes nothing.

    Attributes:
        brightness: relative.
        contrast: relative, about mid grey.
        saturation: relative.
        warmth: relative, of red up and blue down.
    """

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    warmth: float = 0.0

    def __call__(self, image: UInt8) -> UInt8:
        """The image, RGB uint8 (H, W, 3), in this light."""
        value = np.arange(256) / 255.0
        value = (value - 0.5) * (1 + self.contrast) + 0.5
        tint = 1 + np.array([self.warmth, 0.0, -self.warmth])
        table = value[:, None] * tint * (1 + self.brightness) * 255
        lit = cv2.LUT(image, np.rint(np.clip(table, 0, 255)).astype(np.uint8)[:, None, :])
        mix = (1 + self.saturation) * np.eye(3) - self.saturation * np.array([LUMA] * 3)
        return np.asarray(cv2.transform(lit, mix), dtype=np.uint8)


def draw_light(config: LightConfig, rng: np.random.Generator) -> tuple[Light, Light]:
    """Light on the person photo, and the light on the garment photo, a little apart from it."""
    bounds = np.array([config.brightness, config.contrast, config.saturation, config.warmth])
    drawn, apart = rng.uniform(-1, 1, (2, 4)) * bounds
    return Light(*drawn), Light(*(drawn + config.apart * apart))


def draw_grain(config: NoiseConfig, size: tuple[int, int], rng: np.random.Generator) -> Float32:
    """Camera noise of one exposure, float32 (H, W, 1)."""
    sigma = rng.uniform(*config.sigma)
    return np.float32(sigma) * rng.standard_normal((*size, 1), dtype=np.float32)


def add_grain(image: UInt8, grain_hw1: Float32) -> UInt8:
    """The image with noise, clipped."""
    return np.asarray(np.clip(np.rint(image + grain_hw1), 0, 255), dtype=np.uint8)


def draw_quality(config: JpegConfig, rng: np.random.Generator) -> int:
    """A JPEG quality."""
    return int(rng.integers(config.quality[0], config.quality[1] + 1))


def through_jpeg(image: UInt8, quality: int) -> UInt8:
    """The image after a round trip through JPEG."""
    return decode_image(encode_jpeg(image, quality))
