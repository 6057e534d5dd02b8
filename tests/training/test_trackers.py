"""What a run tells beside its own folder: TensorBoard always, MLflow and Weights & Biases where they are installed."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.test_interrupt import wait_for
from tryon.errors import ConfigError
from tryon.training.info import RunInfo
from tryon.training.run import check_run
from tryon.training.trackers import RUN_TAG, Mlflow, Tracker, Trackers, Wandb

has_mlflow = importlib.util.find_spec("mlflow") is not None
has_wandb = importlib.util.find_spec("wandb") is not None
needs_mlflow = pytest.mark.skipif(not has_mlflow, reason="pip install 'tryon[mlflow]'")
needs_wandb = pytest.mark.skipif(not has_wandb, reason="pip install 'tryon[wandb]'")
PICTURE = np.zeros((8, 6, 3), dtype=np.uint8)


def info() -> RunInfo:
    return RunInfo.model_validate({
        "name": "gmm-0123456789", "status": "running", "started": "2026-01-01T00:00:00Z",
        "updated": "2026-01-01T00:00:00Z", "tryon_version": "0", "data": "data", "out": "bundle",
        "provenance": {"config": {"recipe": "gmm", "steps": 4}, "data_sha256": "0"},
    })  # fmt: skip


def tell(tracker: Tracker, steps: range) -> None:
    for step in steps:
        tracker.figures({"loss/loss": 1.0 / step}, step)
    tracker.picture(PICTURE, steps[-1])
    tracker.flush()


@pytest.mark.parametrize(("name", "there"), [("mlflow", has_mlflow), ("wandb", has_wandb)], ids=["mlflow", "wandb"])
def test_a_tracker_that_is_not_installed_is_said_before_the_first_step(
    small_data: str, tmp_path: Path, name: str, there: bool
) -> None:
    options: dict[str, Any] = {"size": (64, 48), "batch_size": 4, "num_workers": 0, "trackers": ["tensorboard", name]}
    if there:
        assert check_run("gmm", small_data, str(tmp_path / "b"), options).config.trackers == ("tensorboard", name)
        return
    with pytest.raises(ConfigError, match=rf"trackers = '{name}' needs .*pip install 'tryon\[{name}\]'"):
        check_run("gmm", small_data, str(tmp_path / "b"), options)


def test_an_unknown_tracker_is_answered_with_those_that_are_known(small_data: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"trackers\.0 = 'comet' is not allowed: .*'mlflow' or 'wandb'"):
        check_run("gmm", small_data, str(tmp_path / "b"), {"trackers": ["comet"]})


def test_tensorboard_has_scalars_and_pictures_and_hides_those_of_a_killed_try(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for step, steps in ((0, range(1, 7)), (4, range(5, 9))):  # killed after 6, whose last checkpoint was at 4
        trackers = Trackers(("tensorboard",), str(tmp_path), info(), str(tmp_path / "board"), step)
        trackers.each(lambda tracker, steps=steps: tell(tracker, steps))  # type: ignore[misc]
        trackers.each(lambda tracker: tracker.close("finished"))
    found = EventAccumulator(str(tmp_path / "board"))
    found.Reload()
    assert [event.step for event in found.Scalars("loss/loss")] == list(range(1, 9))
    assert found.Images("samples")[-1].step == 8


def test_a_tracker_that_fails_is_left_out_and_the_others_go_on(tmp_path: Path) -> None:
    trackers = Trackers(("tensorboard",), str(tmp_path), info(), str(tmp_path / "board"), 0)

    def fails(_: Tracker) -> None:
        raise ConnectionError("no answer")

    told: list[Tracker] = []
    with pytest.warns(UserWarning, match="tensorboard fails and is left out from here on: no answer"):
        trackers.each(fails)
    trackers.each(told.append)
    assert told == []


@needs_mlflow
def test_mlflow_has_the_run_and_one_that_goes_on_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow.tracking import MlflowClient

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"{tmp_path}/mlruns")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    killed = Mlflow("runs/gmm", info())
    tell(killed, range(1, 5))
    killed.figures({"loss/loss": 9.0}, 5)  # not flushed: it is killed before its next checkpoint
    again = Mlflow("runs/gmm", info())
    tell(again, range(5, 7))
    again.close("finished")
    client = MlflowClient()
    experiment = client.get_experiment_by_name("tryon")
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.status, run.data.tags[RUN_TAG]) == ("FINISHED", "runs/gmm")
    assert run.data.params["config.recipe"] == "gmm"
    history = client.get_metric_history(run.info.run_id, "loss/loss")
    assert [(m.step, m.value) for m in history] == [(step, pytest.approx(1 / step)) for step in range(1, 7)]
    assert {file.path for file in client.list_artifacts(run.info.run_id, "samples")} == {
        "samples/step-00000004.png",
        "samples/step-00000006.png",
    }


@needs_wandb
def test_wandb_has_the_run_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    tracker = Wandb("runs/gmm", info())
    tell(tracker, range(1, 4))
    tracker.close("finished")
    (folder,) = (tmp_path / "wandb").glob("offline-run-*")
    (file,) = folder.glob("run-*.wandb")
    wait_for(lambda: file.read_bytes().count(b"loss/loss") >= 3, 20, "what its own process writes")
    assert list(folder.glob("files/media/images/*.png"))
