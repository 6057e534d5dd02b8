"""Fetching one URL: a turn at its host, bounded redirects, retries, bounded time and bytes, no cookies.

aiohttp is what Ray's own services speak HTTP with, so it is installed anyway; its connector takes a resolver, which is
where private addresses are kept out.
"""

from __future__ import annotations

import asyncio
import email.utils
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from types import TracebackType

import aiohttp
import yarl

from tryon import __version__
from tryon.data.crawl.config import AGENT, FetchLimits
from tryon.data.crawl.guard import (
    FetchError,
    GuardedResolver,
    PrivateAddressError,
    check_literal,
    parse_url,
    private_address,
)

REDIRECTS = (301, 302, 303, 307, 308)
BUSY = (408, 425, 429, 500, 502, 503, 504)
GONE = (404, 410)
PLAIN_BYTES = ("application/octet-stream", "binary/octet-stream")
CHUNK_BYTES = 65536
Permit = Callable[[yarl.URL], Awaitable[None]]


@dataclass(frozen=True)
class Fetched:
    """A response that was taken.

    Attributes:
        url: the last one, after redirects.
        content_type: without parameters, lower case; empty if the host did not say.
        charset: that the host told, else None.
        body: the bytes, unpacked.
    """

    url: str
    content_type: str
    charset: str | None
    body: bytes


class _BusyError(Exception):
    """The host asks to come back later, or did not answer; worth another try."""

    def __init__(self, fault: FetchError, wait_s: float | None = None) -> None:
        super().__init__(fault.message)
        self.fault = fault
        self.wait_s = wait_s


class _Host:
    """Turns at one host: so many at once, and a delay between two starts."""

    def __init__(self, limits: FetchLimits) -> None:
        self.delay_s = limits.delay_s
        self._slots = asyncio.Semaphore(limits.per_host)
        self._order = asyncio.Lock()
        self._next = 0.0

    async def __aenter__(self) -> None:
        await self._slots.acquire()
        try:
            async with self._order:
                while (wait_s := self._next - time.monotonic()) > 0:  # a pause may be added meanwhile
                    await asyncio.sleep(wait_s)
                self._next = time.monotonic() + self.delay_s
        except BaseException:
            self._slots.release()
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._slots.release()

    def pause(self, seconds: float) -> None:
        """No request to this host before that time."""
        self._next = max(self._next, time.monotonic() + seconds)


class Fetcher:
    """Reads URLs; an asynchronous context manager that holds the connections.

    Attributes:
        num_requests: sent so far.
    """

    def __init__(self, limits: FetchLimits) -> None:
        """Takes the limits; nothing is opened before the ``async with``."""
        self._limits = limits
        self._hosts: dict[str, _Host] = {}
        self._session: aiohttp.ClientSession | None = None
        self.num_requests = 0

    async def __aenter__(self) -> Fetcher:
        resolver = None if self._limits.allow_private else GuardedResolver()
        limits = self._limits
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(resolver=resolver, limit=256, limit_per_host=limits.per_host),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=limits.timeout_s, sock_connect=limits.connect_timeout_s),
            headers={"User-Agent": user_agent(limits)},
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._session is not None
        await self._session.close()

    def host(self, url: yarl.URL) -> _Host:
        """The turns at a URL's host."""
        name = f"{url.host}:{url.port}"
        return self._hosts.setdefault(name, _Host(self._limits))

    async def fetch(
        self, url: str, accept: Sequence[str], max_bytes: int, permit: Permit | None = None, *, cut: bool = False
    ) -> Fetched:
        """Reads a URL.

        Args:
            url: absolute.
            accept: what the content type may begin with; a host that tells none, or plain bytes, is taken at its bytes.
            max_bytes: of the body, unpacked.
            permit: asked before each hop; raises to refuse it.
            cut: take the first `max_bytes` of a longer body, where that would be an error otherwise.

        Raises:
            FetchError: with a code: url-invalid, url-missing, url-timeout, url-unreachable, url-busy, http-status,
                address-private, too-many-redirects, content-type, body-too-large, body-cut; or what `permit` raises.
        """
        target = parse_url(url)
        for _ in range(self._limits.max_redirects + 1):
            if permit is not None:
                await permit(target)
            outcome = await self._persist(target, accept, max_bytes, cut)
            if isinstance(outcome, Fetched):
                return outcome
            target = parse_url(outcome, base=str(target))
        text = f"{url} is redirected more than {self._limits.max_redirects} times"
        raise FetchError(text, code="too-many-redirects")

    async def _persist(self, url: yarl.URL, accept: Sequence[str], max_bytes: int, cut: bool) -> Fetched | str:
        if not self._limits.allow_private:
            check_literal(url)
        host = self.host(url)
        for attempt in range(self._limits.retries + 1):
            try:
                async with host:
                    return await self._once(url, accept, max_bytes, cut)
            except _BusyError as busy:
                wait_s = self._limits.backoff_s * 2**attempt if busy.wait_s is None else busy.wait_s
                if attempt == self._limits.retries or wait_s > self._limits.max_wait_s:
                    raise busy.fault from None
                if busy.wait_s is None:
                    await asyncio.sleep(wait_s)
                else:
                    host.pause(wait_s)
        raise AssertionError("the last attempt returns or raises")

    async def _once(self, url: yarl.URL, accept: Sequence[str], max_bytes: int, cut: bool) -> Fetched | str:
        """One request: a body, or where it is redirected to."""
        assert self._session is not None, "use `async with`"
        self.num_requests += 1
        try:
            async with self._session.get(url, allow_redirects=False) as response:
                if response.status in REDIRECTS and "Location" in response.headers:
                    return response.headers["Location"]
                _check_status(url, response)
                return await _body(url, response, accept, max_bytes, cut)
        except TimeoutError as error:
            raise _BusyError(FetchError(f"{url} did not answer in time", code="url-timeout")) from error
        except aiohttp.ClientPayloadError as error:
            raise _BusyError(FetchError(f"{url} broke off in the middle", code="body-cut")) from error
        except (aiohttp.ClientError, OSError) as error:
            if isinstance(getattr(error, "os_error", error), PrivateAddressError):
                raise private_address(url) from error
            reason = str(error) or type(error).__name__
            raise _BusyError(FetchError(f"{url} cannot be reached: {reason}", code="url-unreachable")) from error


def user_agent(limits: FetchLimits) -> str:
    """What the crawler says it is."""
    return f"{AGENT}/{__version__}" + (f" (+{limits.contact})" if limits.contact else "")


def _check_status(url: yarl.URL, response: aiohttp.ClientResponse) -> None:
    status = response.status
    if status in GONE:
        raise FetchError(f"{url} does not exist ({status})", code="url-missing")
    if status in BUSY:
        fault = FetchError(f"{url} answered {status}, and again when asked later", code="url-busy")
        raise _BusyError(fault, _retry_after_s(response.headers.get("Retry-After")))
    if status != 200:
        code = "url-denied" if status in (401, 403, 451) else "http-status"
        raise FetchError(f"{url} answered {status}", code=code)


def _retry_after_s(value: str | None) -> float | None:
    """Seconds of a Retry-After header, which holds seconds or a date; None if there is none."""
    if value is None:
        return None
    if value.strip().isdigit():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None


async def _body(
    url: yarl.URL, response: aiohttp.ClientResponse, accept: Sequence[str], max_bytes: int, cut: bool
) -> Fetched:
    told = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if told not in ("", *PLAIN_BYTES) and not told.startswith(tuple(accept)):
        raise FetchError(f"{url} is {told}; {', '.join(accept)} is needed", code="content-type")
    fault = FetchError(f"{url} has more than {max_bytes:,} bytes", code="body-too-large")
    if not cut and (response.content_length or 0) > max_bytes:
        raise fault
    body = bytearray()
    async for piece in response.content.iter_chunked(CHUNK_BYTES):
        body += piece
        if len(body) > max_bytes and not cut:
            raise fault
        if len(body) >= max_bytes and cut:
            break
    return Fetched(str(response.url), told, response.charset, bytes(body[:max_bytes]))
