"""Product photos from web shops, with what the pages say of them, politely."""

from tryon.data.crawl.config import CrawlConfig, CrawlReport, FetchLimits

__all__ = ["CrawlConfig", "CrawlReport", "FetchLimits"]
