from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.serving.redis_server import redis_server
from tryon.config import parse_config
from tryon.errors import ConfigError
from tryon.serving.limits import BUSY_WAIT_S, Limits, LocalLimits, RedisLimits, Rule, open_limits
from tryon.serving.run import free_port

Work = Callable[[Limits], Awaitable[None]]
OFTEN = Rule(rate_per_min=6000, burst=3)


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Redis that is slow because the machine is busy is not taken for one that is away."""
    monkeypatch.setattr("tryon.serving.limits.ANSWER_S", 20.0)


@pytest.fixture(params=["local", "redis"])
def on_limits(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Runs a test's work on limits of either kind."""
    url = request.getfixturevalue("redis_url") if request.param == "redis" else None

    def run(work: Work, lease_s: float = 60.0) -> None:
        async def whole() -> None:
            limits = RedisLimits(url, lease_s, prefix=uuid.uuid4().hex) if url else LocalLimits(lease_s)
            try:
                await work(limits)
            finally:
                await limits.close()

        asyncio.run(asyncio.wait_for(whole(), 100))

    return run


def test_a_burst_then_the_rate(on_limits: Callable[..., None]) -> None:
    async def work(limits: Limits) -> None:
        rule = Rule(rate_per_min=0.6, burst=3)
        assert [bool((await limits.take("a", rule)).lease) for _ in range(3)] == [True] * 3
        refused = await limits.take("a", rule)
        assert (refused.lease, refused.reason) == ("", "rate")
        assert 50 < refused.wait_s <= 100
        assert (await limits.take("b", rule)).lease  # another key has a bucket of its own
        fast = Rule(rate_per_min=6_000_000, burst=3)  # so that the bucket is full again by now
        await asyncio.sleep(0.01)
        assert (await limits.take("a", fast)).lease
        assert [bool((await limits.take("a", rule)).lease) for _ in range(3)] == [True, True, False]

    on_limits(work)


def test_a_refused_request_costs_nothing(on_limits: Callable[..., None]) -> None:
    async def work(limits: Limits) -> None:
        rule = Rule(rate_per_min=0.6, burst=1)
        assert (await limits.take("a", rule)).lease
        waits = [(await limits.take("a", rule)).wait_s for _ in range(20)]
        assert waits == sorted(waits, reverse=True)
        assert waits[-1] > 0
        both = Rule(rate_per_min=0.6, burst=2, concurrency=1)
        held = await limits.take("b", both)
        for _ in range(5):
            assert (await limits.take("b", both)).reason == "concurrency"
        await limits.release("b", held.lease)
        assert (await limits.take("b", both)).lease  # the five took no token

    on_limits(work)


def test_so_many_at_once(on_limits: Callable[..., None]) -> None:
    async def work(limits: Limits) -> None:
        rule = Rule(concurrency=2)
        first, second = [(await limits.take("a", rule)).lease for _ in range(2)]
        assert first
        assert second
        assert first != second
        refused = await limits.take("a", rule)
        assert (refused.lease, refused.reason, refused.wait_s) == ("", "concurrency", BUSY_WAIT_S)
        await limits.release("a", first)
        await limits.release("a", first)  # once is enough
        await limits.release("a", "unknown")
        await limits.release("nobody", second)
        assert (await limits.take("a", rule)).lease
        assert (await limits.take("a", rule)).reason == "concurrency"

    on_limits(work)


def test_of_many_at_the_same_time_only_so_many_are_let_in(on_limits: Callable[..., None]) -> None:
    async def work(limits: Limits) -> None:
        slots = await asyncio.gather(*(limits.take("a", Rule(concurrency=5)) for _ in range(40)))
        assert sum(bool(one.lease) for one in slots) == 5
        tokens = await asyncio.gather(*(limits.take("b", Rule(rate_per_min=0.6, burst=7)) for _ in range(40)))
        assert sum(bool(one.lease) for one in tokens) == 7

    on_limits(work)


def test_a_lease_that_nobody_gives_back_ends(on_limits: Callable[..., None]) -> None:
    async def work(limits: Limits) -> None:
        for _ in range(3):
            assert (await limits.take("a", Rule(concurrency=1))).lease
            await asyncio.sleep(0.1)

    on_limits(work, lease_s=0.05)


def test_no_rule_lets_all_in(on_limits: Callable[..., None]) -> None:
    async def work(limits: Limits) -> None:
        assert all([(await limits.take("a", Rule())).lease for _ in range(50)])

    on_limits(work)


def test_the_bucket_by_the_clock() -> None:
    now = 0.0
    limits = LocalLimits(60.0, clock=lambda: now)
    rule = Rule(rate_per_min=60)  # ten at once, one a second
    let_in = []

    async def work() -> None:
        nonlocal now
        for second in range(121):
            now = float(second)
            for _ in range(3):
                if (decision := await limits.take("a", rule)).lease:
                    let_in.append(second)
                    await limits.release("a", decision.lease)

    asyncio.run(work())
    assert len(let_in) == 10 + 120
    assert len(let_in) - len([second for second in let_in if second < 61]) == 60


def test_two_processes_share_what_redis_keeps(redis_url: str) -> None:
    async def work() -> None:
        prefix = uuid.uuid4().hex
        one, other = (RedisLimits(redis_url, 60.0, prefix) for _ in range(2))
        rule = Rule(rate_per_min=6, burst=2, concurrency=2)
        mine = await one.take("a", rule)
        assert (await other.take("a", rule)).lease
        assert (await other.take("a", rule)).reason == "concurrency"
        await other.release("a", mine.lease)
        assert (await one.take("a", rule)).reason == "rate"
        await one.close()
        await other.close()

    asyncio.run(work())


def test_nothing_stays_in_redis(redis_url: str) -> None:
    from redis.asyncio import from_url

    async def work() -> None:
        prefix = uuid.uuid4().hex
        limits, plain = RedisLimits(redis_url, 60.0, prefix), from_url(redis_url)
        await limits.take("a", Rule(rate_per_min=60, burst=60, concurrency=1))
        names = await plain.keys(f"{prefix}:*")
        assert len(names) == 2
        left_ms = [await plain.pttl(name) for name in names]
        assert all(0 < left <= 61_000 for left in left_ms)
        await limits.close()
        await plain.aclose()

    asyncio.run(work())


def test_redis_dies_and_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tryon.serving.limits.RETRY_S", 0.2)
    port = free_port()

    async def work() -> None:
        limits = open_limits(f"redis://127.0.0.1:{port}", 60.0)
        rule = Rule(concurrency=1)
        with redis_server(tmp_path, port):
            before = await limits.take("a", rule)
            assert before.lease
        start = time.monotonic()
        held = await limits.take("a", rule)  # limited by this process alone, which has seen no request yet
        assert held.lease
        assert time.monotonic() - start < 5
        assert (await limits.take("a", rule)).reason == "concurrency"
        await limits.release("a", before.lease)
        await limits.release("a", held.lease)
        with redis_server(tmp_path, port):
            await asyncio.sleep(0.3)
            assert (await limits.take("a", rule)).lease
            other = open_limits(f"redis://127.0.0.1:{port}", 60.0)
            assert (await other.take("a", rule)).reason == "concurrency"  # so it is Redis that counts again
            await other.close()
        await limits.close()

    asyncio.run(asyncio.wait_for(work(), 60))


@pytest.mark.parametrize("url", ["localhost:6379", "http://127.0.0.1:6379", "redis://h:port"])
def test_what_is_no_redis(url: str) -> None:
    with pytest.raises(ConfigError, match="redis"):
        open_limits(url, 1.0)


@pytest.mark.parametrize("values", [{"rate_per_min": 0}, {"burst": 0}, {"concurrency": 0}, {"rate": 5}], ids=str)
def test_rules_have_bounds(values: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(values))):
        parse_config(Rule, values, "rule")


def test_the_burst_is_ten_seconds_of_the_rate_unless_said() -> None:
    rates = {6.0: 1, 7.0: 2, 60.0: 10, 600.0: 100}
    assert {rate: Rule(rate_per_min=rate).capacity for rate in rates} == rates
    assert OFTEN.capacity == 3
