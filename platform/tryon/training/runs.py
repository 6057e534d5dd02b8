"""The runs that lie at a place, read back: what each is, how far it came, what it left to look at.

A run's folder is written by `tryon.training.log`; one is known by its `run.json`.
"""

from __future__ import annotations

import calendar
import json
import math
import re
import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import ValidationError

from tryon import storage
from tryon.config import explain
from tryon.errors import ConfigError, StorageError
from tryon.training.info import METRICS, RUN, SAMPLES, Metrics, RunInfo, Status
from tryon.training.recipes.registry import recipe_class

State = Status | Literal["silent"]
EXPECTED = "a bundle that was trained (its runs lie in <bundle>-runs), a folder of runs or a run's own folder"
PICTURE = re.compile(rf"/{SAMPLES}/step-(\d+)\.jpg$")
CHECKPOINT = re.compile(r"/checkpoints/step-(\d+)-[0-9a-f]+\.pt$")
OLD_LAYOUT = ("checkpoint.pt", METRICS)  # in a folder without run.json, of versions before it
# A run writes when it saves, so one that saves every hour is not dead after ten minutes.
SILENT_SAVES = 3
SILENT_S = 900.0
SILENT_UNKNOWN_S = 3600.0  # before the first save
HIGHER_IS_BETTER = ("psnr", "ssim", "iou", "accuracy")
LOWER_IS_BETTER = ("loss", "l1", "epe", "kl", "lpips", "fid")


@dataclass(frozen=True)
class Run:
    """One run.

    Attributes:
        uri: of its folder.
        info: what its run.json holds.
        lines: of its metrics, in the order of steps.
        pictures: URI by step.
        checkpoints: URI by step.
        state: what run.json says; "silent" where that is "running" and nothing was written for long.
        age_s: since it wrote last, s.
    """

    uri: str
    info: RunInfo
    lines: Sequence[Metrics]
    pictures: Mapping[int, str]
    checkpoints: Mapping[int, str]
    state: State
    age_s: float

    @property
    def config(self) -> Mapping[str, Any]:
        """What of the resolved config decides the weights."""
        found = self.info.provenance.get("config")
        return found if isinstance(found, Mapping) else {}

    @property
    def recipe(self) -> str:
        """By name."""
        return str(self.config.get("recipe", "?"))

    @property
    def step(self) -> int:
        """Of the last line."""
        return int(self.lines[-1]["step"]) if self.lines else 0

    @property
    def metric(self) -> str:
        """The figure that checkpoints are kept by, with ``-`` in front where less is better; empty: none."""
        told = self.config.get("best_metric")
        try:
            return str(told) if told else recipe_class(self.recipe).best_metric
        except ConfigError:  # a recipe of another version
            return ""

    @property
    def samples_per_s(self) -> float | None:
        """Median over its lines."""
        speeds = [value for _, value in self.points("samples_per_s") if math.isfinite(value)]
        return statistics.median(speeds) if speeds else None

    def names(self) -> list[str]:
        """Figures of its lines: the loss, its parts, the critic's, validation."""
        found = dict.fromkeys(name for line in self.lines for name in line)
        return sorted((name for name in found if _rank(name) is not None), key=lambda name: _rank(name) or 0)

    def points(self, name: str) -> list[tuple[float, float]]:
        """Step and value of each line that has the figure."""
        return [(line["step"], line[name]) for line in self.lines if line.get(name) is not None]

    def last(self, name: str) -> float | None:
        """The figure's last value."""
        points = self.points(name)
        return points[-1][1] if points else None

    def best(self, name: str) -> tuple[int, float] | None:
        """Step and value where the figure was best; None where none is finite or no direction is better."""
        higher = self.higher_is_better(name)
        points = [point for point in self.points(name) if math.isfinite(point[1])]
        if higher is None or not points:
            return None
        step, value = (max if higher else min)(points, key=lambda point: point[1])
        return int(step), value

    def higher_is_better(self, name: str) -> bool | None:
        """By the run's own metric, else by the name; None where that does not say."""
        if self.metric.removeprefix("-") == name:
            return not self.metric.startswith("-")
        words = name.split("_")
        if any(word.endswith(HIGHER_IS_BETTER) for word in words):
            return True
        return False if any(word in LOWER_IS_BETTER for word in words) else None


@dataclass(frozen=True)
class Found:
    """What lies at a place.

    Attributes:
        runs: those that can be read, the one that began last first.
        passed_by: why, by URI of a folder that looks like a run and is none that can be read.
    """

    runs: Sequence[Run]
    passed_by: Mapping[str, str]


def find_runs(uris: Iterable[str], now: float | None = None) -> Found:
    """Reads the runs at or below some places; one that is named twice comes once.

    Args:
        uris: a bundle, a folder with runs at any depth, or a run's own folder.
        now: seconds since 1970; None takes the clock.

    Raises:
        StorageError: a place does not exist or cannot be read, or there is no run; the message says what was passed by.
    """
    runs: dict[str, Run] = {}
    passed_by: dict[str, str] = {}
    for uri in uris:
        found = _find(uri, time.time() if now is None else now)
        if not found.runs:
            told = "".join(f"; {folder}: {why}" for folder, why in list(found.passed_by.items())[:3])
            text = f"{uri}: there is no run here that can be read{told}; expected is {EXPECTED}"
            raise StorageError(text, code="run-missing", field="URI")
        runs |= {run.uri: run for run in found.runs}
        passed_by |= found.passed_by
    return Found(sorted(runs.values(), key=lambda run: run.info.started, reverse=True), passed_by)


def find_run(uri: str, now: float | None = None) -> Run:
    """The one run at a place.

    Raises:
        StorageError: see `find_runs`; or there are several runs, and the message names them.
    """
    found = find_runs([uri], now)
    if len(found.runs) > 1:
        names = ", ".join(run.uri for run in found.runs[:8])
        text = f"{uri}: {len(found.runs)} runs are here, one is needed: give the folder of one, such as {names}"
        raise StorageError(text, code="run-ambiguous", field="RUN")
    return found.runs[0]


def _find(uri: str, now: float) -> Found:
    folders: dict[str, list[str]] = {}
    for file in storage.list_files(_root(uri)):
        folders.setdefault(file.rpartition("/")[0], []).append(file)
    runs: list[Run] = []
    passed_by: dict[str, str] = {}
    for folder, files in folders.items():
        names = {file.rpartition("/")[2] for file in files}
        if RUN not in names:
            if names.intersection(OLD_LAYOUT):
                passed_by[folder] = f"has no {RUN} (of a version before it): passed by"
            continue
        below = [f for name in (SAMPLES, "checkpoints") for f in folders.get(f"{folder}/{name}", [])]
        try:
            runs.append(_read(folder, METRICS in names, below, now))
        except ValueError as error:  # StorageError, too
            passed_by[folder] = f"cannot be read ({error}): passed by"
    return Found(sorted(runs, key=lambda run: run.info.started, reverse=True), passed_by)


def _root(uri: str) -> str:
    """Where to look: the folder itself, or that of a bundle's runs."""
    uri = storage.absolute(uri).removesuffix("/" + RUN)
    if storage.exists(storage.join(uri, RUN)):
        return uri
    beside = f"{uri}-runs"
    if storage.exists(beside):
        return beside
    if not storage.exists(uri):
        raise StorageError(f"{uri} does not exist, nor does {beside}; expected is {EXPECTED}", code="uri-missing")
    return uri


def _read(folder: str, has_lines: bool, below: Sequence[str], now: float) -> Run:
    """Reads one run's folder.

    Raises:
        ValueError: a file is damaged or of another version.
        StorageError: a file cannot be read.
    """
    try:
        info = RunInfo.model_validate_json(storage.read_bytes(storage.join(folder, RUN)))
    except ValidationError as error:
        raise ValueError(explain(error, RUN)) from error
    lines = _read_lines(storage.join(folder, METRICS)) if has_lines else []
    pictures, checkpoints = _by_step(below, PICTURE), _by_step(below, CHECKPOINT)
    age_s = max(0.0, now - calendar.timegm(time.strptime(info.updated, "%Y-%m-%dT%H:%M:%SZ")))
    run = Run(folder, info, lines, pictures, checkpoints, info.status, age_s)
    if info.status == "running" and age_s > _patience_s(run):
        return Run(folder, info, lines, pictures, checkpoints, "silent", age_s)
    return run


def _read_lines(uri: str) -> list[Metrics]:
    lines: list[Metrics] = []
    for number, text in enumerate(storage.read_bytes(uri).splitlines(), 1):
        try:
            line = json.loads(text)
            lines.append({name: float(value) for name, value in line.items() if value is not None})
            lines[-1]["step"]
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            raise ValueError(f"{METRICS}: line {number} is no line of metrics") from error
    return lines


def _by_step(files: Sequence[str], pattern: re.Pattern[str]) -> dict[int, str]:
    found = ((pattern.search(file), file) for file in files)
    return dict(sorted((int(match.group(1)), file) for match, file in found if match is not None))


def _patience_s(run: Run) -> float:
    """How long a run that is alive may write nothing: several times what it took from one save to the next."""
    saves = sorted({*run.pictures, *run.checkpoints})
    speed, batch = run.samples_per_s, run.config.get("batch_size")
    if not saves or not speed or not isinstance(batch, int):
        return SILENT_UNKNOWN_S
    steps = saves[-1] - saves[-2] if len(saves) > 1 else saves[-1]
    return max(SILENT_S, SILENT_SAVES * steps * batch / speed)


def _rank(name: str) -> int | None:
    """Where a figure stands among the others; None for what tells of the run and not of how good it is."""
    for rank, start in enumerate(("loss", "critic", "val_")):
        if name == start or name.startswith(f"{start}_" if rank < 2 else start):
            return 2 * rank + (name != start)
    return None
