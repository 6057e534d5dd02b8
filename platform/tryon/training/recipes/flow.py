"""Recipe `flow`: appearance-flow warping, flow and parse learnt together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from tryon.config import Config, parse_config
from tryon.models.bundle import Bundle, Role
from tryon.models.flow import PARSE_CLASSES, Flow, FlowPrediction
from tryon.models.gmm import apply_grid
from tryon.models.losses import masked_l1, second_differences, total_variation
from tryon.models.tensors import CONDITION_READS
from tryon.sample import NUM_LABELS, Label
from tryon.training.recipes.base import Recipe, StepOutput, Tensors, network_to_go_on_from
from tryon.training.recipes.gmm import covered, end_point_error, warp_figures, warp_shown, warp_tensors
from tryon.training.recipes.mirror import perhaps_mirrored

TARGETS = ("garment", "garment_mask", "person", "worn_mask", "true_grid", "true_valid")
ARMS = (Label.LEFT_ARM, Label.RIGHT_ARM)
WEIGHTS = {"image": 1.0, "mask": 1.0, "parse": 0.5, "tv": 0.02, "smooth": 0.05, "flow": 8.0}

KNOWN_WEIGHTS = {"image": 0.2}  # where the true flow is there: looks say less than it, and say it more noisily


class FlowOptions(Config):
    """What a run begins with."""

    start: Literal["random", "bundle"] = Field(
        "random", description="bundle: go on from the flow of the starting bundle, e.g. on other data"
    )


class FlowRecipe(Recipe):
    """L1 of the warped garment and mask at each level, cross-entropy of the parse, TV and second-order smoothness.

    Where the data set has the true flow, its L1 at each level too. Lee et al. 2022 (arXiv 2206.14180) train with an
    adversarial and a perceptual loss beside these; both are left out.
    """

    role: ClassVar[Role] = "warp"
    network_name = "flow"
    reads = (*CONDITION_READS, "person")
    optional = ("true_flow",)
    best_metric = "-val_l1"
    defaults: ClassVar[Mapping[str, Any]] = {"optimizer": "muon", "learning_rate": 3e-3}
    options_class: ClassVar[type[Config]] = FlowOptions

    def __init__(
        self,
        network_config: Mapping[str, Any],
        size: tuple[int, int],
        bundle: Bundle | None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        """As `Recipe`, and brings the network to where the run begins.

        Raises:
            BundleError: the bundle has no flow to go on from, or one of another size.
            ConfigError: of `Recipe`.
        """
        super().__init__(network_config, size, bundle, options)
        if self.options.start == "bundle":
            trained = network_to_go_on_from(bundle, "warp", ("flow", "a warp"), self.network_config)
            self.network.load_state_dict(trained.state_dict())

    @classmethod
    def goes_on(cls, options: Mapping[str, Any]) -> bool:
        told: FlowOptions = parse_config(FlowOptions, options, f"options of {cls.__name__}")
        return told.start == "bundle"

    def prepare(self, batch: Mapping[str, Any]) -> Tensors:
        tensors = warp_tensors(batch, self.size)
        tensors["classes"] = parse_classes(batch, tensors["worn_mask"], self.size)
        return tensors

    def step(self, network: nn.Module, tensors: Tensors) -> StepOutput:
        tensors = perhaps_mirrored(tensors)
        prediction: FlowPrediction = network(tensors)
        parts = {"parse": parse_loss(prediction.parse, tensors["classes"])}
        shares = [0.5**i for i in range(len(prediction.grids))]  # the finest level counts most
        targets = targets_of(tensors)
        for grid, share in zip(reversed(prediction.grids), shares, strict=True):
            targets = {name: shrink(value, grid) for name, value in targets.items()}
            for name, part in level_losses(grid, targets).items():
                parts[name] = parts.get(name, 0.0) + part * (share / sum(shares))
        return StepOutput(weighted(parts), {name: part.detach() for name, part in parts.items()})

    def evaluate(self, network: nn.Module, tensors: Tensors) -> tuple[Tensors, Tensors]:
        assert isinstance(network, Flow)
        warped, mask, grid = network.warp(tensors)
        figures = warp_figures(warped, mask, grid, tensors, self.size)
        if "true_grid" in tensors:
            seen = {**tensors, "true_valid": tensors["true_valid"] * (tensors["worn_mask"] > 0.5)}
            figures["val_flow_epe_visible_px"] = end_point_error(grid, seen, self.size)
        return warp_shown(warped, mask, tensors), figures


def parse_classes(batch: Mapping[str, Any], worn_mask: Tensor, size: tuple[int, int]) -> Tensor:
    """The parse as the network's classes.

    Args:
        batch: columns; used: parse, uint8 (H, W).
        worn_mask: of `worn_garment` (b, 1, h, w): which classes are the garment depends on its category.
        size: (h, w).

    Returns:
        float32 (b, 4, h, w): each class's share of each pixel, in `PARSE_CLASSES`' order.
    """
    table = np.full(NUM_LABELS, PARSE_CLASSES.index("other"), dtype=np.uint8)
    table[Label.BACKGROUND] = PARSE_CLASSES.index("background")
    table[list(ARMS)] = PARSE_CLASSES.index("arms")
    rows = []
    for parse in batch["parse"]:
        one_hot = np.arange(len(PARSE_CLASSES), dtype=np.uint8)[:, None, None] == table[np.asarray(parse)]
        row = torch.from_numpy(one_hot)[None].float()
        rows.append(row if parse.shape == size else F.interpolate(row, size=size, mode="area"))
    classes = torch.cat(rows) * (1 - worn_mask)
    classes[:, PARSE_CLASSES.index("garment")] = worn_mask[:, 0]
    return classes / classes.sum(1, keepdim=True).clamp_min(1e-6)


def parse_loss(logits: Tensor, classes: Tensor) -> Tensor:
    """Cross-entropy against shares of classes, at the logits' size."""
    return F.cross_entropy(logits.float(), F.adaptive_avg_pool2d(classes, (logits.shape[-2], logits.shape[-1])))


def weighted(parts: Mapping[str, Tensor]) -> Tensor:
    """The sum of a flow's losses, each by its weight."""
    weights = WEIGHTS | (KNOWN_WEIGHTS if "flow" in parts else {})
    return torch.stack([weights[name] * part for name, part in parts.items()]).sum()


def warp_loss(grid_bhw2: Tensor, tensors: Tensors) -> Tensor:
    """The losses of one warp at the network's size, as the flow is trained by at each level.

    Args:
        grid_bhw2: sampling positions.
        tensors: of `FlowRecipe.prepare`.
    """
    return weighted(level_losses(grid_bhw2.permute(0, 3, 1, 2), targets_of(tensors)))


def targets_of(tensors: Tensors) -> Tensors:
    """What a level's flow is compared with, and where arms may hide the garment."""
    return {name: tensors[name] for name in TARGETS if name in tensors} | {"hidden": covered(tensors)}


def shrink(x: Tensor, like: Tensor) -> Tensor:
    """Means over the pixels of a smaller size."""
    return x if x.shape[-2:] == like.shape[-2:] else F.adaptive_avg_pool2d(x, (like.shape[-2], like.shape[-1]))


def level_losses(grid_b2hw: Tensor, targets: Tensors) -> dict[str, Tensor]:
    """Losses of one level's flow; targets are at that level's size."""
    worn = targets["worn_mask"]
    warped, warped_mask, _ = apply_grid(targets["garment"], targets["garment_mask"], grid_b2hw.permute(0, 2, 3, 1))
    parts = {
        "image": masked_l1(warped, targets["person"], worn),
        "mask": F.l1_loss(warped_mask, torch.maximum(worn, warped_mask * targets["hidden"])),
        "tv": total_variation(grid_b2hw),
        "smooth": second_differences(grid_b2hw),
    }
    if "true_grid" in targets:
        valid = targets["true_valid"]
        truth = targets["true_grid"] / valid.clamp_min(1e-6)  # 0 where not valid
        parts["flow"] = masked_l1(grid_b2hw, truth, (valid > 0.5).float())  # half empty: the mean is off its centre
    return parts
