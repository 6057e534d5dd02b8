"""LPIPS and FID of held-out pictures while a run goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.evaluation.test_weights import weights as weights  # the two files, written by the fixture there
from tryon.errors import BundleError, ConfigError
from tryon.models.lpips import load_lpips
from tryon.training.judge import judges_of
from tryon.training.run import check_run, run

OPTIONS: dict[str, Any] = {
    "size": (64, 48), "steps": 3, "batch_size": 4, "num_workers": 0, "network": {"width": 4}, "val_fraction": 0.2,
    "checkpoint_every": 1, "report_every": 1, "trackers": [],
}  # fmt: skip


def test_a_run_is_judged_every_second_validation_and_at_its_end(
    small_data: str, tmp_path: Path, weights: dict[str, str]
) -> None:
    lines: list[dict[str, float]] = []
    judged = {"lpips_weights": weights["lpips_weights"], "judge_every": 2}
    entry = run(check_run("gmm", small_data, str(tmp_path / "bundle"), {**OPTIONS, **judged}), lines.append)
    assert [line["step"] for line in lines if "val_lpips" in line] == [2, 3]
    assert all("val_l1" in line for line in lines)
    assert entry.metrics["val_lpips"] == lines[-1]["val_lpips"] > 0


def test_the_figures_are_those_of_the_pictures(small_data: str, tmp_path: Path, weights: dict[str, str]) -> None:
    judges = judges_of(check_run("gmm", small_data, str(tmp_path / "b"), {**OPTIONS, **weights}).config)
    assert judges is not None
    generator = torch.Generator().manual_seed(0)
    made, true = (torch.rand(3, 3, 64, 48, generator=generator) * 2 - 1 for _ in range(2))
    for part in (slice(0, 2), slice(2, 3)):
        judges.add({"made": made[part], "truth": true[part]})
    figures = judges.figures()
    assert figures["val_lpips"] == pytest.approx(
        float(load_lpips(weights["lpips_weights"])(made, true).mean()), rel=0.02
    )
    assert figures["val_fid"] > 0
    assert judges.figures() == {}, "nothing is left of the batches before"


def test_weights_that_cannot_be_used_are_said_before_the_first_step(
    small_data: str, tmp_path: Path, weights: dict[str, str]
) -> None:
    def check(**values: Any) -> None:
        check_run("gmm", small_data, str(tmp_path / "bundle"), {**OPTIONS, **values})

    with pytest.raises(BundleError, match=r"^lpips_weights: .*nowhere\.pth does not exist; LPIPS needs torchvision's"):
        check(lpips_weights=str(tmp_path / "nowhere.pth"))
    with pytest.raises(BundleError, match=r"^fid_weights: .*; FID, KID and IS need"):
        check(fid_weights=weights["lpips_weights"])
    with pytest.raises(ConfigError, match="lpips_heads go with the network of lpips_weights"):
        check(lpips_heads="heads.pth")
    assert not list(tmp_path.iterdir())
