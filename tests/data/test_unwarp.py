"""Garment photos made of what people wear."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tryon.data.derived import base_id
from tryon.data.job import run_job
from tryon.data.shards import read_shard
from tryon.data.simulator import SimulatorConfig, simulate, warp_by_flow
from tryon.data.unwarp import UnwarpConfig, unwarp, unwarp_job
from tryon.errors import DataError, SampleError
from tryon.models.tensors import GARMENT_LABELS
from tryon.sample import Row

SIZE = (256, 192)


def drawn(category: str, index: int = 0) -> Row:
    return simulate(8, index, *SIZE, SimulatorConfig(categories=(category,)))  # type: ignore[arg-type]


def made(row: Row, seed: int = 0, **options: Any) -> Row:
    return unwarp(row, UnwarpConfig(**options), np.random.default_rng(seed))


@pytest.mark.parametrize("category", ["upper", "lower", "dress"])
@pytest.mark.parametrize("index", range(3))
def test_the_flow_leads_back_to_what_is_worn(category: str, index: int) -> None:
    row = drawn(category, index)
    out = made(row, index)
    worn = np.isin(row["parse"], GARMENT_LABELS[category])
    known = np.isfinite(out["true_flow"]).all(axis=-1)
    assert not (known & ~worn).any()
    assert known.sum() > 0.9 * worn.sum()
    worn = known
    back = warp_by_flow(out["garment"], out["true_flow"], worn.astype(np.uint8))
    assert np.abs(back.astype(float) - row["person"])[worn].mean() < 12
    ys, xs = np.nonzero(worn)
    at = np.rint(out["true_flow"][worn] + np.stack([xs, ys], axis=-1)).astype(int)
    assert (at >= 0).all()
    assert out["garment_mask"][at[:, 1], at[:, 0]].mean() > 0.97


def test_the_ground_is_white_and_the_garment_fills_the_photo() -> None:
    out = made(drawn("upper"))
    mask = out["garment_mask"] > 0
    assert (out["garment"][~mask] == 255).all()
    ys, xs = np.nonzero(mask)
    assert max((ys.max() - ys.min()) / SIZE[0], (xs.max() - xs.min()) / SIZE[1]) > 0.8


def test_sleeves_are_laid_outwards() -> None:
    row = next(row for row in (drawn("upper", i) for i in range(40)) if wears_long_sleeves(row))
    narrow = made(row, sleeves_deg=(5, 5), bend=0, turn_deg=0, widen=(1, 1))
    wide = made(row, sleeves_deg=(70, 70), bend=0, turn_deg=0, widen=(1, 1))
    spans = [aspect(out["garment_mask"]) for out in (narrow, wide)]
    assert spans[1] > 1.25 * spans[0]


def wears_long_sleeves(row: Row) -> bool:
    elbows = row["pose"][[3, 6]]
    if not elbows[:, 2].all():
        return False
    at = np.rint(elbows[:, :2]).astype(int)
    return bool((row["parse"][at[:, 1], at[:, 0]] == 4).all())


def aspect(mask: np.ndarray[Any, Any]) -> float:
    ys, xs = np.nonzero(mask)
    return float((xs.max() - xs.min()) / (ys.max() - ys.min()))


def test_the_same_seed_is_the_same_photo() -> None:
    row = drawn("dress")
    assert np.array_equal(made(row, 3)["garment"], made(row, 3)["garment"])
    assert not np.array_equal(made(row, 3)["garment"], made(row, 4)["garment"])


def test_a_person_without_such_a_garment_is_named() -> None:
    row = {**drawn("upper"), "category": "dress"}
    row["parse"] = np.where(np.isin(row["parse"], GARMENT_LABELS["dress"]), 0, row["parse"]).astype(np.uint8)
    with pytest.raises(SampleError, match=r"dress garment takes 0\.0% of the photo; 1% is asked for"):
        made(row)


def test_the_job_writes_pairs_that_recipes_read(small_data: str, tmp_path: Path) -> None:
    from tryon.training.recipes.flow import FlowRecipe

    manifest = run_job(unwarp_job(small_data, UnwarpConfig(variants=2)), str(tmp_path / "out"), num_actors=0)
    assert manifest.rows >= 70
    names = ("id", *FlowRecipe.reads, "true_flow", "garment_id")
    batch = read_shard(str(tmp_path / "out" / "shard-00000.parquet"), names)
    assert all(row_id.endswith(("#u1", "#u2")) for row_id in batch["id"])
    assert all("#" not in base_id(row_id) for row_id in batch["id"])
    recipe = FlowRecipe({"width": 8, "fused": 16}, (128, 96), None)
    tensors = recipe.prepare({name: column[:4] for name, column in batch.items()})
    assert float(recipe.step(recipe.network, tensors).loss) > 0


def test_a_data_set_that_is_not_annotated_is_refused(tmp_path: Path) -> None:
    from tryon.config import parse_config
    from tryon.data.synth import SynthConfig, synth_job

    raw = str(tmp_path / "raw")
    run_job(synth_job(parse_config(SynthConfig, {"num": 2, "size": (64, 48), "seed": 0}, "synth")), raw, num_actors=0)
    with pytest.raises(DataError, match=r"lacks .*agnostic"):
        unwarp_job(raw, UnwarpConfig())
