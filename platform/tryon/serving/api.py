"""Bodies of the HTTP API."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from tryon.config import Category, Config


class TryOnOptions(Config):
    """The `options` form field of a try-on, JSON."""

    output_format: Literal["jpeg", "png"] = Field("jpeg", description="of the result image")
    quality: int = Field(95, ge=85, le=100, description="JPEG quality; PNG is lossless whatever it says")
    return_mask: bool = Field(False, description="also return the agnostic mask: 255 where pixels were generated")
    category: Category = Field("upper", description="of the garment")


class Resolution(BaseModel):
    """Of an image, px."""

    width: int
    height: int


class TryOnMetadata(BaseModel):
    """About a try-on."""

    input_resolution: Resolution
    output_resolution: Resolution
    notices: list[str] = Field(default_factory=list, description="what was converted on decoding, e.g. EXIF rotation")


class TryOnResponse(BaseModel):
    """A finished try-on."""

    model_config = ConfigDict(json_schema_extra={"required": ["status", "result_image", "processing_time", "metadata"]})

    status: Literal["success"] = "success"
    result_image: str = Field(description="base64 of the JPEG or PNG file")
    mask_image: str | None = Field(None, description="base64 of a PNG, if `return_mask`")
    processing_time: float = Field(description="seconds inside the service")
    metadata: TryOnMetadata


class HealthResponse(BaseModel):
    """State of the service."""

    status: Literal["healthy", "degraded"]
    model_loaded: bool
    gpu_available: bool
    version: str


class ErrorResponse(BaseModel):
    """Every answer that is not 2xx."""

    status: Literal["error"] = "error"
    code: str = Field(description="stable, kebab-case")
    message: str = Field(description="one sentence that names what is wrong")
    field: str | None = Field(None, description="the input at fault")
    request_id: str | None = None
