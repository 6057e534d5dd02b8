"""Recipe `scm`: the structural-correction module on frozen warp and synthesis."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, cast

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field, field_validator
from torch import Tensor, nn

from tryon.config import Config, parse_config
from tryon.errors import ConfigError
from tryon.models.bundle import Bundle, Role
from tryon.models.contract import SynthesisNetwork
from tryon.models.losses import gradient_l1
from tryon.models.tensors import CONDITION_READS, condition, images_to_tensor, masks_to_tensor
from tryon.models.tom import compose
from tryon.training.contexts import TRUE_FIELDS, faulty_contexts
from tryon.training.recipes.base import Recipe, StepOutput, Tensors, psnr, ssim, worn_garment
from tryon.training.recipes.tom import frozen_warp


class ScmOptions(Config):
    """What the network is shown beside the image."""

    context: Literal["warped", "garment", "true"] = Field(
        "warped",
        description="warped garment, garment photo, or in training the true warp with faults, later the warped garment",
    )

    @field_validator("context", mode="before")
    @classmethod
    def _word(cls, value: object) -> object:
        return "true" if value is True else value  # what YAML makes of the word


class ScmRecipe(Recipe):
    """Restores the try-on towards the photo, with a context image in front (AutoDIR's arrangement, 6 channels).

    A data set of triplets brings faulty images and, most often, their warped garment; of others both are made by the
    frozen networks, step by step.
    """

    role: ClassVar[Role] = "refinement"
    network_name = "nafnet"
    reads = (*CONDITION_READS, "person")
    optional = ("generated", "warped_garment", "warped_mask")
    needs: ClassVar[tuple[Role, ...]] = ("warp", "synthesis")
    best_metric = "val_psnr"
    # Pictures are seen whole: NAFNet weighs channels by their means over the picture. Few at a time, so that steps are
    # many; 2e-3 gains more (0.76 dB) in 50 CPU-seconds than 1e-3 in 75 (0.74 dB).
    defaults: ClassVar[Mapping[str, Any]] = {"learning_rate": 2e-3, "batch_size": 4}
    options_class = ScmOptions

    def __init__(
        self,
        network_config: Mapping[str, Any],
        size: tuple[int, int],
        bundle: Bundle | None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        """See `Recipe`.

        Raises:
            ConfigError: also if the network's config names another context than the option.
        """
        told = parse_config(ScmOptions, options or {}, "options of scm").context
        context = "garment" if told == "garment" else "warped"
        if network_config.get("context", context) != context:
            text = f"network.context = {network_config['context']!r} is not what options.context = {told!r} trains"
            raise ConfigError(f"{text}; leave it out", code="config-invalid", field="network")
        super().__init__({**network_config, "context": context}, size, bundle, options)
        self.prepare_draws = told == "true"

    @classmethod
    def optional_fields(cls, options: Mapping[str, Any]) -> tuple[str, ...]:
        true = parse_config(ScmOptions, options, "options of scm").context == "true"
        return (*cls.optional, *(TRUE_FIELDS if true else ()))

    def prepare(self, batch: Mapping[str, Any]) -> Tensors:
        tensors = condition(batch, self.size)
        tensors["person"], _ = worn_garment(batch, self.size)
        # A warp without a generated image is no triplet; it is then not the one the frozen synthesis would be given.
        if has_column(batch, "generated"):
            tensors["generated"] = images_to_tensor(batch["generated"], self.size)
            if has_column(batch, "warped_garment") and has_column(batch, "warped_mask"):
                mask = masks_to_tensor(batch["warped_mask"], self.size, top=255.0)
                tensors["warped"] = images_to_tensor(batch["warped_garment"], self.size) * mask
        if self.options.context == "true":
            rng = np.random.default_rng(int(torch.randint(2**31, ())))  # of torch's, which a checkpoint keeps
            tensors["true"] = faulty_contexts(batch, self.size, rng)
        return tensors

    def step(self, network: nn.Module, tensors: Tensors) -> StepOutput:
        image, context = self._pair(tensors, self.options.context)
        mask, person = tensors["agnostic_mask"], tensors["person"]
        refined = self._refine(network, image, context, mask)
        share = mask.mean().clamp_min(1e-2)
        parts = {"l1": F.l1_loss(refined, person) / share, "gradient": gradient_l1(refined, person) / share}
        loss = parts["l1"] + 0.5 * parts["gradient"]
        return StepOutput(loss, {name: part.detach() for name, part in parts.items()})

    def evaluate(self, network: nn.Module, tensors: Tensors) -> tuple[Tensors, Tensors]:
        """As it is used: with a context that the bundle can make."""
        image, context = self._pair(tensors, "garment" if self.options.context == "garment" else "warped")
        person, mask = tensors["person"], tensors["agnostic_mask"]
        refined = self._refine(network, image, context, mask)
        figures = {}
        for end, shown in (("", refined), ("_before", image)):
            figures[f"val_psnr{end}"] = psnr(shown, person)
            figures[f"val_psnr_inside{end}"] = psnr_inside(shown, person, mask)
            figures[f"val_ssim{end}"] = ssim(shown, person)
        return {"refined": refined, "truth": person}, figures

    @torch.no_grad()
    def _pair(self, tensors: Tensors, context: str) -> tuple[Tensor, Tensor]:
        """The image to restore and its context: those the data brings, else what the frozen networks make."""
        warp: tuple[Tensor, Tensor] | None = None
        if "generated" not in tensors or (context == "warped" and "warped" not in tensors):
            warp = frozen_warp(self.frozen["warp"], tensors)
        image = tensors.get("generated")
        if image is None:
            assert warp is not None
            made = cast("SynthesisNetwork", self.frozen["synthesis"]).synthesize(tensors, *warp)
            image = compose(tensors, warp[0], made["composition_mask"], made["rendering"])
        if context == "garment":
            return image, tensors["garment"] * tensors["garment_mask"]
        if context in tensors:
            return image, tensors[context]
        assert warp is not None
        return image, warp[0] * warp[1]

    @staticmethod
    def _refine(network: nn.Module, image: Tensor, context: Tensor, mask: Tensor) -> Tensor:
        """The correction counts inside the agnostic mask only, as in the `refine` stage."""
        refined: Tensor = network(torch.cat([context, image], dim=1)).float()
        return image + mask * (refined - image)


def has_column(batch: Mapping[str, Any], name: str) -> bool:
    """True if every row of the batch brings the field."""
    return name in batch and all(value is not None for value in batch[name])


def psnr_inside(a: Tensor, b: Tensor, mask: Tensor) -> Tensor:
    """PSNR of each image over the pixels of a mask (b, 1, h, w), dB; images in [-1, 1]."""
    square = ((a - b) / 2).square() * mask
    mse = square.flatten(1).sum(1) / (a.shape[1] * mask.flatten(1).sum(1)).clamp_min(1.0)
    return -10 * torch.log10(mse.clamp_min(1e-10))
