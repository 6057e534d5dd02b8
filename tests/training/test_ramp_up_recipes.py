"""Parsing, extraction and reconstruction train from a data set into a bundle, in process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tryon.models.bundle import Role, load_bundle
from tryon.training.run import check_run, finished, run

SIZE = (64, 48)
CASES: list[tuple[str, Role, dict[str, Any], set[str]]] = [
    ("segment", "parsing", {"width": 4, "levels": 3}, {"val_miou", "val_garment_iou", "val_pixel_accuracy"}),
]


@pytest.mark.parametrize(("recipe", "role", "network", "figures"), CASES)
def test_a_run_writes_a_network_that_the_bundle_opens(
    small_data: str, tmp_path: Path, recipe: str, role: Role, network: dict[str, Any], figures: set[str]
) -> None:
    out = str(tmp_path / "bundle")
    options = {"size": SIZE, "steps": 12, "batch_size": 4, "num_workers": 0, "network": network, "report_every": 1}
    spec = check_run(recipe, small_data, out, {**options, "val_fraction": 0.2})
    lines: list[dict[str, float]] = []
    entry = run(spec, lines.append)
    assert entry.network == recipe
    assert figures <= set(entry.metrics)
    assert lines[-1]["loss"] < lines[0]["loss"]
    opened, size = load_bundle(out).network(role)
    assert size == SIZE
    assert not opened.training
    with torch.inference_mode():
        assert torch.isfinite(opened(torch.zeros(1, 3, *SIZE))).all()
    assert finished(spec) == entry
