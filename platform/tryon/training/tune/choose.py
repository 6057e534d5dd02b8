"""How configs are chosen and trials stopped: Ray Tune's schedulers and searchers, made to survive and to tell apart.

Ray Tune restores trials and searchers, but no scheduler: asha would have forgotten what it measures trials by.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ray import tune
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, PopulationBasedTraining, TrialScheduler
from ray.tune.search import BasicVariantGenerator
from ray.tune.search.optuna import OptunaSearch

from tryon.training.tune.check import SearchSpec
from tryon.training.tune.space import Range
from tryon.training.tune.trial import FAILED, NUMBER, STEP

Past = Mapping[int, Sequence[tuple[float, float]]]  # step and figure of each validation, by trial


def scheduler_of(spec: SearchSpec, past: Past) -> Any:
    """The scheduler of a search, with what it knew before."""
    if spec.search.scheduler == "asha":
        return _Asha(spec, past)
    return _Pbt(spec, past) if spec.search.scheduler == "pbt" else _Plain()


def searcher_of(spec: SearchSpec) -> tuple[Any, dict[str, Any], int]:
    """Searcher, Tune's own form of the space, and how many times that is sampled."""
    space = {key: domain(values) for key, values in spec.search.space.items()}
    if spec.search.search == "optuna":
        return _Optuna(spec), space, spec.search.num_trials
    # pbt has no trial end for long, so there the session's resources limit how many run.
    most = 0 if spec.search.scheduler == "pbt" else spec.search.max_concurrent
    numbers = tune.grid_search(list(range(1, spec.search.num_trials + 1)))
    generator = BasicVariantGenerator(max_concurrent=most, random_state=spec.search.seed)
    return generator, {NUMBER: numbers, **space}, 1


def domain(values: Range) -> Any:
    """A range as Tune's."""
    if values.choice is not None:
        return tune.choice(list(values.choice))
    low, high = values.bounds
    if values.is_whole:
        return (tune.lograndint if values.is_log else tune.randint)(int(low), int(high) + 1)
    return (tune.loguniform if values.is_log else tune.uniform)(low, high)


def _mode(spec: SearchSpec) -> str:
    return "max" if spec.higher_is_better else "min"


class _Plain(FIFOScheduler):  # type: ignore[misc]
    """Stops what has failed and nothing else."""

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        del tune_controller, trial
        return str(TrialScheduler.STOP if FAILED in result else TrialScheduler.CONTINUE)


class _Asha(ASHAScheduler):  # type: ignore[misc]
    """Asynchronous successive halving (https://arxiv.org/abs/1810.05934) that a search takes up where it was."""

    def __init__(self, spec: SearchSpec, past: Past) -> None:
        super().__init__(
            time_attr=STEP, metric=spec.metric, mode=_mode(spec), max_t=spec.steps,
            grace_period=spec.search.grace_steps, reduction_factor=spec.search.reduction_factor,
        )  # fmt: skip
        self._past = past

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        super().on_trial_add(tune_controller, trial)
        for step, value in self._past.get(trial.config.get(NUMBER), ()):
            if step < self._max_t:
                self._trial_info[trial.trial_id].on_result(trial, step, self._metric_op * value)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        if FAILED in result:
            return str(TrialScheduler.STOP)
        if result[STEP] >= self._max_t:  # it is at its end: nothing to save
            return str(TrialScheduler.CONTINUE)
        return str(super().on_trial_result(tune_controller, trial, result))


class _Pbt(PopulationBasedTraining):  # type: ignore[misc]
    """Population based training (https://arxiv.org/abs/1711.09846); trials are compared at the same step."""

    def __init__(self, spec: SearchSpec, past: Past) -> None:
        every = spec.search.perturb_steps
        super().__init__(
            time_attr=STEP, metric=spec.metric, mode=_mode(spec), perturbation_interval=every,
            hyperparam_mutations={
                key: list(values.choice) if values.choice is not None else domain(values)
                for key, values in spec.search.space.items()
            },
            quantile_fraction=spec.search.quantile, custom_explore_fn=_Clip(spec.search.space), log_config=False,
            require_attrs=False, synch=True,
        )  # fmt: skip
        self._steps = spec.steps
        reached = max((points[-1][0] for points in past.values() if points), default=0)
        self._next_perturbation_sync = max(every, every * math.ceil(reached / every))

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        if FAILED in result:
            return str(TrialScheduler.STOP)
        if result[STEP] >= self._steps:
            return str(TrialScheduler.CONTINUE)
        return str(super().on_trial_result(tune_controller, trial, result))

    def _get_new_config(self, trial: Any, trial_to_clone: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """A trial that takes over another's config keeps its own number."""
        config, operations = super()._get_new_config(trial, trial_to_clone)
        return {**config, NUMBER: trial.config[NUMBER]}, operations

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """A trial that waits for one that has failed meanwhile goes on; Ray's own would wait for ever."""
        chosen = super().choose_trial_to_run(tune_controller)
        trials = tune_controller.get_trials()
        if chosen is not None or any(trial.status == trial.RUNNING for trial in trials):
            return chosen
        waiting = [trial for trial in trials if trial.status == trial.PAUSED]
        return min(waiting, key=lambda trial: self._trial_state[trial].last_train_time, default=None)


class _Clip:
    """Keeps perturbed values inside their ranges."""

    def __init__(self, space: Mapping[str, Range]) -> None:
        self._bounds = {key: values.bounds for key, values in space.items() if values.choice is None}

    def __call__(self, config: dict[str, Any]) -> dict[str, Any]:
        kept = {key: type(config[key])(min(max(config[key], low), high)) for key, (low, high) in self._bounds.items()}
        return {**config, **kept}


class _Optuna(OptunaSearch):  # type: ignore[misc]
    """Optuna's TPE, whose trials are numbered in the order they were chosen."""

    def __init__(self, spec: SearchSpec) -> None:
        from optuna.samplers import TPESampler

        start = max(4, spec.search.num_trials // 3)  # at random; its own 10 would be most of a small search
        sampler = TPESampler(seed=spec.search.seed, n_startup_trials=start)
        super().__init__(metric=spec.metric, mode=_mode(spec), sampler=sampler)
        self._given = 0

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        values = super().suggest(trial_id)
        if values is None:
            return None
        self._given += 1
        return {**values, NUMBER: self._given}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        if self.metric in result:
            super().on_trial_result(trial_id, result)
