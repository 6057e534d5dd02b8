"""What data jobs count, with Ray's metrics: Prometheus reads them at each node's metrics port, as ``ray_<name>``.

| name | tags | what |
|---|---|---|
| tryon_data_rows_total | job, fate | rows of shards that are done: written, quarantined, or there already (reused) |
| tryon_data_shard_seconds | job | a shard, from reading to writing |
| tryon_data_stage_seconds | job, stage | a stage's run over a shard's rows |

`job` is the URI of the data set that is written, or the name of the worker where none is.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from ray.util import metrics

if TYPE_CHECKING:
    from tryon.engines.dataset import ShardReport

SECONDS = [0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000]


class ShardMetrics:
    """Of one process that works on a job's shards.

    Args:
        job: what to call the job.
    """

    def __init__(self, job: str) -> None:
        self._job = {"job": job}

    @cached_property
    def _rows(self) -> metrics.Counter:
        return metrics.Counter("tryon_data_rows_total", "rows of shards that are done", tag_keys=("job", "fate"))

    @cached_property
    def _shards(self) -> metrics.Histogram:
        return metrics.Histogram("tryon_data_shard_seconds", "a shard", boundaries=SECONDS, tag_keys=("job",))

    @cached_property
    def _stages(self) -> metrics.Histogram:
        text = "a stage's run over a shard's rows"
        return metrics.Histogram("tryon_data_stage_seconds", text, boundaries=SECONDS, tag_keys=("job", "stage"))

    def stage(self, name: str, seconds: float) -> None:
        """A stage has run."""
        self._stages.observe(seconds, tags={**self._job, "stage": name})

    def shard(self, report: ShardReport, seconds: float) -> None:
        """A shard is done."""
        written = "reused" if report.reused else "written"
        for fate, num in ((written, report.rows_out), ("quarantined", report.quarantined)):
            if num:
                self._rows.inc(num, tags={**self._job, "fate": fate})
        if not report.reused:
            self._shards.observe(seconds, tags=self._job)
