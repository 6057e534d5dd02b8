"""One trial, in the process that Ray Tune gives it: a training run that tells Tune its figures and can be stopped.

Its checkpoints are the run's own (`tryon.training.checkpoints`); what Tune keeps as one only says whose it is.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from tryon import storage
from tryon.data.ingest import LocalBatches
from tryon.errors import TrainError, TryonError
from tryon.training.checkpoints import CheckpointStore
from tryon.training.info import read_info
from tryon.training.loop import Metrics
from tryon.training.run import RunSpec, local_batches, run_in_process
from tryon.training.state import with_config
from tryon.training.tune.check import SearchSpec
from tryon.training.tune.record import is_same, is_settled, last_line, read_lineage, write_lineage
from tryon.training.worker import store_of

NUMBER = "number"  # of the trial, among the values that Tune hands over
STEP = "step"
FAILED = "failed"  # why; a result that has it is a trial's last
POINTER = "trial.json"


def run_trial(config: Mapping[str, Any], *, spec: SearchSpec, threads: int) -> None:
    """What Ray Tune runs: trains a trial from its own last checkpoint, or from the one it was told to take over.

    What ends the run for a reason that another try would meet again is told, not raised: Tune would try again.

    Args:
        config: values by key of the space, and the trial's number.
        spec: the search.
        threads: that a trial without Ray Train computes with.
    """
    number = int(config[NUMBER])
    values = {key: config[key] for key in spec.search.space}
    teller = _Teller(spec, number)
    try:
        run = _prepared(spec, number, values)
        if is_settled(run):
            line = last_line(run.folder(), spec.metric)
            teller(line or {})
            return
        figures = _train(run, threads, teller)
    except TryonError as error:
        teller.failed(error.message)
        return
    if not teller.told:  # it was at its end already
        teller({**figures, STEP: float(spec.steps)})


def _train(run: RunSpec, threads: int, teller: _Teller) -> Metrics:
    if run.config.num_workers == 0:
        torch.set_num_threads(threads)
        return run_in_process(run, teller, _local(run))
    from tryon.training.ray import run_on_ray

    return run_on_ray(run, teller)


class _Teller:
    """Tells Tune the figures of validations; Tune does not come back from there where it stops the trial."""

    def __init__(self, spec: SearchSpec, number: int) -> None:
        self._spec = spec
        self._number = number
        self._step = 0
        self.told = False

    def __call__(self, line: Metrics) -> None:
        from ray import tune

        self._step = int(line.get(STEP, self._step))
        value = line.get(self._spec.metric)
        if value is None:
            return
        if not math.isfinite(value):
            self.failed(f"{self._spec.metric} is {value} at step {self._step}: lower learning_rate")
            return
        self.told = True
        result = {self._spec.metric: value, STEP: self._step}
        if self._spec.search.scheduler != "pbt":
            tune.report(result)
            return
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, POINTER).write_text(json.dumps({NUMBER: self._number, STEP: self._step}))
            tune.report(result, checkpoint=tune.Checkpoint.from_directory(folder))

    def failed(self, reason: str) -> None:
        """The trial has ended, and would again."""
        from ray import tune

        tune.report({STEP: self._step, FAILED: reason})


def _prepared(spec: SearchSpec, number: int, values: Mapping[str, Any]) -> RunSpec:
    """The trial's run, its folder fit to go on in: with what another trial is copied from, or without what is old."""
    if spec.search.scheduler == "pbt":
        return _with_lineage(spec, number, values)
    run = spec.run_of(number, values)
    _drop_other(run)
    return run


def _drop_other(run: RunSpec) -> None:
    """Removes what a trial of the same number left that Tune has forgotten, because it was killed before it saved."""
    info = read_info(run.folder())
    if info is not None and not is_same(info.provenance, run.provenance()):
        storage.delete(run.folder())


def _with_lineage(spec: SearchSpec, number: int, values: Mapping[str, Any]) -> RunSpec:
    """Of population based training: a trial takes over another's checkpoint where Tune points to it.

    What it has taken over is written last, so that a trial killed before does it again.
    """
    place, pointer = spec.place(number), _pointer()
    lineage = read_lineage(place)
    if not lineage or pointer is None:
        if not lineage or lineage[0]["values"] != values:
            storage.delete(place)
            lineage = [{STEP: 0, "values": dict(values)}]
            write_lineage(place, lineage)
    elif pointer[NUMBER] != number or lineage[-1]["values"] != values:
        entry = {STEP: pointer[STEP], "from": pointer[NUMBER], "values": dict(values)}
        if lineage[-1] != entry:
            run = spec.run_of(number, values)
            if pointer[NUMBER] != number:
                _take_over(spec, run, pointer)
            lineage = [*lineage, entry]
            write_lineage(place, lineage)
    return spec.run_of(number, lineage[-1]["values"], history_of(lineage))


def history_of(lineage: Sequence[Mapping[str, Any]]) -> tuple[Mapping[str, Any], ...]:
    """What decided a trial's weights beside its last config; nothing where it always had that."""
    return tuple(lineage) if len(lineage) > 1 else ()


def _take_over(spec: SearchSpec, run: RunSpec, pointer: Mapping[str, int]) -> None:
    """Takes the donor's checkpoint of the step it was judged at: it may have gone on since."""
    config, donor, step = run.config, pointer[NUMBER], pointer[STEP]
    data = CheckpointStore(storage.join(spec.place(donor), "checkpoints"), config.keep_best).latest(until=step)
    found = with_config(data, config) if data is not None else None
    if found is None or found[1] != step:
        text = f"trial {donor} has no whole checkpoint of step {step} that trial {run.name()} could go on from"
        raise TrainError(text, code="checkpoint-missing")
    store_of(run).adopt(*found)


def _pointer() -> dict[str, int] | None:
    """Whose checkpoint Tune wants this trial to go on from, and its step."""
    from ray import tune

    checkpoint = tune.get_checkpoint()
    if checkpoint is None:
        return None
    with checkpoint.as_directory() as folder:
        found: dict[str, int] = json.loads(Path(folder, POINTER).read_text())
    return found


_kept: dict[tuple[Any, ...], LocalBatches] = {}


def _local(run: RunSpec) -> LocalBatches:
    """The trials of a process share what is decoded."""
    key = (run.data, run.manifest.sha256, run.columns, run.config.size, run.config.val_fraction)
    if key not in _kept:
        _kept.clear()
        _kept[key] = local_batches(run)
    return _kept[key]
