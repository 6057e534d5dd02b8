"""Latent diffusion trains from a data set into a bundle in its two phases, and the pipeline runs it from there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.models.test_latent_autoencoder import published
from tryon.data.ingest import LocalBatches
from tryon.data.shards import read_manifest, read_shard
from tryon.errors import BundleError, ConfigError
from tryon.infer import infer_files, tryon_pipeline
from tryon.models.bundle import load_bundle
from tryon.models.latent_autoencoder import load_published
from tryon.models.latent_diffusion import LatentDiffusion
from tryon.sample import Batch
from tryon.stages.synthesize import Synthesize
from tryon.stages.warp import Warp
from tryon.training.recipes.base import Recipe
from tryon.training.recipes.latent_consistency import LatentConsistencyRecipe
from tryon.training.recipes.latent_diffusion import LatentDiffusionRecipe, latents
from tryon.training.run import check_run, finished, run
from tryon.training.state import seed_all

SIZE = (64, 48)
OPTIONS: dict[str, Any] = {
    "size": SIZE, "steps": 12, "batch_size": 4, "num_workers": 0, "report_every": 1, "val_fraction": 0.2,
}  # fmt: skip
AUTOENCODER = {"widths": (8, 12), "latent_channels": 3}
DIFFUSION = {"widths": (16, 24), "num_heads": 2, "token_width": 16}
READS = ("id", "garment", "garment_mask", "agnostic", "agnostic_mask", "parse", "pose", "category")


@pytest.fixture(scope="module")
def trained(small_data: str, small_bundle: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A bundle with warp, autoencoder of latents and latent diffusion, trained for a few steps."""
    out = str(tmp_path_factory.mktemp("latent") / "bundle")
    run(check_run("latent_autoencoder", small_data, out, {**OPTIONS, "network": AUTOENCODER}, small_bundle), print)
    options = {"val_steps": 2}
    run(check_run("latent_diffusion", small_data, out, {**OPTIONS, "network": DIFFUSION, "options": options}), print)
    return out


def test_both_phases_are_in_the_bundle(trained: str, small_data: str) -> None:
    bundle = load_bundle(trained)
    entries = bundle.manifest.networks
    assert {"val_psnr", "val_ssim"} <= set(entries["reconstruction"].metrics)
    assert {"val_psnr", "val_ssim", "val_loss", "loss_noise", "loss_perceptual"} <= set(entries["synthesis"].metrics)
    assert set(entries["synthesis"].training["frozen"]) == {"warp", "reconstruction"}
    network, size = bundle.network("synthesis")
    assert size == SIZE
    assert isinstance(network, LatentDiffusion)
    held = bundle.network("reconstruction")[0].state_dict()
    assert all(torch.equal(value, held[name]) for name, value in network.autoencoder.state_dict().items())
    assert held["num_measured"] == 12
    options = {"val_steps": 2}
    spec = check_run("latent_diffusion", small_data, trained, {**OPTIONS, "network": DIFFUSION, "options": options})
    assert finished(spec) == entries["synthesis"]


def recipe(trained: str, **options: Any) -> LatentDiffusionRecipe:
    seed_all(0)
    return LatentDiffusionRecipe(DIFFUSION, SIZE, load_bundle(trained), options)


def tensors(made: LatentDiffusionRecipe | LatentConsistencyRecipe, data: str) -> dict[str, torch.Tensor]:
    batches = LocalBatches(data, read_manifest(data), ("id", *made.reads), SIZE, 0.2)
    return made.prepare(next(iter(batches("train", 4, 0))))


def test_both_branches_count(trained: str, small_data: str) -> None:
    both, one = recipe(trained), recipe(trained, refinement_weight=0)
    batch = tensors(both, small_data)
    seed_all(1)
    out = both.step(both.network, batch)
    assert set(out.parts) == {"noise", "perceptual"}
    assert float(out.loss.detach()) == pytest.approx(
        float(out.parts["noise"] + 0.05 * out.parts["perceptual"]), rel=1e-5
    )
    assert set(one.step(one.network, batch).parts) == {"noise"}
    assert recipe(trained, refinement_share=1.0)._num_refined(4) == 4


def test_the_perceptual_loss_reaches_the_network(trained: str, small_data: str) -> None:
    gradients = []
    for weight in (0.0, 0.5):
        made = recipe(trained, refinement_weight=weight)
        batch = tensors(made, small_data)
        made._network.unet.head[-1].weight.register_hook(gradients.append)  # type: ignore[union-attr]
        seed_all(1)
        times = torch.zeros(4, dtype=torch.int64)
        told, clean, coarse = latents(made._network, made.frozen["warp"], batch)
        out = made.network(clean, times, coarse, told)
        loss = out.square().mean() * 1e-3
        if weight:
            loss = loss + made._perceptual(out, batch)
        loss.backward()
    assert not torch.allclose(gradients[0], gradients[1])


def test_the_loss_falls(trained: str, small_data: str) -> None:
    made = recipe(trained)
    batch = tensors(made, small_data)
    losses = fitted(made, batch, 30, 5e-3)
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


def test_the_autoencoder_may_be_a_published_one(small_data: str, small_bundle: str, tmp_path: Path) -> None:
    folder = published(tmp_path / "vae")
    values = {**OPTIONS, "steps": 1, "network": DIFFUSION, "options": {"autoencoder": str(folder), "val_steps": 1}}
    entry = run(check_run("latent_diffusion", small_data, str(tmp_path / "b"), values, small_bundle), lambda _: None)
    assert set(entry.training["frozen"]) == {"warp"}
    network, _ = load_bundle(str(tmp_path / "b")).network("synthesis")
    assert isinstance(network, LatentDiffusion)
    held = load_published(str(folder)).state_dict()
    assert all(torch.equal(value, held[name]) for name, value in network.autoencoder.state_dict().items())


def test_what_is_missing_is_named(small_data: str, small_bundle: str, tmp_path: Path) -> None:
    values = {**OPTIONS, "network": DIFFUSION}
    with pytest.raises(BundleError, match="latents of a trained autoencoder, which the bundle does not have"):
        check_run("latent_diffusion", small_data, str(tmp_path / "b"), values, small_bundle)
    values = {**OPTIONS, "network": {**DIFFUSION, "autoencoder": AUTOENCODER}}
    with pytest.raises(ConfigError, match=r"network\.autoencoder cannot be set"):
        check_run("latent_diffusion", small_data, str(tmp_path / "b"), values, small_bundle)
    vae = {**OPTIONS, "steps": 1, "network": {"width": 4}}
    run(check_run("vae", small_data, str(tmp_path / "b"), vae, small_bundle), lambda _: None)
    with pytest.raises(BundleError, match="is 'vae', no latent_autoencoder"):
        check_run("latent_diffusion", small_data, str(tmp_path / "b"), {**OPTIONS, "network": DIFFUSION})


@pytest.fixture(scope="module")
def warped(trained: str, small_data: str) -> Batch:
    batch = read_shard(f"{small_data}/shard-00000.parquet", READS)
    return Warp(trained)({name: batch[name][:2] for name in READS})


def test_the_stage_samples_as_it_is_told(trained: str, warped: Batch) -> None:
    def tryon(**sampling: Any) -> Any:
        out = Synthesize(trained, **sampling)(warped)
        assert out["error"] == [None, None]
        return np.stack(out["tryon"])

    few = tryon(steps=2)
    assert np.array_equal(few, tryon(steps=2, solver="dpm++", seed=0, guidance=1.0))
    changes: list[dict[str, Any]] = [{"seed": 1}, {"solver": "ddim"}, {"steps": 3}, {"guidance": 5.0}]
    for change in changes:
        assert not np.array_equal(few, tryon(**{"steps": 2, **change})), change
    for image, agnostic, mask in zip(few, warped["agnostic"], warped["agnostic_mask"], strict=True):
        assert np.array_equal(image[mask == 0], agnostic[mask == 0])


def test_sampling_of_a_network_that_does_not_is_refused(small_bundle: str, trained: str) -> None:
    with pytest.raises(ConfigError, match="steps, seed: the bundle's synthesis network, tom, makes its picture in one"):
        Synthesize(small_bundle, steps=5, seed=1)
    with pytest.raises(ConfigError, match="steps = 0 is not allowed"):
        Synthesize(trained, steps=0)


def test_a_try_on_from_files_may_say_how_it_is_sampled(
    photo_files: tuple[Path, Path], trained: str, small_bundle: str, tmp_path: Path
) -> None:
    person, garment = photo_files
    pictures = []
    for steps, name in ((1, "a.png"), (1, "b.png"), (2, "c.png")):
        options: dict[str, Any] = {"category": "upper", "bundle": trained, "sampling": {"steps": steps}}
        infer_files(person, garment, tmp_path / name, **options)
        pictures.append((tmp_path / name).read_bytes())
    assert pictures[0] == pictures[1] != pictures[2]
    with pytest.raises(ConfigError, match="steps: the bundle's synthesis network, tom"):
        tryon_pipeline(small_bundle, sampling={"steps": 1})


# Distilled: `latent_consistency`


def distilling(bundle: str, **options: Any) -> LatentConsistencyRecipe:
    seed_all(0)
    return LatentConsistencyRecipe({}, SIZE, load_bundle(bundle), options)


def test_the_students_few_steps_come_near_to_the_teacher(trained: str, small_data: str) -> None:
    teaching = recipe(trained, refinement_weight=0)
    batch = tensors(teaching, small_data)
    fitted(teaching, batch, 300, 3e-3)
    made = distilling(trained, skip=50, steps=1)
    teacher = made.frozen["synthesis"]
    for network in (made.network, teacher):
        network.load_state_dict(teaching.network.state_dict())
        network.sampling = network.sampling.model_copy(update={"temperature": 1.0})  # type: ignore[union-attr]
    near = [float(made.evaluate(made.network.eval(), batch)[1]["val_teacher_psnr"].mean())]
    fitted(made, batch, 180, 2e-4)
    near.append(float(made.evaluate(made.network.eval(), batch)[1]["val_teacher_psnr"].mean()))
    assert near[1] > near[0] + 0.5, near
    held = teaching.network.state_dict()
    assert all(torch.equal(value, held[name]) for name, value in teacher.state_dict().items()), "the teacher stays"


def fitted(made: Recipe, batch: dict[str, torch.Tensor], steps: int, learning_rate: float) -> list[float]:
    """Losses on one batch."""
    optimizer = torch.optim.AdamW([p for p in made.network.parameters() if p.requires_grad], learning_rate)
    made.network.train()
    seed_all(1)
    losses: list[float] = []
    for _ in range(steps):
        out = made.step(made.network, batch)
        optimizer.zero_grad()
        out.loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(float(out.loss.detach()))
    return losses


def test_guidance_is_the_teachers(trained: str, small_data: str) -> None:
    """The student makes one pass, the teacher two, and what is aimed at differs."""
    losses = []
    for scale in (1.0, 6.0):
        made = distilling(trained, guidance_scale=scale)
        batch = tensors(made, small_data)
        seed_all(3)
        losses.append(float(made.step(made.network, batch).loss.detach()))
        assert made.network.sampling.guidance_scale == 1.0  # type: ignore[union-attr]
    assert losses[0] != losses[1]


def test_a_distilled_bundle_samples_in_its_few_steps(
    trained: str, small_data: str, warped: Batch, tmp_path: Path
) -> None:
    out = str(tmp_path / "bundle")
    values = {**OPTIONS, "steps": 2, "options": {"steps": 2, "val_rows": 1}}
    entry = run(check_run("latent_consistency", small_data, out, values, trained), lambda _: None)
    assert {"val_psnr", "val_ssim", "val_teacher_psnr", "loss_consistency"} <= set(entry.metrics)
    assert set(entry.training["frozen"]) == {"warp", "synthesis"}
    network, _ = load_bundle(out).network("synthesis")
    assert isinstance(network, LatentDiffusion)
    assert (network.sampling.solver, network.sampling.steps) == ("lcm", 2)
    alone = Synthesize(out)(warped)["tryon"]
    assert np.array_equal(np.stack(alone), np.stack(Synthesize(out, solver="lcm", steps=2)(warped)["tryon"]))
    assert not np.array_equal(np.stack(alone), np.stack(Synthesize(out, steps=4)(warped)["tryon"]))
    with pytest.raises(ConfigError, match="distilled already"):
        check_run("latent_consistency", small_data, str(tmp_path / "again"), values, out)


def test_what_cannot_be_distilled_is_named(small_data: str, small_bundle: str, trained: str, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="distils a bundle's latent_diffusion, and there is none"):
        check_run("latent_consistency", small_data, str(tmp_path / "b"), OPTIONS)
    with pytest.raises(BundleError, match="is tom: train latent_diffusion into it first"):
        check_run("latent_consistency", small_data, str(tmp_path / "b"), OPTIONS, small_bundle)
    values = {**OPTIONS, "network": {"widths": (16, 24)}}
    with pytest.raises(ConfigError, match="network of 'latent_consistency', which is the bundle's"):
        check_run("latent_consistency", small_data, str(tmp_path / "b"), values, trained)
