"""Recipes by name, imported only when one is used."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING

from tryon.errors import ConfigError

if TYPE_CHECKING:
    from tryon.training.recipes.base import Recipe

RECIPES: Mapping[str, str] = {
    "gmm": "tryon.training.recipes.gmm:GmmRecipe",
    "flow": "tryon.training.recipes.flow:FlowRecipe",
    "tom": "tryon.training.recipes.tom:TomRecipe",
    "joint": "tryon.training.recipes.joint:JointRecipe",
    "scm": "tryon.training.recipes.scm:ScmRecipe",
    "segment": "tryon.training.recipes.segment:SegmentRecipe",
    "extract": "tryon.training.recipes.extract:ExtractRecipe",
    "latent_autoencoder": "tryon.training.recipes.latent_autoencoder:LatentAutoencoderRecipe",
    "latent_diffusion": "tryon.training.recipes.latent_diffusion:LatentDiffusionRecipe",
    "latent_consistency": "tryon.training.recipes.latent_consistency:LatentConsistencyRecipe",
    "inpaint": "tryon.training.recipes.inpaint:InpaintRecipe",
    "concat_inpaint": "tryon.training.recipes.concat_inpaint:ConcatInpaintRecipe",
    "autoencoder": "tryon.training.recipes.autoencoder:AutoencoderRecipe",
    "vae": "tryon.training.recipes.vae:VaeRecipe",
}


def recipe_class(name: str) -> type[Recipe]:
    """The class of a recipe.

    Raises:
        ConfigError: no recipe has this name; the nearest is offered.
    """
    if name not in RECIPES:
        near = difflib.get_close_matches(name, RECIPES, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        text = f"unknown recipe {name!r} (known: {', '.join(RECIPES)}){hint}"
        raise ConfigError(text, code="recipe-unknown", field="RECIPE")
    module, _, attribute = RECIPES[name].partition(":")
    cls: type[Recipe] = getattr(import_module(module), attribute)
    return cls
