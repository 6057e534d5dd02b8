"""What recipe `extract` learns its flow by, and the baseline it is measured against: crop and paste.

Shape legend: b batch, h, w network size. "Frame": the garment photo as the anchor lays it out, see
`tryon.models.extract_layers`.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from tryon.models.device import full_precision
from tryon.models.extract import WHITE, Plan, laid_out
from tryon.models.flow_layers import enlarge_grid
from tryon.models.gmm import mask_box
from tryon.models.layers import identity_grid, sample_image
from tryon.models.losses import masked_l1, second_differences
from tryon.training.recipes.base import Tensors
from tryon.training.recipes.flow import shrink

FLOW_WEIGHTS: Mapping[str, float] = {"image": 0.25, "cover": 0.25, "smooth": 0.05, "flow": 8.0}
FLOW_STRIDE = 2  # the true flow is smooth: a quarter of it says the same
# Mean box of garments in their photos: left, top, right, bottom in [0, 1]. Of 128 simulated samples, by category in
# `CATEGORIES`' order; a kinder baseline than one box for all.
MEAN_BOXES = ((0.056, 0.195, 0.944, 0.808), (0.176, 0.083, 0.824, 0.912), (0.115, 0.067, 0.885, 0.941))


def flow_losses(plan: Plan, tensors: Tensors) -> Tensors:
    """Losses of the flow at all levels, the finest counting most.

    Returns:
        image: L1 of what is sampled where it shows the garment; cover: L1 of where that is; smooth: second
        differences; flow: L1 to the true flow, where the data set has it.
    """
    targets = {name: tensors[name] for name in ("garment", "garment_mask")}
    targets["source"] = laid_out(tensors["person"], tensors["worn_mask"], plan.anchor)
    shares = [0.5**i for i in range(len(plan.grids))]
    parts: Tensors = {}
    for grid, share in zip(reversed(plan.grids), shares, strict=True):
        targets = {name: shrink(value, grid) for name, value in targets.items()}
        for name, part in _level_losses(grid, plan.anchor, targets, tensors).items():
            parts[name] = parts.get(name, 0.0) + part * (share / sum(shares))
    return parts


def _level_losses(grid_b2hw: Tensor, anchor: Tensor, targets: Tensors, tensors: Tensors) -> Tensors:
    seen = sample_image(targets["source"], grid_b2hw.permute(0, 2, 3, 1))
    picture, cover, mask = seen[:, :3], seen[:, 3:], targets["garment_mask"]
    parts = {
        "image": masked_l1(picture, targets["garment"], mask * cover.detach()),
        "cover": F.l1_loss(cover, mask),
        "smooth": second_differences(grid_b2hw),
    }
    if "true_grid" in tensors:
        found, wanted = _true_places(grid_b2hw, anchor, tensors)
        parts["flow"] = masked_l1(found, wanted, tensors["true_valid"])
    return parts


def _true_places(grid_b2hw: Tensor, anchor: Tensor, tensors: Tensors) -> tuple[Tensor, Tensor]:
    """Where in the frame the flow sees the garment's point that each person pixel shows, and where that pixel lies."""
    true_grid = tensors["true_grid"]
    h, w = true_grid.shape[-2:]
    flow = enlarge_grid(grid_b2hw, (h // 2, w // 2)).permute(0, 3, 1, 2)
    place = identity_grid(h, w).to(true_grid.device).permute(2, 0, 1)
    wanted = (place - anchor[:, 1:, None, None]) / anchor[:, :1, None, None]
    return sample_image(flow, true_grid.permute(0, 2, 3, 1)), wanted


def flow_error_px(plan: Plan, tensors: Tensors) -> Tensor:
    """Mean distance in px of the garment photo's scale over the garment's pixels that are seen, a row where any is."""
    found, wanted = _true_places(plan.grids[-1], plan.anchor, tensors)
    h, w = tensors["person"].shape[-2:]
    distance = ((found - wanted) * found.new_tensor([w / 2, h / 2])[:, None, None]).norm(dim=1, keepdim=True)
    valid = tensors["true_valid"].flatten(1)
    some = valid.sum(1) > 0
    out: Tensor = ((distance.flatten(1) * valid).sum(1) / valid.sum(1))[some]
    return out


def crop_and_paste(tensors: Tensors) -> Tensor:
    """The worn garment cut out of the person photo, its box scaled to the mean box of its category, on white.

    Returns:
        (b, 3, h, w) in [-1, 1].
    """
    person, worn = tensors["person"], tensors["worn_mask"]
    h, w = person.shape[-2:]
    top, height, width, centre = mask_box(worn)
    with full_precision(person.device):
        left, high, right, low = (tensors["category"] @ person.new_tensor(MEAN_BOXES)).unbind(1)
    place = (identity_grid(h, w).to(person.device) + 1) / 2
    x = (place[None, ..., 0] - left[:, None, None]) / (right - left)[:, None, None]
    y = (place[None, ..., 1] - high[:, None, None]) / (low - high)[:, None, None]
    x = ((centre - width / 2)[:, None, None] + x * width[:, None, None]) / (w / 2) - 1
    y = (top[:, None, None] + y * height[:, None, None]) / (h / 2) - 1
    grid = torch.stack([x, y], dim=-1)
    mask = sample_image(worn, grid, padding="zeros")
    return sample_image(person, grid) * mask + WHITE * (1 - mask)
