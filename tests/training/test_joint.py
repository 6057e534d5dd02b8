"""Joint fine-tuning: both networks move, both are written, and the discriminator learns beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tryon.errors import BundleError, ConfigError
from tryon.models.bundle import load_bundle
from tryon.training.measure import measure
from tryon.training.run import check_run, finished, run

OPTIONS: dict[str, Any] = {
    "size": (128, 96), "steps": 3, "batch_size": 4, "num_workers": 0, "val_fraction": 0.2, "report_every": 1,
    "options": {"critic": {"condition_channels": 7, "width": 4}},
}  # fmt: skip


def test_both_networks_are_fine_tuned_and_written(small_data: str, small_bundle: str, tmp_path: Path) -> None:
    out = str(tmp_path / "bundle")
    spec = check_run("joint", small_data, out, OPTIONS, small_bundle)
    lines: list[dict[str, float]] = []
    entry = run(spec, lines.append)
    assert {"loss_gan", "loss_warp", "loss_result", "critic_loss"} <= set(lines[-1])
    assert entry.network == "tom"
    assert "val_psnr" in entry.metrics
    before, after = load_bundle(small_bundle), load_bundle(out)
    for role in ("warp", "synthesis"):
        a, b = before.network(role)[0].state_dict(), after.network(role)[0].state_dict()  # type: ignore[arg-type]
        assert any(not torch.equal(a[key], b[key]) for key in a), role
    warp = after.manifest.networks["warp"]
    assert warp.network == "gmm"
    assert warp.training["config"]["recipe"] == "gmm"
    assert warp.training["then"]["config"]["recipe"] == "joint"
    assert finished(check_run("joint", small_data, out, OPTIONS, out)) == entry
    assert measure(out, "synthesis", small_data).recipe == "joint"
    assert measure(out, "warp", small_data).recipe == "gmm"


def test_without_an_adversarial_loss_there_is_no_discriminator(
    small_data: str, small_bundle: str, tmp_path: Path
) -> None:
    options = {**OPTIONS, "steps": 1, "options": {"gan_weight": 0}}
    lines: list[dict[str, float]] = []
    run(check_run("joint", small_data, str(tmp_path / "bundle"), options, small_bundle), lines.append)
    assert not any("gan" in name or "critic" in name for name in lines[-1])


def test_what_it_cannot_go_on_from_is_named(small_data: str, small_bundle: str, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="goes on from a trained warp and synthesis"):
        check_run("joint", small_data, str(tmp_path / "new"), OPTIONS)
    with pytest.raises(ConfigError, match="network of 'joint', which is the bundle's: unknown key 'width'"):
        check_run("joint", small_data, str(tmp_path / "new"), {**OPTIONS, "network": {"width": 8}}, small_bundle)
    with pytest.raises(ConfigError, match="gan = 'wgan' is not allowed"):
        check_run("joint", small_data, str(tmp_path / "new"), {**OPTIONS, "options": {"gan": "wgan"}}, small_bundle)
