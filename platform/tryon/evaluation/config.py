"""What an evaluation does, and the checks that come before its first sample."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tryon import storage
from tryon.config import Config
from tryon.errors import ConfigError
from tryon.evaluation.baselines import BASELINES


class EvaluateConfig(Config):
    """What an evaluation does; written into its result."""

    num_pictures: int = Field(24, ge=0, le=1000, description="samples shown in the report, the worst ones")
    baselines: tuple[str, ...] = Field(tuple(BASELINES), description="compared with, on the same samples")
    pairing: Literal["paired", "unpaired"] = Field(
        "paired",
        description="paired: the person photo is the truth; unpaired: there is none, so the garment is compared with "
        "its photo, and the rest with the person's",
    )
    lpips_weights: str | None = Field(None, description="path or s3:// of AlexNet or VGG16, for LPIPS; None: no LPIPS")
    lpips_heads: str | None = Field(None, description="path or s3:// of LPIPS's linear heads; None: torchmetrics' copy")
    fid_weights: str | None = Field(None, description="path or s3:// of FID's Inception; None: no FID, KID and IS")
    kid_subsets: int = Field(100, ge=1, le=10_000, description="random subsets KID is averaged over")
    kid_subset_size: int = Field(1000, ge=2, le=10_000, description="samples a subset; all where there are fewer")
    is_splits: int = Field(10, ge=1, le=1000, description="parts IS is averaged over")
    seed: int = Field(0, ge=0, le=2**31 - 1, description="of KID's subsets")


def resolve(config: EvaluateConfig) -> EvaluateConfig:
    """The config with absolute URIs, which every machine reads alike.

    Raises:
        ConfigError: options that do not go together, or a baseline that is not known.
    """
    unknown = [name for name in config.baselines if name not in BASELINES]
    if unknown:
        text = f"baseline {unknown[0]!r} is not one of {', '.join(BASELINES)}"
        raise ConfigError(text, code="choice-invalid", field="baselines")
    if config.pairing == "unpaired" and config.lpips_weights is not None:
        text = "unpaired samples have no truth, which LPIPS compares with: leave out --lpips-weights"
        raise ConfigError(text, code="option-invalid", field="--lpips-weights")
    if config.lpips_heads is not None and config.lpips_weights is None:
        text = "--lpips-heads go with the network of --lpips-weights, which was not given"
        raise ConfigError(text, code="option-missing", field="--lpips-weights")
    files = {name: getattr(config, name) for name in ("lpips_weights", "lpips_heads", "fid_weights")}
    return config.model_copy(update={name: storage.absolute(uri) for name, uri in files.items() if uri is not None})
