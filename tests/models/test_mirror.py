"""Mirrored samples: a mirrored warp of a mirrored garment is the warp's mirror image."""

from __future__ import annotations

import pytest
import torch

from tryon.data.ingest import LocalBatches
from tryon.data.shards import read_manifest
from tryon.models.gmm import apply_grid
from tryon.models.mirror import CHANNELS, mirrored
from tryon.models.tensors import LIMBS, limb_map
from tryon.sample import Joint
from tryon.training.recipes.base import Tensors
from tryon.training.recipes.flow import FlowRecipe

SIZE = (128, 96)


@pytest.fixture(scope="module")
def tensors(small_data: str) -> Tensors:
    recipe = FlowRecipe({"width": 8, "fused": 16}, SIZE, None)
    columns = ("id", *FlowRecipe.reads, *FlowRecipe.optional)
    batch = next(LocalBatches(small_data, read_manifest(small_data), columns, SIZE, 0.0)("train", 4, None))
    return recipe.prepare(batch)


def test_twice_mirrored_is_the_sample_itself(tensors: Tensors) -> None:
    again = mirrored(mirrored(tensors))
    assert set(again) == set(tensors)
    for name, value in tensors.items():
        assert torch.allclose(again[name], value, atol=1e-4), name
        if name in ("person", "pose", "limbs", "true_grid"):
            assert not torch.allclose(mirrored(tensors)[name], value), name


def test_the_mirrored_true_warp_gives_the_mirrored_worn_garment(tensors: Tensors) -> None:
    def worn(t: Tensors) -> torch.Tensor:
        warped, _, _ = apply_grid(t["garment"], t["garment_mask"], t["true_grid"].permute(0, 2, 3, 1))
        return warped * t["true_valid"]

    assert torch.allclose(worn(mirrored(tensors)), worn(tensors).flip(-1), atol=1e-4)


def test_limbs_are_those_of_the_mirrored_pose(tensors: Tensors) -> None:
    flipped = mirrored(tensors)
    assert torch.allclose(limb_map(flipped["pose"], SIZE), flipped["limbs"], atol=1e-3)


def test_each_limb_becomes_its_counterpart() -> None:
    names = [tuple(joint.name for joint in limb) for limb in LIMBS]
    assert names[CHANNELS[0]] == ("LEFT_SHOULDER", "LEFT_ELBOW")
    assert LIMBS[CHANNELS[5]] == (Joint.NECK, Joint.MID_HIP)
    assert sorted(CHANNELS) == list(range(len(LIMBS)))
