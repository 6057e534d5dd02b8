"""The same recipe under Ray Train."""

from __future__ import annotations

from pathlib import Path

import pytest

from tryon.models.bundle import load_bundle
from tryon.training.run import check_run, finished, run


@pytest.mark.ray
def test_one_worker_trains_a_bundle_that_a_rerun_finds(small_data: str, tmp_path: Path, ray_local: None) -> None:
    out = str(tmp_path / "bundle")
    options = {
        "size": (64, 48), "steps": 4, "batch_size": 4, "num_workers": 1, "network": {"width": 4}, "report_every": 2,
        "checkpoint_every": 2, "val_fraction": 0.2,
    }  # fmt: skip
    spec = check_run("gmm", small_data, out, options)
    assert finished(spec) is None
    lines: list[dict[str, float]] = []
    entry = run(spec, lines.append)
    assert [line["step"] for line in lines] == [2, 4]
    assert all(line["loss"] > 0 for line in lines)
    assert entry.training["config"]["steps"] == 4
    assert {"val_mask_iou", "val_l1", "val_flow_epe_px"} <= set(entry.metrics)
    assert entry.metrics["val_l1"] == pytest.approx(lines[-1]["val_l1"])
    assert load_bundle(out).network("warp")[1] == (64, 48)
    assert finished(check_run("gmm", small_data, out, options)) == entry
    assert finished(check_run("gmm", small_data, out, {**options, "num_workers": 0})) == entry
    assert finished(check_run("gmm", small_data, out, {**options, "steps": 5})) is None
