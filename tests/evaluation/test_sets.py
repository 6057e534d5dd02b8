"""Figures of a set come out of its shards' files as torchmetrics has them of all features at once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from tryon.evaluation import sets
from tryon.evaluation.config import EvaluateConfig
from tryon.evaluation.sets import FOLDER, set_figures
from tryon.models.distribution_metrics import InceptionScore

WIDTH, CLASSES = 12, 7
ROWS = {0: 20, 1: 0, 2: 33, 4: 7}  # shards come in any numbers; one has no row


class Given(nn.Module):
    """Features that are the images themselves, for torchmetrics."""

    num_features = WIDTH

    def forward(self, features: Tensor) -> Tensor:
        return features


def drawn() -> dict[str, Tensor]:
    """Features and logits of 60 photos and of two methods' results, the second further away."""
    generator = torch.Generator().manual_seed(0)
    made = {}
    for name, shift in (("truth", 0.0), ("bundle", 0.2), ("agnostic", 1.0)):
        made[f"{name}/features"] = (torch.randn(sum(ROWS.values()), WIDTH, generator=generator) + shift).relu()
        made[f"{name}/logits"] = 2 * torch.randn(sum(ROWS.values()), CLASSES, generator=generator)
    return made


def write(out: Path, tensors: Mapping[str, Tensor]) -> None:
    (out / FOLDER).mkdir()
    start = 0
    for shard, num in ROWS.items():
        part = {name: value[start : start + num].contiguous() for name, value in tensors.items()}
        save_file(part, out / FOLDER / f"shard-{shard:05d}.safetensors")
        start += num


@pytest.mark.filterwarnings("ignore:Metric `Kernel")
def test_figures_are_those_of_all_features_at_once(tmp_path: Path) -> None:
    tensors = drawn()
    write(tmp_path, tensors)
    config = EvaluateConfig(kid_subsets=1, is_splits=3)
    found = set_figures(str(tmp_path), dict(reversed(ROWS.items())), ("bundle", "agnostic"), config)
    assert list(found) == ["bundle", "agnostic"]
    for method, figures in found.items():
        fid = FrechetInceptionDistance(feature=Given(), normalize=True).set_dtype(torch.float64)
        kid = KernelInceptionDistance(feature=Given(), subsets=1, subset_size=sum(ROWS.values()))
        for metric in (fid, kid):
            metric.update(tensors["truth/features"].double(), real=True)
            metric.update(tensors[f"{method}/features"].double(), real=False)
        score = InceptionScore(CLASSES, splits=3)
        score.update(tensors[f"{method}/logits"])
        assert figures["fid"] == pytest.approx(float(fid.compute()), rel=1e-3)
        assert figures["kid"] == pytest.approx(float(kid.compute()[0]), rel=1e-3)
        assert figures["kid_std"] == 0
        assert (figures["is"], figures["is_std"]) == (
            pytest.approx(score.compute().mean),
            pytest.approx(score.compute().std),
        )
    assert found["bundle"]["fid"] < found["agnostic"]["fid"]


def test_kid_of_a_large_set_holds_some_rows_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = drawn()
    write(tmp_path, tensors)
    config = EvaluateConfig(kid_subset_size=30, kid_subsets=50)
    whole = set_figures(str(tmp_path), ROWS, ("bundle", "agnostic"), config)
    monkeypatch.setattr(sets, "KID_ROWS", 40)
    part = set_figures(str(tmp_path), ROWS, ("bundle", "agnostic"), config)
    assert part == set_figures(str(tmp_path), ROWS, ("bundle", "agnostic"), config)
    for method in whole:
        assert part[method]["fid"] == whole[method]["fid"]
        assert part[method]["kid"] != whole[method]["kid"]
        assert part[method]["kid"] == pytest.approx(whole[method]["kid"], abs=4 * whole[method]["kid_std"])


def test_a_single_sample_has_an_inception_score_alone(tmp_path: Path) -> None:
    (tmp_path / FOLDER).mkdir()
    one = {name: value[:1].contiguous() for name, value in drawn().items()}
    save_file(one, tmp_path / FOLDER / "shard-00000.safetensors")
    found = set_figures(str(tmp_path), {0: 1}, ("bundle",), EvaluateConfig())
    assert found == {"bundle": {"is": pytest.approx(1), "is_std": 0}}
