"""Where a crawl goes: hosts and patterns."""

from __future__ import annotations

import re

import yarl

from tryon.data.crawl.config import CrawlConfig
from tryon.data.crawl.guard import FetchError, parse_url
from tryon.errors import ConfigError


class Rules:
    """Which URLs are read.

    Attributes:
        start: URLs to start from, in normal form.
    """

    def __init__(self, config: CrawlConfig) -> None:
        """Understands URLs, hosts and patterns.

        Raises:
            ConfigError: one of them cannot be used.
        """
        try:
            self.start = [str(parse_url(url)) for url in config.start]
            self._include = [re.compile(pattern) for pattern in config.include]
            self._exclude = [re.compile(pattern) for pattern in config.exclude]
        except FetchError as error:
            raise ConfigError(f"start: {error.message}", code="config-invalid", field="start") from error
        except re.error as error:
            text = f"include or exclude: {error.pattern!r} is no regular expression: {error}"
            raise ConfigError(text, code="config-invalid", field="include") from error
        self._hosts = [host.lower() for host in config.hosts] or [yarl.URL(url).host or "" for url in self.start]

    def is_host_allowed(self, url: str | yarl.URL) -> bool:
        """True for a URL at one of the allowed hosts, on any port."""
        host = yarl.URL(url).host or ""
        return any(host == allowed or (allowed[:1] == "." and f".{host}".endswith(allowed)) for allowed in self._hosts)

    def is_page_wanted(self, url: str) -> bool:
        """True for a page at an allowed host that the patterns let pass."""
        included = not self._include or any(pattern.search(url) for pattern in self._include)
        return self.is_host_allowed(url) and included and not any(pattern.search(url) for pattern in self._exclude)
