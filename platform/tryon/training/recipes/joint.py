"""Recipe `joint`: warp and synthesis fine-tuned together, with an adversarial loss."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from tryon.config import Config, parse_config
from tryon.errors import BundleError
from tryon.models.bundle import Bundle, Role
from tryon.models.losses import GanKind, discriminator_loss, generator_loss
from tryon.models.patch_gan import PatchGan, PatchGanConfig
from tryon.models.tom import Tom
from tryon.training.recipes.base import Made, Recipe, StepOutput, Tensors, psnr
from tryon.training.recipes.flow import FlowRecipe, warp_loss
from tryon.training.recipes.tom import TomRecipe, tom_losses

ROLES: tuple[Role, ...] = ("warp", "synthesis")


class JointOptions(Config):
    """What is learnt beside the synthesis' own losses."""

    gan: GanKind = Field("lsgan", description="the adversarial loss")
    gan_weight: float = Field(0.05, ge=0, le=10, description="of it against the synthesis' losses; 0: none")
    warp_weight: float = Field(1.0, ge=0, le=10, description="of the losses that the recipe `flow` trains a warp by")
    critic: PatchGanConfig = Field(
        PatchGanConfig(condition_channels=7),
        description="the discriminator; it sees the agnostic person and the garment",
    )


class Joint(nn.Module):
    """A bundle's warp and synthesis as one network, with gradients through both."""

    def __init__(self, warp: nn.Module, synthesis: nn.Module) -> None:
        super().__init__()
        self.warp = warp
        self.synthesis = synthesis

    def forward(self, condition: dict[str, Tensor]) -> dict[str, Tensor]:
        """What `tom` gives, and ``warped_mask`` and ``grid``, as the warp's ``warp`` does."""
        warped, mask, grid = self.warp.warp(condition)  # type: ignore[operator]
        return {**self.synthesis(condition, warped, mask), "warped_mask": mask, "grid": grid}


class JointRecipe(Recipe):
    """The synthesis' losses through the warp, the warp's own losses, and a PatchGAN over agnostic person and result.

    It goes on from the bundle's two networks and writes both. Without its own losses (the true flow where the data set
    has it, smoothness) the warp follows colours alone, and try-ons get worse: by 0.005 of SSIM in 100 steps.
    """

    role: ClassVar[Role] = "synthesis"
    network_name = "tom"
    reads = TomRecipe.reads
    optional = FlowRecipe.optional
    best_metric = "val_psnr"
    options_class = JointOptions
    defaults: ClassVar[Mapping[str, Any]] = {"learning_rate": 2e-4}
    prepare = FlowRecipe.prepare

    def __init__(
        self,
        network_config: Mapping[str, Any],
        size: tuple[int, int],
        bundle: Bundle | None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        """Takes copies of both networks from the bundle.

        Raises:
            BundleError: no bundle, it lacks one of the two, or its synthesis is no `tom`.
            ConfigError: an option that is unknown or out of bounds.
        """
        if bundle is None:
            text = "joint goes on from a trained warp and synthesis: give --bundle, or train flow and tom first"
            raise BundleError(text, code="bundle-missing", field="--bundle")
        parse_config(Config, network_config, "network of 'joint', which is the bundle's")
        self.size = size
        self.options: JointOptions = parse_config(JointOptions, options or {}, "options of JointRecipe")
        warp, synthesis = (copy.deepcopy(bundle.network(role)[0]).requires_grad_(True) for role in ROLES)
        if not isinstance(synthesis, Tom):
            name = bundle.manifest.networks["synthesis"].network
            raise BundleError(f"joint trains a tom, the bundle's synthesis is {name}", code="bundle-mismatch")
        self.network = Joint(warp, synthesis)
        self.network_config = synthesis.config
        self.frozen = {}
        self._names = {role: bundle.manifest.networks[role].network for role in ROLES}
        self.critic = PatchGan(self.options.critic) if self.options.gan_weight > 0 else None

    @classmethod
    def goes_on(cls, options: Mapping[str, Any]) -> bool:
        """It begins with the bundle's networks."""
        del options
        return True

    def made(self) -> tuple[Made, ...]:
        """Both networks."""
        assert isinstance(self.network, Joint)
        parts = {"warp": self.network.warp, "synthesis": self.network.synthesis}
        return tuple(Made(role, self._names[role], parts[role], parts[role].config) for role in ROLES)  # type: ignore[arg-type]

    def step(self, network: nn.Module, tensors: Tensors) -> StepOutput:
        out = network(tensors)
        loss, parts = tom_losses(out, tensors, out["warped_mask"].detach())
        parts["warp"] = warp_loss(out["grid"], tensors)
        loss = loss + self.options.warp_weight * parts["warp"]
        if self.critic is not None:
            # Its own gradients are dropped before its step.
            parts["gan"] = generator_loss(self.critic(_shown(tensors), out["tryon"]), self.options.gan)
            loss = loss + self.options.gan_weight * parts["gan"]
        return StepOutput(loss, {name: part.detach() for name, part in parts.items()}, out["tryon"].detach())

    def critic_step(self, tensors: Tensors, generated: Tensor) -> StepOutput:
        assert self.critic is not None
        shown = _shown(tensors)
        real, fake = self.critic(shown, tensors["person"]), self.critic(shown, generated)
        return StepOutput(discriminator_loss(real, fake, self.options.gan))

    def evaluate(self, network: nn.Module, tensors: Tensors) -> tuple[Tensors, Tensors]:
        tryon = network(tensors)["tryon"]
        return {"tryon": tryon, "truth": tensors["person"]}, {"val_psnr": psnr(tryon, tensors["person"])}


def _shown(tensors: Tensors) -> Tensor:
    """What the discriminator judges by: agnostic person, its mask, and the garment photo."""
    return torch.cat([tensors["agnostic"], tensors["agnostic_mask"] * 2 - 1, tensors["garment"]], dim=1)
