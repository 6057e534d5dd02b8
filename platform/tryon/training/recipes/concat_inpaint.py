"""Recipe `concat_inpaint`: person and garment side by side in one inpainting U-Net without text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from tryon.models.concat_inpaint import ConcatInpaint
from tryon.models.tensors import images_to_tensor, masks_to_tensor
from tryon.training.recipes.base import Tensors
from tryon.training.recipes.denoising import DenoisingRecipe


class ConcatInpaintRecipe(DenoisingRecipe):
    """Mean squared error over both halves, as in Chong et al. 2024 (arXiv 2407.15886), who train 16,000 steps of 128.

    Their DREAM strategy is left out. A dropped-out garment is zero in what the network is told.
    """

    network_name = "concat_inpaint"
    reads = ("person", "garment", "agnostic_mask")
    defaults: ClassVar[Mapping[str, Any]] = {"size": (512, 384), "learning_rate": 1e-5, "weight_decay": 1e-2}
    network: ConcatInpaint

    def prepare(self, batch: Mapping[str, Any]) -> Tensors:
        return {
            "person": images_to_tensor(batch["person"], self.size),
            "garment": images_to_tensor(batch["garment"], self.size),
            "agnostic_mask": masks_to_tensor(batch["agnostic_mask"], self.size),
        }

    def example(self, tensors: Tensors) -> tuple[Tensor, Tensors]:
        network = self.network
        garment = network.encode(tensors["garment"])
        mask, masked = network.masked_latents(tensors["person"], tensors["agnostic_mask"])
        told = {"mask": network.joined(mask, torch.zeros_like(mask)), "masked": network.joined(masked, garment)}
        return network.joined(network.encode(tensors["person"]), garment), told

    def without_condition(self, told: Tensors, drop_b: Tensor) -> Tensors:
        person = self.network.person_half(told["masked"])
        bare = self.network.joined(person, torch.zeros_like(person))
        return {**told, "masked": torch.where(drop_b[:, None, None, None], bare, told["masked"])}

    def truth(self, tensors: Tensors) -> tuple[Tensor, Tensor]:
        return tensors["person"], tensors["agnostic_mask"]

    def picture(self, clean: Tensor) -> Tensor:
        return self.network.decode(self.network.person_half(clean))
