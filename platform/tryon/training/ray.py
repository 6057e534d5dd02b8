"""Ray Train around the recipe: the same loop in each worker, shards streamed by Ray Data, checkpoints by Ray."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Iterable, Mapping
from typing import Any

import torch

from tryon import storage
from tryon.data.ingest import Split, ray_dataset
from tryon.engines.cluster import physical_cpus, ray_session
from tryon.errors import TryonError
from tryon.models.device import pick_device
from tryon.training.loop import Metrics, TrainState, make_optimizer, train
from tryon.training.run import OnMetrics, RunSpec, build_recipe, load_checkpoint, place_networks, validation_figures

CHECKPOINT = "checkpoint.pt"
POLL_S = 0.5
SHUFFLE_ROWS = 512


def run_on_ray(spec: RunSpec, on_metrics: OnMetrics) -> tuple[Mapping[str, Any], Metrics]:
    """Runs the training on Ray Train; a run of the same name goes on from its last checkpoint.

    Args:
        spec: of `check_run`.
        on_metrics: told each line of metrics, on the driver.

    Returns:
        State dict of the trained network, and the last validation figures.
    """
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")  # reports are taken up at this pace
    from ray.train import WorkerGroupError

    with ray_session():
        board = _Board(on_metrics)
        try:
            result = _trainer(spec, board.actor).fit()
        except SystemExit as end:  # how Ray Train ends the driver on Ctrl-C, after it has aborted the run
            raise KeyboardInterrupt from end
        except WorkerGroupError as error:
            raise _user_fault(error.worker_failures.values()) or error from error
        finally:
            board.close()
        with result.checkpoint.as_directory() as folder, open(os.path.join(folder, CHECKPOINT), "rb") as file:
            state = load_checkpoint(file.read())
    return state["network"], validation_figures(result.metrics)


def _user_fault(failures: Iterable[BaseException]) -> TryonError | None:
    """What the user can mend among the workers' failures, out of what Ray wrapped around it."""
    for failure in failures:
        error: BaseException | None = failure
        while error is not None:
            if isinstance(error, TryonError):
                return error
            error = getattr(error, "cause", None) or error.__cause__
    return None


def _trainer(spec: RunSpec, board: Any) -> Any:
    from ray.train import CheckpointConfig, DataConfig, FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    config = spec.config
    filesystem, path = storage.resolve(f"{spec.out}-runs")
    datasets = {"train": _dataset(spec, "train")}
    if config.val_fraction > 0:
        datasets["val"] = _dataset(spec, "val")
    cpus = config.cpus_per_worker or max(1, physical_cpus() // config.num_workers)
    use_gpu = torch.cuda.is_available()
    return TorchTrainer(
        _worker,
        train_loop_config={"spec": spec, "board": board},
        datasets=datasets,
        dataset_config=DataConfig(datasets_to_split=["train"]),
        scaling_config=ScalingConfig(
            num_workers=config.num_workers, use_gpu=use_gpu, resources_per_worker={"CPU": cpus, "GPU": int(use_gpu)}
        ),
        run_config=RunConfig(
            name=spec.name(),
            storage_path=path,
            storage_filesystem=filesystem,
            checkpoint_config=CheckpointConfig(num_to_keep=2),
            failure_config=FailureConfig(max_failures=3),
        ),
    )


_datasets: dict[tuple[Any, ...], Any] = {}


def _dataset(spec: RunSpec, split: Split) -> Any:
    """One side of the data set; runs in one Ray session share what is decoded (12 s on 480 samples)."""
    import ray

    size, held = spec.config.size, spec.config.val_fraction
    job = ray.get_runtime_context().get_job_id()
    key = (job, spec.data, spec.manifest.sha256, spec.columns, size, split, held)
    if key not in _datasets:
        for old in [old for old in _datasets if old[0] != job or old[5] == split]:
            del _datasets[old]  # one of each side at a time; those of an ended session are gone anyway
        _datasets[key] = ray_dataset(spec.data, spec.manifest, spec.columns, size, split, held)
    return _datasets[key]


def _worker(config: Mapping[str, Any]) -> None:
    """One Ray Train worker."""
    import ray.train

    spec: RunSpec = config["spec"]
    context = ray.train.get_context()
    device = pick_device()
    recipe = build_recipe(spec)
    place_networks(recipe, device)
    network = ray.train.torch.prepare_model(recipe.network) if context.get_world_size() > 1 else recipe.network
    state = TrainState(network, make_optimizer(network, spec.config))
    _resume(state)

    def on_report(metrics: Metrics, checkpoint: TrainState | None) -> None:
        if context.get_world_rank() == 0:
            config["board"].put.remote(metrics)
        if checkpoint is not None:
            _report(metrics, checkpoint, context.get_world_rank())

    train(recipe, state, spec.config, _train_batches(spec, context), _val_batches(spec), device, on_report)


def _train_batches(spec: RunSpec, context: Any) -> Any:
    import ray.train

    shard = ray.train.get_dataset_shard("train")
    rows = max(1, spec.config.batch_size // context.get_world_size())

    def batches(epoch: int) -> Iterable[Mapping[str, Any]]:
        return shard.iter_batches(  # type: ignore[no-any-return]
            batch_size=rows,
            prefetch_batches=2,
            drop_last=True,
            local_shuffle_buffer_size=SHUFFLE_ROWS,
            local_shuffle_seed=spec.config.seed * 100_003 + epoch,
        )

    return batches


def _val_batches(spec: RunSpec) -> Any:
    import ray.train

    def batches() -> Iterable[Mapping[str, Any]]:
        if spec.config.val_fraction == 0:
            return []
        shard = ray.train.get_dataset_shard("val")
        return shard.iter_batches(batch_size=spec.config.batch_size)  # type: ignore[no-any-return]

    return batches


def _resume(state: TrainState) -> None:
    import ray.train

    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        return
    with checkpoint.as_directory() as folder, open(os.path.join(folder, CHECKPOINT), "rb") as file:
        state.load_state_dict(load_checkpoint(file.read()))


def _report(metrics: Metrics, state: TrainState, rank: int) -> None:
    """Reports with a checkpoint; every rank reports, rank 0 brings the file."""
    import ray.train

    with tempfile.TemporaryDirectory() as folder:
        checkpoint = None
        if rank == 0:
            torch.save(state.state_dict(), os.path.join(folder, CHECKPOINT))
            checkpoint = ray.train.Checkpoint.from_directory(folder)
        ray.train.report(metrics, checkpoint=checkpoint, checkpoint_dir_name=f"step-{state.step:08d}")


class _Board:
    """Brings the workers' metrics to the driver while `fit()` blocks: callbacks of Ray Train run elsewhere."""

    def __init__(self, on_metrics: OnMetrics) -> None:
        import ray

        self.actor = ray.remote(num_cpus=0)(_Lines).remote()
        self._on_metrics = on_metrics
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._poll, daemon=True)
        self._thread.start()

    def _poll(self) -> None:
        while not self._end.wait(POLL_S):
            self._drain()

    def _drain(self) -> None:
        import ray

        for line in ray.get(self.actor.take.remote()):
            self._on_metrics(line)

    def close(self) -> None:
        """Shows what is left and ends the thread."""
        import ray

        self._end.set()
        self._thread.join()
        if ray.is_initialized():
            self._drain()
            ray.kill(self.actor)


class _Lines:
    """Actor: a list of metric lines waiting for the driver."""

    def __init__(self) -> None:
        self._lines: list[Metrics] = []

    def put(self, line: Metrics) -> None:
        """Adds a line."""
        self._lines.append(line)

    def take(self) -> list[Metrics]:
        """Gives the lines and forgets them."""
        lines, self._lines = self._lines, []
        return lines
