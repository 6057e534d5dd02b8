"""One network of a bundle, measured on a data set as its recipe measures it in training."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import get_args

import torch

from tryon.data.ingest import LocalBatches, Split, check_fields
from tryon.data.shards import read_manifest
from tryon.errors import BundleError
from tryon.models.bundle import Role, load_bundle
from tryon.models.device import autocast, pick_device
from tryon.sample import Batch
from tryon.training.recipes.base import Recipe
from tryon.training.recipes.registry import recipe_class
from tryon.training.worker import place_networks

ALL = "all"
BATCH_SIZE = 8


@dataclass(frozen=True)
class Measured:
    """Figures of a network.

    Attributes:
        recipe: that defines them.
        rows: by category, and under ``"all"``, how many samples were measured.
        means: by category, and under ``"all"``: the mean of each figure.
    """

    recipe: str
    rows: Mapping[str, int]
    means: Mapping[str, Mapping[str, float]]


def measure(bundle: str, role: Role, data: str, on_rows: Callable[[int, int], None] | None = None) -> Measured:
    """Measures a network on every row of a data set, whatever split the rows are on.

    Args:
        bundle: URI; the networks that the recipe builds on come from it too.
        role: of the network.
        data: URI of an annotated data set.
        on_rows: told how many rows of how many are done.

    Raises:
        BundleError: no such bundle, it has no such network, or does not say which recipe trained it.
        DataError: no data set, or one that lacks fields.
    """
    name, recipe = _recipe(bundle, role)
    manifest = read_manifest(data)
    check_fields(data, manifest, recipe.reads)
    present = [name for name in (*recipe.optional, "category") if name in manifest.fields]
    columns = tuple(dict.fromkeys(("id", *recipe.reads, *present)))
    local = LocalBatches(data, manifest, columns, recipe.size, 0.0)
    values: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    done = 0
    for batch in chain.from_iterable(local(split, BATCH_SIZE, None) for split in get_args(Split)):
        categories = batch.get("category", [ALL] * len(batch["id"]))
        for figure, column in _figures(recipe, batch).items():
            for category, value in zip(categories, column, strict=True):
                for group in {ALL, category}:
                    values[group, figure].append(value)
        done += len(batch["id"])
        if on_rows is not None:
            on_rows(done, manifest.rows)
    groups = sorted({group for group, _ in values}, key=lambda g: (g != ALL, g))
    means = {g: {n: sum(v) / len(v) for (group, n), v in values.items() if group == g} for g in groups}
    rows = {g: max(len(v) for (group, _), v in values.items() if group == g) for g in groups}
    return Measured(name, rows, means)


def _recipe(bundle: str, role: Role) -> tuple[str, Recipe]:
    """Name and recipe of a bundle's network, which takes the place of the recipe's own."""
    opened = load_bundle(bundle)
    network, size = opened.network(role)
    config = opened.manifest.networks[role].training.get("config", {})
    if "recipe" not in config:
        text = (
            f"bundle {bundle} does not say which recipe trained its {role} network, so nothing says how to measure it"
        )
        raise BundleError(text, code="bundle-incomplete", field="bundle")
    recipe = recipe_class(config["recipe"])(config["network"], size, opened, config.get("options"))
    if type(recipe.network) is type(network):  # else it is made of several of the bundle's
        recipe.network = network
    place_networks(recipe, pick_device())
    return config["recipe"], recipe


@torch.no_grad()
def _figures(recipe: Recipe, batch: Batch) -> dict[str, list[float]]:
    device = pick_device()
    tensors = {name: value.to(device) for name, value in recipe.prepare(batch).items()}
    with autocast(device):
        _, figures = recipe.evaluate(recipe.network, tensors)
    return {name: column.tolist() for name, column in figures.items()}
