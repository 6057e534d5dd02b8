"""Where a URL may lead: http and https to public addresses. The address that is checked is the one that is used."""

from __future__ import annotations

import ipaddress
import socket

import yarl
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

from tryon.errors import SampleError


class FetchError(SampleError):
    """A URL cannot be read; the code says whether it is worth asking again (see `TRANSIENT`)."""


OUTAGE = ("url-timeout", "url-unreachable", "url-busy", "body-cut")
TRANSIENT = (*OUTAGE, "http-status", "url-denied", "robots-unreachable")


class PrivateAddressError(OSError):
    """A host name stands for a private address."""


def parse_url(text: str, base: str | None = None) -> yarl.URL:
    """An absolute http(s) URL without fragment, in normal form.

    Args:
        text: the URL, relative to `base` if that is given.
        base: absolute URL.

    Raises:
        FetchError: no such URL.
    """
    try:
        url = yarl.URL(text.strip())
        url = (yarl.URL(base).join(url) if base else url).with_fragment(None)
        if url.scheme in ("http", "https") and url.host:
            return url.with_user(None) if url.user else url
    except (ValueError, TypeError):
        pass
    raise FetchError(f"{text[:200]!r} is no http or https URL", code="url-invalid")


GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")
DOCUMENTATION = ipaddress.ip_network("3fff::/20")


def is_public(address: str) -> bool:
    """False for loopback, private, link-local, reserved and multicast addresses, also when wrapped into IPv6.

    Of IPv6 only global unicast is public: Python calls also site-local (fec0::/10), local NAT64 (64:ff9b:1::/48) and
    ::127.0.0.1 global.

    Raises:
        ValueError: no address.
    """
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or _nat64(ip)
        if inner is not None:
            return is_public(str(inner))
        if ip not in GLOBAL_UNICAST or ip in DOCUMENTATION:
            return False
    return ip.is_global and not ip.is_multicast


def _nat64(ip: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    prefix = ipaddress.ip_network("64:ff9b::/96")
    return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF) if ip in prefix else None


def check_literal(url: yarl.URL) -> None:
    """Refuses a private address written out in a URL; a resolver never sees those.

    Raises:
        FetchError: it is one.
    """
    try:
        public = is_public(url.host or "")
    except ValueError:  # a name: the resolver checks what it stands for
        return
    if not public:
        raise private_address(url)


def private_address(url: yarl.URL) -> FetchError:
    """The error for a URL that leads to a private address."""
    return FetchError(f"{url} leads to a private address, which is not read", code="address-private")


class GuardedResolver(AbstractResolver):
    """Resolves names to public addresses only, so that a name cannot point into the private network later on."""

    def __init__(self) -> None:
        self._inner = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Addresses of a host.

        Raises:
            PrivateAddressError: it has private ones only.
            OSError: it has none.
        """
        found = await self._inner.resolve(host, port, family)
        public = [result for result in found if is_public(result["host"])]
        if found and not public:
            raise PrivateAddressError(f"{host} stands for a private address")
        return public

    async def close(self) -> None:
        """Releases what the resolver holds."""
        await self._inner.close()
