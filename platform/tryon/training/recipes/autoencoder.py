"""Recipe `autoencoder`: reconstruction of person or garment photos."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from tryon.config import Config, parse_config
from tryon.models.bundle import Role
from tryon.models.losses import PerceptualConfig, PerceptualLoss, ssim_loss
from tryon.models.tensors import images_to_tensor
from tryon.training.recipes.base import Recipe, StepOutput, Tensors, psnr, ssim


class ReconstructionOptions(Config):
    """What is reconstructed, and what counts as near."""

    field: Literal["person", "garment"] = Field("person", description="the photo that is reconstructed")
    l1: float = Field(1.0, ge=0, le=1e4, description="weight of the mean absolute difference")
    ssim: float = Field(0.1, ge=0, le=1e4, description="weight of 1 - SSIM; 0 leaves it out")
    perceptual: float = Field(0.0, ge=0, le=1e4, description="weight of the perceptual loss; 0 leaves it out")
    features: PerceptualConfig = Field(default_factory=PerceptualConfig, description="what the perceptual loss sees")

    @model_validator(mode="after")
    def _something_counts(self) -> Self:
        if self.l1 == self.ssim == self.perceptual == 0:
            raise ValueError("one of l1, ssim and perceptual must be above 0")
        return self


class AutoencoderRecipe(Recipe):
    """L1, SSIM and, where asked for, perceptual loss between a photo and its reconstruction."""

    role: ClassVar[Role] = "reconstruction"
    network_name = "autoencoder"
    reads = ("person",)
    defaults: ClassVar[Mapping[str, Any]] = {"learning_rate": 2e-3}
    options_class: ClassVar[type[Config]] = ReconstructionOptions

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """As `Recipe`; with a perceptual loss its network is among the frozen ones.

        Raises:
            BundleError: VGG19's weights are not there.
            ConfigError: of `Recipe`, or VGG19 without weights.
        """
        super().__init__(*args, **kwargs)
        if self.options.perceptual > 0:
            self.frozen["perceptual"] = PerceptualLoss(self.options.features)

    @classmethod
    def needed_fields(cls, options: Mapping[str, Any]) -> tuple[str, ...]:
        parsed: Any = parse_config(cls.options_class, options, f"options of {cls.__name__}")
        return (parsed.field,)

    def prepare(self, batch: Mapping[str, Any]) -> Tensors:
        return {"image": images_to_tensor(batch[self.options.field], self.size)}

    def step(self, network: nn.Module, tensors: Tensors) -> StepOutput:
        return self._output(self._parts(network(tensors["image"]), tensors["image"]))

    def evaluate(self, network: nn.Module, tensors: Tensors) -> tuple[Tensors, Tensors]:
        return reconstruction_figures(network(tensors["image"]), tensors["image"])

    def _parts(self, made: Tensor, image: Tensor) -> dict[str, Tensor]:
        """The terms that count, unweighted."""
        made = made.float()
        parts = {"l1": F.l1_loss(made, image)}
        if self.options.ssim > 0:
            parts["ssim"] = ssim_loss(made, image)
        if self.options.perceptual > 0:
            parts["perceptual"] = self.frozen["perceptual"](made, image)
        return parts

    def _output(self, parts: dict[str, Tensor]) -> StepOutput:
        """Their sum, each by the weight that has its name."""
        loss = torch.stack([getattr(self.options, name) * part for name, part in parts.items()]).sum()
        return StepOutput(loss, {name: part.detach() for name, part in parts.items()})


def reconstruction_figures(made: Tensor, image: Tensor) -> tuple[Tensors, Tensors]:
    """Pictures and figures (b,) of reconstructions (b, 3, h, w) that are not yet cut to [-1, 1]."""
    made = made.float().clamp(-1, 1)
    return {"reconstruction": made, "truth": image}, {"val_psnr": psnr(made, image), "val_ssim": ssim(made, image)}
