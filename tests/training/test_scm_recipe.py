"""Recipe `scm`: its three contexts, its figures, what it stores, and the stage that follows it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tryon.data.shards import read_shard
from tryon.errors import BundleError, ConfigError
from tryon.models.bundle import load_bundle, read_manifest, tryon_stages
from tryon.options import read_options
from tryon.sample import Batch
from tryon.stages.refine import Refine, RefineByGarment
from tryon.stages.registry import build_stage
from tryon.training.contexts import faulty_contexts, true_warp, with_faults
from tryon.training.recipes.scm import ScmOptions, ScmRecipe, psnr_inside
from tryon.training.run import check_run, run

SIZE = (128, 96)
CONTEXTS = ("warped", "garment", "true")
COLUMNS = ("id", *ScmRecipe.reads, "true_garment", "true_mask")


@pytest.fixture(scope="module")
def batch(small_data: str) -> Batch:
    """Three samples."""
    columns = read_shard(f"{small_data}/shard-00000.parquet", COLUMNS)
    return {name: column[:3] for name, column in columns.items()}


def recipe_of(bundle: str, context: str) -> ScmRecipe:
    torch.manual_seed(0)
    return ScmRecipe({"width": 8}, SIZE, load_bundle(bundle), {"context": context})


def test_the_word_true_is_no_truth_value() -> None:
    assert ScmOptions.model_validate({"context": read_options(None, ["context=true"])["context"]}).context == "true"
    with pytest.raises(ValueError, match="warped"):
        ScmOptions.model_validate({"context": False})


def test_contexts_in_training_and_in_use(small_bundle: str, batch: Batch) -> None:
    tensors, trained, used = {}, {}, {}
    for name in CONTEXTS:
        recipe = recipe_of(small_bundle, name)
        tensors[name] = recipe.prepare(batch)
        trained[name] = recipe._pair(tensors[name], name)[1]
        used[name] = recipe._pair(tensors[name], "garment" if name == "garment" else "warped")[1]
    garment, mask = tensors["garment"]["garment"], tensors["garment"]["garment_mask"]
    assert torch.equal(trained["garment"], garment * mask)
    assert torch.equal(used["garment"], trained["garment"])
    assert torch.equal(used["true"], used["warped"]), "a bundle cannot make the true warp"
    assert torch.equal(trained["warped"], used["warped"])
    assert not torch.allclose(trained["true"], trained["warped"], atol=0.1)
    assert "true" not in tensors["warped"]


def test_the_true_context_is_the_simulators_warp_else_the_parses(batch: Batch) -> None:
    row = {name: column[0] for name, column in batch.items()}
    garment, mask = true_warp(row)
    assert np.array_equal(garment, row["true_garment"])
    assert np.array_equal(mask > 0, row["true_mask"] > 0)
    cut, worn = true_warp({**row, "true_garment": None, "true_mask": None})
    assert np.array_equal(cut, row["person"])
    assert (worn[row["true_mask"] > 0] > 0).mean() > 0.9
    whole = faulty_contexts(batch, SIZE, np.random.default_rng(0))
    own = faulty_contexts({name: batch[name] for name in ScmRecipe.reads}, SIZE, np.random.default_rng(0))
    assert whole.shape == own.shape == (3, 3, *SIZE)
    assert not torch.equal(whole, own)
    assert float((whole - own).abs().mean()) < 0.2, "the same garment at the same place"


def test_faults_are_drawn_and_stay_within_the_garment(batch: Batch) -> None:
    garment, mask = batch["true_garment"][0], batch["true_mask"][0] * np.uint8(255)
    made = [with_faults(garment, mask, np.random.default_rng(seed)) for seed in range(48)]
    again = with_faults(garment, mask, np.random.default_rng(3))
    assert np.array_equal(made[3][0], again[0])
    assert len({image.tobytes() for image, _ in made}) > 32
    moved = [not np.array_equal(seen, mask) for _, seen in made]
    assert 16 < sum(moved) < 32, "half of them are shifted"
    inside = mask > 0
    errors = [np.abs(image[inside].astype(int) - garment[inside]).mean() for image, _ in made]
    assert min(errors) == 0
    assert max(errors) > 5
    apart = [np.abs(seen.astype(int) - mask).mean() / mask.mean() for _, seen in made]
    assert max(apart) < 0.3, "a fault is no other garment"


def test_figures_are_those_of_the_whole_picture_and_of_the_region(small_bundle: str, batch: Batch) -> None:
    recipe = recipe_of(small_bundle, "warped")
    with torch.no_grad():
        shown, figures = recipe.evaluate(recipe.network.eval(), recipe.prepare(batch))
    names = {f"val_{name}{end}" for name in ("psnr", "psnr_inside", "ssim") for end in ("", "_before")}
    assert set(figures) == names
    assert all(value.shape == (3,) for value in figures.values())
    assert shown["refined"].shape == (3, 3, *SIZE)
    for end in ("", "_before"):
        assert (figures[f"val_psnr_inside{end}"] < figures[f"val_psnr{end}"]).all(), "outside nothing is wrong"


def test_psnr_inside() -> None:
    a, b, mask = torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 4), torch.zeros(1, 1, 4, 4)
    b[..., :2, :] = 0.2
    mask[..., :2, :2] = 1
    assert float(psnr_inside(a, b, mask)) == pytest.approx(20.0)
    assert float(psnr_inside(a, b, 1 - mask)) == pytest.approx(20.0 + 10 * np.log10(3), abs=1e-3)
    assert torch.isfinite(psnr_inside(a, b, 0 * mask)).all()


@pytest.mark.parametrize("context", CONTEXTS)
def test_a_bundle_runs_with_the_context_it_was_trained_for(
    small_data: str, small_bundle: str, tmp_path: Path, context: str
) -> None:
    out = str(tmp_path / "bundle")
    options: dict[str, Any] = {"size": SIZE, "steps": 6, "warmup_steps": 0, "num_workers": 0, "network": {"width": 8}}
    spec = check_run("scm", small_data, out, {**options, "options": {"context": context}}, small_bundle)
    assert ("true_garment" in spec.columns) == (context == "true")
    entry = run(spec, lambda _: None)
    assert np.isfinite(entry.metrics["val_psnr_inside"])
    by_garment = context == "garment"
    assert read_manifest(out).networks["refinement"].config["context"] == ("garment" if by_garment else "warped")
    specs = tryon_stages(out)
    assert [spec.name for spec in specs] == [
        "warp",
        "synthesize",
        "refine_by_garment" if by_garment else "refine",
        "preserve",
    ]
    columns = read_shard(f"{small_data}/shard-00000.parquet", ("id", *ScmRecipe.reads))
    batch: Batch = {name: column[:2] for name, column in columns.items()}
    for stage in specs[:2]:
        batch = build_stage(stage)(batch)
    before = batch["tryon"]
    after = build_stage(specs[2])(batch)
    assert after["error"] == [None, None]
    assert all(not np.array_equal(a, b) for a, b in zip(before, after["tryon"], strict=True))
    with pytest.raises(BundleError, match="run the stage 'refine"):
        (Refine if by_garment else RefineByGarment)(out)


def test_a_context_that_contradicts_the_option_is_named(small_bundle: str) -> None:
    with pytest.raises(ConfigError, match=r"network\.context = 'garment' is not what options\.context = 'true' trains"):
        ScmRecipe({"context": "garment"}, SIZE, load_bundle(small_bundle), {"context": "true"})
    with pytest.raises(ConfigError, match="context = 'photo' is not allowed"):
        ScmRecipe({}, SIZE, load_bundle(small_bundle), {"context": "photo"})
