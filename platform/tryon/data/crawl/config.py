"""What a crawl may do: where it goes, how fast, how much it takes."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tryon.config import Config, ImageLimits

AGENT = "tryon-crawler"  # the name that robots.txt knows it by


class FetchLimits(Config):
    """How one process behaves towards the hosts it reads from."""

    delay_s: float = Field(
        1.0, ge=0, le=3600, description="between two requests to a host; robots.txt may ask for more"
    )
    per_host: int = Field(2, ge=1, le=64, description="requests to a host at once")
    connect_timeout_s: float = Field(10.0, gt=0, le=600, description="to reach a host")
    timeout_s: float = Field(60.0, gt=0, le=3600, description="for a whole response")
    max_redirects: int = Field(5, ge=0, le=20, description="in a row")
    retries: int = Field(3, ge=0, le=20, description="after a timeout, a lost connection, 408, 425, 429 or 5xx")
    backoff_s: float = Field(1.0, ge=0, le=600, description="before the first retry; doubles with each")
    max_wait_s: float = Field(
        120.0, ge=0, le=86400, description="longest Retry-After or crawl delay that is waited for"
    )
    allow_private: bool = Field(False, description="read from private and loopback addresses too")
    contact: str = Field("", max_length=200, description="address or URL told in the User-Agent header")


class CrawlConfig(Config):
    """One crawl."""

    start: tuple[str, ...] = Field(
        min_length=1, description="pages or sitemaps (also indexes, also gzipped) to start from"
    )
    hosts: tuple[str, ...] = Field(
        (),
        description="hosts to read pages and photos from; '.shop.com' takes its subdomains too; none: those of `start`",
    )
    include: tuple[str, ...] = Field((), description="regular expressions; a page's URL must match one; none: all do")
    exclude: tuple[str, ...] = Field((), description="regular expressions; a page whose URL matches one is left out")
    images: Literal["product", "all"] = Field("product", description="take photos from product pages only, or from all")
    max_pages: int = Field(10_000, ge=1, le=10_000_000, description="pages and sitemaps read")
    max_images: int = Field(100_000, ge=1, le=100_000_000, description="photos asked for")
    max_depth: int = Field(20, ge=0, le=1000, description="links followed from a start page on")
    max_page_bytes: int = Field(5_000_000, ge=1, description="largest page")
    max_sitemap_bytes: int = Field(
        50_000_000, ge=1, description="largest sitemap, unpacked; 50 MB is the protocol's own"
    )
    image: ImageLimits = Field(ImageLimits(min_side_px=200), description="smaller and larger photos are left out")
    fetch: FetchLimits = Field(FetchLimits(), description="towards the hosts")
    retry_failed: bool = Field(False, description="ask again for what an earlier run could not get")


class CrawlReport(Config):
    """What a crawl found. The same however often it was cut off and started again."""

    pages: int = Field(0, ge=0, description="pages read")
    sitemaps: int = Field(0, ge=0, description="sitemaps read")
    found: int = Field(0, ge=0, description="photos asked for; found = images + duplicates + failures among them")
    images: int = Field(0, ge=0, description="photos kept, one row each in the manifest")
    duplicates: int = Field(0, ge=0, description="photos whose bytes another URL gave already")
    failures: dict[str, int] = Field(default_factory=dict, description="pages and photos not read, by code")
    refused_hosts: dict[str, int] = Field(
        default_factory=dict, description="photos left out as their host is not allowed"
    )
    unread: int = Field(0, ge=0, description="pages known and not read, as a limit was reached")
