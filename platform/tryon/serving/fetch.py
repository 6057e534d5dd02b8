"""Photos by URL, without letting a caller reach what only this machine can reach (SSRF).

A name is resolved once; every address it stands for is checked, and the connection goes to those addresses and no
others, so DNS that changes between check and use changes nothing. TLS is still verified against the name. Each redirect
is a new URL that is checked from the start. See OWASP, "Server-Side Request Forgery Prevention".

aiohttp is what the crawler uses too: its connector takes a resolver, and it reads no proxy settings unless told to.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial

import aiohttp
import yarl
from aiohttp.abc import AbstractResolver, ResolveResult

from tryon import __version__
from tryon.data.crawl.guard import FetchError, is_public
from tryon.serving.config import FetchConfig

REDIRECTS = (301, 302, 303, 307, 308)
PLAIN_TYPES = ("", "application/octet-stream", "binary/octet-stream")  # the decoder says whether it is a photo
MAX_URL_CHARS = 4096
CHUNK_BYTES = 65536
DNS_THREADS = 8
HEADERS = {"User-Agent": f"tryon/{__version__}", "Accept": "image/*", "Accept-Encoding": "identity"}
# What `private_hosts` may open. Never link-local, where clouds keep a machine's credentials, nor their other places.
INTERNAL = tuple(
    ipaddress.ip_network(text)
    for text in ("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "::1/128", "fc00::/7")
)
METADATA = (ipaddress.ip_address("100.100.100.200"), ipaddress.ip_address("fd00:ec2::254"))
Resolve = Callable[[str, int], Awaitable[list[str]]]


async def resolve(host: str, port: int) -> list[str]:
    """Addresses of a host by the system's resolver, IPv4 and IPv6, each once.

    Raises:
        OSError: there is none.
        UnicodeError: no DNS label can hold the name.
    """
    ask = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    found = await asyncio.get_running_loop().run_in_executor(_threads(), ask)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


@cache
def _threads() -> ThreadPoolExecutor:
    """Threads for DNS alone: a lookup cannot be ended, and slow ones must not take those of the whole service."""
    return ThreadPoolExecutor(DNS_THREADS, thread_name_prefix="dns")


class Fetcher:
    """Reads photos by URL under one config. Holds no connections: callers' hosts differ."""

    def __init__(
        self, config: FetchConfig, resolver: Resolve = resolve, ssl_context: ssl.SSLContext | None = None
    ) -> None:
        """Takes the limits.

        Args:
            config: what may be fetched.
            resolver: from a host and a port to addresses; asked once a hop.
            ssl_context: with other certificate authorities than the system's.
        """
        self._config = config
        self._resolve = resolver
        self._ssl = ssl_context or True

    async def fetch(self, url: str, field: str | None = None) -> bytes:
        """Bytes of a photo file as the host keeps it, not decoded.

        Args:
            url: absolute, http or https.
            field: of the request, named in errors.

        Raises:
            FetchError: with a code: url-invalid, url-credentials, host-not-allowed, port-not-allowed, address-private,
                url-unreachable, url-timeout, url-missing, http-status, too-many-redirects, not-an-image, url-encoding,
                image-too-large, body-cut.
        """
        config = self._config
        try:
            async with asyncio.timeout(config.total_s):
                return await self._follow(url)
        except TimeoutError as error:
            text = f"{shown(url)} took longer than {config.total_s:g} s"
            raise FetchError(text, code="url-timeout", field=field) from error
        except FetchError as error:
            raise FetchError(error.message, code=error.code, field=field) from error

    async def _follow(self, text: str) -> bytes:
        url = parse(text)
        for _ in range(self._config.max_redirects + 1):
            outcome = await self._hop(url)
            if isinstance(outcome, bytes):
                return outcome
            url = parse(outcome, base=url)
        sentence = f"{shown(text)} is redirected more than {self._config.max_redirects} times"
        raise FetchError(sentence, code="too-many-redirects")

    async def _hop(self, url: yarl.URL) -> bytes | str:
        """One request to checked addresses: a body, or where it is redirected to."""
        config = self._config
        connector = aiohttp.TCPConnector(
            resolver=_Pinned(await self._addresses(url)), use_dns_cache=False, force_close=True, ssl=self._ssl
        )
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=config.connect_s, sock_read=config.idle_s)
        session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=timeout,
            headers=HEADERS,
            auto_decompress=False,
            trust_env=False,
        )
        try:
            async with session, session.get(url, allow_redirects=False) as response:
                if response.status in REDIRECTS and "Location" in response.headers:
                    return response.headers["Location"]
                _check_head(url, response)
                return await self._body(url, response)
        except TimeoutError as error:
            raise FetchError(f"{shown(url)} did not answer in time", code="url-timeout") from error
        except aiohttp.ClientPayloadError as error:
            raise FetchError(f"{shown(url)} broke off in the middle", code="body-cut") from error
        except aiohttp.ClientResponseError as error:  # its text quotes what was sent, which is not the caller's to see
            raise FetchError(f"{shown(url)} answered what is no valid HTTP", code="url-unreachable") from error
        except (aiohttp.ClientError, OSError) as error:
            reason = str(error) or type(error).__name__
            raise FetchError(f"{shown(url)} cannot be reached: {reason[:200]}", code="url-unreachable") from error

    async def _addresses(self, url: yarl.URL) -> list[str]:
        """Where to connect to, all of it allowed.

        Raises:
            FetchError: host, port or one of the addresses is not allowed, or there is no address.
        """
        host, port = (url.raw_host or "").rstrip(".").lower(), url.port or 0
        config = self._config
        internal = any(matches(host, pattern) for pattern in config.private_hosts)
        if not internal and not any(matches(host, pattern) for pattern in config.hosts):
            raise FetchError(f"{shown(url)}: host {host!r} is not among the allowed ones", code="host-not-allowed")
        if port not in config.ports:
            known = ", ".join(map(str, config.ports))
            raise FetchError(f"{shown(url)}: port {port} is not one of {known}", code="port-not-allowed")
        try:
            found = [host] if is_literal(host) else await self._resolve(host, port)
        except (OSError, UnicodeError) as error:
            raise FetchError(f"{shown(url)}: host {host!r} has no address", code="url-unreachable") from error
        # All of them: a host that stands for a public and a private address is a trick more often than an accident.
        if not found or not all(is_public(one) or (internal and _is_internal(one)) for one in found):
            raise FetchError(f"{shown(url)} leads to a private address, which is not read", code="address-private")
        return found

    async def _body(self, url: yarl.URL, response: aiohttp.ClientResponse) -> bytes:
        limit = self._config.max_bytes
        fault = FetchError(f"{shown(url)} has more than {limit:,} bytes", code="image-too-large")
        if (response.content_length or 0) > limit:
            raise fault
        body = bytearray()
        async for piece in response.content.iter_chunked(CHUNK_BYTES):  # what it says of its length is not relied on
            body += piece
            if len(body) > limit:
                raise fault
        return bytes(body)


class _Pinned(AbstractResolver):
    """Answers with the addresses that were checked, whatever DNS says by now."""

    def __init__(self, addresses: list[str]) -> None:
        self._addresses = addresses

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in self._addresses
        ]

    async def close(self) -> None:
        """Holds nothing."""


def parse(text: str, base: yarl.URL | None = None) -> yarl.URL:
    """An absolute http or https URL.

    Args:
        text: as given; relative to `base` where that is given.
        base: the URL that redirected here.

    Raises:
        FetchError: no such URL, or one with a user name or password.
    """
    try:
        url = yarl.URL(text) if len(text) <= MAX_URL_CHARS else yarl.URL()
        url = (base.join(url) if base else url).with_fragment(None)
        valid = url.scheme in ("http", "https") and bool(url.raw_host)
        named = url.raw_user is not None or url.raw_password is not None
    except (ValueError, TypeError):
        valid = named = False
    if not valid:
        raise FetchError(f"{shown(text)!r} is no http or https URL", code="url-invalid")
    if named:
        raise FetchError(f"{shown(url)}: a URL with a user name or password is not read", code="url-credentials")
    return url


def is_literal(host: str) -> bool:
    """True for an IP address, False for a name.

    Raises:
        FetchError: a number that is neither: decimal, octal, hexadecimal and short forms of IPv4 (2130706433,
            0177.0.0.1, 0x7f.1, 127.1), which some resolvers take for an address. As in WHATWG's URL standard, a host
            whose last part is a number must be an IPv4 address.
    """
    try:
        ipaddress.ip_address(host)
        return True
    except ValueError:
        pass
    last = host.rpartition(".")[2]
    if last.isdigit() or last.startswith("0x"):
        text = f"host {host!r} is a number that is no IPv4 address in four decimals, such as 203.0.113.7"
        raise FetchError(text, code="url-invalid")
    return False


def matches(host: str, pattern: str) -> bool:
    """Whether a host is a pattern's: ``"*"`` any, ``"*.shop.com"`` those below, else the one of that name."""
    return pattern in ("*", host) or (pattern.startswith("*.") and host.endswith(pattern[1:]))


def shown(url: str | yarl.URL) -> str:
    """A URL for messages and logs: cut, and without user and query, where signatures are."""
    if isinstance(url, yarl.URL):
        return str(url.with_user(None).with_query(None))[:200]
    return url.partition("?")[0].rpartition("@")[2][:200]


def _is_internal(address: str) -> bool:
    ip = ipaddress.ip_address(address)
    return ip not in METADATA and any(ip in network for network in INTERNAL)


def _check_head(url: yarl.URL, response: aiohttp.ClientResponse) -> None:
    """Refuses what is not a photo file before any of it is read."""
    if response.status in (404, 410):
        raise FetchError(f"{shown(url)} does not exist ({response.status})", code="url-missing")
    if response.status != 200:
        raise FetchError(f"{shown(url)} answered {response.status}", code="http-status")
    told = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if told not in PLAIN_TYPES and not told.startswith("image/"):
        raise FetchError(f"{shown(url)} is {told[:80]!r}, an image is needed", code="not-an-image")
    packed = response.headers.get("Content-Encoding", "identity").strip().lower()
    if packed not in ("", "identity"):  # was not asked for; nothing is unpacked, so no bomb goes off
        raise FetchError(f"{shown(url)} comes packed as {packed[:40]!r}, which is not read", code="url-encoding")
