"""What an augmentation run does: each transform with its probability and bounds."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from tryon.config import Config

Probability = Annotated[float, Field(ge=0, le=1)]
Share = Annotated[float, Field(ge=0, le=0.5)]


class FlipConfig(Config):
    """Left and right swapped: pixels, labels, keypoints, body parts, flow."""

    probability: Probability = Field(0.5, description="of a variant to be mirrored")
    garment: bool = Field(
        True,
        description="mirror the garment photo too; else a worn print is the mirror image of the photo's, which no "
        "warp of a real garment makes",
    )


class AffineConfig(Config):
    """Scale, rotation and shift about the frame's middle."""

    probability: Probability = Field(0.8, description="of a variant to be moved")
    scale: tuple[float, float] = Field((0.9, 1.15), description="least and largest factor, 0.5..2")
    rotation_deg: float = Field(6.0, ge=0, le=45, description="largest rotation either way")
    shift: Share = Field(0.05, description="largest shift either way, share of the frame's side")

    @model_validator(mode="after")
    def _ordered(self) -> AffineConfig:
        if not 0.5 <= self.scale[0] <= self.scale[1] <= 2.0:
            raise ValueError("scale goes from the least factor to the largest, 0.5..2")
        return self


class CropConfig(Config):
    """A part of the frame, brought back to the frame's size."""

    probability: Probability = Field(0.3, description="of a variant to be cropped")
    min_side: float = Field(0.75, ge=0.3, le=1, description="least side of the crop, share of the frame's")


class LightConfig(Config):
    """Exposure and colour; the person and the garment photo change together, so that colours still match."""

    probability: Probability = Field(0.8, description="of a variant to be lit otherwise")
    brightness: Share = Field(0.15, description="largest change either way")
    contrast: Share = Field(0.15, description="largest change either way")
    saturation: Share = Field(0.2, description="largest change either way")
    warmth: Share = Field(0.04, description="largest change of red against blue either way")
    apart: float = Field(0.2, ge=0, le=1, description="share of these bounds by which the garment photo differs")


class NoiseConfig(Config):
    """Camera noise, Gaussian, one grain for all pictures of the person."""

    probability: Probability = Field(0.2, description="of a photo to be noisy")
    sigma: tuple[float, float] = Field((1.0, 5.0), description="least and largest standard deviation, of 255")

    @model_validator(mode="after")
    def _ordered(self) -> NoiseConfig:
        if not 0 <= self.sigma[0] <= self.sigma[1] <= 64:
            raise ValueError("sigma goes from the least to the largest, 0..64")
        return self


class JpegConfig(Config):
    """A round trip through JPEG."""

    probability: Probability = Field(0.2, description="of a photo to be compressed")
    quality: tuple[int, int] = Field((60, 95), description="least and largest quality")

    @model_validator(mode="after")
    def _ordered(self) -> JpegConfig:
        if not 1 <= self.quality[0] <= self.quality[1] <= 100:
            raise ValueError("quality goes from the least to the largest, 1..100")
        return self


class AugmentConfig(Config):
    """What an augmentation run does."""

    variants: int = Field(6, ge=1, le=32, description="made of each sample, beside itself")
    keep_original: bool = Field(True, description="write the sample itself too")
    held_out: bool = Field(False, description="augment samples whose split is val or test too; else they pass as is")
    seed: int = Field(0, ge=0, le=2**31 - 1, description="same seed, same bytes")
    flip: FlipConfig = Field(default_factory=FlipConfig, description="mirror image")
    affine: AffineConfig = Field(default_factory=AffineConfig, description="of the person photo and its layers")
    crop: CropConfig = Field(default_factory=CropConfig, description="of the person photo and its layers")
    garment_affine: AffineConfig = Field(
        default_factory=lambda: AffineConfig(probability=0.5, scale=(0.92, 1.06), rotation_deg=4, shift=0.03),
        description="of the garment photo and its mask",
    )
    light: LightConfig = Field(default_factory=LightConfig, description="exposure and colour")
    noise: NoiseConfig = Field(default_factory=NoiseConfig, description="camera noise")
    jpeg: JpegConfig = Field(default_factory=JpegConfig, description="compression")
    min_visible: float = Field(0.7, ge=0, le=1, description="least share of the worn garment that stays in the frame")
