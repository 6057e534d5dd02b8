"""A day's traffic against an autoscaling policy, simulated event by event: which settings are worth their GPU hours.

Requests come as a Poisson process whose rate follows a shop's day: little at night, a peak at noon, a higher one in the
evening, and a flash crowd. They wait in one queue, first come first served, for a replica that does one at a time. The
policy is that of Ray Serve 2.60: the mean of requests under way over `look_back_s` decides how many replicas there
should be, and it acts once it has wanted so for the delay. A replica starts in seconds where a node has room for it,
else after the node has come.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from pydantic import Field

from tryon.config import Config
from tryon.serving.config import AutoscalingConfig

Float64 = npt.NDArray[np.float64]

PEAKS = ((12.5, 1.6, 0.7), (20.0, 2.2, 1.0))  # hour, width in hours, height


class DayConfig(Config):
    """Traffic, hardware and policy."""

    peak_per_s: float = Field(50.0, gt=0, le=2000, description="requests a second at the evening's peak")
    night: float = Field(0.05, ge=0, le=1, description="share of that at night")
    flash: float = Field(2.0, ge=1, le=20, description="factor on the rate in a flash crowd; 1: none")
    flash_hour: float = Field(16.0, ge=0, lt=24, description="when it begins")
    flash_minutes: float = Field(10.0, ge=0, le=600, description="how long it lasts")
    service_s: float = Field(0.05, gt=0, description="a replica's time for a request, seconds")
    spread: float = Field(0.2, ge=0, le=2, description="standard deviation of its logarithm")
    max_queued: int = Field(1000, ge=1, description="requests that wait; more are refused")
    deadline_s: float = Field(10.0, gt=0, description="an answer after it is late")
    autoscaling: AutoscalingConfig = Field(
        AutoscalingConfig(min_replicas=1, max_replicas=400), description="of the networks' deployment"
    )
    look_back_s: float = Field(30.0, gt=0, description="the mean of requests under way is taken over")
    replica_start_s: float = Field(15.0, ge=0, description="until a replica is ready, on a node that is there")
    node_start_s: float = Field(180.0, ge=0, description="until a node is there")
    node_idle_s: float = Field(600.0, ge=0, description="without a replica, until a node goes")
    replicas_per_node: int = Field(2, ge=1, le=64, description="of the networks' deployment")
    gpus_per_node: float = Field(1.0, gt=0, description="of a node")
    hours: float = Field(24.0, gt=0, le=24, description="from midnight")
    seed: int = Field(0, ge=0, description="of the arrivals")


@dataclass
class Day:
    """What became of a day.

    Attributes:
        served: requests that were answered.
        refused: that found the queue full.
        late: that were answered after the deadline.
        p50_s, p95_s, p99_s: from arrival to answer.
        gpu_hours: of nodes that were there, busy or not.
        busy: share of the replicas' time in which they computed.
        most_replicas: at once.
        curve: each ten minutes: hour, requests a second, replicas, p95 of the ten minutes.
    """

    served: int = 0
    refused: int = 0
    late: int = 0
    p50_s: float = math.nan
    p95_s: float = math.nan
    p99_s: float = math.nan
    gpu_hours: float = 0.0
    busy: float = 0.0
    most_replicas: int = 0
    curve: list[tuple[float, float, int, float]] = field(default_factory=list)


def rate_at(config: DayConfig, hours: Float64) -> Float64:
    """Requests a second at hours of the day."""
    shape = np.zeros_like(hours, dtype=np.float64)
    for centre, width, height in PEAKS:
        apart = np.abs(hours - centre)
        apart = np.minimum(apart, 24 - apart)
        shape = np.maximum(shape, height * np.exp(-0.5 * np.square(apart / width)))
    rate = config.peak_per_s * (config.night + (1 - config.night) * shape)
    crowd = (hours >= config.flash_hour) & (hours < config.flash_hour + config.flash_minutes / 60)
    return np.asarray(np.where(crowd, rate * config.flash, rate))


def arrivals(config: DayConfig, rng: np.random.Generator) -> Float64:
    """Times of all requests, s from midnight, in order."""
    minutes = np.arange(int(config.hours * 60))
    counts = rng.poisson(rate_at(config, (minutes + 0.5) / 60) * 60)
    times = np.repeat(minutes * 60.0, counts) + rng.uniform(0, 60, int(counts.sum()))
    return np.sort(times)


class Policy:
    """Ray Serve's: how many replicas there should be."""

    def __init__(self, config: AutoscalingConfig) -> None:
        self._config = config
        self._since: float | None = None  # it wants more, or fewer
        self._wants_more = False

    def decide(self, now: float, ongoing: float, target: int) -> int:
        """The new target.

        Args:
            now: s.
            ongoing: mean of requests under way.
            target: the present one.
        """
        config = self._config
        wanted = math.ceil(ongoing / config.target_ongoing_requests - 1e-9)
        wanted = min(max(wanted, config.min_replicas), config.max_replicas)
        if target == 0 and ongoing > 0:
            return max(1, wanted)  # at once: else nobody would be there to answer
        if wanted == target:
            self._since = None
            return target
        more = wanted > target
        if self._since is None or more != self._wants_more:
            self._since, self._wants_more = now, more
        if more:
            delay = config.upscale_delay_s
        else:
            delay = config.downscale_to_zero_delay_s if target == 1 else config.downscale_delay_s
            wanted = wanted if target == 1 else max(1, wanted)
        if now - self._since < delay:
            return target
        self._since = None
        return wanted


class _Nodes:
    """Nodes that come when replicas need them, and go when they have had none for a while."""

    def __init__(self, config: DayConfig) -> None:
        self._config = config
        self.ready: list[float | None] = []  # since when each is without a replica; None: it has one
        self.coming: list[float] = []  # when each will be there
        self.seconds = 0.0

    def tick(self, now: float, step: float, replicas: int) -> int:
        """A step later; gives for how many replicas there is room."""
        config = self._config
        self.seconds += step * (len(self.ready) + len(self.coming))
        while self.coming and self.coming[0] <= now:
            heapq.heappop(self.coming)
            self.ready.append(now)
        needed = math.ceil(replicas / config.replicas_per_node)
        for i, idle in enumerate(self.ready):
            if i < needed:
                self.ready[i] = None
            elif idle is None:
                self.ready[i] = now
        self.ready = [idle for idle in self.ready if idle is None or now - idle < config.node_idle_s]
        for _ in range(needed - len(self.ready) - len(self.coming)):
            heapq.heappush(self.coming, now + config.node_start_s)
        return len(self.ready) * config.replicas_per_node


STEP_S = 1.0  # between two looks of the policy


def simulate_day(config: DayConfig) -> Day:
    """Runs a day.

    Args:
        config: of it.

    Returns:
        What became of it; the same config gives the same.
    """
    rng = np.random.default_rng(config.seed)
    times = arrivals(config, rng)
    sigma = config.spread
    seconds = config.service_s * np.exp(rng.normal(0, sigma, len(times)) - sigma * sigma / 2)
    policy, nodes, day = Policy(config.autoscaling), _Nodes(config), Day()
    target = config.autoscaling.min_replicas
    nodes.ready = [None] * math.ceil(target / config.replicas_per_node)
    up, starting = target, deque[float]()  # replicas, and when those that start will be ready
    waiting: deque[int] = deque()
    leaving: list[tuple[float, int]] = []  # heap of (end, request)
    took = np.full(len(times), np.nan)
    history: deque[tuple[float, int]] = deque()
    total, computed, replica_s, next_one, until = 0, 0.0, 0.0, 0, 0

    for step in range(1, round(config.hours * 3600 / STEP_S) + 1):
        now = step * STEP_S
        while True:
            arrives = times[next_one] if next_one < len(times) else math.inf
            ends = leaving[0][0] if leaving else math.inf
            if min(arrives, ends) > now:
                break
            if ends <= arrives:
                end, done = heapq.heappop(leaving)
                took[done] = end - times[done]
                at = end
            else:
                at = float(arrives)
                if len(waiting) >= config.max_queued:
                    day.refused += 1
                else:
                    waiting.append(next_one)
                next_one += 1
            while waiting and len(leaving) < up:
                begun = waiting.popleft()
                computed += float(seconds[begun])
                heapq.heappush(leaving, (at + float(seconds[begun]), begun))
        ongoing = len(waiting) + len(leaving)
        history.append((now, ongoing))
        total += ongoing
        while history[0][0] <= now - config.look_back_s:
            total -= history.popleft()[1]
        target = policy.decide(now, total / len(history), target)
        room = nodes.tick(now, STEP_S, target)
        while starting and starting[0] <= now:
            starting.popleft()
            up += 1
        if up + len(starting) > target:
            for _ in range(min(len(starting), up + len(starting) - target)):
                starting.pop()
            up = min(up, target)  # those that compute end what they do: `leaving` may be longer than `up` for a while
        for _ in range(min(target, room) - up - len(starting)):
            starting.append(now + config.replica_start_s)
        while waiting and len(leaving) < up:
            begun = waiting.popleft()
            computed += float(seconds[begun])
            heapq.heappush(leaving, (now + float(seconds[begun]), begun))
        replica_s += up * STEP_S
        day.most_replicas = max(day.most_replicas, up)
        if step % 600 == 0:
            part = took[until:next_one]
            known = part[np.isfinite(part)]
            slow = float(np.quantile(known, 0.95)) if len(known) else math.nan
            day.curve.append((now / 3600, (next_one - until) / 600, up, slow))
            until = next_one

    answered = took[np.isfinite(took)]
    day.served = len(answered)
    day.late = int((answered > config.deadline_s).sum())
    if len(answered):
        day.p50_s, day.p95_s, day.p99_s = (float(q) for q in np.quantile(answered, (0.5, 0.95, 0.99)))
    day.gpu_hours = nodes.seconds / 3600 * config.gpus_per_node
    day.busy = computed / max(replica_s, 1e-9)
    return day


def variants(config: DayConfig, **changes: Sequence[float]) -> list[tuple[dict[str, float], DayConfig]]:
    """The config with each combination of values of fields of `autoscaling`, and what differs."""
    made: list[tuple[dict[str, float], DayConfig]] = [({}, config)]
    for name, values in changes.items():
        made = [
            (
                {**told, name: value},
                one.model_copy(update={"autoscaling": one.autoscaling.model_copy(update={name: value})}),
            )
            for told, one in made
            for value in values
        ]
    return made
