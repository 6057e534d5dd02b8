"""The simulated day: requests are all accounted for, and the policy is the one that Ray Serve has."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ray.serve._private.common import DeploymentID
from ray.serve.autoscaling_policy import _apply_delay_logic
from ray.serve.config import AutoscalingConfig as RayConfig

from tests.test_cli import run_main
from tryon.serving.bench.day import DayConfig, Policy, arrivals, rate_at, simulate_day, variants
from tryon.serving.config import AutoscalingConfig

POLICY = AutoscalingConfig(min_replicas=1, max_replicas=50, target_ongoing_requests=1, downscale_delay_s=300)
QUIET = DayConfig(peak_per_s=4, service_s=0.2, flash=1, hours=6, autoscaling=POLICY)


def test_every_request_ends_once() -> None:
    config = QUIET.model_copy(update={"max_queued": 5, "hours": 14.0, "peak_per_s": 8.0})
    day = simulate_day(config)
    came = len(arrivals(config, np.random.default_rng(config.seed)))
    assert 0 <= came - day.served - day.refused <= 50, "but for those under way at the end"
    assert day.refused > 0
    assert simulate_day(config) == day


def test_with_more_than_enough_replicas_nobody_waits() -> None:
    always = POLICY.model_copy(update={"min_replicas": 40, "max_replicas": 40})
    day = simulate_day(QUIET.model_copy(update={"autoscaling": always, "spread": 0.0}))
    assert day.p99_s == pytest.approx(0.2, abs=1e-6)
    assert day.refused == day.late == 0
    assert day.gpu_hours == pytest.approx(20 * 6, rel=0.01), "two replicas a node of one GPU"
    assert day.most_replicas == 40


def test_one_replica_alone_is_a_queue_that_the_books_know() -> None:
    """M/D/1: the mean wait is rho / (2 mu (1 - rho))."""
    one = POLICY.model_copy(update={"max_replicas": 1})
    config = DayConfig(
        peak_per_s=3, night=1, flash=1, service_s=0.2, spread=0, hours=24, max_queued=10_000, autoscaling=one
    )
    day = simulate_day(config)
    assert day.busy == pytest.approx(0.6, abs=0.02)
    assert day.p50_s < 0.2 + 0.6 / (2 * 5 * 0.4) < day.p95_s


def test_a_flash_crowd_waits_for_nodes() -> None:
    crowd = DayConfig(peak_per_s=10, night=0.5, flash=10, flash_hour=2, hours=4, service_s=0.2, autoscaling=POLICY)
    late, soon = (simulate_day(crowd.model_copy(update={"node_start_s": s})) for s in (600.0, 20.0))
    assert late.refused + late.late > soon.refused + soon.late
    assert late.most_replicas == soon.most_replicas or late.most_replicas > 10
    assert rate_at(crowd, np.array([2.05]))[0] == pytest.approx(10 * rate_at(crowd, np.array([1.95]))[0], rel=0.1)


def test_nodes_go_when_they_have_nothing_to_do() -> None:
    to_zero = AutoscalingConfig(
        min_replicas=0, max_replicas=10, target_ongoing_requests=1, downscale_to_zero_delay_s=60
    )
    config = DayConfig(peak_per_s=1, night=0, flash=1, hours=8, service_s=0.1, node_idle_s=60, autoscaling=to_zero)
    day = simulate_day(config)
    assert day.curve[30][2] == 0, "at five in the morning there is none"
    assert day.served > 0
    assert day.gpu_hours < 8 * 0.85


@pytest.mark.parametrize("seed", range(5))
def test_the_policy_decides_as_rays_does(seed: int) -> None:
    rng = np.random.default_rng(seed)
    ours = AutoscalingConfig(
        min_replicas=1, max_replicas=30, target_ongoing_requests=2, upscale_delay_s=5, downscale_delay_s=40
    )
    theirs = RayConfig(**ours.model_dump())
    policy, state, target, expected = Policy(ours), dict[str, Any](), 1, 1
    load = 2.0
    for now in range(600):
        load = max(0.0, load + rng.normal(0, 2) + (20 if rng.uniform() < 0.01 else 0))
        wanted = min(max(int(np.ceil(load / 2 - 1e-9)), 1), 30)
        expected, state = _apply_delay_logic(wanted, expected, theirs, state, _now=float(now))
        target = policy.decide(float(now), load, target)
        assert target == expected, f"after {now} s"
    assert DeploymentID is not None


def test_the_verb_compares_policies(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--set", "peak_per_s=2", "--set", "hours=3", "--set", "service_s=0.1")
    assert run_main(monkeypatch, "bench", "day", "--targets", "1,2", "--least", "1", *options) == 0
    out = capsys.readouterr().out
    assert "cheapest" in out
    assert "replicas" in out
    assert len(variants(QUIET, target_ongoing_requests=[1, 2], min_replicas=[1, 2, 3])) == 6
