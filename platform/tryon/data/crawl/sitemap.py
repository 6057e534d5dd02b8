"""Sitemaps and indexes of them (sitemaps.org), plain or gzipped."""

from __future__ import annotations

import io
import zlib

import lxml.etree

from tryon.data.crawl.guard import FetchError, parse_url

_GZIP = b"\x1f\x8b"
_HEAD_BYTES = 2000


def unpacked(body: bytes, url: str, max_bytes: int) -> bytes:
    """The body, unpacked if it is gzipped.

    Raises:
        FetchError: more than `max_bytes`, or damaged.
    """
    if not body.startswith(_GZIP):
        return body
    try:
        plain = zlib.decompressobj(wbits=31).decompress(body, max_bytes + 1)
    except zlib.error as error:
        raise FetchError(f"{url} is a damaged gzip file: {error}", code="body-cut") from error
    if len(plain) > max_bytes:
        raise FetchError(f"{url} unpacks to more than {max_bytes:,} bytes", code="body-too-large")
    return plain


def is_sitemap(body: bytes) -> bool:
    """True for XML whose first element is a sitemap's or an index's."""
    head = body[:_HEAD_BYTES]
    return b"<urlset" in head or b"<sitemapindex" in head


def read_sitemap(body: bytes, url: str) -> list[str]:
    """The URLs that a sitemap, or an index, lists; of a damaged one those before the damage.

    Entities are not resolved, so that a small file cannot grow.
    """
    found: dict[str, None] = {}
    try:
        for _, element in lxml.etree.iterparse(
            io.BytesIO(body), tag="{*}loc", resolve_entities=False, no_network=True, load_dtd=False
        ):
            parent = element.getparent()
            if parent is not None and lxml.etree.QName(parent).localname in ("url", "sitemap"):
                _add(found, element.text or "", url)
            element.clear()
    except lxml.etree.XMLSyntaxError:
        pass
    return list(found)


def _add(found: dict[str, None], text: str, base: str) -> None:
    try:
        found[str(parse_url(text, base))] = None
    except FetchError:
        return
