"""Calls that go through a group's stages together."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from ray.serve.handle import DeploymentHandle

from tests.conftest import ROOT
from tryon.codec import decode_image
from tryon.sample import Batch
from tryon.serving.config import ServeConfig
from tryon.serving.graph import TRYON, plan_groups
from tryon.serving.group import Call, StageGroup
from tryon.serving.replica import GroupReplica
from tryon.serving.run import read_serve_file
from tryon.stages.pose import Pose


@pytest.fixture(scope="module")
def config(small_bundle: str) -> ServeConfig:
    groups = read_serve_file(ROOT / "serve_configs/local.yaml").config.groups
    batched = tuple(group.model_copy(update={"max_batch_size": 4, "batch_wait_s": 2.0}) for group in groups)
    return ServeConfig(bundle=small_bundle, groups=batched, cache_mb=0)


@pytest.fixture(scope="module")
def group(config: ServeConfig) -> StageGroup:
    (plan,) = plan_groups(config)
    return StageGroup(plan.specs, plan.parts)


@pytest.fixture(scope="module")
def calls(photo_files: tuple[Path, Path], small_bundle: str) -> list[Call]:
    person, garment = (file.read_bytes() for file in photo_files)
    batches: list[Batch] = [
        {**{key: [None] for key in TRYON.given}, "id": [name], "category": ["upper"], "output_format": ["png"], **files}
        for name, files in (
            ("a", {"person_file": [person], "garment_file": [garment]}),
            ("b", {"person_file": [garment], "garment_file": [garment]}),
            ("c", {"person_file": [person], "garment_file": [b"no photo"]}),
            ("d", {"person_file": [person], "garment_file": [garment]}),
        )
    ]
    return [Call(batch, TRYON.name, time.time() + 600, small_bundle) for batch in batches]


def rows(outs: list[Any]) -> list[Mapping[str, Any]]:
    return [{name: column[0] for name, column in out.items()} for out in outs]


def picture(row: Mapping[str, Any]) -> npt.NDArray[np.int64]:
    return decode_image(row["result_file"]).astype(np.int64)


def test_each_call_has_its_own_rows(group: StageGroup, calls: list[Call]) -> None:
    together = rows(group.run(calls))
    alone = [rows(group.run([call]))[0] for call in calls]
    assert [row["error_code"] for row in together] == [None, "no-person", "not-an-image", None]
    for a, b in zip(together, alone, strict=True):
        assert a.keys() == b.keys()
        assert a["error"] == b["error"]
    # A convolution over a batch may round another way.
    assert np.abs(picture(together[0]) - picture(alone[0])).max() <= 2
    assert np.array_equal(picture(together[0]), picture(together[3]))


def test_what_nobody_waits_for_is_not_done(
    group: StageGroup, calls: list[Call], monkeypatch: pytest.MonkeyPatch
) -> None:
    late = Call(calls[0].batch, TRYON.name, time.time() - 1, calls[0].bundle)
    seen: list[int] = []

    def run(self: Pose, batch: Any, num: int, run: Any = Pose.run) -> Any:
        seen.append(num)
        return run(self, batch, num)

    monkeypatch.setattr(Pose, "run", run)
    gone = Call(calls[0].batch, TRYON.name, time.time() + 600, calls[0].bundle)
    gone.gone.set()
    found = rows(group.run([late, calls[3], gone]))
    assert [row["error_code"] for row in found] == ["deadline", None, "deadline"]
    assert seen == [1]


def test_a_fault_of_ours_costs_no_other_call(
    group: StageGroup, calls: list[Call], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(self: Pose, batch: Any, num: int, run: Any = Pose.run) -> Any:
        if is_bad:
            raise RuntimeError("a bug")
        return run(self, batch, num)

    is_bad = True
    monkeypatch.setattr(Pose, "run", run)
    both = group.run([calls[0], calls[2]])  # the second has no garment photo, and its person is looked at
    assert isinstance(both[0], RuntimeError)
    assert not isinstance(both[1], RuntimeError)
    assert both[1]["error_code"] == ["not-an-image"]
    is_bad = False
    assert rows(group.run([calls[0]]))[0]["error_code"] is None


@pytest.mark.ray
@pytest.mark.xdist_group("service")
def test_requests_that_arrive_together_are_one_batch(config: ServeConfig, calls: list[Call], ray_local: None) -> None:
    from ray import serve

    name = "gathering"
    deployment = serve.deployment(
        GroupReplica, name="all", max_ongoing_requests=8, user_config={"bundle": calls[0].bundle},
        ray_actor_options={"num_cpus": 0.1},
    )  # fmt: skip
    handle: DeploymentHandle = serve.run(deployment.bind(config, "all"), name=name, route_prefix=None)
    try:
        call = calls[0]
        waits = [handle.run.remote(call.program, call.until_s, call.bundle, {}, call.batch) for _ in range(3)]
        start = time.monotonic()
        (a, b, c) = rows([wait.result(timeout_s=60) for wait in waits])
        took_s = time.monotonic() - start
        waits = [handle.run.remote(call.program, call.until_s, call.bundle, {}, call.batch) for _ in range(4)]
        start = time.monotonic()
        full = rows([wait.result(timeout_s=60) for wait in waits])
        full_s = time.monotonic() - start
    finally:
        serve.delete(name)
    # Three wait two seconds for a fourth; four do not wait.
    assert took_s > 2.0
    assert full_s < took_s
    for row in (b, c, *full):
        assert np.abs(picture(row) - picture(a)).max() <= 2
