"""A search from its space to the best trial's bundle; one that was cut off goes on where it was."""

from __future__ import annotations

import logging
import os
import random
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import torch
import yaml
from ray import tune
from ray.tune import PlacementGroupFactory

from tryon import storage
from tryon.engines.cluster import dashboard_url, physical_cpus, ray_session, stop_on_sigterm
from tryon.errors import ConfigError, TrainError
from tryon.models import bundle as bundles
from tryon.training.info import read_info, write_status
from tryon.training.recipes.registry import recipe_class
from tryon.training.run import NOT_DECISIVE, RunSpec, validation_figures, write_bundle
from tryon.training.state import load_checkpoint
from tryon.training.tune.check import SearchSpec
from tryon.training.tune.choose import scheduler_of, searcher_of
from tryon.training.tune.record import (
    BEST,
    SearchInfo,
    Trial,
    last_line,
    new_search,
    points,
    ranked,
    read_lineage,
    read_search,
    write_search,
)
from tryon.training.tune.report import write_report
from tryon.training.tune.trial import FAILED, NUMBER, STEP, history_of, run_trial
from tryon.training.worker import store_of

RAY = "ray"  # folder of Tune's own state
SLOT = "trial"  # a session's resource, as many of it as trials at a time
DRIVER_CPUS = 0.01  # of a trial whose workers have the rest; 0 is refused, 1 would starve them
# Set before Ray starts; what the user exported wins.
ENVIRONMENT = {
    "TUNE_GLOBAL_CHECKPOINT_S": "1",  # else 10 s of decisions are lost with the driver
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # runs have their own lines and TensorBoard's files
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a trial that failed has no figure
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "RAY_AIR_NEW_OUTPUT": "0",  # the new one prints a box even where it is to be silent
    "RAY_TRAIN_ENABLE_STATE_TRACKING": "1",  # the dashboard's Train tab
}


class Watch(Protocol):
    """Told how a search goes."""

    def started(self, dashboard: str | None) -> None:
        """Trials begin; where Ray's dashboard is."""

    def told(self, trials: Sequence[Trial]) -> None:
        """How the trials stand."""

    def ended(self, trial: Trial) -> None:
        """A trial has ended."""


class SearchStopped(Exception):  # noqa: N818 - no error: the search was asked to stop, and can go on
    """SIGTERM came; what the trials saved is there."""

    def __init__(self, ended: int, total: int) -> None:
        super().__init__(f"stopped with {ended} of {total} trials ended")


def finished_search(spec: SearchSpec) -> SearchInfo | None:
    """What this very search came to, if it has finished and its best trial is in the bundle."""
    info = read_search(spec.folder)
    if info is None or info.status != "finished":
        return None
    if spec.found is not None:
        return info
    if not storage.exists(storage.join(info.out, bundles.MANIFEST)):
        return None
    entry = bundles.read_manifest(info.out).networks.get(recipe_class(spec.recipe).role)
    return info if entry is not None and entry.sha256 == info.sha256 else None


def run_search(spec: SearchSpec, watch: Watch, *, dashboard: bool = True) -> SearchInfo:
    """Runs what is left of a search and writes its best trial as a bundle, its config and the page.

    Args:
        spec: of `check_search`.
        watch: told how it goes.
        dashboard: start Ray's, where a Ray is started.

    Raises:
        SearchStopped: SIGTERM came; the same call goes on.
        KeyboardInterrupt: Ctrl-C; the same call goes on.
        ConfigError: trials with Ray Train are to do without the dashboard.
        TrainError: no trial came to a figure.
        StorageError: the place cannot be written.
    """
    if not dashboard and not spec.in_process:
        text = f"num_workers = {spec.base.config.num_workers} needs the dashboard: Ray asks it what stopped trials held"
        raise ConfigError(f"{text}; leave --no-dashboard out, or set num_workers=0", code="option-invalid")
    info = read_search(spec.folder) or new_search(spec)
    info = info.model_copy(update={"status": "running"})
    write_search(spec.folder, info)
    if len(info.trials) < spec.search.num_trials or not all(trial.has_ended for trial in info.trials):
        info = _run_trials(spec, info, watch, dashboard)
    return conclude(spec, info)


def conclude(spec: SearchSpec, info: SearchInfo) -> SearchInfo:
    """Writes the bundle, the config and the page of a search whose trials have ended.

    Raises:
        TrainError: no trial came to a figure.
        StorageError: the place cannot be written.
    """
    best = ranked(info.trials, info.metric)[0]
    if best.value is None:
        reasons = "; ".join(f"{t.name}: {t.reason}" for t in info.trials if t.reason)[:500]
        raise TrainError(f"none of {len(info.trials)} trials came to a figure: {reasons}", code="search-failed")
    run = spec.run_of(best.number, best.values, history_of(read_lineage(spec.place(best.number))))
    store = store_of(run)
    data = store.latest()
    assert data is not None
    figures = validation_figures(last_line(run.folder(), info.metric) or {})
    entry = write_bundle(run, load_checkpoint(data), figures)
    store.clear_local()
    storage.write_bytes(storage.join(spec.folder, BEST), best_config(run, best).encode())
    info = info.model_copy(update={"status": "finished", "best": best.number, "sha256": entry.sha256})
    write_search(spec.folder, info)
    write_report(spec.folder, info)
    return info


def best_config(run: RunSpec, best: Trial) -> str:
    """The config of a trial as YAML, for `tryon train --config`."""
    told = run.config.model_dump(mode="json", exclude=NOT_DECISIVE | {"recipe"})
    head = f"# tryon train {run.config.recipe} --config {BEST} --data URI --out URI\n# {best.name} of a search"
    return f"{head}; {'its last config' if run.history else 'its config'}.\n{yaml.safe_dump(told, sort_keys=False)}"


def _run_trials(spec: SearchSpec, info: SearchInfo, watch: Watch, dashboard: bool) -> SearchInfo:
    """Runs the trials that have not ended.

    Raises:
        SearchStopped, KeyboardInterrupt: see `run_search`.
    """
    for key, value in ENVIRONMENT.items():
        os.environ.setdefault(key, value)
    begun = time.monotonic()
    slots = {SLOT: float(spec.search.max_concurrent)}
    with _own_interrupt():
        # In this order: Ray sets a handler of its own when it starts.
        with ray_session(dashboard=dashboard, resources=slots), stop_on_sigterm() as stop:
            watch.started(dashboard_url() if dashboard else None)
            follow = _Follow(spec, info, watch, stop)
            _fit(spec, follow)
        # After the session: a trial that was stopped may write to the end of its process.
        trials = follow.trials
        for trial in trials:
            _mark(spec, trial)
        ended = [trial for trial in trials if trial.has_ended]
        complete = len(ended) == spec.search.num_trials
        status = "running" if complete else "stopped"
        took_s = info.took_s + time.monotonic() - begun
        info = info.model_copy(update={"status": status, "trials": tuple(trials), "took_s": took_s})
        write_search(spec.folder, info)
        if not complete:
            if stop.is_set():
                raise SearchStopped(len(ended), spec.search.num_trials)
            raise KeyboardInterrupt
    return info


def _fit(spec: SearchSpec, follow: _Follow) -> None:
    """`tune.run`, not `Tuner`: that one brings back scheduler and callbacks as they were when the search began."""
    random.seed(spec.search.seed)  # of pbt
    np.random.seed(spec.search.seed)
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    if spec.search.search == "optuna":
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
    searcher, space, samples = searcher_of(spec)
    filesystem, path = storage.resolve(spec.folder)
    past = {n: points(spec.place(n), spec.metric) for n in range(1, spec.search.num_trials + 1)}
    analysis = tune.run(
        tune.with_parameters(run_trial, spec=spec, threads=_threads(spec)),
        name=RAY, storage_path=path, storage_filesystem=None if "://" not in spec.folder else filesystem,
        config=space, num_samples=samples, search_alg=searcher, scheduler=scheduler_of(spec, past),
        resources_per_trial=_resources(spec), max_failures=spec.base.config.max_failures,
        max_concurrent_trials=spec.search.max_concurrent if spec.search.search == "optuna" else None,
        resume=_can_resume(spec), reuse_actors=spec.in_process, raise_on_failed_trial=False, callbacks=[follow],
        verbose=0,
    )  # fmt: skip
    follow.take(analysis.trials)


def _can_resume(spec: SearchSpec) -> str | bool:
    folder = storage.join(spec.folder, RAY)
    if not storage.exists(folder):
        return False
    states = [uri for uri in storage.list_files(folder, (".json",)) if "/experiment_state-" in uri]
    return "AUTO+ERRORED" if states else False


def _threads(spec: SearchSpec) -> int:
    """That a trial in its own process computes with."""
    return spec.base.config.cpus_per_worker or max(1, physical_cpus() // spec.search.max_concurrent)


def _resources(spec: SearchSpec) -> Any:
    """Of the process that Tune starts for a trial; workers of Ray Train ask for their own."""
    import ray

    bundle: dict[str, float] = {"CPU": float(_threads(spec)) if spec.in_process else DRIVER_CPUS}
    if spec.in_process and torch.cuda.is_available():
        bundle["GPU"] = min(1.0, ray.cluster_resources().get("GPU", 0) / spec.search.max_concurrent)
    if ray.cluster_resources().get(SLOT):
        bundle[SLOT] = 1.0
    return PlacementGroupFactory([bundle])


class _Follow(tune.Callback):  # type: ignore[misc]
    """Keeps `search.json` and the watch up to date with Tune, and brings SIGTERM to it.

    Attributes:
        trials: as they stand.
    """

    def __init__(self, spec: SearchSpec, info: SearchInfo, watch: Watch, stop: threading.Event) -> None:
        self.trials: list[Trial] = list(info.trials)
        self._spec = spec
        self._info = info
        self._watch = watch
        self._stop = stop
        self._begun = time.monotonic()
        self._ended = {trial.number for trial in info.trials if trial.has_ended}

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        del iteration, trials, info
        if self._stop.is_set():
            self._stop = threading.Event()
            signal.raise_signal(signal.SIGUSR1)  # Tune's own: it saves its state and ends

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: Any, **info: Any) -> None:
        del iteration, trial, result, info
        self.take(trials)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        del iteration, info
        self._end(trials, trial, "TERMINATED")

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        del iteration, info
        self._end(trials, trial, "ERROR")

    def take(self, trials: list[Any]) -> None:
        """Takes how Tune's trials stand; one that it stops because all of them stop has not ended."""
        self._keep([self._standing(trial) for trial in trials])

    def _standing(self, trial: Any) -> Trial:
        cut_off = trial.status == "TERMINATED" and trial.config[NUMBER] not in self._ended
        return _record(self._spec, trial, "PENDING" if cut_off else trial.status)

    def _end(self, trials: list[Any], trial: Any, status: str) -> None:
        """A trial has ended, though Tune does not say so in its status yet."""
        ended = _record(self._spec, trial, status)
        self._ended.add(ended.number)
        others = [self._standing(other) for other in trials if other is not trial]
        self._keep([*others, ended])
        _mark(self._spec, ended)
        took_s = self._info.took_s + time.monotonic() - self._begun  # so that a part that is killed counts
        told = {"trials": tuple(self.trials), "took_s": took_s}
        write_search(self._spec.folder, self._info.model_copy(update=told))
        self._watch.ended(ended)

    def _keep(self, trials: list[Trial]) -> None:
        self.trials = sorted(trials, key=lambda trial: trial.number)
        self._watch.told(self.trials)


def _record(spec: SearchSpec, trial: Any, status: str) -> Trial:
    """A trial of Tune's as this search's."""
    result = trial.last_result or {}
    step, reason = int(result.get(STEP, 0)), str(result.get(FAILED, ""))
    state = {"PENDING": "waiting", "PAUSED": "waiting", "ERROR": "failed"}.get(status, "running")
    if status == "TERMINATED":
        state = "failed" if reason else "finished" if step >= spec.steps else "pruned"
    if status == "ERROR" and not reason:
        reason = f"its process died more than {spec.base.config.max_failures} times"
    values = {key: trial.config[key] for key in spec.search.space}
    told = {"number": trial.config[NUMBER], "values": values, "state": state, "step": step, "reason": reason}
    return Trial.model_validate({**told, "value": result.get(spec.metric)})


def _mark(spec: SearchSpec, trial: Trial) -> None:
    """Says in a trial's folder what became of it, where its process was stopped before it could."""
    folder = spec.place(trial.number)
    info = read_info(folder)
    if info is None or info.status == "finished":
        return
    if trial.state in ("pruned", "failed"):
        write_status(folder, trial.state, trial.reason or info.reason)
    elif info.status == "running":
        write_status(folder, "stopped")


@contextmanager
def _own_interrupt() -> Iterator[None]:
    """Gives SIGINT its handler back: Tune replaces it and keeps it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
