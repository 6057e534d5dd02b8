"""Ray Train around the recipe: the same loop in each worker, shards streamed by Ray Data, checkpoints by Ray."""

from __future__ import annotations

import dataclasses
import os
import tempfile
import threading
import time
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import torch

from tryon.data.ingest import Split, ray_dataset
from tryon.engines.cluster import physical_cpus, ray_session, stop_on_sigterm
from tryon.errors import TrainError, TryonError
from tryon.training.loop import Metrics, Stopped
from tryon.training.ray_batches import RayEpochs
from tryon.training.recipes.base import Batches
from tryon.training.run import RunSpec
from tryon.training.worker import OnMetrics, Place, store_of, train_here

POLL_S = 0.5
STOP_POLL_S = 1.0
RESIZE_S = 10.0  # how often an elastic run looks whether more workers fit by now


def run_on_ray(spec: RunSpec, on_metrics: OnMetrics) -> Metrics:
    """Runs the training on Ray Train; a worker that dies is replaced, and all go on from the last checkpoint.

    Checkpoints are the run's own (`tryon.training.checkpoints`), not Ray's: so a storage that fails does not end the
    run, and a run goes on with another number of workers, with Ray or without.

    Args:
        spec: of `check_run`.
        on_metrics: told each line of metrics, on the driver.

    Returns:
        The last validation figures.

    Raises:
        Stopped: SIGTERM came.
        TrainError: workers died more often than `max_failures` allows.
        TryonError: what a worker found that the user can mend.
    """
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")  # how soon a death is noticed
    with ray_session(), tempfile.TemporaryDirectory(prefix="tryon-ray-") as folder, stop_on_sigterm() as stop:
        board = _Board(on_metrics, stop)
        try:
            _fit(spec, board.actor, folder)
        except SystemExit as end:  # how Ray Train ends the driver on Ctrl-C, after it has aborted the run
            raise KeyboardInterrupt from end
        finally:
            board.close()
        if board.fault is not None:
            raise board.fault
        if board.stopped_at is not None:
            raise Stopped(board.stopped_at)
    return board.figures


def _fit(spec: RunSpec, board: Any, folder: str) -> None:
    """Fits, and begins anew where Ray gives up though the run has come further: a run of weeks loses many workers."""
    from ray.train import WorkerGroupError

    while True:
        before = store_of(spec).last_step()
        try:
            _trainer(spec, board, tempfile.mkdtemp(dir=folder)).fit()  # in the same folder Ray would go on by itself
        except WorkerGroupError as error:
            if store_of(spec).last_step() <= before:
                raise _user_fault(error.worker_failures.values()) or _deaths(spec, error) from error
        else:
            return


def _deaths(spec: RunSpec, error: BaseException) -> TrainError:
    reason = (str(error) or type(error).__name__).strip().splitlines()[-1]
    text = f"training ended after {spec.config.max_failures} restarts of its workers without a checkpoint: {reason}"
    return TrainError(f"{text}; the same command goes on from the last checkpoint", code="workers-died")


def _user_fault(failures: Iterable[BaseException]) -> TryonError | None:
    """What the user can mend among the workers' failures, out of what Ray wrapped around it."""
    for failure in failures:
        error: BaseException | None = failure
        while error is not None:
            if isinstance(error, TryonError):
                return error
            error = getattr(error, "cause", None) or error.__cause__
    return None


def _trainer(spec: RunSpec, board: Any, folder: str) -> Any:
    """Ray's own state goes into a folder that lives as long as the call: what lasts is in the run's folder."""
    from ray.data import ExecutionOptions
    from ray.train import DataConfig, FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    config = spec.config
    datasets = {"train": _dataset(spec, "train")}
    if config.val_fraction > 0:
        datasets["val"] = _dataset(spec, "val")
    cpus = config.cpus_per_worker or max(1, physical_cpus() // config.num_workers)
    use_gpu = torch.cuda.is_available()
    return TorchTrainer(
        _worker,
        train_loop_config={"spec": spec, "board": board},
        datasets=datasets,
        # In order: so that an epoch that goes on is the one that was cut off.
        dataset_config=DataConfig(datasets_to_split=["train"], execution_options=ExecutionOptions(preserve_order=True)),
        scaling_config=ScalingConfig(
            num_workers=(config.min_workers, config.num_workers) if config.min_workers else config.num_workers,
            use_gpu=use_gpu,
            resources_per_worker={"CPU": cpus, "GPU": int(use_gpu)},
            elastic_resize_monitor_interval_s=RESIZE_S,
        ),
        run_config=RunConfig(
            name=spec.name(), storage_path=folder, failure_config=FailureConfig(max_failures=config.max_failures)
        ),
    )


_datasets: dict[tuple[Any, ...], Any] = {}


def _dataset(spec: RunSpec, split: Split) -> Any:
    """One side of the data set; runs in one Ray session share what is decoded (12 s on 480 samples)."""
    import ray

    size, held, cache = spec.config.size, spec.config.val_fraction, spec.config.cache
    job = ray.get_runtime_context().get_job_id()
    key = (job, spec.data, spec.manifest.sha256, spec.columns, size, split, held, cache)
    if key not in _datasets:
        for old in [old for old in _datasets if old[0] != job or old[5] == split]:
            del _datasets[old]  # one of each side at a time; those of an ended session are gone anyway
        _datasets[key] = ray_dataset(spec.data, spec.manifest, spec.columns, size, split, held, cache)
    return _datasets[key]


def _worker(config: Mapping[str, Any]) -> None:
    """One Ray Train worker."""
    import ray
    import ray.train

    spec: RunSpec = config["spec"]
    board = config["board"]
    if ray.get(board.has_fault.remote()):  # of the try before: nothing to do until the user has mended it
        return
    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    if rank == 0:
        _tell_warnings(board)
    spec = dataclasses.replace(spec, config=spec.config.model_copy(update={"num_workers": world}))  # fewer, if elastic
    place = Place(
        rank=rank,
        num_workers=world,
        wrap=ray.train.torch.prepare_model if world > 1 and spec.config.strategy == "ddp" else lambda network: network,
        should_stop=_Asks(board) if rank == 0 else lambda: False,
    )
    try:
        figures = train_here(spec, _train_batches(spec), _val_batches(spec), board.put.remote, place)
    except Stopped as stopped:
        if rank == 0:
            ray.get(board.stopped.remote(stopped.step))
    except TryonError as error:
        ray.get(board.failed.remote(error))
        if world > 1:  # so that Ray ends those that wait for this one
            raise
    else:
        if rank == 0:
            ray.get(board.finished.remote(figures))


def _tell_warnings(board: Any) -> None:
    """Has this process's warnings shown by the driver too: a worker's own output goes into a file of Ray's."""

    def show(message: Warning | str, category: type[Warning], *rest: Any) -> None:
        if issubclass(category, UserWarning):
            board.warned.remote(str(message))

    warnings.showwarning = show  # type: ignore[assignment]


class _Asks:
    """Asks the board now and then whether the driver was told to stop; no step waits for the answer."""

    def __init__(self, board: Any) -> None:
        self._board = board
        self._last = time.monotonic()
        self._answer: Any = None

    def __call__(self) -> bool:
        import ray

        if self._answer is None and time.monotonic() - self._last >= STOP_POLL_S:
            self._last = time.monotonic()
            self._answer = self._board.stops.remote()
        if self._answer is None or not ray.wait([self._answer], timeout=0)[0]:
            return False
        stops = bool(ray.get(self._answer))
        self._answer = None
        return stops


def _train_batches(spec: RunSpec) -> Batches:
    import ray.train

    shard = ray.train.get_dataset_shard("train")

    config = spec.config
    return RayEpochs(shard, config.rows_a_batch, config.size, config.seed)


def _val_batches(spec: RunSpec) -> Batches:
    import ray.train

    def batches(_: int) -> Iterable[Mapping[str, Any]]:
        if spec.config.val_fraction == 0:
            return []
        shard = ray.train.get_dataset_shard("val")
        return shard.iter_batches(batch_size=spec.config.rows_a_batch)  # type: ignore[no-any-return]

    return batches


class _Board:
    """Brings the workers' metrics to the driver while `fit()` blocks, and the driver's SIGTERM to them.

    Attributes:
        figures: the last validation figures, once the run has finished.
        stopped_at: the step at which it stopped, or None.
        fault: what a worker found that the user can mend, or None.
    """

    def __init__(self, on_metrics: OnMetrics, stop: threading.Event) -> None:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        # Where the driver is: another node may be lost, and the run goes on.
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self.actor = ray.remote(num_cpus=0, scheduling_strategy=here)(_Lines).remote()
        self.figures: Metrics = {}
        self.stopped_at: int | None = None
        self.fault: TryonError | None = None
        self._on_metrics = on_metrics
        self._stop = stop
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._poll, daemon=True)
        self._thread.start()

    def _poll(self) -> None:
        while not self._end.wait(POLL_S):
            self._exchange()

    def _exchange(self) -> None:
        import ray

        found = ray.get(self.actor.exchange.remote(self._stop.is_set()))
        lines, told, self.stopped_at, self.figures, self.fault = found
        for text in told:
            warnings.warn(text, stacklevel=2)
        for line in lines:
            self._on_metrics(line)

    def close(self) -> None:
        """Shows what is left and ends the thread."""
        import ray

        self._end.set()
        self._thread.join()
        if ray.is_initialized():
            self._exchange()
            ray.kill(self.actor)


class _Lines:
    """Actor between workers and driver."""

    def __init__(self) -> None:
        self._lines: list[Metrics] = []
        self._warnings: list[str] = []
        self._stop = False
        self._stopped_at: int | None = None
        self._fault: TryonError | None = None
        self._figures: Metrics = {}

    def put(self, line: Metrics) -> None:
        """Takes a line of a worker's."""
        self._lines.append(line)

    def warned(self, text: str) -> None:
        """Takes a warning of a worker's."""
        self._warnings.append(text)

    def stops(self) -> bool:
        """Whether the driver wants the run to stop."""
        return self._stop

    def stopped(self, step: int) -> None:
        """Takes that the run stopped at a step."""
        self._stopped_at = step

    def failed(self, fault: TryonError) -> None:
        """Takes what a worker found that the user can mend."""
        self._fault = self._fault or fault

    def has_fault(self) -> bool:
        """Whether there is such."""
        return self._fault is not None

    def finished(self, figures: Metrics) -> None:
        """Takes the figures of a finished run."""
        self._figures = figures

    def exchange(self, stop: bool) -> tuple[list[Metrics], list[str], int | None, Metrics, TryonError | None]:
        """Takes the driver's wish; gives new lines and warnings, the step it stopped at, the last figures, a fault."""
        self._stop = stop
        lines, self._lines = self._lines, []
        told, self._warnings = self._warnings, []
        return lines, told, self._stopped_at, self._figures, self._fault
