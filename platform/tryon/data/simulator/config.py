"""The simulator's knobs: what share of samples shows what."""

from __future__ import annotations

from typing import TypeVar

from pydantic import Field, field_validator, model_validator

from tryon.config import Category, Config
from tryon.data.simulator.garment import TEXTURES, TextureKind

T = TypeVar("T")


class SimulatorConfig(Config):
    """The mix of a simulated data set. The default is what training wants: mostly tops, every kind of occlusion.

    The knobs move shares only: the same seed, index and config are the same sample in every process.
    """

    categories: tuple[Category, ...] = Field(
        ("upper", "lower", "dress"), min_length=1, description="categories of the garment to try on"
    )
    upper_share: float = Field(0.6, ge=0, le=1, description="share of tops where other categories are drawn too")
    textures: tuple[TextureKind, ...] = Field(
        TEXTURES, min_length=1, description="cloths of the garment to try on; only tops have text"
    )
    variety: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of garments beyond the usual: cropped and long tops, photos they do not fill",
    )
    turn: float = Field(1.0, ge=0, le=1, description="how far trunks turn: 1 up to 35 degrees, 0 all from the front")
    arms: float = Field(0.45, ge=0, le=1, description="share of arms that lie before the body or on the hip")
    long_hair: float = Field(1.0, ge=0, le=2, description="factor on the share of hair worn over the shoulders")
    jackets: float = Field(0.15, ge=0, le=1, description="share of figures with an open jacket over the garment")
    open_garments: float = Field(0.12, ge=0, le=1, description="share of tops to try on that are an open jacket")
    accessories: float = Field(0.30, ge=0, le=1, description="chance of each of bag, scarf, sunglasses, hat, belt / 3")
    busy: float = Field(0.45, ge=0, le=1, description="share of backgrounds that are rooms, streets, parks or patterns")
    noise: float = Field(1.0, ge=0, le=4, description="factor on camera blur and noise")

    @field_validator("categories", "textures")
    @classmethod
    def _distinct(cls, value: tuple[T, ...]) -> tuple[T, ...]:
        if len(set(value)) != len(value):
            raise ValueError("each once")
        return value

    @model_validator(mode="after")
    def _can_be_drawn(self) -> SimulatorConfig:
        others = [name for name in self.categories if name != "upper"]
        if set(self.textures) == {"text"} and others:
            raise ValueError(f"no {others[0]} has text: with textures text alone, categories must be upper")
        return self

    def share(self, category: str) -> float:
        """Share of samples of a category."""
        if category not in self.categories:
            return 0.0
        if "upper" not in self.categories:
            return 1.0 / len(self.categories)
        rest = len(self.categories) - 1
        if rest == 0:
            return 1.0
        return self.upper_share if category == "upper" else (1.0 - self.upper_share) / rest


DEFAULT = SimulatorConfig()
# One layer, no accessories, mostly studios: for short trainings and for showing a try-on.
EASY_TOPS = SimulatorConfig(
    categories=("upper",), turn=0.5, jackets=0, open_garments=0, accessories=0, long_hair=0.5, busy=0.25, noise=0.7
)
