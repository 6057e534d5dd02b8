"""Photos from a list of URLs, for sources that read inside workers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

from tryon.data.crawl.config import FetchLimits
from tryon.data.crawl.fetch import Fetcher
from tryon.data.crawl.guard import FetchError

IMAGE_TYPES = ("image/",)


def fetch_images(urls: Iterable[str], limits: FetchLimits, max_bytes: int) -> Mapping[str, bytes | FetchError]:
    """Reads photos, each once; what cannot be read comes as its error.

    Delays and numbers of requests hold for each process: ten workers ask a host ten times as often as one.

    Args:
        urls: http or https.
        limits: towards the hosts.
        max_bytes: of a photo.
    """
    return asyncio.run(_fetch_images(dict.fromkeys(urls), limits, max_bytes))


async def _fetch_images(urls: Iterable[str], limits: FetchLimits, max_bytes: int) -> dict[str, bytes | FetchError]:
    async with Fetcher(limits) as fetcher:

        async def one(url: str) -> tuple[str, bytes | FetchError]:
            try:
                return url, (await fetcher.fetch(url, IMAGE_TYPES, max_bytes)).body
            except FetchError as error:
                return url, error

        return dict(await asyncio.gather(*(one(url) for url in urls)))
