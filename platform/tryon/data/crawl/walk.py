"""The crawl: breadth first over pages, each page's photos after it, all in an order that timing cannot change.

The walk, its records and its limits are ours, on aiohttp, Protego and lxml: Scrapy keeps its queue in memory until a
clean stop (its `JOBDIR` does not survive ``kill -9``), runs once a process, and writes what comes first, first.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import yarl

from tryon import storage
from tryon.data.crawl.config import CrawlConfig, CrawlReport
from tryon.data.crawl.fetch import Fetcher
from tryon.data.crawl.guard import FetchError
from tryon.data.crawl.page import read_page
from tryon.data.crawl.photo import check_header
from tryon.data.crawl.robots import Robots
from tryon.data.crawl.rules import Rules
from tryon.data.crawl.sitemap import is_sitemap, read_sitemap, unpacked
from tryon.data.crawl.store import (
    FAILURE_COLUMNS,
    MANIFEST_COLUMNS,
    Parts,
    Records,
    write_config,
    write_photo,
    write_report,
)
from tryon.data.sources.base import CRAWL_REPORT
from tryon.errors import DataError

PAGE_TYPES = ("text/html", "application/xhtml", "text/xml", "application/xml", "application/gzip", "application/x-gzip")
IMAGE_TYPES = ("image/",)
AHEAD = 64  # pages, and photos, that are under way at once; hosts' own limits are in `FetchLimits`
MAX_REFUSED_HOSTS = 50

Record = dict[str, Any]
OnProgress = Callable[["CrawlProgress"], None]


@dataclass(frozen=True)
class CrawlProgress:
    """Where a crawl is.

    Attributes:
        pages: read.
        images: kept.
        failed: pages and photos not read.
        waiting: pages known and not read.
        requests: sent by this run; what an earlier run got is not asked for again.
    """

    pages: int
    images: int
    failed: int
    waiting: int
    requests: int


def crawl(config: CrawlConfig, out: str, on_progress: OnProgress | None = None) -> CrawlReport:
    """Crawls shops for photos; a crawl that was cut off goes on.

    Args:
        config: where to go and what to take.
        out: URI of the folder to write; see `tryon.data.crawl.store` for what lies there.
        on_progress: told after each page and photo.

    Raises:
        ConfigError: a start URL or a pattern cannot be used.
        DataError: not one of the start pages could be read.
        StorageError: `out` cannot be written.
    """
    return asyncio.run(_crawl(config, storage.absolute(out), on_progress))


async def _crawl(config: CrawlConfig, out: str, on_progress: OnProgress | None) -> CrawlReport:
    rules = Rules(config)
    storage.delete(storage.join(out, CRAWL_REPORT))
    write_config(out, config)  # first, so that a place that cannot be written is found before a host is asked
    async with Fetcher(config.fetch) as fetcher:
        walk = _Walk(config, out, rules, fetcher, on_progress)
        try:
            return await walk.run()
        finally:
            walk.cancel()


class _Walk:
    """State of one crawl. Pages and photos are asked for ahead, and taken in the order in which they were found."""

    def __init__(
        self, config: CrawlConfig, out: str, rules: Rules, fetcher: Fetcher, on_progress: OnProgress | None
    ) -> None:
        self._config = config
        self._out = out
        self._rules = rules
        self._fetcher = fetcher
        self._robots = Robots(fetcher, config.fetch)
        self._records = Records(out, config)
        self._on_progress = on_progress
        self._frontier = deque((url, 0) for url in dict.fromkeys(rules.start))
        self._seen = {_key(url) for url in rules.start}
        self._pages: deque[tuple[str, int, asyncio.Task[Record]]] = deque()
        self._images: deque[tuple[str, dict[str, str], asyncio.Task[Record]]] = deque()
        self._digests: set[bytes] = set()
        self._manifest = Parts(storage.join(out, "manifest"), MANIFEST_COLUMNS)
        self._failures = Parts(storage.join(out, "_failures", "part"), FAILURE_COLUMNS)
        self._count: Counter[str] = Counter()
        self._failed: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()
        self._asked = 0
        self._first_fault = ""

    async def run(self) -> CrawlReport:
        """Walks to the end and writes the report."""
        while self._frontier or self._pages or self._images:
            self._ask_ahead()
            if self._images and (len(self._images) >= AHEAD or not self._pages):
                url, told, image = self._images.popleft()
                self._take_image(url, told, await image)
            elif self._pages:
                url, depth, page = self._pages.popleft()
                self._take_page(url, depth, await page)
            else:
                break
            self._tell()
        if self._count["pages"] + self._count["sitemaps"] == 0:
            text = f"no start page could be read: {self._first_fault}; `retry_failed` asks again"
            raise DataError(text, code="crawl-empty", field="start")
        return self._finish()

    def cancel(self) -> None:
        """Stops what is under way."""
        for task in (*(page[-1] for page in self._pages), *(image[-1] for image in self._images)):
            task.cancel()

    def _finish(self) -> CrawlReport:
        self._manifest.finish()
        self._failures.finish()
        counts = {name: self._count[name] for name in ("pages", "sitemaps", "found", "images", "duplicates")}
        refused = dict(sorted(self._refused.most_common(MAX_REFUSED_HOSTS)))
        report = CrawlReport(
            **counts, failures=dict(sorted(self._failed.items())), refused_hosts=refused, unread=len(self._frontier)
        )
        write_report(self._out, self._config, report)
        return report

    def _tell(self) -> None:
        if self._on_progress is not None:
            pages = self._count["pages"] + self._count["sitemaps"]
            waiting, requests = len(self._frontier) + len(self._pages), self._fetcher.num_requests
            failed = self._failed.total()
            self._on_progress(CrawlProgress(pages, self._count["images"], failed, waiting, requests))

    # Asking

    def _ask_ahead(self) -> None:
        """Starts pages up to the limits. What is started depends on what was taken so far, never on what came first."""
        full = self._count["found"] >= self._config.max_images
        while self._frontier and len(self._pages) < AHEAD and self._asked < self._config.max_pages and not full:
            url, depth = self._frontier.popleft()
            self._asked += 1
            self._pages.append((url, depth, asyncio.create_task(self._recorded("page", url, self._ask_page))))

    async def _recorded(self, kind: str, url: str, ask: Callable[[str], Any]) -> Record:
        record = await asyncio.to_thread(self._records.get, kind, url)
        if record is None:
            try:
                record = await ask(url)
            except FetchError as error:
                record = {"code": error.code, "reason": error.message}
            await asyncio.to_thread(self._records.put, kind, url, record)
        return record

    async def _permit(self, url: yarl.URL) -> None:
        if not self._rules.is_host_allowed(url):
            raise FetchError(f"{url}: this host is not among the allowed ones", code="host-not-allowed")
        await self._robots.permit(url)

    async def _ask_page(self, url: str) -> Record:
        config = self._config
        may_be_sitemap = yarl.URL(url).path.endswith((".xml", ".gz"))
        max_bytes = config.max_sitemap_bytes if may_be_sitemap else config.max_page_bytes
        fetched = await self._fetcher.fetch(url, PAGE_TYPES, max_bytes, self._permit)
        body = unpacked(fetched.body, url, config.max_sitemap_bytes)
        if is_sitemap(body):
            return {"kind": "sitemap", "links": await asyncio.to_thread(read_sitemap, body, fetched.url)}
        page = await asyncio.to_thread(read_page, body, fetched.url, fetched.charset)
        wanted = page.pictures if page.is_product or config.images == "all" else []
        return {"kind": "page", "links": page.links, "images": [{"url": p.url, "told": p.told} for p in wanted]}

    async def _ask_image(self, url: str) -> Record:
        limits = self._config.image
        fetched = await self._fetcher.fetch(url, IMAGE_TYPES, limits.max_bytes, self._permit)
        suffix, width, height = check_header(fetched.body, url, limits)
        digest, path = await asyncio.to_thread(write_photo, self._out, fetched.body, suffix)
        return {"path": path, "sha256": digest, "width": width, "height": height}

    # Taking

    def _take_page(self, url: str, depth: int, record: Record) -> None:
        if "code" in record:
            self._fail(url, "", record)
            return
        self._count["sitemaps" if record["kind"] == "sitemap" else "pages"] += 1
        for link in record["links"] if depth < self._config.max_depth else ():
            # A sitemap may list sitemaps, which `include` is not meant for.
            wanted = self._rules.is_page_wanted(link) or (_is_xml(link) and self._rules.is_host_allowed(link))
            if wanted and self._is_new(link):
                self._frontier.append((link, depth + 1))
        for image in record.get("images", ()):
            self._found(image["url"], image["told"])

    def _found(self, url: str, told: dict[str, str]) -> None:
        if self._count["found"] >= self._config.max_images or not self._is_new(url):
            return
        if not self._rules.is_host_allowed(url):
            self._refused[yarl.URL(url).host or ""] += 1
            return
        self._count["found"] += 1
        self._images.append((url, told, asyncio.create_task(self._recorded("image", url, self._ask_image))))

    def _is_new(self, url: str) -> bool:
        key = _key(url)
        if key in self._seen:
            return False
        self._seen.add(key)
        return True

    def _take_image(self, url: str, told: dict[str, str], record: Record) -> None:
        if "code" in record:
            self._fail(url, told["page"], record)
            return
        digest = bytes.fromhex(record["sha256"])[:12]
        if digest in self._digests:
            self._count["duplicates"] += 1
            return
        self._digests.add(digest)
        self._count["images"] += 1
        self._manifest.add(
            {
                **told,
                "id": record["sha256"][:24],
                "photo": record["path"],
                "garment_id": f"{yarl.URL(told['page']).host}/{told['product']}" if "product" in told else told["page"],
                "page_uri": told["page"],
                "image_uri": url,
                "width": record["width"],
                "height": record["height"],
            }
        )

    def _fail(self, url: str, page: str, record: Record) -> None:
        self._failed[record["code"]] += 1
        self._first_fault = self._first_fault or record["reason"]
        self._failures.add({"uri": url, "page_uri": page or None, **record})


def _key(url: str) -> bytes:
    """What of a URL is kept: 16 bytes, so that ten million take a gigabyte and not four."""
    return bytes.fromhex(storage.sha256(url.encode())[:32])


def _is_xml(url: str) -> bool:
    return yarl.URL(url).path.endswith((".xml", ".xml.gz"))
