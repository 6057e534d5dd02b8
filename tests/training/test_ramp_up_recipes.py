"""Parsing, extraction and reconstruction train from a data set into a bundle, in process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tryon.data.shards import read_shard, shard_uris
from tryon.errors import ConfigError
from tryon.models.bundle import Role, load_bundle
from tryon.models.contract import Runnable, example_image
from tryon.models.tensors import images_to_tensor
from tryon.training.recipes.base import Recipe, StepOutput
from tryon.training.recipes.vae import free_bits
from tryon.training.run import RunSpec, build_recipe, check_run, finished, run

SIZE = (64, 48)
IMAGE_FIGURES = {"val_psnr", "val_ssim"}
SMALL = {"width": 4, "levels": 2, "latent_channels": 4}
CASES: list[tuple[str, Role, dict[str, Any], set[str]]] = [
    ("segment", "parsing", {"width": 4, "levels": 3}, {"val_miou", "val_garment_iou", "val_pixel_accuracy"}),
    (
        "extract",
        "extraction",
        {"width": 8, "fused": 16},
        {*IMAGE_FIGURES, "val_mask_iou", "val_ssim_paste", "val_flow_epe_px"},
    ),
    ("autoencoder", "reconstruction", SMALL, IMAGE_FIGURES),
    ("vae", "reconstruction", SMALL, {*IMAGE_FIGURES, "val_kl"}),
]


def checked(data: str, out: str, recipe: str, network: dict[str, Any], **options: Any) -> RunSpec:
    values = {"size": SIZE, "steps": 12, "batch_size": 4, "num_workers": 0, "report_every": 1, "val_fraction": 0.2}
    return check_run(recipe, data, out, {**values, "network": network, "options": options})


@pytest.mark.parametrize(("recipe", "role", "network", "figures"), CASES)
def test_a_run_writes_a_network_that_the_bundle_opens(
    small_data: str, tmp_path: Path, recipe: str, role: Role, network: dict[str, Any], figures: set[str]
) -> None:
    out = str(tmp_path / "bundle")
    spec = checked(small_data, out, recipe, network)
    lines: list[dict[str, float]] = []
    entry = run(spec, lines.append)
    assert entry.network == recipe
    assert figures <= set(entry.metrics)
    assert lines[-1]["loss"] < lines[0]["loss"]
    opened, size = load_bundle(out).network(role)
    assert size == SIZE
    assert not opened.training
    assert isinstance(opened, Runnable)
    with torch.inference_mode():
        outputs = opened.infer(opened.example_inputs(2, *SIZE))
    assert all(torch.isfinite(value).all() for value in outputs.values())
    assert finished(spec) == entry


@pytest.mark.parametrize("field", ["person", "garment"])
def test_reconstruction_reads_the_field_it_is_told_and_no_other(small_data: str, tmp_path: Path, field: str) -> None:
    spec = checked(small_data, str(tmp_path), "vae", SMALL, field=field)
    assert spec.columns == ("id", field)
    recipe = build_recipe(spec)
    batch = read_shard(shard_uris(small_data, spec.manifest)[0], spec.columns)
    assert torch.equal(recipe.prepare(batch)["image"], images_to_tensor(batch[field], SIZE))


def test_only_the_losses_that_are_asked_for_are_taken(small_data: str, tmp_path: Path) -> None:
    def parts(recipe: str, **options: Any) -> tuple[Recipe, StepOutput]:
        made = build_recipe(checked(small_data, str(tmp_path), recipe, SMALL, **options))
        return made, made.step(made.network, {"image": example_image(2, *SIZE)})

    plain, out = parts("autoencoder", ssim=0)
    assert set(out.parts) == {"l1"}
    assert float(out.loss.detach()) == float(out.parts["l1"])
    assert not plain.frozen
    rich, out = parts("vae", l1=2, ssim=0.5, perceptual=3, kl=4)
    weights = {"l1": 2, "ssim": 0.5, "perceptual": 3, "kl": 4}
    assert float(out.loss.detach()) == pytest.approx(
        sum(weights[name] * float(part) for name, part in out.parts.items())
    )
    assert not any(p.requires_grad for p in rich.frozen["perceptual"].parameters())


def test_kl_is_in_nats_a_value_of_the_image_and_free_where_it_is_small() -> None:
    kl = torch.tensor([0.0, 0.3, 0.5]).view(1, 3, 1, 1).expand(2, 3, 4, 4).clone().requires_grad_()
    assert float(free_bits(kl.detach(), 0.0)) == pytest.approx(0.8 / 3)
    free_bits(kl, 0.4).backward()  # type: ignore[no-untyped-call]
    assert kl.grad is not None
    assert kl.grad[:, :2].abs().sum() == 0
    assert kl.grad[:, 2].sum() == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"field": "agnostic"}, "field = 'agnostic' is not allowed"),
        ({"l1": 0, "ssim": 0}, "one of l1, ssim and perceptual must be above 0"),
        ({"features": {"features": "vgg19"}, "perceptual": 1}, "need weights"),
        ({"free_nats": -1}, "free_nats = -1 is not allowed"),
        ({"beta": 1}, "unknown key 'beta'"),
    ],
)
def test_options_that_do_not_fit_are_named(small_data: str, tmp_path: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        checked(small_data, str(tmp_path), "vae", SMALL, **options)
