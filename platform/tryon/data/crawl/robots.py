"""robots.txt (RFC 9309), read once for each host and obeyed; Protego, Scrapy's own parser, understands it."""

from __future__ import annotations

import asyncio

import yarl
from protego import Protego

from tryon.data.crawl.config import AGENT, FetchLimits
from tryon.data.crawl.fetch import Fetcher
from tryon.data.crawl.guard import OUTAGE, FetchError

MAX_BYTES = 512_000  # RFC 9309: at least 500 KiB are read


class Robots:
    """What each host allows."""

    def __init__(self, fetcher: Fetcher, limits: FetchLimits) -> None:
        self._fetcher = fetcher
        self._limits = limits
        self._rules: dict[yarl.URL, asyncio.Task[Protego | None]] = {}

    async def permit(self, url: yarl.URL) -> None:
        """Lets a URL pass, and slows its host down to the crawl delay it asks for.

        Raises:
            FetchError: the host does not want it read, asks for a delay that is too long, or cannot be asked.
        """
        origin = url.origin()
        if origin not in self._rules:
            self._rules[origin] = asyncio.create_task(self._read(origin))
        rules = await asyncio.shield(self._rules[origin])
        if rules is None:
            text = f"{url} is not read: {origin}/robots.txt gives no answer, which means that nothing may be read"
            raise FetchError(text, code="robots-unreachable")
        if not rules.can_fetch(str(url), AGENT):
            raise FetchError(f"{url} is disallowed by robots.txt", code="robots-disallowed")
        delay_s = float(rules.crawl_delay(AGENT) or 0)
        if rate := rules.request_rate(AGENT):
            delay_s = max(delay_s, rate.seconds / max(rate.requests, 1))
        if delay_s > self._limits.max_wait_s:
            raise FetchError(
                f"{url} is not read: robots.txt asks for {delay_s:.0f} s between pages", code="robots-delay"
            )
        host = self._fetcher.host(url)
        host.delay_s = max(host.delay_s, delay_s)

    async def _read(self, origin: yarl.URL) -> Protego | None:
        """The host's rules; those of an empty file if it has none; None if it may be down: then nothing is allowed."""
        try:
            fetched = await self._fetcher.fetch(str(origin / "robots.txt"), ("",), MAX_BYTES, cut=True)
            return Protego.parse(fetched.body.decode("utf-8", "replace"))
        except FetchError as error:
            return None if error.code in OUTAGE else Protego.parse("")
