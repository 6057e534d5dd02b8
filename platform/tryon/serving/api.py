"""Bodies of the HTTP API."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from tryon.config import Category, Config

MAX_SEED = 2**31 - 1
MODEL = Field(None, max_length=64, description="which of the service's bundles; null: the default one")


class TryOnSettings(Config):
    """What a try-on is to give back, and how it is sampled."""

    output_format: Literal["jpeg", "png"] = Field("jpeg", description="of the result image")
    quality: int = Field(95, ge=85, le=100, description="JPEG quality; PNG is lossless whatever it says")
    return_mask: bool = Field(False, description="also return the agnostic mask: 255 where pixels were generated")
    return_layers: bool = Field(False, description="also return what was made on the way: agnostic, warped garment")
    model: str | None = MODEL
    seed: int | None = Field(None, ge=0, le=MAX_SEED, description="of the noise; for a network that samples")
    steps: int | None = Field(None, ge=1, le=200, description="of the solver; for a network that samples")


class TryOnOptions(TryOnSettings):
    """Of one garment, put on once."""

    category: Category = Field("upper", description="of the garment")


class TryOnCall(TryOnSettings):
    """The `options` of a try-on: of a garment, or of several that are worn together; of one picture or more."""

    category: Category | tuple[Category, ...] = Field(
        "upper", description="of the garment; of several garments one each, in the order they are put on"
    )
    num_samples: int = Field(1, ge=1, le=8, description="pictures of a network that samples, of seed, seed + 1, ...")

    @property
    def categories(self) -> tuple[Category, ...]:
        """Of the garments, in their order."""
        return self.category if isinstance(self.category, tuple) else (self.category,)

    @field_validator("category")
    @classmethod
    def _each_once(cls, value: Category | tuple[Category, ...]) -> Category | tuple[Category, ...]:
        if isinstance(value, tuple) and not 1 <= len(set(value)) == len(value):
            raise ValueError("one category a garment, each at most once")
        return value

    @model_validator(mode="after")
    def _seeds_in_range(self) -> Self:
        if (self.seed or 0) + self.num_samples - 1 > MAX_SEED:
            raise ValueError(f"seed {self.seed} and num_samples {self.num_samples} go past the last seed, {MAX_SEED}")
        return self

    def one(self, garment: int, sample: int) -> TryOnOptions:
        """Of one of the garments, for one of the pictures."""
        shared = {name: getattr(self, name) for name in TryOnSettings.model_fields}
        if self.num_samples > 1:
            shared["seed"] = (self.seed or 0) + sample
        return TryOnOptions(**shared, category=self.categories[garment])


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
    samples: list[str] | None = Field(None, description="base64 of each picture's file, if `num_samples` is above 1")
    layers: dict[str, str] | None = Field(None, description="base64 of a PNG by name, if `return_layers`")
    processing_time: float = Field(description="seconds inside the service")
    metadata: TryOnMetadata


class ExtractOptions(Config):
    """The `options` of an extraction."""

    output_format: Literal["jpeg", "png"] = Field("jpeg", description="of the garment's image")
    quality: int = Field(95, ge=85, le=100, description="JPEG quality; PNG is lossless whatever it says")
    return_mask: bool = Field(False, description="also return the garment's mask: 255 where the image shows it")
    category: Category | None = Field(None, description="of the garment; null: the one that is worn most plainly")
    model: str | None = MODEL


class ExtractResponse(BaseModel):
    """A garment, as a photo of its own."""

    status: Literal["success"] = "success"
    garment_image: str = Field(description="base64 of the JPEG or PNG file")
    mask_image: str | None = Field(None, description="base64 of a PNG, if `return_mask`")
    processing_time: float = Field(description="seconds inside the service")
    resolution: Resolution
    notices: list[str] = Field(default_factory=list, description="what was converted on decoding")


class AnnotateOptions(Config):
    """The `options` of an annotation."""

    category: Category = Field("upper", description="of the garment that `agnostic_mask` makes room for")
    model: str | None = MODEL


class PersonAnnotation(BaseModel):
    """What was found in a person photo, at its own size."""

    resolution: Resolution
    parse_image: str = Field(description="base64 of a grey PNG: the class of each pixel, 0 to 17, named in `classes`")
    mask_image: str = Field(description="base64 of a PNG: 255 where the person is")
    agnostic_mask_image: str = Field(description="base64 of a PNG: 255 where a try-on would generate")
    keypoints: list[tuple[float, float, float]] = Field(description="BODY_25: x px, y px, confidence; 0: not seen")
    notices: list[str] = Field(default_factory=list, description="what was converted on decoding")


class GarmentAnnotation(BaseModel):
    """What was found in a garment photo, at its own size."""

    resolution: Resolution
    mask_image: str = Field(description="base64 of a PNG: 255 where the garment is")
    notices: list[str] = Field(default_factory=list, description="what was converted on decoding")


class AnnotateResponse(BaseModel):
    """What the photos of a request show."""

    status: Literal["success"] = "success"
    person: PersonAnnotation | None
    garment: GarmentAnnotation | None
    classes: list[str] = Field(description="names of the parse's classes, by number")
    processing_time: float = Field(description="seconds inside the service")


class NetworkInfo(BaseModel):
    """A network of a bundle."""

    role: str
    network: str
    resolution: Resolution
    num_parameters: int
    sha256: str
    metrics: dict[str, float]


class ModelInfo(BaseModel):
    """A bundle that the service has."""

    model: str = Field(description="the name that `options.model` chooses it by")
    name: str
    tryon_version: str
    working_resolution: Resolution
    weights_licence: str
    data_licence: str
    networks: list[NetworkInfo]


class ModelsResponse(BaseModel):
    """The bundles that the service has."""

    models: list[ModelInfo]


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
