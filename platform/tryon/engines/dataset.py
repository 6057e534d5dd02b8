"""The Ray Data engine: a job is a list of shard tasks, each read, processed and written by one actor call.

A shard is the unit of everything: of parallel work, of idempotent writing (its file appears whole, under a name made
from its number) and of resuming (a shard that is there is not made again). So the bytes written do not depend on the
number of actors, on their order, or on how often the run was killed; and only small reports reach the driver.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from tryon.engines.cluster import worker_cpus
from tryon.errors import TryonError


@dataclass(frozen=True)
class ShardReport:
    """What became of one shard.

    Attributes:
        shard: its number.
        rows_in: rows read.
        rows_out: rows written.
        quarantined: rows set aside with a reason; rows_in = rows_out + quarantined.
        sha256: of the shard's file; empty where the job writes none.
        reused: the shard was there already.
        payload: small JSON-like extra (e.g. metric sums).
    """

    shard: int
    rows_in: int
    rows_out: int
    quarantined: int
    sha256: str = ""
    reused: bool = False
    payload: str = ""


class ShardWorker(Protocol):
    """Processes shard tasks; constructed once in each actor."""

    def process(self, shard: int, task: Any) -> ShardReport:
        """Reads, processes and writes one shard."""


class _Actor:
    """What Ray Data runs: builds the worker on the first call, then hands it one task a call.

    A user's fault is an outcome like a report: an exception would lose its type and code on the way to the driver.
    """

    def __init__(self, make_worker: Callable[[], ShardWorker]) -> None:
        import cv2

        cv2.setNumThreads(1)  # one actor a core; OpenCV's own threads would fight the other actors
        self._make_worker = make_worker
        self._worker: ShardWorker | None = None

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        import pickle

        pairs = zip(batch["shard"], batch["task"], strict=True)
        outcomes = [self._outcome(int(shard), pickle.loads(task)) for shard, task in pairs]
        return {"outcome": [pickle.dumps(outcome) for outcome in outcomes]}

    def _outcome(self, shard: int, task: Any) -> ShardReport | TryonError:
        try:
            self._worker = self._worker or self._make_worker()
            return self._worker.process(shard, task)
        except TryonError as fault:
            return fault


def run_shards(
    tasks: Sequence[Any], make_worker: Callable[[], ShardWorker], *, num_actors: int | None = None
) -> Iterator[ShardReport]:
    """Runs all tasks and yields their reports as they come, in no order.

    Args:
        tasks: one picklable task a shard; the shard's number is its index.
        make_worker: builds the worker inside each actor; must be picklable.
        num_actors: parallel actors of one CPU each; None: all CPUs that may be used; 0: in this process, without Ray.

    Raises:
        TryonError: what a worker raised; the run ends with the first.
    """
    if num_actors == 0:
        worker = make_worker()
        for shard, task in enumerate(tasks):
            yield worker.process(shard, task)
        return
    yield from _run_on_ray(tasks, make_worker, num_actors)


def _run_on_ray(
    tasks: Sequence[Any], make_worker: Callable[[], ShardWorker], num_actors: int | None
) -> Iterator[ShardReport]:
    import pickle

    import ray.data

    size = max(1, min(num_actors or worker_cpus(), len(tasks)))
    items = [{"shard": i, "task": pickle.dumps(task)} for i, task in enumerate(tasks)]
    plan = ray.data.from_items(items, override_num_blocks=len(items))
    reports = plan.map_batches(
        _Actor,
        fn_constructor_args=(make_worker,),
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=size),
        num_cpus=1,
    )
    for row in reports.iter_rows():
        outcome = pickle.loads(row["outcome"])
        if isinstance(outcome, TryonError):
            raise outcome
        yield outcome
