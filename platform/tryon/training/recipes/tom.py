"""Recipe `tom`: try-on synthesis with a composition mask, on a frozen warp."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tryon.models.bundle import Role
from tryon.models.flow import Flow
from tryon.models.gmm import Gmm
from tryon.models.losses import gradient_l1
from tryon.models.tensors import CONDITION_READS, condition
from tryon.training.recipes.base import Recipe, StepOutput, Tensors, psnr, worn_garment
from tryon.training.recipes.flow import parse_classes, parse_loss

WEIGHTS = {"result": 1.0, "rendering": 0.5, "gradient": 0.5, "mask": 0.25, "parse": 0.1}


class TomRecipe(Recipe):
    """L1 on result and rendering, gradient L1, the composition mask drawn to where the warp is right, and the parse."""

    role: ClassVar[Role] = "synthesis"
    network_name = "tom"
    reads = (*CONDITION_READS, "person")
    needs: ClassVar[tuple[Role, ...]] = ("warp",)
    best_metric = "val_psnr"
    defaults: ClassVar[Mapping[str, Any]] = {"learning_rate": 1e-3}

    def prepare(self, batch: Mapping[str, Any]) -> Tensors:
        tensors = condition(batch, self.size)
        tensors["person"], tensors["worn_mask"] = worn_garment(batch, self.size)
        tensors["classes"] = parse_classes(batch, tensors["worn_mask"], self.size)
        return tensors

    def step(self, network: nn.Module, tensors: Tensors) -> StepOutput:
        warped, warped_mask = frozen_warp(self.frozen["warp"], tensors)
        loss, parts = tom_losses(network(tensors, warped, warped_mask), tensors, warped_mask)
        return StepOutput(loss, {name: part.detach() for name, part in parts.items()})

    def evaluate(self, network: nn.Module, tensors: Tensors) -> tuple[Tensors, Tensors]:
        warped, warped_mask = frozen_warp(self.frozen["warp"], tensors)
        tryon = network(tensors, warped, warped_mask)["tryon"]
        return {"tryon": tryon, "truth": tensors["person"]}, {"val_psnr": psnr(tryon, tensors["person"])}


def tom_losses(out: Tensors, tensors: Tensors, warped_mask: Tensor) -> tuple[Tensor, Tensors]:
    """The weighted sum of the losses on what `tom` gave, and each of them.

    Inside the region only: outside it the result is the input, and would dilute every term.
    """
    person, region = tensors["person"], tensors["agnostic_mask"]
    share = region.mean().clamp_min(1e-3)
    parts = {
        "result": F.l1_loss(out["tryon"], person) / share,
        "rendering": ((out["rendering"] - person).abs() * region).mean() / share,
        "gradient": gradient_l1(out["tryon"], person) / share,
        "mask": F.l1_loss(out["composition_mask"], warped_mask * tensors["worn_mask"]) / share,
        "parse": parse_loss(out["parse"], tensors["classes"]),
    }
    return torch.stack([WEIGHTS[name] * part for name, part in parts.items()]).sum(), parts


@torch.no_grad()
def frozen_warp(network: nn.Module, tensors: Tensors) -> tuple[Tensor, Tensor]:
    """Warped garment and mask by a trained warp network, without gradients."""
    assert isinstance(network, Gmm | Flow)
    warped, mask, _ = network.warp(tensors)
    return warped, mask
