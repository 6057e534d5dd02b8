"""Recipe `scm`: the structural-correction module on frozen warp and synthesis."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tryon.models.bundle import Role
from tryon.models.losses import gradient_l1
from tryon.models.tensors import CONDITION_READS, condition, images_to_tensor, masks_to_tensor
from tryon.training.recipes.base import Recipe, StepOutput, Tensors, psnr, worn_garment
from tryon.training.recipes.tom import frozen_warp


class ScmRecipe(Recipe):
    """Restores the try-on towards the photo; context is the warped garment (AutoDIR's arrangement, 6 channels).

    A data set of triplets brings faulty images and, most often, their context; of others both are made by the frozen
    networks, step by step.
    """

    role: ClassVar[Role] = "refinement"
    network_name = "nafnet"
    reads = (*CONDITION_READS, "person", "category")
    optional = ("generated", "warped_garment", "warped_mask")
    needs: ClassVar[tuple[Role, ...]] = ("warp", "synthesis")
    defaults: ClassVar[Mapping[str, Any]] = {"learning_rate": 1e-3}

    def prepare(self, batch: Mapping[str, Any]) -> Tensors:
        tensors = condition(batch, self.size)
        tensors["person"], _ = worn_garment(batch, self.size)
        # A warp without a generated image is no triplet; it is then not the one the frozen synthesis would be given.
        if has_column(batch, "generated"):
            tensors["generated"] = images_to_tensor(batch["generated"], self.size)
            if has_column(batch, "warped_garment") and has_column(batch, "warped_mask"):
                mask = masks_to_tensor(batch["warped_mask"], self.size, top=255.0)
                tensors["context"] = images_to_tensor(batch["warped_garment"], self.size) * mask
        return tensors

    def step(self, network: nn.Module, tensors: Tensors) -> StepOutput:
        image, context = self._tryon(tensors)
        window = random_window(self.size)
        image, context, mask, person = (
            x[window] for x in (image, context, tensors["agnostic_mask"], tensors["person"])
        )
        refined = self._refine(network, image, context, mask)
        share = mask.mean().clamp_min(1e-2)
        parts = {"l1": F.l1_loss(refined, person) / share, "gradient": gradient_l1(refined, person) / share}
        loss = parts["l1"] + 0.5 * parts["gradient"]
        return StepOutput(loss, {name: part.detach() for name, part in parts.items()})

    def evaluate(self, network: nn.Module, tensors: Tensors) -> tuple[Tensors, Tensors]:
        image, context = self._tryon(tensors)
        refined = self._refine(network, image, context, tensors["agnostic_mask"])
        figures = {
            "val_psnr": psnr(refined, tensors["person"]),
            "val_psnr_before": psnr(image, tensors["person"]),
        }
        return {"refined": refined, "truth": tensors["person"]}, figures

    @torch.no_grad()
    def _tryon(self, tensors: Tensors) -> tuple[Tensor, Tensor]:
        """The image to restore and its context: those the data brings, else what the frozen networks make."""
        if "generated" in tensors and "context" in tensors:
            return tensors["generated"], tensors["context"]
        warped, mask = frozen_warp(self.frozen["warp"], tensors)
        if "generated" in tensors:
            return tensors["generated"], warped * mask
        return self.frozen["synthesis"](tensors, warped, mask)["tryon"], warped * mask

    @staticmethod
    def _refine(network: nn.Module, image: Tensor, context: Tensor, mask: Tensor) -> Tensor:
        """The correction counts inside the agnostic mask only, as in the `refine` stage."""
        refined: Tensor = network(torch.cat([context, image], dim=1)).float()
        return image + mask * (refined - image)


def has_column(batch: Mapping[str, Any], name: str) -> bool:
    """True if every row of the batch brings the field."""
    return name in batch and all(value is not None for value in batch[name])


def random_window(size: tuple[int, int]) -> tuple[slice, slice, slice, slice]:
    """Index of a random window of half the height and width: detail is local, and a step costs a quarter."""
    h, w = size[0] // 2, size[1] // 2
    y = int(torch.randint(0, size[0] - h + 1, ()))
    x = int(torch.randint(0, size[1] - w + 1, ()))
    return slice(None), slice(None), slice(y, y + h), slice(x, x + w)
