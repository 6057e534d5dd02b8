"""Recipe `inpaint`: a Stable Diffusion inpainting checkpoint fine-tuned on garments and their prompts."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from tryon import storage
from tryon.config import Config, parse_config
from tryon.models.inpaint import GARMENT, Inpaint
from tryon.models.tensors import images_to_tensor, masks_to_tensor
from tryon.training.prompts import words_in, words_of
from tryon.training.recipes.base import StepOutput, Tensors
from tryon.training.recipes.denoising import DenoisingOptions, DenoisingRecipe
from tryon.training.recipes.prior import Prior, prior_images

TARGETS = {"garment": ("garment", "garment_mask"), "person": ("person", "agnostic_mask")}
WORD_FIELDS: Mapping[str, tuple[str, ...]] = {"category": (), "file": ("garment_uri",), "metadata": ("metadata",)}


class InpaintOptions(DenoisingOptions):
    """What the checkpoint learns, and under which words."""

    target: Literal["garment", "person"] = Field(
        "garment", description="paint the garment in its own photo, or the agnostic region of the person"
    )
    words: Literal["category", "file", "metadata"] = Field(
        "category", description="what a garment is called: by its category, its photo's file name, or a text column"
    )
    words_key: str = Field("text", description="key of the text in `metadata`, where words is metadata")
    prompt: str | None = Field(
        None, description=f"{GARMENT} stands for the words; None: the words alone, of a person the network's own prompt"
    )
    prior: Prior | None = Field(None, description="prior preservation; None: none")


class InpaintRecipe(DenoisingRecipe):
    """DreamBooth for inpainting: the masked garment is to be painted under its prompt.

    Ruiz et al. 2023 (arXiv 2208.12242): samples of a class, the base's own or a folder's, are learnt beside, so that
    the words keep their meaning. They are masked like the samples they stand beside.
    """

    network_name = "inpaint"
    reads = ("garment", "garment_mask", "category")
    defaults: ClassVar[Mapping[str, Any]] = {
        "size": (512, 384), "batch_size": 4, "learning_rate": 1e-4, "weight_decay": 1e-2,
    }  # fmt: skip
    options_class: ClassVar[type[Config]] = InpaintOptions
    options: InpaintOptions
    network: Inpaint

    @classmethod
    def needed_fields(cls, options: Mapping[str, Any]) -> tuple[str, ...]:
        told = parse_config(InpaintOptions, options, f"options of {cls.__name__}")
        return (*TARGETS[told.target], "category", *WORD_FIELDS[told.words])

    def settled(self) -> Mapping[str, Mapping[str, Any]]:
        told = self.options.model_dump(mode="json")
        if told["prior"] and told["prior"]["images"]:
            told["prior"]["images"] = storage.absolute(told["prior"]["images"])
        return {**super().settled(), "options": told}

    def prepare(self, batch: Mapping[str, Any]) -> Tensors:
        image, mask = TARGETS[self.options.target]
        return {
            "image": images_to_tensor(batch[image], self.size),
            "mask": masks_to_tensor(batch[mask], self.size),
            "tokens": self.network.tokens([self.prompt(batch, i) for i in range(len(batch["category"]))]),
        }

    def prompt(self, batch: Mapping[str, Any], i: int) -> str:
        """What is asked for in a row: a name without words falls back to its category's."""
        told = self.options
        words = ""
        if told.words == "file":
            words = words_of(batch["garment_uri"][i])
        elif told.words == "metadata":
            words = words_in(batch["metadata"][i], told.words_key)
        words = words or self.network.config.words(batch["category"][i])
        whole = self.network.config.prompt if told.target == "person" else GARMENT
        return (told.prompt or whole).replace(GARMENT, words)

    def example(self, tensors: Tensors) -> tuple[Tensor, Tensors]:
        mask, masked = self.network.masked_latents(tensors["image"], tensors["mask"])
        told = {"mask": mask, "masked": masked, "tokens": tensors["tokens"]}
        return self.network.encode(tensors["image"]), told

    def without_condition(self, told: Tensors, drop_b: Tensor) -> Tensors:
        nothing = self.network.tokens([""]).to(drop_b.device)
        return {**told, "tokens": torch.where(drop_b[:, None], nothing, told["tokens"])}

    def truth(self, tensors: Tensors) -> tuple[Tensor, Tensor]:
        return tensors["image"], tensors["mask"]

    def step(self, network: nn.Module, tensors: Tensors) -> StepOutput:
        if self.options.prior is None:
            return super().step(network, tensors)
        rows = len(tensors["image"])
        errors = self.errors(network, self._with_prior(tensors))
        parts = {"denoise": errors[:rows].mean(), "prior": errors[rows:].mean()}
        loss = parts["denoise"] + self.options.prior.weight * parts["prior"]
        return StepOutput(loss, {name: part.detach() for name, part in parts.items()})

    def _with_prior(self, tensors: Tensors) -> Tensors:
        """The batch, and beside each sample one of the class."""
        images, tokens = self._prior
        mask = tensors["mask"]
        chosen = images[torch.randint(len(images), (len(mask),))].to(mask.device)
        return {
            "image": torch.cat([tensors["image"], chosen]),
            "mask": torch.cat([mask, mask]),
            "tokens": torch.cat([tensors["tokens"], tokens.to(mask.device).expand(len(mask), -1)]),
        }

    @cached_property
    def _prior(self) -> tuple[Tensor, Tensor]:
        """Images of the class, on the CPU, and the tokens of its prompt; made at the first step."""
        assert self.options.prior is not None
        prior, device = self.options.prior, self.network.alphas.device
        prompt = prior.prompt or f"a photo of a {self.options.target}"
        return prior_images(self.network.config, prior, prompt, self.size, device), self.network.tokens([prompt])
