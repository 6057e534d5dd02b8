"""How often and how many at once: a token bucket and a count of requests in flight for each key.

In the process by default; in Redis where several processes share the limits. There one Lua script does the whole step,
so no two processes see the same free slot, by Redis's own clock. A slot is a lease: what a killed process held comes
free when the lease ends.
"""

from __future__ import annotations

import logging
import math
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from pydantic import Field

from tryon.config import Config
from tryon.errors import ConfigError

if TYPE_CHECKING:
    from redis.asyncio import Redis

BUSY_WAIT_S = 1.0  # when a request in flight will end is not known
ANSWER_S = 2.0  # longer than this Redis is not waited for
CONNECTIONS = 8  # of one process; a burst waits for one, as opening a connection takes longer than the script
RETRY_S = 5.0  # for so long Redis is not asked again after it failed
logger = logging.getLogger("ray.serve")


class Rule(Config):
    """What one key may do; None: as it likes."""

    rate_per_min: float | None = Field(None, gt=0, le=1e9, description="requests a minute, over time")
    burst: int | None = Field(
        None, ge=1, le=1_000_000, description="requests at once after a pause; None: 10 s of rate"
    )
    concurrency: int | None = Field(None, ge=1, le=1_000_000, description="requests in flight")

    @property
    def capacity(self) -> int:
        """Tokens that the bucket holds."""
        return self.burst or max(1, math.ceil((self.rate_per_min or 0.0) / 6))


@dataclass(frozen=True)
class Decision:
    """What a limiter says to a request.

    Attributes:
        lease: to give back when the request has ended; empty where it was refused.
        reason: which limit refused it, else empty.
        wait_s: until it is worth trying again; 0 where it was let in.
    """

    lease: str = ""
    reason: Literal["", "rate", "concurrency"] = ""
    wait_s: float = 0.0


class Limits(Protocol):
    """Limits over all keys."""

    async def take(self, key: str, rule: Rule) -> Decision:
        """Lets a request in, or says how long to wait; a request that is refused counts for nothing."""

    async def release(self, key: str, lease: str) -> None:
        """Gives a lease back. One that has ended, or is unknown, changes nothing."""

    async def close(self) -> None:
        """Releases connections."""


@dataclass
class _Use:
    tokens: float
    at: float
    leases: dict[str, float] = field(default_factory=dict)  # to when they end, in the order they were taken


class LocalLimits:
    """Limits of this process alone."""

    def __init__(self, lease_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Takes the time after which a slot comes free by itself.

        Args:
            lease_s: seconds, longer than any request takes.
            clock: seconds, never back.
        """
        self._lease_s = lease_s
        self._clock = clock
        self._uses: dict[str, _Use] = {}

    async def take(self, key: str, rule: Rule) -> Decision:
        """See `Limits`."""
        now = self._clock()
        use = self._uses.setdefault(key, _Use(rule.capacity, now))
        use.leases = {lease: end for lease, end in use.leases.items() if end > now}
        if rule.concurrency is not None and len(use.leases) >= rule.concurrency:
            return Decision(reason="concurrency", wait_s=BUSY_WAIT_S)
        if rule.rate_per_min is not None:
            per_s = rule.rate_per_min / 60
            use.tokens = min(rule.capacity, use.tokens + (now - use.at) * per_s)
            use.at = now
            if use.tokens < 1 - 1e-9:
                return Decision(reason="rate", wait_s=(1 - use.tokens) / per_s)
            use.tokens -= 1
        lease = uuid.uuid4().hex
        use.leases[lease] = now + self._lease_s
        return Decision(lease=lease)

    async def release(self, key: str, lease: str) -> None:
        """See `Limits`."""
        use = self._uses.get(key)
        if use is not None:
            use.leases.pop(lease, None)

    async def close(self) -> None:
        """Holds nothing."""


# KEYS: bucket, leases. ARGV: rate per s or "", capacity, concurrency or "", lease s, lease. Answers: reason, wait s.
TAKE = """
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
if ARGV[3] ~= '' and redis.call('ZCARD', KEYS[2]) >= tonumber(ARGV[3]) then
  return {'concurrency', '0'}
end
if ARGV[1] ~= '' then
  local per_s, capacity = tonumber(ARGV[1]), tonumber(ARGV[2])
  local held = redis.call('HMGET', KEYS[1], 'tokens', 'at')
  local tokens = capacity
  if held[1] then
    tokens = math.min(capacity, tonumber(held[1]) + math.max(0, now - tonumber(held[2])) * per_s)
  end
  if tokens < 1 - 1e-9 then
    return {'rate', tostring((1 - tokens) / per_s)}
  end
  redis.call('HSET', KEYS[1], 'tokens', string.format('%.9f', tokens - 1), 'at', string.format('%.6f', now))
  redis.call('EXPIRE', KEYS[1], math.ceil(capacity / per_s) + 1)
end
redis.call('ZADD', KEYS[2], string.format('%.6f', now + tonumber(ARGV[4])), ARGV[5])
redis.call('EXPIRE', KEYS[2], math.ceil(tonumber(ARGV[4])) + 1)
return {'', '0'}
"""


class RedisLimits:
    """Limits shared by all processes that name the same Redis; while it is away each keeps them by itself."""

    def __init__(self, url: str, lease_s: float, prefix: str = "tryon") -> None:
        """Opens nothing yet.

        Args:
            url: ``redis://``, ``rediss://`` or ``unix://``.
            lease_s: seconds after which a slot comes free by itself, longer than any request takes.
            prefix: of the keys in Redis.

        Raises:
            ConfigError: no such URL.
        """
        from redis.asyncio import BlockingConnectionPool, Redis
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff

        try:
            pool = BlockingConnectionPool.from_url(
                url,
                max_connections=CONNECTIONS,
                timeout=ANSWER_S,
                socket_timeout=ANSWER_S,
                socket_connect_timeout=ANSWER_S,
                decode_responses=True,
                retry=Retry(
                    NoBackoff(), 1
                ),  # once, for a connection that Redis has closed; more would only be waited for
            )
        except ValueError as error:
            text = f"redis: {url.partition('@')[2] or url!r} is no redis://, rediss:// or unix:// URL"
            raise ConfigError(text, code="config-invalid", field="redis") from error
        self._redis: Redis = Redis.from_pool(pool)
        self._take = self._redis.register_script(TAKE)
        self._lease_s = lease_s
        self._prefix = prefix
        self._own = LocalLimits(lease_s)
        self._ask_again_at = 0.0

    async def take(self, key: str, rule: Rule) -> Decision:
        """See `Limits`."""
        from redis.exceptions import RedisError

        if time.monotonic() < self._ask_again_at:
            return await self._own.take(key, rule)
        lease = uuid.uuid4().hex
        per_s = "" if rule.rate_per_min is None else repr(rule.rate_per_min / 60)
        slots = "" if rule.concurrency is None else rule.concurrency
        try:
            reason, wait = await self._take(
                keys=[self._name(key, "bucket"), self._name(key, "leases")],
                args=[per_s, rule.capacity, slots, self._lease_s, lease],
            )
        except (RedisError, OSError) as error:
            self._failed(error)
            return await self._own.take(key, rule)
        if reason:
            return Decision(reason=reason, wait_s=float(wait) or BUSY_WAIT_S)
        return Decision(lease=lease)

    async def release(self, key: str, lease: str) -> None:
        """See `Limits`."""
        from redis.exceptions import RedisError

        await self._own.release(key, lease)
        if time.monotonic() < self._ask_again_at:
            return  # the lease ends by itself
        try:
            await self._redis.zrem(self._name(key, "leases"), lease)
        except (RedisError, OSError) as error:
            self._failed(error)

    async def close(self) -> None:
        """Closes the connections."""
        await self._redis.aclose()

    def _name(self, key: str, kind: str) -> str:
        return f"{self._prefix}:{{{key}}}:{kind}"  # the braces keep both on one node of a Redis Cluster

    def _failed(self, error: Exception) -> None:
        if time.monotonic() >= self._ask_again_at:  # of many requests at once one says it
            logger.warning("Redis does not answer (%s); for %g s each process limits by itself", error, RETRY_S)
        self._ask_again_at = time.monotonic() + RETRY_S


def open_limits(url: str | None, lease_s: float) -> Limits:
    """Limits in Redis where a URL is given, else in this process.

    Raises:
        ConfigError: no such URL.
    """
    return RedisLimits(url, lease_s) if url else LocalLimits(lease_s)
