"""Recipe `extract`: what it learns from, its baseline, its phases into one bundle, and that a critic goes on too."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tryon.data.shards import read_shard, resize_row
from tryon.errors import BundleError, ConfigError
from tryon.models.bundle import load_bundle, read_manifest
from tryon.models.extract import Extract, Plan
from tryon.models.extract_layers import anchor_of, places
from tryon.models.flow_layers import enlarge_grid
from tryon.models.layers import identity_grid
from tryon.models.mirror import mirrored
from tryon.sample import Batch
from tryon.training.config import TrainConfig
from tryon.training.loop import Report, train
from tryon.training.recipes.base import Tensors
from tryon.training.recipes.extract import ExtractRecipe
from tryon.training.recipes.extract_flow import MEAN_BOXES, crop_and_paste, flow_error_px, flow_losses
from tryon.training.run import RunSpec, check_run, finished, run
from tryon.training.state import TrainState, dump_checkpoint, load_checkpoint, seed_all

SIZE = (64, 48)
TINY = {"width": 4, "fused": 8}
COLUMNS = (*ExtractRecipe.reads, "id", "true_flow")
GAN = {"gan": "lsgan", "gan_width": 4, "perceptual": 0.0}


@pytest.fixture(autouse=True)
def _two_threads() -> Iterator[None]:
    """With one thread oneDNN of torch 2.13 writes beyond its memory in a backward pass of pictures this small."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def batch(small_data: str) -> Batch:
    """Four samples."""
    columns = read_shard(f"{small_data}/shard-00001.parquet", COLUMNS)
    rows = [resize_row({name: columns[name][i] for name in COLUMNS}, SIZE) for i in range(4)]
    return {name: [row[name] for row in rows] for name in COLUMNS}


def checked(data: str, out: Path, network: dict[str, Any] | None = None, **options: Any) -> RunSpec:
    values = {
        "size": SIZE, "steps": 3, "batch_size": 4, "num_workers": 0, "report_every": 1, "val_fraction": 0.2,
        "network": {**TINY, **(network or {})}, "options": options,
    }  # fmt: skip
    return check_run("extract", data, str(out), values)


def test_the_truth_is_the_garment_photo_on_white(batch: Batch) -> None:
    tensors = ExtractRecipe(TINY, SIZE, None).prepare(batch)
    outside = (tensors["garment_mask"] == 0).expand(-1, 3, -1, -1)
    assert outside.float().mean() > 0.2
    assert (tensors["garment"][outside] == 1).all()
    assert tensors["garment"][~outside].mean() < 0.9
    assert tensors["true_grid"].shape == (4, 2, 32, 24), "a quarter of the true flow"


def affine_case() -> tuple[Plan, Tensors]:
    """A person who shows the garment photo at 0.8 of its size and 0.1 further right, and the plan that says so."""
    worn = torch.zeros(1, 1, *SIZE)
    worn[..., 10:40, 8:30] = 1
    anchor = anchor_of(worn)
    at = identity_grid(32, 24).permute(2, 0, 1)[None]
    shift = torch.tensor([0.1, 0.0]).view(1, 2, 1, 1)
    valid = torch.zeros(1, 1, 32, 24)
    valid[..., 6:20, 5:15] = 1
    tensors = {
        "person": torch.zeros(1, 3, *SIZE), "worn_mask": worn, "garment": torch.zeros(1, 3, *SIZE),
        "garment_mask": worn, "true_grid": (at - shift) / 0.8, "true_valid": valid,
    }  # fmt: skip
    grids = []
    for h, w in ((4, 3), (8, 6)):
        person = 0.8 * places(torch.zeros(1, 1, h, w)) + shift
        grids.append((person - anchor[:, 1:, None, None]) / anchor[:, :1, None, None])
    empty = torch.zeros(1, 1, 1, 1)
    return Plan(anchor, tuple(grids), empty, empty, empty, empty), tensors


def test_the_true_flow_has_no_error() -> None:
    plan, tensors = affine_case()
    assert float(flow_error_px(plan, tensors)) < 0.01
    assert float(flow_losses(plan, tensors)["flow"]) < 1e-3
    off = plan._replace(grids=tuple(grid + torch.tensor([1 / 12, 0.0]).view(1, 2, 1, 1) for grid in plan.grids))
    assert float(flow_error_px(off, tensors)) == pytest.approx(2.0, abs=0.02), "a twelfth of half of 48 px"
    assert float(flow_losses(off, tensors)["flow"]) == pytest.approx(1 / 24, abs=1e-3)
    assert flow_error_px(plan, {**tensors, "true_valid": torch.zeros(1, 1, 32, 24)}).numel() == 0


def test_a_mirrored_sample_has_the_mirrored_flow(batch: Batch) -> None:
    tensors = ExtractRecipe(TINY, SIZE, None).prepare(batch)
    again = mirrored(mirrored(tensors))
    assert all(torch.allclose(value, again[name], atol=1e-4) for name, value in tensors.items())
    plan, tensors = affine_case()
    tensors["pose"] = torch.zeros(1, 25, 3)
    flipped = mirrored(tensors)
    grids = tuple(torch.cat([-grid[:, :1], grid[:, 1:]], dim=1).flip(-1) for grid in plan.grids)
    other = plan._replace(anchor=anchor_of(flipped["worn_mask"]), grids=grids)
    assert float(flow_error_px(other, flipped)) < 0.01
    assert enlarge_grid(grids[-1], (16, 12)).shape == (1, 16, 12, 2)


def test_crop_and_paste_fills_the_mean_box_of_the_category() -> None:
    person = torch.full((3, 3, 128, 96), -0.5)
    worn = torch.zeros(3, 1, 128, 96)
    worn[..., 30:70, 20:50] = 1
    pasted = crop_and_paste({"person": person, "worn_mask": worn, "category": torch.eye(3)})
    for picture, (left, top, right, bottom) in zip(pasted, MEAN_BOXES, strict=True):
        shown = picture[0] < 0.25
        rows, columns = shown.any(1).nonzero()[:, 0], shown.any(0).nonzero()[:, 0]
        assert (int(rows.min()), int(rows.max())) == (
            pytest.approx(top * 128, abs=1.5), pytest.approx(bottom * 128, abs=2.5),
        )  # fmt: skip
        assert (int(columns.min()), int(columns.max())) == (
            pytest.approx(left * 96, abs=1.5), pytest.approx(right * 96, abs=2.5),
        )  # fmt: skip
        assert float(picture[:, 64, 48].mean()) == pytest.approx(-0.5)
        assert float(picture[:, 0, 0].mean()) == 1


def train_on(
    batch: Batch, options: dict[str, Any], steps: int, start: bytes | None = None
) -> tuple[list[dict[str, float]], dict[int, bytes], TrainState]:
    """Lines, checkpoints by step and the last state of a run on one batch an epoch."""
    config = TrainConfig.model_validate(
        {"recipe": "extract", "size": SIZE, "steps": steps, "batch_size": 4, "report_every": 1, "checkpoint_every": 2,
         "precision": "fp32"}
    )  # fmt: skip
    seed_all(config.seed)
    recipe = ExtractRecipe(TINY, SIZE, None, options)
    state = TrainState.fresh(recipe, config)
    if start is not None:
        state.load_state_dict(load_checkpoint(start))
    lines: list[dict[str, float]] = []
    checkpoints: dict[int, bytes] = {}

    def on_report(report: Report) -> None:
        lines.append(
            {k: v for k, v in report.metrics.items() if k not in ("samples_per_s", "seconds", "data_wait_share")}
        )
        if report.state is not None:
            checkpoints[report.state.step] = dump_checkpoint(report.state)

    train(recipe, state, config, lambda _: [batch], list, torch.device("cpu"), on_report)
    return lines, checkpoints, state


@pytest.mark.parametrize("gan", ["lsgan", "hinge", "log"])
def test_a_critic_is_trained_beside_the_network(batch: Batch, gan: str) -> None:
    lines, _, state = train_on(batch, {**GAN, "gan": gan}, 2)
    assert {"loss_gan", "critic_loss", "critic_real", "critic_fake"} <= set(lines[0])
    assert all(math.isfinite(value) for line in lines for value in line.values())
    fresh = train_on(batch, {**GAN, "gan": gan}, 1)[2]
    assert state.critic is not None
    assert fresh.critic is not None
    pairs = zip(state.critic.parameters(), fresh.critic.parameters(), strict=True)
    assert any(not torch.equal(a, b) for a, b in pairs), "its weights move"


def test_a_run_with_a_critic_goes_on_from_its_checkpoint_to_the_bit(batch: Batch) -> None:
    unbroken, checkpoints, state = train_on(batch, GAN, 4)
    torch.rand(100)  # whatever ran in between
    continued, _, same = train_on(batch, GAN, 4, start=checkpoints[2])
    assert continued == unbroken[2:]
    for a, b in ((state.network, same.network), (state.critic, same.critic)):
        assert a is not None
        assert b is not None
        assert all(torch.equal(x, b.state_dict()[name]) for name, x in a.state_dict().items())


def test_without_a_critic_there_is_none(batch: Batch) -> None:
    lines, _, state = train_on(batch, {"perceptual": 0.0, "ssim": 0.0}, 1)
    assert state.critic is None
    assert not {name for name in lines[0] if "critic" in name or "gan" in name or "ssim" in name}


def test_phases_go_on_in_one_bundle(small_data: str, tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    run(checked(small_data, out), lambda _: None)
    first = load_bundle(str(out)).network("extraction")[0]
    second = checked(small_data, out, {"two_stage": True}, start="bundle", **GAN)
    assert finished(second) is None
    recipe = ExtractRecipe(second.config.network, SIZE, load_bundle(str(out)), second.config.options)
    inputs = first.example_inputs(2, *SIZE)  # type: ignore[operator]
    with torch.inference_mode():
        before, after = first.infer(inputs), recipe.network.eval().infer(inputs)  # type: ignore[operator]
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    lines: list[dict[str, float]] = []
    entry = run(second, lines.append)
    assert "critic_loss" in lines[0]
    assert entry.config["two_stage"] is True
    assert finished(checked(small_data, out, {"two_stage": True}, start="bundle", **GAN)) == entry


def test_a_run_that_goes_on_from_other_weights_is_another_run(small_data: str, tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    names = set()
    for l1 in (1.0, 2.0):
        run(checked(small_data, out, l1=l1), lambda _: None)
        names.add(checked(small_data, out, start="bundle").name())
    assert len(names) == 2
    assert read_manifest(str(out)).networks["extraction"].training["config"]["options"]["l1"] == 2.0


def test_what_a_run_cannot_go_on_from_is_named(small_data: str, tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    with pytest.raises(BundleError, match="goes on from a trained extraction network: give --bundle"):
        checked(small_data, out, start="bundle")
    run(checked(small_data, out), lambda _: None)
    with pytest.raises(BundleError, match=r"an extraction network of another kind: .*fused=8.*, not .*fused=16"):
        checked(small_data, out, {"fused": 16}, start="bundle")
    with pytest.raises(ConfigError, match="`encoder` must be left out"):
        checked(small_data, out, start="bundle", encoder="acme/resnet")


def test_a_published_encoder_is_pinned_in_the_run(
    small_data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import ResNetBackbone, ResNetConfig

    config = ResNetConfig(embedding_size=4, hidden_sizes=[4, 8, 16, 32], depths=[2, 2, 2, 2], layer_type="basic")
    backbone = ResNetBackbone(config)
    backbone.save_pretrained(tmp_path / "resnet")
    monkeypatch.chdir(tmp_path)
    options = checked(small_data, tmp_path / "bundle", encoder="./resnet").config.options
    assert options["encoder"] == str(tmp_path / "resnet")
    recipe = ExtractRecipe(TINY, SIZE, None, options)
    assert isinstance(recipe.network, Extract)
    own = recipe.network.unet.encoder.backbone.state_dict()
    name = "encoder.stages.2.layers.0.layer.0.convolution.weight"
    assert torch.equal(own[name], backbone.state_dict()[name])
    ResNetBackbone(config).save_pretrained(tmp_path / "resnet")
    with pytest.raises(BundleError, match="sha256 differs"):
        ExtractRecipe(TINY, SIZE, None, options)
