"""Searches: spaces that are refused, trials that are pruned, killed, copied; what a search leaves."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tests.conftest import ROOT
from tests.training.processes import end_all, start_tryon
from tests.training.test_runs import Tags
from tryon.errors import BundleError, ConfigError, DataError
from tryon.models.bundle import load_bundle, read_manifest
from tryon.options import read_options
from tryon.training.checkpoints import CheckpointStore
from tryon.training.config import TrainConfig
from tryon.training.recipes.registry import recipe_class
from tryon.training.run import check_run, finished, run
from tryon.training.runs import find_run, find_runs
from tryon.training.state import load_checkpoint, with_config
from tryon.training.tune.check import SearchSpec, check_search, explain_conflict
from tryon.training.tune.record import SearchInfo, Trial, ranked, read_lineage, read_search
from tryon.training.tune.search import finished_search, run_search
from tryon.training.tune.space import Range, SearchConfig, corner_values, one_by_one, read_space
from tryon.training.worker import store_of

SET: dict[str, Any] = {
    "size": [64, 48], "steps": 12, "batch_size": 4, "val_fraction": 0.2, "report_every": 1, "checkpoint_every": 2,
    "network": {"width": 4},
}  # fmt: skip
SPACE = {"learning_rate": {"log_uniform": [1e-5, 1e-1]}}
ASHA: dict[str, Any] = {
    "set": SET, "space": {**SPACE, "network.width": {"choice": [4, 6]}}, "num_trials": 6, "grace_steps": 2,
    "reduction_factor": 2, "search": "optuna",
}  # fmt: skip
PBT: dict[str, Any] = {
    "set": {**SET, "warmup_steps": 0, "keep_best": 9},
    "space": {**SPACE, "weight_decay": {"choice": [0.0, 0.1]}}, "num_trials": 3, "scheduler": "pbt",
    "perturb_steps": 4, "quantile": 0.34, "max_concurrent": 1,
}  # fmt: skip


class Told:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.ends: list[Trial] = []
        self.most_running = 0

    def started(self, dashboard: str | None) -> None:
        assert dashboard is None

    def told(self, trials: Sequence[Trial]) -> None:
        self.most_running = max(self.most_running, sum(trial.state == "running" for trial in trials))

    def ended(self, trial: Trial) -> None:
        self.ends.append(trial)


def searched(data: str, out: Path, told: dict[str, Any], **changes: Any) -> SearchSpec:
    return check_search("gmm", data, str(out), SearchConfig.model_validate({**told, **changes}), {})


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "exactly one of uniform, log_uniform, int, log_int, choice is needed, not 0"),
        ({"uniform": [0, 1], "choice": [1, 2]}, "exactly one of .* is needed, not 2"),
        ({"uniform": [1, 1]}, "1.0 to 1.0 is no range"),
        ({"uniform": [0]}, "uniform"),
        ({"uniform": [0, float("inf")]}, "is no range"),
        ({"log_uniform": [0, 1]}, "must begin above 0, not at 0.0"),
        ({"int": [1.5, 3]}, "int.0 = 1.5 is not allowed"),
        ({"choice": [1]}, "choice = .* is not allowed"),
        ({"choice": [1, 1]}, "must not name a value twice"),
        ({"normal": [0, 1]}, "unknown key 'space.learning_rate.normal'"),
    ],
)
def test_faults_of_a_range_are_named(tmp_path: Path, values: dict[str, Any], said: str) -> None:
    file = tmp_path / "space.yaml"
    file.write_text(yaml.safe_dump({"space": {"learning_rate": values}}))
    with pytest.raises(ConfigError, match=said) as caught:
        read_space(file, {})
    assert str(file) in caught.value.message


TWO = "space: {a: {int: [1, 2]}}"


@pytest.mark.parametrize(
    ("content", "given", "said"),
    [
        ("space: [1", {}, "is no YAML"),
        ("- a", {}, "must be a mapping with `space`"),
        ("space: {}", {}, "space = {} is not allowed"),
        (f"{TWO}\ntrials: 3", {}, "unknown key 'trials'"),
        (TWO, {"num_trials": 1}, "num_trials = 1 is not allowed.*greater than or equal to 2"),
        (TWO, {"scheduler": "hyperband"}, "'hyperband' is not allowed.*'asha', 'pbt' or 'none'"),
        (TWO, {"scheduler": "pbt", "search": "optuna"}, "search must be random"),
    ],
)
def test_faults_of_a_space_file_are_named(tmp_path: Path, content: str, given: dict[str, Any], said: str) -> None:
    file = tmp_path / "space.yaml"
    file.write_text(content)
    with pytest.raises(ConfigError, match=said):
        read_space(file, given)


def test_a_space_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: No such file"):
        read_space(tmp_path / "nowhere.yaml", {})


@pytest.mark.parametrize(
    ("space", "changes", "said"),
    [
        ({"learning_rat": {"uniform": [0, 1]}}, {}, "learning_rat = 0.0 is no config that trains.*unknown key"),
        ({"learning_rate": {"uniform": [0.1, 3]}}, {}, "learning_rate = 3.0 is not allowed.*less than or equal to 1"),
        ({"network.depth": {"int": [1, 3]}}, {}, "network.depth = 1 is no config.*unknown key 'depth'"),
        ({"network.width": {"choice": [8, 1]}}, {}, "network.width = 1 is no config that trains.*width = 1 is not"),
        ({"learning_rate.x": {"int": [1, 3]}}, {"set": {**SET, "learning_rate": 0.1}}, "learning_rate is 0.1 already"),
        ({"steps": {"int": [1, 3]}}, {}, "steps cannot be searched"),
        ({"batch_size": {"choice": [4, 6]}, "accumulate": {"choice": [1, 4]}}, {}, "batch_size 6 must be a multiple"),
        (SPACE, {"metric": "val_nice"}, "metric = 'val_nice' is not allowed: gmm measures .*val_l1, val_mask_iou"),
        (SPACE, {"grace_steps": 12}, "grace_steps = 12 is not allowed: it must be less than steps, 12"),
        ({"network.width": {"choice": [4, 6]}}, {"scheduler": "pbt", "search": "random"}, "network.width cannot be"),
    ],
)
def test_a_space_is_refused_before_a_trial(
    small_data: str, tmp_path: Path, space: dict[str, Any], changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        searched(small_data, tmp_path / "out", ASHA, space=space, **changes)
    assert not list(tmp_path.iterdir())


def test_data_and_bundles_are_checked_before_a_trial(small_data: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none of .* is: val_fraction = 0"):
        searched(small_data, tmp_path, ASHA, set={**SET, "val_fraction": 0.0})
    with pytest.raises(DataError, match="does not exist"):
        searched(str(tmp_path / "nowhere"), tmp_path, ASHA)
    search = SearchConfig.model_validate({**ASHA, "space": SPACE, "set": {**SET, "network": {"width": 8}}})
    with pytest.raises(BundleError, match="builds on a trained warp network"):
        check_search("tom", small_data, str(tmp_path), search, {})


def test_trials_on_ray_train_need_the_dashboard(small_data: str, tmp_path: Path) -> None:
    spec = searched(small_data, tmp_path / "out", ASHA, set={**SET, "num_workers": 1})
    with pytest.raises(ConfigError, match="num_workers = 1 needs the dashboard"):
        run_search(spec, Told(), dashboard=False)


def test_what_is_both_searched_and_set_is_refused() -> None:
    search = SearchConfig.model_validate(ASHA)
    with pytest.raises(ConfigError, match=r"network\.width=8 is not allowed: the space has network\.width, one of"):
        explain_conflict(search, read_options(None, ["network.width=8"]))
    explain_conflict(search, read_options(None, ["steps=8"]))


def test_the_same_search_has_the_same_folder(small_data: str, tmp_path: Path) -> None:
    spec = searched(small_data, tmp_path / "out", ASHA)
    assert spec.folder.startswith(str(tmp_path / "out-tune" / "gmm-"))
    same: list[dict[str, Any]] = [{"max_concurrent": 1}, {"title": "x"}]
    others: list[dict[str, Any]] = [{"seed": 1}, {"num_trials": 7}, {"set": {**SET, "seed": 3}}, {"space": SPACE}]
    for changes in same:
        assert searched(small_data, tmp_path / "out", ASHA, **changes).folder == spec.folder
    for changes in others:
        assert searched(small_data, tmp_path / "out", ASHA, **changes).folder != spec.folder


def test_corners() -> None:
    space = {"a": Range.model_validate({"int": [1, 3]}), "b": Range.model_validate({"choice": ["x", "y", None]})}
    assert len(list(corner_values(space, 6))) == 6
    assert len(list(corner_values(space, 5))) == len(list(one_by_one(space))) == 5
    assert {"a": 3, "b": "x"} in corner_values(space, 5)
    assert {"a": 3, "b": None} not in corner_values(space, 5)


@pytest.mark.parametrize("file", sorted((ROOT / "spaces").glob("*.yaml")), ids=lambda file: file.name)
def test_the_named_spaces_are_in_order(file: Path) -> None:
    search = read_space(file, {})
    cls = recipe_class(file.stem)
    TrainConfig.model_validate({**cls.defaults, **search.set, "recipe": file.stem})


def test_trials_are_ranked_by_how_far_they_came_and_then_by_their_figure() -> None:
    told: list[tuple[str, int, float | None]] = [
        ("pruned", 4, 0.1), ("finished", 12, 0.3), ("failed", 2, None), ("finished", 12, 0.2), ("pruned", 8, 0.5),
    ]  # fmt: skip
    trials = [
        Trial.model_validate({"number": i, "values": {}, "state": state, "step": step, "value": value})
        for i, (state, step, value) in enumerate(told, 1)
    ]
    assert [trial.number for trial in ranked(trials, "-val_l1")] == [4, 2, 5, 1, 3]
    assert [trial.number for trial in ranked(trials, "val_mask_iou")] == [2, 4, 5, 1, 3]


@pytest.fixture(scope="module")
def done(small_data: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[SearchSpec, SearchInfo, Told]:
    """A search by asha and Optuna that has ended."""
    spec = searched(small_data, tmp_path_factory.mktemp("tuned") / "bundle", ASHA)
    told = Told()
    return spec, run_search(spec, told, dashboard=False), told


@pytest.mark.ray
def test_asha_prunes_and_the_best_trial_is_a_bundle(done: tuple[SearchSpec, SearchInfo, Told], small_data: str) -> None:
    spec, info, told = done
    assert [trial.number for trial in info.trials] == [1, 2, 3, 4, 5, 6]
    assert sorted(trial.number for trial in told.ends) == [1, 2, 3, 4, 5, 6]
    assert 1 <= told.most_running <= spec.search.max_concurrent
    assert {trial.state for trial in info.trials} == {"pruned", "finished"}
    runs = {run.info.name: run for run in find_runs([spec.folder]).runs}
    for trial in info.trials:
        run = runs[trial.name]
        assert run.state == trial.state
        assert run.step == max(run.checkpoints) == trial.step
        assert (trial.step < 12) == (trial.state == "pruned"), "pruned trials cost nothing more"
        assert run.last("val_l1") == trial.value
        assert run.config["network"] == {"width": trial.values["network.width"]}
    best = ranked(info.trials, "-val_l1")[0]
    assert info.best == best.number
    assert best.value == min(trial.value or 9 for trial in info.trials if trial.state == "finished")
    entry = read_manifest(spec.out).networks["warp"]
    assert entry.metrics["val_l1"] == best.value
    assert load_bundle(spec.out).network("warp")[1] == (64, 48)
    # What training on its config would make is there already.
    told_config = read_options(Path(spec.folder, "best.yaml"), [])
    assert finished(check_run("gmm", small_data, spec.out, told_config)) == entry


@pytest.mark.ray
def test_the_page_has_all_trials(done: tuple[SearchSpec, SearchInfo, Told]) -> None:
    spec, info, _ = done
    page = Path(spec.folder, "report.html").read_text()
    tags = Tags()
    tags.feed(page)
    assert not tags.open
    assert not tags.links, "one file, nothing outside it"
    lines = re.findall(r"<g class=\"(\w+)\"><title>(trial-\d+), \w+ at step \d+: val_l1 [\d.]+; learning_rate", page)
    assert sorted(name for _, name in lines) == [trial.name for trial in info.trials]
    assert lines[-1][0] == "best", "drawn on top"
    curves = page[page.index("val_l1 against step") :].partition("</svg>")[0]
    assert curves.count('class="cross"') == sum(trial.state == "pruned" for trial in info.trials)
    for trial in info.trials:
        assert f"{trial.name}, {trial.state}" in curves
        assert re.search(rf"</i>{trial.name}</td><td class=\"state\">{trial.state}", page)


@pytest.mark.ray
def test_a_search_that_has_finished_is_not_repeated(
    done: tuple[SearchSpec, SearchInfo, Told], small_data: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from tryon.show_tune import tune_shown

    spec, info, _ = done
    assert finished_search(spec) == info
    file = tmp_path / "space.yaml"
    file.write_text(yaml.safe_dump(ASHA))
    Path(spec.folder, "report.html").unlink()
    tune_shown("gmm", file, small_data, spec.out)
    assert f"done before, best val_l1 {info.trials[(info.best or 0) - 1].value:.4g}" in capsys.readouterr().out
    assert Path(spec.folder, "report.html").exists()


@pytest.mark.ray
def test_pbt_goes_on_from_the_copied_checkpoint(small_data: str, tmp_path: Path) -> None:
    spec = searched(small_data, tmp_path / "out", PBT)
    info = run_search(spec, Told(), dashboard=False)
    assert all((trial.state, trial.step) == ("finished", 12) for trial in info.trials)
    copied = {
        trial.number: lineage for trial in info.trials if len(lineage := read_lineage(spec.place(trial.number))) > 1
    }
    assert copied, "the worst trial took over the best one's weights"
    compared = 0
    for number, lineage in copied.items():
        # Its lines have no gap and no step twice: it went on at the step of what it copied.
        found = find_run(spec.place(number))
        assert [line["step"] for line in found.lines] == list(range(1, 13))
        assert found.info.provenance["history"] == lineage
        assert found.config["learning_rate"] == lineage[-1]["values"]["learning_rate"]
        assert lineage[-1]["values"] == info.trials[number - 1].values
        # What it took over is what the donor had at the step it was judged at, if the donor still has it.
        last = lineage[-1]
        assert last["from"] != number
        assert last["step"] in (4, 8)
        donor = read_lineage(spec.place(last["from"]))
        if donor[-1]["step"] < last["step"]:
            taken, given = (network_at(spec, trial, last["step"]) for trial in (number, last["from"]))
            assert taken.keys() == given.keys()
            assert all(torch.equal(taken[name], given[name]) for name in taken)
            own = dict(found.points("val_l1"))
            better = dict(find_run(spec.place(last["from"])).points("val_l1"))
            assert better[last["step"]] < own[last["step"]], "from a better one"
            compared += 1
    assert compared


def network_at(spec: SearchSpec, trial: int, step: int) -> dict[str, torch.Tensor]:
    """A trial's weights at a step."""
    data = CheckpointStore(f"{spec.place(trial)}/checkpoints").latest(until=step)
    assert data is not None
    state = load_checkpoint(data)
    assert state["position"]["step"] == step
    network: dict[str, torch.Tensor] = state["network"]
    return network


def test_a_checkpoint_for_another_config_has_its_weight_decay(small_data: str, tmp_path: Path) -> None:
    """Optimisers bring their own back with their state."""
    spec = check_run("gmm", small_data, str(tmp_path / "out"), {**SET, "steps": 2, "num_workers": 0})
    run(spec, lambda _: None)
    data = store_of(spec).latest()
    assert data is not None
    adapted, step = with_config(data, spec.config.model_copy(update={"weight_decay": 0.25}))
    assert step == 2
    groups = load_checkpoint(adapted)["optimizer"]["param_groups"]
    before = load_checkpoint(data)["optimizer"]["param_groups"]
    assert [(new["weight_decay"], old["weight_decay"]) for new, old in zip(groups, before, strict=True)] == [
        (0.25, spec.config.weight_decay), (0.0, 0.0)
    ]  # fmt: skip


@pytest.fixture
def _none_left() -> Iterator[None]:
    yield
    end_all()


def start(space: Path, data: str, out: Path, log: Path) -> subprocess.Popen[bytes]:
    words = ["tune", "gmm", "--space", str(space), "--data", data, "--out", str(out), "--no-dashboard"]
    return start_tryon(words, log)


def ended(out: Path) -> dict[str, tuple[str, list[str]]]:
    """State and checkpoints of the trials that have ended, by name, from the search's folder."""
    folder = next(iter(Path(f"{out}-tune").glob("gmm-*")), None)
    info = read_search(str(folder)) if folder is not None else None
    if folder is None or info is None:
        return {}
    return {
        trial.name: (trial.state, [f"{f} {f.stat().st_mtime_ns}" for f in sorted(folder.glob(f"{trial.name}/*/*.pt"))])
        for trial in info.trials
        if trial.state in ("pruned", "finished")
    }


def assert_none_cut_short(out: Path) -> None:
    """A trial of that search that has ended came to its end, or to a step where trials are compared."""
    info = read_search(str(next(Path(f"{out}-tune").glob("gmm-*"))))
    assert info is not None
    for trial in info.trials:
        assert trial.state in ("waiting", "running", "pruned", "finished"), trial
        assert trial.state != "finished" or trial.step == 120, trial
        assert trial.state != "pruned" or trial.step in (20, 40, 80), trial


def wait_for_trials(process: subprocess.Popen[bytes], out: Path, log: Path, number: int) -> None:
    """Until so many have ended."""
    deadline = time.monotonic() + 300
    while len(ended(out)) < number:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("_none_left")
def test_a_killed_search_is_restored_and_no_trial_that_has_ended_runs_again(small_data: str, tmp_path: Path) -> None:
    space, out, log = tmp_path / "space.yaml", tmp_path / "bundle", tmp_path / "log"
    slower = {"set": {**SET, "steps": 120, "checkpoint_every": 10}, "grace_steps": 20, "num_trials": 12}
    space.write_text(yaml.safe_dump({**ASHA, **slower}))
    process = start(space, small_data, out, log)
    wait_for_trials(process, out, log, 2)
    time.sleep(1.5)  # so that Tune's own state has it too
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = ended(out)
    assert 2 <= len(before) < 12
    process = start(space, small_data, out, log)
    wait_for_trials(process, out, log, len(before) + 1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0, log.read_text()
    assert re.search(r"stopped with \d+ of 12 trials ended; the same command goes on", log.read_text())
    assert before.items() <= ended(out).items(), "neither trained nor written again"
    assert_none_cut_short(out)
    before = ended(out)
    assert not out.exists()
    process = start(space, small_data, out, log)
    assert process.wait(600) == 0, log.read_text()
    after = ended(out)
    assert len(after) == 12
    assert_none_cut_short(out)
    assert before.items() <= after.items(), "neither trained nor written again"
    assert load_bundle(str(out)).manifest.networks["warp"].size == (64, 48)
    for found in find_runs([f"{out}-tune"]).runs:
        steps = [line["step"] for line in found.lines]
        assert steps == list(range(1, len(steps) + 1)), "no step twice, none missing"
