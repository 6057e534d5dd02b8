"""Recipe `flow`: its classes, losses and figures, that it learns, and a bundle that the warp stage runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tryon.data.shards import read_shard, resize_row
from tryon.errors import BundleError
from tryon.models.bundle import load_bundle
from tryon.models.flow import PARSE_CLASSES
from tryon.models.layers import identity_grid
from tryon.models.losses import second_differences, total_variation
from tryon.sample import Batch, Label
from tryon.stages.warp import Warp
from tryon.training.config import TrainConfig
from tryon.training.optimizers import make_optimizer
from tryon.training.recipes.base import Tensors
from tryon.training.recipes.flow import (
    FlowRecipe,
    level_losses,
    parse_classes,
    parse_loss,
    targets_of,
)
from tryon.training.run import check_run, run
from tryon.training.state import seed_all

SIZE = (64, 48)
TINY = {"width": 8, "levels": 3, "fused": 16, "stem": 2}
COLUMNS = (*FlowRecipe.reads, "id", "true_flow")


@pytest.fixture(scope="module")
def batch(small_data: str) -> Batch:
    """Four samples."""
    columns = read_shard(f"{small_data}/shard-00001.parquet", COLUMNS)
    rows = [resize_row({name: columns[name][i] for name in COLUMNS}, SIZE) for i in range(4)]
    return {name: [row[name] for row in rows] for name in COLUMNS}


def true_grid(tensors: Tensors) -> torch.Tensor:
    """The truth where there is one, else the identity."""
    identity = identity_grid(*SIZE).permute(2, 0, 1)
    return torch.where(tensors["true_valid"] > 0, tensors["true_grid"], identity)


def learn(batch: Batch, steps: int) -> tuple[FlowRecipe, list[float], Tensors]:
    """Trains on one batch."""
    seed_all(0)
    recipe = FlowRecipe(TINY, SIZE, None)
    tensors = recipe.prepare(batch)
    optimizer = make_optimizer(recipe.network, TrainConfig(recipe="flow", learning_rate=3e-3))
    losses = []
    for _ in range(steps):
        loss = recipe.step(recipe.network, tensors).loss
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(recipe.network.parameters(), 1.0)
        optimizer.step()
        losses.append(float(loss.detach()))
    return recipe, losses, tensors


def test_four_samples_are_learnt_by_heart(batch: Batch) -> None:
    recipe, losses, tensors = learn(batch, 240)
    before = FlowRecipe(TINY, SIZE, None)
    with torch.no_grad():
        error = recipe.evaluate(recipe.network.eval(), tensors)[1]
        first = before.evaluate(before.network.eval(), tensors)[1]
    assert losses[-1] < 0.45, f"from {losses[0]}"
    assert float(error["val_flow_epe_px"].mean()) < 0.5 * float(first["val_flow_epe_px"].mean())
    assert float(error["val_mask_iou"].mean()) > 0.7


def test_the_same_seed_is_the_same_run_to_the_bit(batch: Batch) -> None:
    assert learn(batch, 4)[1] == learn(batch, 4)[1]


def test_without_a_true_flow_it_learns_from_the_pictures(batch: Batch) -> None:
    recipe, losses, tensors = learn({name: column for name, column in batch.items() if name != "true_flow"}, 40)
    assert "true_grid" not in tensors
    assert set(recipe.step(recipe.network, tensors).parts) == {"parse", "image", "mask", "tv", "smooth"}
    assert set(recipe.evaluate(recipe.network, tensors)[1]) == {"val_mask_iou", "val_l1"}
    assert losses[-1] < 0.6 * losses[0]


def test_the_true_flow_has_the_least_loss_and_no_end_point_error(batch: Batch) -> None:
    recipe = FlowRecipe(TINY, SIZE, None)
    tensors = recipe.prepare(batch)
    truth, targets = true_grid(tensors), targets_of(tensors)
    losses = level_losses(truth, targets)
    shifted = level_losses(truth + 0.1, targets)
    assert float(losses["flow"]) == pytest.approx(0, abs=1e-6)
    assert float(shifted["flow"]) == pytest.approx(0.1, rel=1e-4)
    assert float(losses["image"]) < 0.7 * float(shifted["image"])


def test_the_visible_figure_leaves_out_what_is_hidden(batch: Batch) -> None:
    recipe = FlowRecipe(TINY, SIZE, None)
    tensors = recipe.prepare(batch)
    with torch.no_grad():
        before = recipe.evaluate(recipe.network.eval(), tensors)[1]
        hidden = tensors["worn_mask"] <= 0.5
        tensors["true_grid"] = torch.where(hidden, tensors["true_grid"] + 1.0, tensors["true_grid"])
        after = recipe.evaluate(recipe.network, tensors)[1]
    assert torch.equal(before["val_flow_epe_visible_px"], after["val_flow_epe_visible_px"])
    assert float(after["val_flow_epe_px"].mean()) > float(before["val_flow_epe_px"].mean())


def test_classes_of_the_parse() -> None:
    parse = np.array(
        [[Label.BACKGROUND, Label.UPPER_CLOTHES, Label.LEFT_ARM], [Label.HAIR, Label.PANTS, Label.RIGHT_ARM]],
        dtype=np.uint8,
    )
    worn = torch.tensor([[[[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]]])
    classes = parse_classes({"parse": [parse]}, worn, (2, 3))
    names = [[PARSE_CLASSES[int(i)] for i in row] for row in classes[0].argmax(0)]
    assert names == [["background", "garment", "arms"], ["other", "other", "arms"]]
    assert torch.equal(classes.sum(1), torch.ones(1, 2, 3))


def test_the_parse_loss_is_a_cross_entropy_at_the_logits_size() -> None:
    classes = torch.zeros(1, 4, 8, 6)
    classes[:, 2] = 1
    assert float(parse_loss(torch.zeros(1, 4, 4, 3), classes)) == pytest.approx(np.log(4))
    assert float(parse_loss(20 * classes[..., ::2, ::2], classes)) == pytest.approx(0, abs=1e-5)


def test_smoothness() -> None:
    identity = identity_grid(16, 12).permute(2, 0, 1)[None]
    assert float(total_variation(identity)) == pytest.approx(0, abs=1e-5)
    assert float(total_variation(1.5 * identity)) == pytest.approx(0.5, abs=1e-5)  # 0.5 px a px, in x and in y
    assert float(second_differences(1.5 * identity + 0.2)) == pytest.approx(0, abs=1e-5)
    assert float(second_differences(identity**2)) > 0.01
    assert float(second_differences(identity[..., :2, :2])) == 0


def test_a_bundle_that_the_warp_stage_runs(small_data: str, tmp_path: Path) -> None:
    out = str(tmp_path / "bundle")
    options = {"size": SIZE, "steps": 2, "batch_size": 4, "num_workers": 0, "network": TINY, "val_fraction": 0.2}
    entry = run(check_run("flow", small_data, out, options), lambda _: None)
    assert {"val_mask_iou", "val_l1", "val_flow_epe_px", "val_flow_epe_visible_px"} <= set(entry.metrics)
    network, size = load_bundle(out).network("warp")
    columns = read_shard(f"{small_data}/shard-00000.parquet", Warp.reads)
    rows = [{name: columns[name][i] for name in Warp.reads} for i in range(2)]
    rows[1] = resize_row(rows[1], (201, 151))
    warped = Warp(out)({name: [row[name] for row in rows] for name in Warp.reads})
    assert (entry.network, size, type(network).__name__) == ("flow", SIZE, "Flow")
    assert warped["error"] == [None, None]
    for i, shape in enumerate([(128, 96), (201, 151)]):
        assert warped["warped_garment"][i].shape == (*shape, 3)
        assert warped["warped_mask"][i].shape == shape
        assert warped["warped_mask"][i].max() > 0


def test_a_run_goes_on_from_a_bundle(small_data: str, tmp_path: Path) -> None:
    first, second = str(tmp_path / "first"), str(tmp_path / "second")
    told = {"size": SIZE, "steps": 1, "batch_size": 4, "num_workers": 0, "network": TINY, "learning_rate": 1e-12}
    on = {**told, "options": {"start": "bundle"}, "weight_decay": 0.0}
    run(check_run("flow", small_data, first, {**told, "seed": 7}), lambda _: None)
    run(check_run("flow", small_data, second, on, first), lambda _: None)
    before, after = (load_bundle(uri).network("warp")[0].state_dict() for uri in (first, second))
    assert all(torch.allclose(before[name], after[name], atol=1e-6) for name in before)
    assert load_bundle(second).manifest.networks["warp"].training["config"]["options"] == {"start": "bundle"}
    with pytest.raises(BundleError, match="give --bundle"):
        check_run("flow", small_data, str(tmp_path / "third"), on)
    with pytest.raises(BundleError, match="a warp of another kind"):
        check_run("flow", small_data, str(tmp_path / "third"), {**on, "network": {}}, first)


def test_synthesis_and_refinement_train_on_a_frozen_flow(small_data: str, tmp_path: Path) -> None:
    out = str(tmp_path / "bundle")
    for recipe, network in {"flow": {"width": 8, "fused": 16}, "tom": {"width": 16}, "scm": {"width": 8}}.items():
        options = {"size": [64, 48], "steps": 2, "batch_size": 2, "num_workers": 0, "network": network}
        run(check_run(recipe, small_data, out, options), lambda _: None)
    assert {entry.network for entry in load_bundle(out).manifest.networks.values()} == {"flow", "tom", "nafnet"}
