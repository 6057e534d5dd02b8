"""Every named training config is loaded; job mains hand over to the CLI's verbs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.conftest import ROOT
from tryon.config import parse_config
from tryon.models.registry import build_network
from tryon.options import read_options
from tryon.training.config import TrainConfig
from tryon.training.recipes.registry import RECIPES, recipe_class

CONFIGS = sorted((ROOT / "jobs").glob("train_*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_training_config_builds_its_network(path: Path) -> None:
    recipe = path.stem.removeprefix("train_")
    config = parse_config(TrainConfig, {**read_options(path, []), "recipe": recipe}, path.name)
    parse_config(recipe_class(recipe).options_class, config.options, path.name)
    with torch.device("meta"):
        network = build_network(recipe_class(recipe).network_name, config.network)
    assert sum(p.numel() for p in network.parameters()) > 100_000


def test_there_is_a_config_for_every_recipe() -> None:
    assert {path.stem for path in CONFIGS} == {f"train_{recipe}" for recipe in RECIPES}


@pytest.mark.parametrize(
    ("job", "word"),
    [
        ("train.py", "frozen warp"),
        ("tune.py", "learning curves"),
        ("annotate.py", "quarantine"),
        ("batch_tryon.py", "quarantine"),
        ("evaluate.py", "baselines"),
        ("build_bundle.py", "half precision"),
    ],
)
def test_job_main_is_its_verb(job: str, word: str) -> None:
    reply = subprocess.run(
        [sys.executable, str(ROOT / "jobs" / job), "--help"], capture_output=True, text=True, timeout=180, check=False
    )
    assert reply.returncode == 0, reply.stderr
    assert word in reply.stdout
