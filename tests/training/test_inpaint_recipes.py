"""Fine-tuning Stable Diffusion on garments and on pairs: runs, prompts, dropout, prior, and what a run is pinned to."""

from __future__ import annotations

import json
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.models.stable_diffusion import write_stable_diffusion
from tryon.cli import main
from tryon.codec import encode_png
from tryon.data.annotate import AnnotateConfig, annotate_job
from tryon.data.job import run_job
from tryon.data.simulator import simulate
from tryon.data.sources.folder import FolderSource
from tryon.errors import BundleError, ConfigError, DataError
from tryon.models.bundle import load_bundle, tryon_stages
from tryon.models.concat_inpaint import ConcatInpaint
from tryon.models.latent_inpainter import LatentInpainter
from tryon.models.sampling import alphas_cumprod
from tryon.training.config import TrainConfig
from tryon.training.optimizers import make_optimizer
from tryon.training.recipes.concat_inpaint import ConcatInpaintRecipe
from tryon.training.recipes.denoising import snr_weights
from tryon.training.recipes.inpaint import InpaintRecipe
from tryon.training.run import RunSpec, build_recipe, check_run, finished, run
from tryon.training.state import TrainState, dump_checkpoint, load_checkpoint

SIZE = (64, 48)
NAMES = ("t-shirt (1).png", "T-Shirt_02 (3).PNG", "00034_00.png", "red_polo.png")
FEW = {"steps": 2, "guidance_scale": 2.0}
RUN: dict[str, Any] = {
    "size": SIZE, "steps": 2, "batch_size": 4, "num_workers": 0, "val_fraction": 0.2, "report_every": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny checkpoint; not to be written to."""
    return str(write_stable_diffusion(tmp_path_factory.mktemp("sd") / "sd"))


@pytest.fixture(scope="module")
def garments(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A folder of garment photos with telling names, and the data set annotated from it."""
    photos = tmp_path_factory.mktemp("garments")
    for i, name in enumerate(NAMES):
        (photos / name).write_bytes(encode_png(simulate(7, i, 128, 96)["garment"]))
    out = str(photos.parent / "garment-data")
    config = AnnotateConfig(layers=("garment", "garment_mask"), quality=None)
    run_job(annotate_job(FolderSource(str(photos), photos="garment"), config, str(photos)), out, num_actors=0)
    return str(photos), out


def checked(recipe: str, data: str, out: Path, base: str, **changes: Any) -> RunSpec:
    network = {"base": base, "sampling": FEW, **changes.pop("network", {})}
    return check_run(recipe, data, str(out), {**RUN, "network": network, **changes})


CASES: list[tuple[str, dict[str, Any], set[str]]] = [
    ("inpaint", {"network": {"lora": {"rank": 2}}, "options": {"prior": {"num_images": 2}}}, {"loss_prior"}),
    ("inpaint", {"network": {"mode": "full", "train_text_encoder": True}, "learning_rate": 1e-3, "options":
        {"target": "person", "prompt": "a person in {garment}", "gradient_checkpointing": True}}, set()),
    ("concat_inpaint", {"options": {"gradient_checkpointing": True, "snr_gamma": 5.0}}, set()),
    ("concat_inpaint", {"network": {"mode": "lora", "lora": {"rank": 2}, "axis": "width"}}, set()),
]  # fmt: skip


@pytest.mark.parametrize(("recipe", "changes", "figures"), CASES)
def test_a_run_writes_what_was_trained_and_the_bundle_opens(
    small_data: str, base: str, tmp_path: Path, recipe: str, changes: dict[str, Any], figures: set[str]
) -> None:
    changes = dict(changes)
    spec = checked(recipe, small_data, tmp_path / "bundle", base, **changes)
    entry = run(spec, lambda _: None)
    assert {"loss", "loss_denoise", "val_loss", "val_psnr"} | figures <= set(entry.metrics)
    assert entry.config["base"] == base
    assert finished(checked(recipe, small_data, tmp_path / "bundle", base, **changes)) == entry
    network, size = load_bundle(spec.out).network("synthesis")
    assert isinstance(network, LatentInpainter)
    assert size == SIZE
    kept = (tmp_path / "bundle" / entry.file).stat().st_size
    if network.config.mode == "lora":
        assert kept < 0.05 * sum(path.stat().st_size for path in Path(base).rglob("*.safetensors"))
    assert [stage.name for stage in tryon_stages(spec.out)] == ["synthesize_unwarped"]


@pytest.mark.parametrize(
    ("recipe", "network", "rate"),
    [("inpaint", {"mode": "full"}, 2e-3), ("inpaint", {"lora": {"rank": 8}}, 2e-2), ("concat_inpaint", {}, 1e-2)],
)
def test_the_loss_falls(
    small_data: str, base: str, tmp_path: Path, recipe: str, network: dict[str, Any], rate: float
) -> None:
    changes = {"steps": 20, "checkpoint_every": 10, "warmup_steps": 0, "learning_rate": rate, "val_fraction": 0.1}
    lines: list[dict[str, float]] = []
    run(checked(recipe, small_data, tmp_path / "bundle", base, network=network, **changes), lines.append)
    assert lines[-1]["val_loss"] < lines[9]["val_loss"] < 0.98, "1.0 where noise is taken for none"


def test_the_verbs_train_on_file_names_and_try_on(
    garments: tuple[str, str], base: str, tmp_path: Path, photo_files: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    bundle, out = str(tmp_path / "bundle"), tmp_path / "tryon.png"
    settings = {
        f"network.base={base}", "network.lora.rank=2", "network.sampling.steps=2", "options.words=file",
        "steps=2", "batch_size=2", "num_workers=0", "size=[64, 48]", "val_fraction=0",
    }  # fmt: skip
    pairs = [word for pair in settings for word in ("--set", pair)]
    person, garment = photo_files
    for words in (
        ["train", "inpaint", "--data", garments[1], "--out", bundle, *pairs],
        ["infer", "--person", str(person), "--garment", str(garment), "--out", str(out), "--bundle", bundle,
         "--layers", str(tmp_path / "layers")],
    ):  # fmt: skip
        monkeypatch.setattr(sys, "argv", ["tryon", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code
    made, photo = (np.asarray(Image.open(path).convert("RGB")).astype(int) for path in (out, person))
    mask = np.asarray(Image.open(tmp_path / "layers" / "agnostic_mask.png")) > 0
    assert made.shape == photo.shape
    assert mask.any()
    assert (made != photo).any()
    assert not (tmp_path / "layers" / "warped_garment.png").exists()


def test_prompts_come_from_names_a_column_or_the_category(base: str) -> None:
    batch = {
        "garment_uri": ["s3://b/t-shirt (1).jpg", "/p/T-Shirt_02 (3).JPEG", "/p/0001.jpg"],
        "metadata": ['{"text": "a red top"}', None, '{"text": ""}'],
        "category": ["upper", "upper", "lower"],
    }

    def prompts(**options: Any) -> list[str]:
        recipe = InpaintRecipe({"base": base}, SIZE, None, options)
        return [recipe.prompt(batch, i) for i in range(3)]

    assert prompts(words="file") == ["t-shirt", "t-shirt", "trousers"]
    assert prompts(words="metadata", prompt="a photo of {garment}") == [
        "a photo of a red top", "a photo of a top", "a photo of trousers",
    ]  # fmt: skip
    assert prompts(prompt="sks") == ["sks"] * 3
    assert prompts(target="person", words="file")[0] == "a photo of a person wearing t-shirt"


def test_fields_follow_the_options(small_data: str, base: str, tmp_path: Path) -> None:
    assert InpaintRecipe.needed_fields({"target": "person"}) == ("person", "agnostic_mask", "category")
    assert InpaintRecipe.needed_fields({"words": "file"})[-1] == "garment_uri"
    with pytest.raises(DataError, match="lacks garment_uri"):
        checked("inpaint", small_data, tmp_path / "bundle", base, options={"words": "file"})


def test_a_condition_that_is_dropped_is_the_one_that_guidance_leaves_out(base: str) -> None:
    drop = torch.tensor([True, False])
    words = InpaintRecipe({"base": base}, SIZE, None)
    told = {"tokens": words.network.tokens(["shirt", "shirt"])}
    made = words.without_condition(told, drop)["tokens"]
    assert torch.equal(made[:1], words.network.tokens([""]))
    assert torch.equal(made[1:], told["tokens"][1:])
    pair = ConcatInpaintRecipe({"base": base}, SIZE, None)
    masked = torch.randn(2, 4, 16, 6)
    bare = pair.without_condition({"masked": masked}, drop)["masked"]
    assert torch.equal(bare[0, :, :8], masked[0, :, :8])
    assert not bare[0, :, 8:].any()
    assert torch.equal(bare[1], masked[1])


def test_the_prior_is_the_bases_own_or_a_folders(base: str, garments: tuple[str, str]) -> None:
    config = {"base": base, "lora": {"rank": 2}, "sampling": FEW}
    made = InpaintRecipe(config, SIZE, None, {"prior": {"num_images": 3}})
    state = torch.get_rng_state()
    images, tokens = made._prior
    assert torch.equal(torch.get_rng_state(), state), "the run's own randomness is left alone"
    assert images.shape == (3, 3, *SIZE)
    assert not torch.equal(images[0], images[1])
    assert torch.equal(tokens, made.network.tokens(["a photo of a garment"]))
    with torch.no_grad():
        for value in made.network.saved_state().values():
            value.normal_()
    again = InpaintRecipe(made.network_config.model_dump(), SIZE, None, {"prior": {"num_images": 3}})
    again.network.load_saved_state(made.network.saved_state())
    assert torch.equal(again._prior[0], images), "the base makes them, whatever has been learnt"
    read = InpaintRecipe(config, SIZE, None, {"prior": {"images": garments[0], "num_images": 2}})
    assert read._prior[0].shape == (2, 3, *SIZE)
    Path(garments[0], "none").mkdir(exist_ok=True)
    empty = InpaintRecipe(config, SIZE, None, {"prior": {"images": str(Path(garments[0], "none"))}})
    with pytest.raises(DataError, match="none' holds no photo"):
        _ = empty._prior


def test_prior_and_samples_are_weighed(base: str) -> None:
    recipe = InpaintRecipe({"base": base, "sampling": FEW}, SIZE, None, {"prior": {"num_images": 1, "weight": 0.5}})
    tensors = {
        "image": torch.rand(2, 3, *SIZE), "mask": torch.ones(2, 1, *SIZE), "tokens": recipe.network.tokens(["a", "b"]),
    }  # fmt: skip
    out = recipe.step(recipe.network, tensors)
    assert float(out.loss.detach()) == pytest.approx(float(out.parts["denoise"] + 0.5 * out.parts["prior"]))


def test_a_run_is_pinned_to_its_base(small_data: str, base: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(Path(base).parent)
    spec = checked("concat_inpaint", small_data, tmp_path / "bundle", "sd")
    assert spec.config.network["base"] == base
    digest = spec.config.network["sha256"]
    assert len(digest) == 64
    monkeypatch.chdir(tmp_path)
    recipe = build_recipe(spec)
    assert isinstance(recipe.network, ConcatInpaint)
    with pytest.raises(BundleError, match="has changed"):
        checked("concat_inpaint", small_data, tmp_path / "bundle", base, network={"sha256": digest[::-1]})
    options = {"prior": {"images": "photos"}}
    spec = checked("inpaint", small_data, tmp_path / "bundle", base, options=options)
    assert spec.config.options["prior"]["images"] == os.path.join(tmp_path, "photos")


def test_a_checkpoint_holds_the_own_part_and_goes_on(base: str) -> None:
    config = TrainConfig(recipe="concat_inpaint")
    first, second = (ConcatInpaintRecipe({"base": base}, SIZE, None) for _ in range(2))
    state = TrainState.fresh(first, config)
    with torch.no_grad():
        for value in first.network.saved_state().values():
            value.normal_()
    data = dump_checkpoint(state)
    assert len(data) < 0.1 * sum(path.stat().st_size for path in Path(base).rglob("*.safetensors"))
    TrainState.fresh(second, config).load_state_dict(load_checkpoint(data))
    kept, loaded = first.network.saved_state(), second.network.saved_state()
    assert all(torch.equal(kept[name], loaded[name]) for name in kept)


@pytest.mark.parametrize("recipe", ["inpaint", "concat_inpaint"])
def test_without_a_base_nothing_is_trained(small_data: str, tmp_path: Path, recipe: str) -> None:
    with pytest.raises(ConfigError, match=r"network\.base is needed: the diffusers folder"):
        check_run(recipe, small_data, str(tmp_path / "bundle"), RUN)
    with pytest.raises(BundleError, match=r"'/nowhere/sd' cannot be had.*network\.base in training"):
        checked(recipe, small_data, tmp_path / "bundle", "/nowhere/sd")


def test_adam_of_8_bits_is_taken_where_it_is_installed(small_data: str, base: str, tmp_path: Path) -> None:
    if find_spec("bitsandbytes") is None:
        with pytest.raises(ConfigError, match=r"'adamw8bit' needs the package bitsandbytes.*pip install") as caught:
            checked("concat_inpaint", small_data, tmp_path / "bundle", base, optimizer="adamw8bit")
        assert caught.value.code == "optimizer-unavailable"
        return
    recipe = ConcatInpaintRecipe({"base": base}, SIZE, None)
    optimizer = make_optimizer(recipe.network, TrainConfig(recipe="concat_inpaint", optimizer="adamw8bit"))
    assert type(optimizer).__name__ == "AdamW8bit"


def test_only_what_is_trained_is_given_to_the_optimiser(base: str) -> None:
    recipe = ConcatInpaintRecipe({"base": base}, SIZE, None)
    optimizer = make_optimizer(recipe.network, TrainConfig(recipe="concat_inpaint"))
    given = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert given == {id(p) for p in recipe.network.parameters() if p.requires_grad}


def test_min_snr_weights() -> None:
    alphas = alphas_cumprod()[torch.tensor([5, 500, 999])]
    snr = alphas / (1 - alphas)
    assert torch.equal(snr_weights(alphas, "epsilon", None), torch.ones(3))
    noise = snr_weights(alphas, "epsilon", 5.0)
    assert torch.allclose(noise, torch.stack([5 / snr[0], torch.tensor(1.0), torch.tensor(1.0)]))
    assert torch.allclose(snr_weights(alphas, "sample", 5.0), noise * snr)
    assert torch.allclose(snr_weights(alphas, "v_prediction", 5.0), noise * snr / (snr + 1))


def test_a_column_of_the_manifest_gives_the_words(garments: tuple[str, str], base: str, tmp_path: Path) -> None:
    table = tmp_path / "garments.jsonl"
    rows = [{"id": f"g{i}", "garment": str(Path(garments[0], name)), "metadata": {"words": "a polo"}, "text": "a polo"}
            for i, name in enumerate(NAMES)]  # fmt: skip
    table.write_text("\n".join(json.dumps(row) for row in rows))
    from tryon.data.sources.open import open_source

    config = AnnotateConfig(layers=("garment", "garment_mask"), quality=None)
    out = str(tmp_path / "data")
    run_job(annotate_job(open_source(str(table)), config, str(table)), out, num_actors=0)
    spec = checked("inpaint", out, tmp_path / "bundle", base, options={"words": "metadata"}, val_fraction=0.0)
    entry = run(spec, lambda _: None)
    assert entry.metrics["loss"] > 0
