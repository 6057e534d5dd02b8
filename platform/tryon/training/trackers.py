"""Where a run's curves and pictures can be followed, beside its own folder: TensorBoard, MLflow, Weights & Biases.

MLflow goes where ``MLFLOW_TRACKING_URI`` says, Weights & Biases where ``WANDB_MODE``, ``WANDB_DIR`` and
``WANDB_BASE_URL`` say. What is told to them goes out with the next checkpoint, so that a run that is killed and goes
on from there tells no step twice. Where Ray runs, the last figures are among its metrics too
(`tryon.training.metrics`).
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from tryon import storage
from tryon.engines.cluster import is_running
from tryon.errors import ConfigError
from tryon.options import dotted
from tryon.training.info import RunInfo, Status

TrackerName = Literal["tensorboard", "mlflow", "wandb"]
Picture = npt.NDArray[np.uint8]
PROJECT = "tryon"
RUN_TAG = "tryon.run"
NEEDED: Mapping[TrackerName, str] = {"tensorboard": "tensorboard", "mlflow": "mlflow", "wandb": "wandb"}
# MLflow's words for how a run ended.
MLFLOW_STATUS: Mapping[Status, str] = {
    "running": "RUNNING", "stopped": "KILLED", "pruned": "KILLED", "failed": "FAILED", "finished": "FINISHED",
}  # fmt: skip


class Tracker(Protocol):
    """Follows one run."""

    def figures(self, figures: Mapping[str, float], step: int) -> None:
        """Takes figures by ``group/name``."""

    def picture(self, picture: Picture, step: int) -> None:
        """Takes pictures of held-out samples, RGB uint8 (h, w, 3)."""

    def flush(self) -> None:
        """Sends what it has taken."""

    def close(self, status: Status) -> None:
        """Sends the rest, and how the run ended."""


class TensorBoard:
    """Event files in the run's folder.

    Args:
        folder: local path.
        step: at which the run begins or goes on; what lies there of later steps is hidden.
    """

    def __init__(self, folder: str, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(folder, purge_step=step + 1 if step else None)

    def figures(self, figures: Mapping[str, float], step: int) -> None:
        """See `Tracker`."""
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)

    def picture(self, picture: Picture, step: int) -> None:
        """See `Tracker`."""
        self._writer.add_image("samples", picture, step, dataformats="HWC")

    def flush(self) -> None:
        """See `Tracker`."""
        self._writer.flush()

    def close(self, status: Status) -> None:
        """See `Tracker`."""
        del status
        self._writer.close()


class Mlflow:
    """A run of the experiment ``tryon``; one that goes on is found again by the run's URI.

    Args:
        uri: of the run's folder.
        info: of the run.
    """

    def __init__(self, uri: str, info: RunInfo) -> None:
        from mlflow.tracking import MlflowClient

        self._client = MlflowClient()
        found = self._client.get_experiment_by_name(PROJECT)
        experiment = found.experiment_id if found is not None else self._client.create_experiment(PROJECT)
        known = self._client.search_runs([experiment], f"tags.`{RUN_TAG}` = '{uri}'", max_results=1)
        if known:
            self._id = known[0].info.run_id
            self._client.update_run(self._id, status="RUNNING")
        else:
            self._id = self._client.create_run(experiment, tags={RUN_TAG: uri}, run_name=info.name).info.run_id
            for key, value in dotted(info.provenance).items():
                self._client.log_param(self._id, key, str(value)[:500])
        self._waiting: list[Callable[[], None]] = []

    def figures(self, figures: Mapping[str, float], step: int) -> None:
        """See `Tracker`."""
        from mlflow.entities import Metric

        stamp = int(time.time() * 1000)
        told = [Metric(name, value, stamp, step) for name, value in figures.items()]
        self._waiting.append(lambda: self._client.log_batch(self._id, metrics=told))

    def picture(self, picture: Picture, step: int) -> None:
        """See `Tracker`."""
        from PIL import Image

        name = f"samples/step-{step:08d}.png"
        self._waiting.append(lambda: self._client.log_image(self._id, Image.fromarray(picture), name))

    def flush(self) -> None:
        """See `Tracker`."""
        waiting, self._waiting = self._waiting, []
        for send in waiting:
            send()

    def close(self, status: Status) -> None:
        """See `Tracker`."""
        self.flush()
        self._client.set_terminated(self._id, MLFLOW_STATUS[status])


class Wandb:
    """A run of the project ``tryon``; one that goes on has the same id.

    Args:
        uri: of the run's folder.
        info: of the run.
    """

    def __init__(self, uri: str, info: RunInfo) -> None:
        import wandb

        self._image = wandb.Image
        self._run = wandb.init(
            project=PROJECT, id=storage.sha256(uri.encode())[:16], name=info.name, resume="allow",
            config={**dotted(info.provenance), "uri": uri}, reinit="create_new",
        )  # fmt: skip
        self._waiting: list[tuple[dict[str, Any], int]] = []

    def figures(self, figures: Mapping[str, float], step: int) -> None:
        """See `Tracker`."""
        self._waiting.append((dict(figures), step))

    def picture(self, picture: Picture, step: int) -> None:
        """See `Tracker`."""
        self._waiting.append(({"samples": self._image(picture)}, step))

    def flush(self) -> None:
        """See `Tracker`."""
        waiting, self._waiting = self._waiting, []
        for figures, step in waiting:
            self._run.log(figures, step=step)

    def close(self, status: Status) -> None:
        """See `Tracker`."""
        self.flush()
        self._run.finish(exit_code=1 if status == "failed" else 0)


def check_trackers(names: tuple[TrackerName, ...]) -> None:
    """Makes sure that what a run is to be followed with is installed.

    Raises:
        ConfigError: it is not; the message says how to get it.
    """
    for name in names:
        try:
            import_module(NEEDED[name])
        except ImportError as error:
            text = f"trackers = {name!r} needs the package {NEEDED[name]}, which cannot be used here ({error}): "
            text += f"pip install 'tryon[{name}]', or leave it out"
            raise ConfigError(text, code="tracker-unavailable", field="trackers") from error


class Trackers:
    """Several at once; one that fails is told and left out, and the run goes on."""

    def __init__(self, names: tuple[TrackerName, ...], uri: str, info: RunInfo, board: str, step: int) -> None:
        """Opens them.

        Args:
            names: which.
            uri: of the run's folder.
            info: of the run.
            board: local folder for TensorBoard's files.
            step: at which the run begins or goes on.
        """
        makers: Mapping[TrackerName, Callable[[], Tracker]] = {
            "tensorboard": lambda: TensorBoard(board, step),
            "mlflow": lambda: Mlflow(uri, info),
            "wandb": lambda: Wandb(uri, info),
        }
        self._open: dict[str, Tracker] = {}
        for name in names:
            self._guarded(name, lambda name=name: self._open.update({name: makers[name]()}))  # type: ignore[misc]
        if is_running():
            from tryon.training.metrics import RunMetrics

            self._open["ray"] = RunMetrics(info.name)

    def each(self, act: Callable[[Tracker], None]) -> None:
        """Does something with each."""
        for name, tracker in list(self._open.items()):
            self._guarded(name, lambda tracker=tracker: act(tracker))  # type: ignore[misc]

    def _guarded(self, name: str, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception as error:  # noqa: BLE001 - whatever a service far away does, the run goes on
            self._open.pop(name, None)
            warnings.warn(f"{name} fails and is left out from here on: {error}", stacklevel=3)
