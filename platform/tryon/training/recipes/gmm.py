"""Recipe `gmm`: TPS warping of the garment onto the body."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tryon.models.bundle import Role
from tryon.models.gmm import apply_grid
from tryon.models.layers import identity_grid
from tryon.models.losses import masked_l1, second_order
from tryon.models.metrics import flow_end_point_error
from tryon.models.tensors import CONDITION_READS, NUM_ARM_LIMBS, condition
from tryon.models.tps import tps_grid
from tryon.training.recipes.base import Recipe, StepOutput, Tensors, worn_garment
from tryon.training.recipes.mirror import perhaps_mirrored


class GmmRecipe(Recipe):
    """L1 on the worn garment and on its mask, the true flow where the data set has one, second-order smoothness."""

    role: ClassVar[Role] = "warp"
    network_name = "gmm"
    reads = (*CONDITION_READS, "person")
    optional = ("true_flow",)
    best_metric = "-val_l1"
    defaults: ClassVar[Mapping[str, Any]] = {"learning_rate": 1e-3}

    def prepare(self, batch: Mapping[str, Any]) -> Tensors:
        return warp_tensors(batch, self.size)

    def step(self, network: nn.Module, tensors: Tensors) -> StepOutput:
        tensors = perhaps_mirrored(tensors)
        sources = network(tensors).float()
        grid = tps_grid(sources, *self.size)
        warped, mask, _ = apply_grid(tensors["garment"], tensors["garment_mask"], grid)
        parts = {
            "image": masked_l1(warped, tensors["person"], tensors["worn_mask"]),
            "mask": F.l1_loss(mask, torch.maximum(tensors["worn_mask"], mask * covered(tensors))),
            "smooth": second_order(sources),
        }
        loss = parts["image"] + parts["mask"] + 0.5 * parts["smooth"]
        if "true_grid" in tensors:
            parts["flow"] = masked_l1(grid.permute(0, 3, 1, 2), tensors["true_grid"], tensors["true_valid"])
            loss = loss + 4.0 * parts["flow"]
        return StepOutput(loss, {name: part.detach() for name, part in parts.items()})

    def evaluate(self, network: nn.Module, tensors: Tensors) -> tuple[Tensors, Tensors]:
        grid = tps_grid(network(tensors).float(), *self.size)
        warped, mask, _ = apply_grid(tensors["garment"], tensors["garment_mask"], grid)
        return warp_shown(warped, mask, tensors), warp_figures(warped, mask, grid, tensors, self.size)


def warp_tensors(batch: Mapping[str, Any], size: tuple[int, int]) -> Tensors:
    """What any warp recipe learns from: the condition, the worn garment, and the true flow where there is one."""
    tensors = condition(batch, size)
    tensors["person"], tensors["worn_mask"] = worn_garment(batch, size)
    flows = batch.get("true_flow")
    if flows is not None and flows[0] is not None:
        tensors["true_grid"], tensors["true_valid"] = flow_to_grid(np.stack(flows))
    return tensors


def warp_figures(warped: Tensor, mask: Tensor, grid: Tensor, tensors: Tensors, size: tuple[int, int]) -> Tensors:
    """Figures (b,) of a warp: overlap and L1 with the worn garment, and the end-point error in px where it is known."""
    worn = tensors["worn_mask"]
    union = torch.maximum(mask, worn).flatten(1).sum(1).clamp_min(1)
    figures = {
        "val_mask_iou": torch.minimum(mask, worn).flatten(1).sum(1) / union,
        "val_l1": ((warped - tensors["person"]).abs() * worn).flatten(1).sum(1) / (3 * worn.flatten(1).sum(1) + 1),
    }
    if "true_grid" in tensors:
        figures["val_flow_epe_px"] = end_point_error(grid, tensors, size)
    return figures


def warp_shown(warped: Tensor, mask: Tensor, tensors: Tensors) -> Tensors:
    """The pictures a warp recipe logs: what was warped, and what was worn."""
    return {"warped": warped * mask, "truth": tensors["person"] * tensors["worn_mask"]}


def flow_to_grid(flow_bhw2: np.ndarray[Any, np.dtype[np.float32]]) -> tuple[Tensor, Tensor]:
    """Displacements in px (NaN where undefined) to a sampling grid.

    Returns:
        Grid (b, 2, h, w) in [-1, 1], 0 where undefined, and validity (b, 1, h, w).
    """
    flow = torch.from_numpy(flow_bhw2)
    h, w = flow.shape[1:3]
    valid = torch.isfinite(flow).all(-1)
    scale = torch.tensor([2.0 / w, 2.0 / h])
    grid = identity_grid(h, w) + torch.nan_to_num(flow) * scale
    return (grid * valid[..., None]).permute(0, 3, 1, 2), valid[:, None].float()


def end_point_error(grid_bhw2: Tensor, tensors: Tensors, size: tuple[int, int]) -> Tensor:
    """Mean distance in px of garment positions from the truth, per sample, over the worn garment, seen or not."""
    half = grid_bhw2.new_tensor([size[1] / 2, size[0] / 2])
    truth = tensors["true_grid"].permute(0, 2, 3, 1)
    valid = tensors["true_valid"][:, 0] > 0.5
    error = flow_end_point_error(grid_bhw2 * half, truth * half, valid)
    return torch.where(valid.flatten(1).any(1), error, 0.0)


def covered(tensors: Tensors) -> Tensor:
    """Where arms may hide the garment: the warp is not asked to leave such places empty."""
    return tensors["limbs"][:, :NUM_ARM_LIMBS].amax(1, keepdim=True)
