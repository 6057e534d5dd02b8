"""What a training run tells Ray's metrics: Prometheus reads them at each node's metrics port, as ``ray_<name>``.

| name | tags | what |
|---|---|---|
| tryon_train_step | run | optimiser steps done |
| tryon_train_figure | run, figure | the last of each figure: loss, val_l1, samples_per_s, data_wait_share ... |

The process of rank 0 tells them, every `report_every` steps; `run` is the folder's name.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from ray.util import metrics

from tryon.training.info import Status


class RunMetrics:
    """A tracker (`tryon.training.trackers.Tracker`).

    Args:
        run: its name.
    """

    def __init__(self, run: str) -> None:
        self._run = {"run": run}
        self._step = metrics.Gauge("tryon_train_step", "optimiser steps done", tag_keys=("run",))
        self._figure = metrics.Gauge("tryon_train_figure", "the last of each figure", tag_keys=("run", "figure"))

    def figures(self, figures: Mapping[str, float], step: int) -> None:
        """See `Tracker`."""
        self._step.set(step, tags=self._run)
        for name, value in figures.items():
            self._figure.set(value, tags={**self._run, "figure": name.rsplit("/", 1)[-1]})

    def picture(self, picture: npt.NDArray[np.uint8], step: int) -> None:
        """Metrics have none."""

    def flush(self) -> None:
        """They are sent as they are told."""

    def close(self, status: Status) -> None:
        """They end with the process."""
