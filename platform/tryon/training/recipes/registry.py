"""Recipes by name, imported only when one is used."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from importlib import import_module

from tryon.errors import ConfigError
from tryon.training.recipes.base import Recipe

RECIPES: Mapping[str, str] = {
    "gmm": "tryon.training.recipes.gmm:GmmRecipe",
    "flow": "tryon.training.recipes.flow:FlowRecipe",
    "tom": "tryon.training.recipes.tom:TomRecipe",
    "scm": "tryon.training.recipes.scm:ScmRecipe",
    "segment": "tryon.training.recipes.segment:SegmentRecipe",
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
