"""The Ray Data engine: a job is a stream of shard tasks, each read, processed and written by one actor call.

A shard is the unit of everything: of parallel work, of idempotent writing (its file appears whole, under a name made
from its number) and of resuming (a shard that is there is not made again). So the bytes written do not depend on the
number of actors, on their order, or on how often the run was killed; and only small reports reach the driver.
"""

from __future__ import annotations

import itertools
import pickle
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from tryon.engines.cluster import is_running, worker_cpus
from tryon.engines.in_process import OnStage
from tryon.errors import TryonError

if TYPE_CHECKING:
    from tryon.engines.metrics import ShardMetrics

# Tasks handed to Ray Data at once: the driver never holds more, and each segment ends with a wait for its last shard,
# so a segment is long against the number of actors.
SEGMENT = 4096
TASKS_AN_ACTOR = 64
RETRIES = 3  # of a shard whose actor died, and of all that are left where Ray Data gave up
LOST_S = 2.0  # until a cluster knows what it has lost


@dataclass(frozen=True)
class ShardReport:
    """What became of one shard.

    Attributes:
        shard: its number.
        rows_in: rows read.
        rows_out: rows written.
        quarantined: rows set aside with a reason; rows_in = rows_out + quarantined.
        sha256: over the content of the rows written; empty where the job writes none.
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
    """Processes shard tasks; constructed once in each actor.

    A worker may also have a method ``suspect(shard, task)``: it is called before a shard whose last attempt may have
    ended an actor, to find out which rows did it; and a `name` for what is counted (`tryon.engines.metrics`).
    """

    def process(self, shard: int, task: Any) -> ShardReport:
        """Reads, processes and writes one shard."""


class _Actor:
    """What Ray Data runs: builds the worker on the first call, then hands it one task a call.

    A user's fault is an outcome like a report: an exception would lose its type and code on the way to the driver.
    """

    def __init__(self, make_worker: Callable[[], ShardWorker]) -> None:
        import cv2
        import ray

        cv2.setNumThreads(1)  # one actor a core; OpenCV's own threads would fight the other actors
        self._make_worker = make_worker
        self._worker: ShardWorker | None = None
        self._metrics: ShardMetrics | None = None
        # The first task of an actor that died and came back is the one it died of.
        self._suspicious = bool(ray.get_runtime_context().was_current_actor_reconstructed)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        pairs = zip(batch["shard"], batch["task"], strict=True)
        outcomes = [self._outcome(int(shard), pickle.loads(task)) for shard, task in pairs]
        return {"outcome": [pickle.dumps(outcome) for outcome in outcomes]}

    def _outcome(self, shard: int, task: Any) -> ShardReport | TryonError:
        start = time.perf_counter()
        try:
            self._worker = self._worker or self._make_worker()
            if self._suspicious and hasattr(self._worker, "suspect"):
                self._worker.suspect(shard, task)
            self._suspicious = False
            report = self._worker.process(shard, task)
        except TryonError as fault:
            return fault
        self._counted(self._worker).shard(report, time.perf_counter() - start)
        return report

    def _counted(self, worker: ShardWorker) -> ShardMetrics:
        from tryon.engines.metrics import ShardMetrics

        self._metrics = self._metrics or ShardMetrics(getattr(worker, "name", type(worker).__name__))
        return self._metrics


def counted_stages(job: str) -> OnStage | None:
    """What counts the stages' times of a job in a process of Ray; None in one without.

    Args:
        job: see `tryon.engines.metrics`.
    """
    if not is_running():
        return None
    from tryon.engines.metrics import ShardMetrics

    return ShardMetrics(job).stage


def run_shards(
    tasks: Iterable[Any], make_worker: Callable[[], ShardWorker], *, num_actors: int | None = None
) -> Iterator[ShardReport]:
    """Runs all tasks and yields their reports as they come, in no order.

    An actor that dies is started again and its shard with it; the rows that killed it are asked for once
    (see `ShardWorker`), so that they can be set aside. Where a node is lost and Ray Data gives up with it, what is left
    begins anew on the others.

    Args:
        tasks: one picklable task a shard, streamed; the shard's number is its place.
        make_worker: builds the worker inside each actor; must be picklable.
        num_actors: parallel actors of one CPU each; None: all CPUs that may be used; 0: in this process, without Ray.

    Raises:
        TryonError: what a worker raised; the run ends with the first.
    """
    numbered = enumerate(tasks)
    if num_actors == 0:
        worker = make_worker()
        for shard, task in numbered:
            yield worker.process(shard, task)
        return
    size = num_actors or worker_cpus()
    while segment := list(itertools.islice(numbered, max(SEGMENT, TASKS_AN_ACTOR * size))):
        yield from _run_to_the_end(segment, make_worker, size)


def _run_to_the_end(
    segment: list[tuple[int, Any]], make_worker: Callable[[], ShardWorker], num_actors: int
) -> Iterator[ShardReport]:
    """A segment, begun anew where what ran it was lost; given up where that happens again and again for nothing."""
    from ray.exceptions import ActorUnavailableError, ObjectLostError, RayActorError, RaySystemError, WorkerCrashedError

    left = dict(segment)
    tries = 0
    while left:
        try:
            for report in _run_segment(list(left.items()), make_worker, min(num_actors, len(left))):
                del left[report.shard]
                tries = 0
                yield report
        except (ActorUnavailableError, ObjectLostError, RayActorError, RaySystemError, WorkerCrashedError):
            tries += 1
            if tries > RETRIES:
                raise
            time.sleep(LOST_S)


def _run_segment(
    segment: list[tuple[int, Any]], make_worker: Callable[[], ShardWorker], num_actors: int
) -> Iterator[ShardReport]:
    import ray.data
    from ray.util.annotations import RayDeprecationWarning

    items = [{"shard": shard, "task": pickle.dumps(task)} for shard, task in segment]
    plan = ray.data.from_items(items, override_num_blocks=len(items))
    with warnings.catch_warnings():
        # Ray 2.60 has no other way to say max_task_retries, whose default is to try for ever.
        warnings.simplefilter("ignore", RayDeprecationWarning)
        reports = plan.map_batches(
            _Actor,
            fn_constructor_args=(make_worker,),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=num_actors),
            num_cpus=1,
            max_restarts=-1,
            max_task_retries=RETRIES,
        )
    for row in reports.iter_rows():
        outcome = pickle.loads(row["outcome"])
        if isinstance(outcome, TryonError):
            raise outcome
        yield outcome
