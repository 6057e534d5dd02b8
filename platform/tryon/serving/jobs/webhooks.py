"""Telling a URL that a job has ended: signed, at least once, tried again until it is taken or given up.

Headers and signature are those of Standard Webhooks (github.com/standard-webhooks), for which receivers find libraries
in most languages: ``webhook-id`` is the same at every try, ``webhook-signature`` is ``v1,`` and the base64 of
HMAC-SHA256 over ``{id}.{timestamp}.{body}``.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import logging
import random
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping

import aiohttp

from tryon import __version__
from tryon.data.crawl.guard import GuardedResolver, PrivateAddressError, check_literal, parse_url, private_address
from tryon.errors import StorageError, TryonError
from tryon.serving.jobs.config import WebhookConfig
from tryon.serving.jobs.database import Database, Transaction
from tryon.serving.jobs.records import Delivery

Post = Callable[[str, Mapping[str, str], bytes], Awaitable[int]]
SECRET_PREFIX = "whsec_"
TOLERANCE_S = 300
GONE = 410  # the receiver wants no more
CLAIM_MARGIN_S = 20.0
PARALLEL = 16
logger = logging.getLogger("ray.serve")


def service_secret(database: Database) -> bytes:
    """The secret that every owner's is derived from: random, made at first use, the same for all processes."""

    def find(tx: Transaction) -> bytes:
        sql = "INSERT INTO batch_secret (id, secret) VALUES (1, :secret) ON CONFLICT DO NOTHING"
        tx.run(sql, secret=secrets.token_hex(32))
        row = tx.one("SELECT secret FROM batch_secret WHERE id = 1")
        assert row is not None
        return bytes.fromhex(row["secret"])

    return database.write(find)


def owner_secret(secret: bytes, owner: str) -> str:
    """An owner's own secret, so that no owner can sign for another: ``whsec_`` and base64, what libraries take."""
    derived = hmac.new(secret, f"webhook:{owner}".encode(), hashlib.sha256).digest()
    return SECRET_PREFIX + base64.b64encode(derived).decode()


def sign(secret: str, delivery_id: str, timestamp: int, body: bytes) -> str:
    """The ``webhook-signature`` of a call.

    Args:
        secret: of the owner, ``whsec_…``.
        delivery_id: the header ``webhook-id``.
        timestamp: the header ``webhook-timestamp``, Unix time in whole seconds.
        body: as it is sent.
    """
    key = base64.b64decode(secret.removeprefix(SECRET_PREFIX))
    digest = hmac.new(key, f"{delivery_id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


def verify(secret: str, headers: Mapping[str, str], body: bytes, *, now_s: float | None = None) -> bool:
    """Whether a call that came in is this service's and no older than five minutes; for receivers in Python.

    Args:
        secret: of the owner, ``whsec_…``.
        headers: of the call, names in lower case.
        body: as it came.
        now_s: Unix time; None: this machine's.
    """
    try:
        told = int(headers["webhook-timestamp"])
        given, delivery_id = headers["webhook-signature"], headers["webhook-id"]
    except (KeyError, ValueError):
        return False
    fresh = abs((time.time() if now_s is None else now_s) - told) <= TOLERANCE_S
    wanted = sign(secret, delivery_id, told, body).encode()
    return fresh and any(hmac.compare_digest(one.encode(), wanted) for one in given.split())


def public_post(config: WebhookConfig) -> Post:
    """A way to POST that reaches public addresses only, and follows no redirect.

    Raises, when called:
        FetchError: the URL is no http(s) URL or names a private address.
        aiohttp.ClientError, OSError, TimeoutError: the host cannot be reached.
    """

    async def post(text: str, headers: Mapping[str, str], body: bytes) -> int:
        url = parse_url(text)
        internal = url.host in config.private_hosts
        if not internal:
            check_literal(url)
        resolver = None if internal else GuardedResolver()
        connector = aiohttp.TCPConnector(resolver=resolver, use_dns_cache=False, force_close=True)
        timeout = aiohttp.ClientTimeout(total=config.timeout_s)
        try:
            async with (
                aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=False) as session,
                session.post(url, headers=dict(headers), data=body, allow_redirects=False) as answer,
            ):
                return answer.status
        except aiohttp.ClientConnectorError as error:
            if isinstance(error.os_error, PrivateAddressError):
                raise private_address(url) from error
            raise

    return post


class WebhookSender:
    """Sends what is due. Any number of processes may: a call is one's for the time it may take.

    Args:
        database: with the tables of `schema`.
        config: tries and pauses.
        post: given URL, headers and body, gives the answer's HTTP status; raises where there was none.
    """

    def __init__(self, database: Database, config: WebhookConfig, post: Post | None = None) -> None:
        self._database = database
        self._config = config
        self._post = post or public_post(config)
        self._secret = service_secret(database)

    async def run(self, stop: asyncio.Event) -> None:
        """Sends until `stop` is set; a call under way is ended first."""
        while not stop.is_set():
            sent = 0
            try:
                sent = await self.send_due()
            except StorageError as error:
                logger.warning("webhooks wait: %s", error.message)
            if not sent:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), self._config.poll_s * random.uniform(0.5, 1.5))

    async def send_due(self) -> int:
        """Makes the calls that are due, a few at once; how many."""
        due = await asyncio.to_thread(self._database.write, self._claim)
        await asyncio.gather(*(self._send(delivery) for delivery in due))
        return len(due)

    def _claim(self, tx: Transaction) -> list[Delivery]:
        """Counts a try and puts the next off, so that another process has it again if this one dies."""
        rows = tx.all(
            "WITH picked AS MATERIALIZED (SELECT id FROM batch_deliveries WHERE state = 'waiting'"
            " AND ready_s <= now_s() ORDER BY ready_s LIMIT :num FOR UPDATE SKIP LOCKED)"
            " UPDATE batch_deliveries SET attempts = attempts + 1, ready_s = now_s() + :hold_s"
            " WHERE id IN (SELECT id FROM picked) RETURNING id, owner, url, body, attempts",
            num=PARALLEL,
            hold_s=self._config.timeout_s + CLAIM_MARGIN_S,
        )
        return [Delivery(**row) for row in rows]

    async def _send(self, delivery: Delivery) -> None:
        fault = await self._call(delivery)
        config = self._config
        if fault is None:
            state = "delivered"
        elif fault == f"HTTP {GONE}" or delivery.attempts >= config.max_attempts:
            state = "given-up"
            logger.warning("webhook %s was given up after %d tries: %s", delivery.id, delivery.attempts, fault)
        else:
            state = "waiting"
        pause_s = min(config.first_pause_s * 2.0 ** (delivery.attempts - 1), config.longest_pause_s)
        jittered = pause_s * random.uniform(0.5, 1.0)
        await asyncio.to_thread(
            self._database.write,
            lambda tx: tx.run(
                "UPDATE batch_deliveries SET state = :state, last_error = :fault, ready_s = now_s() + :pause_s"
                " WHERE id = :id AND state = 'waiting'",
                id=delivery.id,
                state=state,
                fault=fault,
                pause_s=jittered,
            ),
        )

    async def _call(self, delivery: Delivery) -> str | None:
        """What went wrong, or None."""
        timestamp, body = int(time.time()), delivery.body.encode()
        secret = owner_secret(self._secret, delivery.owner)
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"tryon/{__version__}",
            "webhook-id": delivery.id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": sign(secret, delivery.id, timestamp, body),
        }
        try:
            status = await self._post(delivery.url, headers, body)
        except (TryonError, aiohttp.ClientError, OSError, TimeoutError) as error:
            return f"{type(error).__name__}: {error}"[:500]
        return None if 200 <= status < 300 else f"HTTP {status}"
