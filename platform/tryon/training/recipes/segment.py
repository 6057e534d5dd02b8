"""Recipe `segment`: human parsing of the person photo."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tryon.images import resize
from tryon.models.bundle import Role
from tryon.models.metrics import parse_miou
from tryon.models.tensors import Size, images_to_tensor, labels_to_mask
from tryon.sample import NUM_LABELS, PALETTE, Label
from tryon.training.recipes.base import Recipe, StepOutput, Tensors

GARMENTS = (Label.UPPER_CLOTHES, Label.SKIRT, Label.PANTS, Label.DRESS)


class SegmentRecipe(Recipe):
    """Cross-entropy over the 18 classes.

    `val_miou` is a mean over samples of each sample's mean over the classes that its truth or its prediction shows;
    `val_garment_iou` is that of all garments together, which try-on replaces.
    """

    role: ClassVar[Role] = "parsing"
    network_name = "segment"
    reads = ("person", "parse")
    best_metric = "val_miou"
    defaults: ClassVar[Mapping[str, Any]] = {"learning_rate": 2e-3}

    def prepare(self, batch: Mapping[str, Any]) -> Tensors:
        return {
            "person": images_to_tensor(batch["person"], self.size),
            "labels": labels_to_tensor(batch["parse"], self.size),
            "garment": labels_to_mask(batch["parse"], GARMENTS, self.size),
        }

    def step(self, network: nn.Module, tensors: Tensors) -> StepOutput:
        loss = F.cross_entropy(network(tensors["person"]).float(), tensors["labels"])
        return StepOutput(loss, {"cross_entropy": loss.detach()})

    def evaluate(self, network: nn.Module, tensors: Tensors) -> tuple[Tensors, Tensors]:
        labels = network(tensors["person"]).argmax(1)
        garment = torch.isin(labels, torch.tensor(GARMENTS, device=labels.device))
        figures = {
            "val_miou": parse_miou(labels, tensors["labels"]),
            "val_garment_iou": parse_miou(garment.long(), (tensors["garment"][:, 0] > 0.5).long(), classes=(1,)),
            "val_pixel_accuracy": (labels == tensors["labels"]).float().flatten(1).mean(1),
        }
        return {"parse": labels_to_picture(labels), "truth": labels_to_picture(tensors["labels"])}, figures


def labels_to_tensor(parses: Sequence[npt.NDArray[np.uint8]], size: Size) -> Tensor:
    """uint8 (H, W) label maps of any size to int64 (b, h, w), by the nearest pixel.

    Raises:
        ValueError: a value that is no label.
    """
    stacked = np.stack([resize(np.asarray(parse), *size, nearest=True) for parse in parses])
    if stacked.max(initial=0) >= NUM_LABELS:
        raise ValueError(f"parse holds {stacked.max()}: labels are 0..{NUM_LABELS - 1}")
    return torch.from_numpy(stacked).long()


def labels_to_picture(labels_bhw: Tensor) -> Tensor:
    """int64 (b, h, w) to the labels' colours, (b, 3, h, w) in [-1, 1]."""
    colours = torch.as_tensor(PALETTE, device=labels_bhw.device).float().div(127.5).sub(1.0)
    return colours[labels_bhw].permute(0, 3, 1, 2)
