"""Solvers compared on a tiny network: figures of the right things, and faults that are named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.models.inputs import random_condition
from tryon.cli import main
from tryon.errors import BundleError
from tryon.evaluation.solvers import CASES, compare_bundle, compare_solvers, read_inputs
from tryon.models.bundle import copy_bundle, write_network
from tryon.models.latent_autoencoder import LatentAutoencoderConfig
from tryon.models.latent_diffusion import LatentDiffusion, LatentDiffusionConfig

SIZE = (64, 48)
REFERENCE: dict[str, Any] = {"solver": "ddim", "steps": 100}


@pytest.fixture(scope="module")
def network() -> LatentDiffusion:
    torch.manual_seed(0)
    autoencoder = LatentAutoencoderConfig(patch=4, widths=(8, 12), latent_channels=3)
    config = LatentDiffusionConfig(autoencoder=autoencoder, widths=(16, 24), num_heads=2, token_width=16)
    return LatentDiffusion(config).eval()


def told(b: int = 2) -> dict[str, torch.Tensor]:
    condition = random_condition(b, SIZE)
    return {**condition, "warped": condition["garment"], "warped_mask": condition["garment_mask"]}


def test_few_steps_of_a_fast_solver_give_the_references_picture_in_a_fraction_of_its_time(
    network: LatentDiffusion,
) -> None:
    cases = [REFERENCE, {"solver": "dpm++", "steps": 10}, {"solver": "unipc", "steps": 10}]
    figures = compare_solvers(network, told(), told()["agnostic"], cases=cases, reference=REFERENCE, seeds=(0, 1))
    reference, again, *fast = figures
    assert (reference.speedup, reference.ssim_to_reference) == (1, 1)
    assert (again.ssim_to_reference, again.ssim) == (1, reference.ssim)
    for case in fast:
        assert 0.99 < case.ssim_to_reference < 1
        assert case.ssim == pytest.approx(reference.ssim, rel=0.01)
        assert case.speedup > 4
        assert case.seconds > 0


def test_the_result_is_held_against_the_photo(network: LatentDiffusion) -> None:
    case = {"solver": "dpm++", "steps": 2}
    inputs = told()
    inputs["agnostic_mask"] = torch.zeros_like(inputs["agnostic_mask"])
    inputs["agnostic_mask"][..., 0, 0] = 1  # one pixel is generated: the result is the input
    same, other = (
        compare_solvers(network, inputs, truth, cases=[], reference=case)[0]
        for truth in (inputs["agnostic"], -inputs["agnostic"])
    )
    assert same.ssim == pytest.approx(1, abs=0.02)
    assert other.ssim < 0.5
    assert other.psnr < 20 < same.psnr


def test_a_network_that_is_not_sampled_is_named(small_bundle: str, small_data: str) -> None:
    with pytest.raises(BundleError, match="is tom, which is not sampled"):
        compare_bundle(small_bundle, small_data)


def test_inputs_come_from_a_data_set(small_data: str) -> None:
    condition, photos = read_inputs(small_data, SIZE, 3)
    assert photos.shape == (3, 3, *SIZE)
    assert condition["agnostic"].shape == (3, 3, *SIZE)
    outside = (condition["agnostic_mask"] == 0).expand(-1, 3, -1, -1)
    assert float((photos - condition["agnostic"])[outside].abs().mean()) < 0.02


def test_the_cases_are_what_is_promised() -> None:
    assert {case["solver"] for case in CASES if case["steps"] == 20} == {"ddim", "dpm++", "unipc"}


def test_the_command_prints_a_table_and_writes_it(
    network: LatentDiffusion,
    small_bundle: str,
    small_data: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bundle, out = str(tmp_path / "bundle"), tmp_path / "solvers.json"
    copy_bundle(small_bundle, bundle)
    write_network(
        bundle, "synthesis", "latent_diffusion", network, config=network.config, size=SIZE, training={}, metrics={},
        data_licence="Apache-2.0",
    )  # fmt: skip
    told = ["tryon", "bench", "solvers", "--bundle", bundle, "--data", small_data, "--num", "1", "--out", str(out)]
    monkeypatch.setattr("sys.argv", told)
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    rows = json.loads(out.read_text())
    assert [(row["solver"], row["steps"]) for row in rows[:2]] == [("ddim", 200), ("ddim", 20)]
    assert rows[0]["ssim_to_reference"] == 1
    assert f"{rows[2]['ssim']:.4f}" in capsys.readouterr().out
