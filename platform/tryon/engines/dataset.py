"""The Ray Data engine: a job is a list of shard tasks, each read, processed and written by one actor call.

A shard is the unit of everything: of parallel work, of idempotent writing (its file appears whole, under a name made
from its number) and of resuming (a shard that is there is not made again). So the bytes written do not depend on the
number of actors, on their order, or on how often the run was killed; and only small reports reach the driver.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
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
    """What Ray Data runs: builds the worker once, hands it one task a call."""

    def __init__(self, make_worker: Callable[[], ShardWorker]) -> None:
        import cv2

        cv2.setNumThreads(1)  # one actor a core; OpenCV's own threads would fight the other actors
        self._worker = make_worker()

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        import pickle

        reports = [
            asdict(self._worker.process(int(shard), pickle.loads(task)))  # noqa: S301 - made by run_shards below
            for shard, task in zip(batch["shard"], batch["task"], strict=True)
        ]
        return {key: [report[key] for report in reports] for key in reports[0]}


def run_shards(
    tasks: Sequence[Any], make_worker: Callable[[], ShardWorker], *, num_actors: int | None = None
) -> Iterator[ShardReport]:
    """Runs all tasks and yields their reports as they come, in no order.

    Args:
        tasks: one picklable task a shard; the shard's number is its index.
        make_worker: builds the worker inside each actor; must be picklable.
        num_actors: parallel actors of one CPU each; None: all CPUs that may be used; 0: in this process, without Ray.
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

    import ray.data.exceptions
    import ray.exceptions

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
    try:
        for row in reports.iter_rows():
            yield ShardReport(**row)
    except (ray.exceptions.RayError, ray.data.exceptions.SystemException) as error:
        fault = user_fault(error)
        if fault is None:
            raise
        raise fault from error


def user_fault(error: BaseException) -> TryonError | None:
    """The `TryonError` that an actor raised, out of the errors Ray wrapped around it; None if it was another kind."""
    seen: set[int] = set()
    queue: list[BaseException | None] = [error]
    while queue:
        current = queue.pop()
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        if isinstance(current, TryonError):
            return current
        queue += [current.__cause__, current.__context__, getattr(current, "cause", None)]
    return None
