"""A plan: steps one after another into one bundle, measured after each, and gone on with where it was cut off."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT
from tryon.errors import ConfigError
from tryon.models.bundle import load_bundle
from tryon.training.config import TrainConfig
from tryon.training.loop import Metrics
from tryon.training.plan import Done, Plan, read_plan, run_plan
from tryon.training.plan_report import plan_page, ssim_changes
from tryon.training.recipes.registry import recipe_class
from tryon.training.run import RunSpec

TINY: dict[str, Any] = {
    "title": "a small one",
    "set": {"size": [128, 96], "steps": 2, "batch_size": 4, "num_workers": 0},
    "steps": [
        {"train": "gmm", "set": {"network": {"width": 4}}},
        {"train": "tom", "set": {"network": {"width": 8}}},
        {"train": "joint", "set": {"options": {"critic": {"condition_channels": 7, "width": 4}}}},
        {"triplets": {"weights": {"bundle": 1}}},
        {"train": "scm", "uses": "triplets", "set": {"network": {"width": 4}}},
    ],
}


class Told:
    """Remembers what it was told; ends the plan before a step."""

    def __init__(self, ends_before: int | None = None) -> None:
        self.names: list[tuple[str, bool]] = []
        self.lines = 0
        self._ends_before = ends_before

    def step(self, i: int, of: int, name: str, done: Done | None) -> None:
        if i == self._ends_before:
            raise KeyboardInterrupt
        assert of == len(TINY["steps"])
        self.names.append((name, done is not None))

    def metrics(self, spec: RunSpec, line: Metrics) -> None:
        self.lines += 1

    def finished(self, i: int, done: Done) -> None:
        assert done.name == self.names[-1][0]


def test_the_whole_chain_and_going_on_with_it(small_data: str, tmp_path: Path) -> None:
    plan, out = Plan.model_validate(TINY), str(tmp_path / "bundle")
    with pytest.raises(KeyboardInterrupt):
        run_plan(plan, small_data, out, small_data, Told(ends_before=3), num_actors=0)
    assert set(load_bundle(out).manifest.networks) == {"warp", "synthesis"}
    told = Told()
    done = run_plan(plan, small_data, out, small_data, told, num_actors=0)
    names = ["gmm", "tom", "joint", "triplets", "scm"]
    assert told.names == list(zip(names, [True, True, True, False, False], strict=True))
    assert [bool(step.measured) for step in done] == [False, True, True, False, True]
    assert set(load_bundle(out).manifest.networks) == {"warp", "synthesis", "refinement"}
    page = (tmp_path / "bundle-plan" / "report.html").read_text()
    assert "5 of 5 steps done" in page
    assert f"{done[-1].measured['ssim']:.4f}" in page
    for folder in ("eval-02-tom", "eval-03-joint", "eval-05-scm"):
        assert f'href="{folder}/report.html"' in page
        assert (tmp_path / "bundle-plan" / folder / "report.html").exists()
    again = Told()
    assert run_plan(plan, small_data, out, small_data, again, num_actors=0) == done
    assert all(passed for _, passed in again.names)
    assert again.lines == 0
    assert len(json.loads((tmp_path / "bundle-plan" / "plan.json").read_text())["steps"]) == 5


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"steps": []}, "steps = \\[\\] is not allowed"),
        ({"steps": [{"train": "gmm", "triplets": {}}]}, "a step has either train or triplets"),
        ({"steps": [{"train": "scm", "uses": "triplets"}]}, "scm is to be trained on triplets, which no step"),
        ({"steps": [{"triplets": {"bundle": "x"}}]}, "triplets of a plan are made with its own bundle"),
        ({"steps": [{"train": "gmm", "uses": "mars"}]}, "'mars' is not allowed"),
        ({"stages": []}, "unknown key 'stages'"),
    ],
)
def test_faults_of_a_plan_are_named(tmp_path: Path, told: dict[str, Any], said: str) -> None:
    file = tmp_path / "plan.yaml"
    file.write_text(yaml.safe_dump({"steps": [{"train": "gmm"}], **told}))
    with pytest.raises(ConfigError, match=said):
        read_plan(file)


def test_a_plan_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml cannot be read"):
        read_plan(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize("file", sorted((ROOT / "plans").glob("*.yaml")), ids=lambda file: file.name)
def test_the_named_plans_are_in_order(file: Path) -> None:
    plan = read_plan(file)
    between = [] if file.stem == "default" else ["joint", "triplets"]
    assert [step.name for step in plan.steps] == ["flow", "tom", *between, "scm"]
    for step in plan.steps:
        if step.train:
            told = {**recipe_class(step.train).defaults, **plan.set, **step.set, "recipe": step.train}
            TrainConfig.model_validate(told)


def test_a_step_that_made_it_worse_is_marked() -> None:
    done = [
        Done(name=name, key="", took_s=1.0, measured={} if ssim is None else {"ssim": ssim})
        for name, ssim in (("flow", None), ("tom", 0.8), ("joint", 0.79), ("triplets", None), ("scm", 0.85))
    ]
    assert ssim_changes(done) == [None, None, pytest.approx(-0.01), None, pytest.approx(0.06)]
    page = plan_page("<b>", done, 5)
    assert '<td class="worse">-0.0100</td>' in page
    assert "<td>+0.0600</td>" in page
    assert "<h1>&lt;b&gt;</h1>" in page
