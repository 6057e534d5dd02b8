"""What a run leaves to look at: its config, its lines, pictures of held-out samples, TensorBoard's files.

<out>-runs/<name>/run.json          config, data, what it is built on, status
metrics.jsonl     a line a report
samples/step-00000100.jpg     what the network made above what was true
tensorboard/      scalars and pictures: `tensorboard --logdir <out>-runs`
"""

from __future__ import annotations

import json
import tempfile
import time
import warnings
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from tryon import __version__, storage
from tryon.codec import encode_jpeg
from tryon.errors import StorageError
from tryon.models.tensors import tensor_to_images
from tryon.training.info import METRICS, RUN, SAMPLES, Metrics, RunInfo, Status, read_info, read_lines
from tryon.training.loop import Stopped
from tryon.training.recipes.base import Tensors
from tryon.training.trackers import TrackerName, Trackers

if TYPE_CHECKING:
    from tryon.training.run import RunSpec

NUM_SHOWN = 4


class RunLog:
    """Writes a run's folder. A storage fault costs what it was about to write, not the run."""

    def __init__(
        self, uri: str, info: RunInfo, step: int, trackers: tuple[TrackerName, ...] = ("tensorboard",)
    ) -> None:
        """Goes on with what is there up to a step.

        Args:
            uri: of the run's folder.
            info: what to write as run.json.
            step: at which the run begins or goes on; later lines are another try's and are dropped.
            trackers: that are told too.
        """
        self.uri = uri
        self._info = info
        self._lines = [line for line in read_lines(uri) if line["step"] <= step]
        self._temporary = None if _is_local(uri) else tempfile.TemporaryDirectory()
        folder = Path(self._temporary.name) if self._temporary else Path(storage.resolve(uri)[1]) / "tensorboard"
        self._folder = folder
        self._trackers = Trackers(trackers, uri, info, str(folder), step)
        self._write(RUN, self._told("running"))

    @classmethod
    def open(cls, spec: RunSpec, step: int) -> RunLog:
        """The log of a run."""
        now = _now()
        old = read_info(spec.folder())
        info = RunInfo(
            name=spec.name(), status="running", started=old.started if old else now, updated=now,
            tryon_version=__version__, data=spec.data, out=spec.out,
            provenance={**spec.provenance(), "config": spec.config.model_dump(mode="json")},
        )  # fmt: skip
        return cls(spec.folder(), info, step, spec.config.trackers)

    def line(self, metrics: Metrics) -> None:
        """Takes a line of metrics; it is written with the next checkpoint."""
        self._lines.append(dict(metrics))
        told = {f"{_group(name)}/{name}": value for name, value in metrics.items() if name not in ("step", "epoch")}
        self._trackers.each(lambda tracker: tracker.figures(told, int(metrics["step"])))

    def save(self, step: int, shown: Tensors | None) -> None:
        """Writes the lines, and pictures if there are any."""
        if shown:
            grid = picture_grid(shown)
            self._write(f"{SAMPLES}/step-{step:08d}.jpg", encode_jpeg(grid, 90))
            self._trackers.each(lambda tracker: tracker.picture(grid, step))
        self._flush("running")

    def __enter__(self) -> RunLog:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        stopped = error is not None and isinstance(error, Stopped | KeyboardInterrupt | SystemExit)
        status: Status = "finished" if error is None else "stopped" if stopped else "failed"
        reason = _reason(error) if status == "failed" else ""
        if stopped and (told := self._ended_by_search()) is not None:
            status, reason = told.status, told.reason
        self._flush(status, reason)
        self._trackers.each(lambda tracker: tracker.close(status))
        if self._temporary is not None:
            self._temporary.cleanup()

    def _ended_by_search(self) -> RunInfo | None:
        """What a search has said of this run, if it ended it."""
        try:
            told = read_info(self.uri)
        except StorageError:
            return None
        return told if told is not None and told.status in ("pruned", "failed") else None

    def _flush(self, status: Status, reason: str = "") -> None:
        self._trackers.each(lambda tracker: tracker.flush())
        self._write(METRICS, "".join(json.dumps(line) + "\n" for line in self._lines).encode())
        self._write(RUN, self._told(status, reason))
        if self._temporary is not None:
            for file in sorted(self._folder.glob("events.*")):
                self._write(f"tensorboard/{file.name}", file.read_bytes())

    def _told(self, status: Status, reason: str = "") -> bytes:
        info = self._info.model_copy(update={"status": status, "updated": _now(), "reason": reason})
        return info.model_dump_json(indent=2).encode()

    def _write(self, name: str, data: bytes) -> None:
        try:
            storage.write_bytes(storage.join(self.uri, name), data)
        except StorageError as error:
            warnings.warn(f"{name} of the run could not be written: {error}", stacklevel=2)


def picture_grid(shown: Tensors) -> npt.NDArray[np.uint8]:
    """Pictures (b, 3, h, w) in [-1, 1] by name as one image: a row a name, a column a sample; RGB uint8."""
    rows = [np.concatenate(list(tensor_to_images(value[:NUM_SHOWN])), axis=1) for value in shown.values()]
    return np.concatenate(rows, axis=0)


def _group(name: str) -> str:
    return "val" if name.startswith("val_") else "loss" if name.startswith(("loss", "critic")) else "run"


def _reason(error: BaseException | None) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _is_local(uri: str) -> bool:
    return "://" not in uri or uri.startswith("file://")


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
