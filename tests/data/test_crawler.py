"""The crawler against a shop on loopback: polite, bounded, and the same result however often it is cut off."""

from __future__ import annotations

import email.utils
import gzip
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.data.reading import rows_of
from tests.data.shop import Answer, Shop, open_shop, picture, product_page, stocked
from tests.s3 import s3_bucket
from tryon import storage
from tryon.config import ImageLimits
from tryon.data.crawl import CrawlConfig, CrawlReport, FetchLimits
from tryon.data.crawl.guard import FetchError, is_public, parse_url
from tryon.data.crawl.page import largest_of_srcset, read_page
from tryon.data.crawl.sitemap import read_sitemap, unpacked
from tryon.data.crawl.walk import CrawlProgress, crawl
from tryon.data.sources.manifest import ManifestSource
from tryon.data.sources.open import open_source
from tryon.errors import ConfigError, DataError, StorageError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def shop() -> Iterator[Shop]:
    with open_shop() as shop:
        yield shop


def config(shop: Shop, *start: str, fetch: dict[str, Any] | None = None, **more: Any) -> CrawlConfig:
    limits = {"delay_s": 0.0, "backoff_s": 0.01, "allow_private": True, "per_host": 8, "timeout_s": 10.0} | (
        fetch or {}
    )
    return CrawlConfig(
        start=tuple(shop.url + path for path in start or ("/",)),
        **{"image": ImageLimits(), **more},
        fetch=FetchLimits(**limits),
    )


def manifest(out: Path | str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(f"{out}/manifest-00000.parquet").to_pylist()
    return rows


def failures(out: Path | str) -> dict[str, str]:
    """Path to code of what was not read."""
    rows = pq.read_table(f"{out}/_failures/part-00000.parquet").to_pylist()
    return {parse_url(row["uri"]).path: row["code"] for row in rows}


def tree(out: Path) -> dict[str, bytes]:
    """All files, less those that a killed process was about to rename."""
    files = (path for path in sorted(out.rglob("*")) if path.is_file() and path.suffix != ".tmp")
    return {str(path.relative_to(out)): path.read_bytes() for path in files}


def one_product(shop: Shop, *images: str) -> None:
    shop.page("/", product_page("shirt", *images))


# The way through a shop


def test_products_are_found_with_what_their_pages_say(shop: Shop, tmp_path: Path) -> None:
    stocked(shop)
    told: list[CrawlProgress] = []
    report = crawl(config(shop), str(tmp_path), told.append)
    assert report == CrawlReport(pages=9, found=12, images=12, failures={"robots-disallowed": 1})
    rows = manifest(tmp_path)
    assert [row["title"] for row in rows] == [f"shirt {i}" for i in (0, 0, 2, 2, 4, 4, 1, 1, 3, 3, 5, 5)], (
        "breadth first"
    )
    first = rows[0]
    assert (first["brand"], first["price"], first["currency"], first["category"]) == (
        "Acme",
        "19.9",
        "EUR",
        "Women > Tops",
    )
    assert (first["width"], first["height"], first["garment_id"]) == (48, 64, "127.0.0.1/shirt 0")
    assert (first["page_uri"], first["image_uri"]) == (f"{shop.url}/p/0.html", f"{shop.url}/i/0a.jpg")
    assert (tmp_path / first["photo"]).read_bytes() == picture(0)
    assert set(shop.times().values()) == {1}, "nothing twice"
    assert shop.times()["/private/x"] == 0
    assert told[-1] == CrawlProgress(pages=9, images=12, failed=1, waiting=0, requests=len(shop.requests))


def test_what_was_crawled_is_a_source(shop: Shop, tmp_path: Path) -> None:
    stocked(shop)
    crawl(config(shop), str(tmp_path))
    source = open_source(str(tmp_path))
    assert isinstance(source, ManifestSource)
    rows = rows_of(source)
    assert len(rows) == len({row["id"] for row in rows}) == 12
    assert rows[0]["photo_file"] == picture(0)
    assert json.loads(rows[0]["metadata"])["title"] == "shirt 0"
    assert rows[0]["garment_id"] == rows[1]["garment_id"]


def test_a_crawler_says_what_it_is_and_keeps_no_cookies(shop: Shop, tmp_path: Path) -> None:
    stocked(shop)
    shop.page("/", '<a href="/c0">c</a>', headers={"Set-Cookie": "a=b"})
    crawl(config(shop, fetch={"contact": "me@example.org"}), str(tmp_path))
    for request in shop.requests:
        assert request.headers["User-Agent"].startswith("tryon-crawler/")
        assert "(+me@example.org)" in request.headers["User-Agent"]
        assert "Cookie" not in request.headers


def test_limits_on_pages_images_and_depth(shop: Shop, tmp_path: Path) -> None:
    stocked(shop)
    report = crawl(config(shop, max_pages=4), str(tmp_path / "pages"))
    assert (report.pages, report.unread, report.failures) == (3, 6, {"robots-disallowed": 1})
    report = crawl(config(shop, max_images=3), str(tmp_path / "images"))
    assert (report.found, report.images) == (3, 3)
    report = crawl(config(shop, max_depth=1), str(tmp_path / "depth"))
    assert (report.pages, report.found) == (3, 0)


def test_patterns_say_which_pages_are_read(shop: Shop, tmp_path: Path) -> None:
    stocked(shop)
    report = crawl(config(shop, include=("/c", "/p/[0-3]"), exclude=("c1$", "private")), str(tmp_path))
    assert {row["page_uri"] for row in manifest(tmp_path)} == {f"{shop.url}/p/{i}.html" for i in (0, 2)}
    assert report.failures == {}
    with pytest.raises(ConfigError, match=r"'\(' is no regular expression"):
        crawl(config(shop, include=("(",)), str(tmp_path))
    with pytest.raises(ConfigError, match="start: 'ftp://x' is no http or https URL"):
        crawl(CrawlConfig(start=("ftp://x",)), str(tmp_path))


def test_only_allowed_hosts_are_asked(shop: Shop, tmp_path: Path) -> None:
    with open_shop() as other:
        one_product(shop, other.url.replace("127.0.0.1", "localhost") + "/a.jpg", "/to-other.jpg", "/b.jpg")
        shop.photo("/b.jpg")
        shop.routes["/to-other.jpg"] = Answer(
            status=302, headers={"Location": other.url.replace("127.0.0.1", "localhost") + "/a.jpg"}
        )
        other.photo("/a.jpg")
        report = crawl(config(shop), str(tmp_path / "one"))
        assert report.refused_hosts == {"localhost": 1}
        assert report.failures == {"host-not-allowed": 1}
        assert report.images == 1
        assert other.requests == []
        report = crawl(config(shop, hosts=("127.0.0.1", "localhost")), str(tmp_path / "two"))
        assert (report.images, report.duplicates) == (1, 2), "the same bytes at both shops"


def test_private_addresses_are_refused(shop: Shop, tmp_path: Path) -> None:
    stocked(shop)
    for start in (shop.url, shop.url.replace("127.0.0.1", "localhost")):
        with pytest.raises(DataError, match="private address"):
            crawl(CrawlConfig(start=(start,), fetch=FetchLimits(delay_s=0, retries=0)), str(tmp_path))
    assert shop.requests == []


def test_what_is_public() -> None:
    for address in ("8.8.8.8", "2001:4860:4860::8888", "64:ff9b::808:808"):
        assert is_public(address), address
    for address in (
        "127.0.0.1", "10.1.2.3", "169.254.169.254", "192.168.0.1", "172.16.0.1", "100.64.0.1", "0.0.0.0", "224.0.0.1",
        "::1", "fe80::1%eth0", "fc00::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "255.255.255.255",
        "fec0::1", "64:ff9b:1::1", "::7f00:1", "2001::1", "2001:db8::1", "3fff::1", "ff02::1", "::",
    ):  # fmt: skip
        assert not is_public(address), address


# Politeness


def test_a_delay_between_requests_to_a_host_is_kept(shop: Shop, tmp_path: Path) -> None:
    stocked(shop, num=2)
    shop.page("/", '<a href="/c0">c</a>')
    crawl(config(shop, fetch={"delay_s": 0.4}), str(tmp_path))
    times = [request.at for request in shop.requests]
    assert len(times) == 6
    # When they arrived: one that was held up on its way stands closer to the next.
    assert min(b - a for a, b in itertools.pairwise(times)) > 0.25


def test_robots_may_ask_for_a_longer_delay(shop: Shop, tmp_path: Path) -> None:
    stocked(shop, num=2)
    shop.page("/robots.txt", "User-agent: *\nCrawl-delay: 0.4\n", type="text/plain")
    crawl(config(shop, max_pages=3), str(tmp_path))
    times = [request.at for request in shop.requests][1:]
    assert len(times) == 3
    assert min(b - a for a, b in itertools.pairwise(times)) > 0.25


def test_a_crawl_delay_that_is_too_long_is_not_waited_for(shop: Shop, tmp_path: Path) -> None:
    shop.page("/robots.txt", "User-agent: tryon-crawler\nCrawl-delay: 1000\n", type="text/plain")
    with pytest.raises(DataError, match="asks for 1000 s between pages"):
        crawl(config(shop), str(tmp_path))


def test_no_more_requests_at_once_than_allowed(shop: Shop, tmp_path: Path) -> None:
    lock, now, most = threading.Lock(), 0, 0

    def slow(_: int) -> Answer:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.05)
        with lock:
            now -= 1
        return Answer(picture(), "image/jpeg")

    images = [f"/{i}.jpg" for i in range(8)]
    one_product(shop, *images)
    shop.routes |= dict.fromkeys(images, slow)
    crawl(config(shop, fetch={"per_host": 2}), str(tmp_path))
    assert most == 2


@pytest.mark.parametrize(
    ("answer", "allowed"),
    [
        (Answer(status=404), True),
        (Answer(status=403), True),
        (Answer(b"\xff\xfe noise", "text/html"), True),
        (Answer(b"User-agent: *\nDisallow: /", "text/plain"), False),
        (Answer(b"User-agent: tryon-crawler\nDisallow: /\n\nUser-agent: *\nAllow: /", "text/plain"), False),
        (Answer(b"User-agent: other\nDisallow: /", "text/plain"), True),
        (Answer(b"User-agent: *\nDisallow: /\n" + b"#" * 600_000, "text/plain"), False),
        (Answer(status=503), False),
    ],
)
def test_robots(shop: Shop, tmp_path: Path, answer: Answer, allowed: bool) -> None:
    shop.routes["/robots.txt"] = answer
    shop.page("/", "<p>")
    if allowed:
        assert crawl(config(shop), str(tmp_path)).pages == 1
    else:
        with pytest.raises(DataError, match=r"robots\.txt"):
            crawl(config(shop), str(tmp_path))
        assert shop.times()["/"] == 0


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_waited_for(shop: Shop, tmp_path: Path, status: int) -> None:
    at = email.utils.formatdate(time.time() + 2, usegmt=True)
    stocked(shop, num=1)
    shop.routes["/c0"] = lambda before: (
        Answer(b'<a href="/p/0.html">p</a>')
        if before
        else Answer(status=status, headers={"Retry-After": "1" if status == 429 else at})
    )
    report = crawl(config(shop), str(tmp_path))
    assert (report.images, report.failures) == (2, {"robots-disallowed": 1})
    first, second = (request.at for request in shop.requests if request.path == "/c0")
    assert second - first > 0.95


def test_a_retry_after_that_is_too_long_is_a_failure(shop: Shop, tmp_path: Path) -> None:
    stocked(shop, num=1)
    shop.routes["/c0"] = Answer(status=429, headers={"Retry-After": "86400"})
    start = time.monotonic()
    crawl(config(shop), str(tmp_path))
    assert failures(tmp_path)["/c0"] == "url-busy"
    assert shop.times()["/c0"] == 1
    assert time.monotonic() - start < 5


def test_retries_back_off(shop: Shop, tmp_path: Path) -> None:
    stocked(shop, num=1)
    shop.routes["/c0"] = Answer(status=500)
    crawl(config(shop, fetch={"backoff_s": 0.1, "retries": 2}), str(tmp_path))
    times = [request.at for request in shop.requests if request.path == "/c0"]
    gaps = [b - a for a, b in itertools.pairwise(times)]
    assert len(gaps) == 2
    assert gaps[0] > 0.09
    assert gaps[1] > 0.19
    assert failures(tmp_path)["/c0"] == "url-busy"


# What is taken


def test_what_is_no_photo_is_not_taken(shop: Shop, tmp_path: Path) -> None:
    photo = picture(3, (80, 60))
    answers = {
        "/good.jpg": Answer(photo, "image/jpeg"),
        "/untyped": Answer(picture(4, (80, 60)), None),
        "/page.jpg": Answer(b"<html>", "text/html"),
        "/noise.jpg": Answer(b"noise" * 99, "image/jpeg"),
        "/large.jpg": Answer(photo + bytes(30_000), "image/jpeg"),
        "/wide.jpg": Answer(picture(5, (40, 400)), "image/jpeg"),
        "/small.jpg": Answer(picture(6, (20, 20)), "image/jpeg"),
        "/cut.jpg": Answer(photo, "image/jpeg", cut=100),
        "/loop.jpg": Answer(status=302, headers={"Location": "/loop.jpg"}),
        "/denied.jpg": Answer(status=401),
        "/odd.jpg": Answer(status=418),
        "/to-file.jpg": Answer(status=302, headers={"Location": "file:///etc/passwd"}),
        "/packed.jpg": Answer(gzip.compress(bytes(5_000_000)), "image/jpeg", headers={"Content-Encoding": "gzip"}),
        "/slow.jpg": Answer(photo, "image/jpeg", wait_s=3),
    }
    one_product(shop, *answers, "/gone.jpg", "http://127.0.0.1:1/dead.jpg")
    shop.routes |= answers
    limits = ImageLimits(max_bytes=20_000, max_side_px=300, min_side_px=32)
    report = crawl(config(shop, image=limits, fetch={"retries": 1, "timeout_s": 1}), str(tmp_path))
    assert failures(tmp_path) == {
        "/page.jpg": "content-type", "/noise.jpg": "not-an-image", "/large.jpg": "body-too-large",
        "/wide.jpg": "image-too-large", "/small.jpg": "image-too-small", "/cut.jpg": "body-cut",
        "/loop.jpg": "too-many-redirects", "/denied.jpg": "url-denied", "/odd.jpg": "http-status",
        "/to-file.jpg": "url-invalid", "/packed.jpg": "body-too-large", "/slow.jpg": "url-timeout",
        "/gone.jpg": "url-missing", "/dead.jpg": "robots-unreachable",
    }  # fmt: skip
    assert report.found == 16 == report.images + report.duplicates + sum(report.failures.values())
    assert [row["image_uri"] for row in manifest(tmp_path)] == [f"{shop.url}/good.jpg", f"{shop.url}/untyped"]


def test_redirects_are_followed_to_a_bound(shop: Shop, tmp_path: Path) -> None:
    for i in range(6):
        shop.routes[f"/r{i}"] = Answer(status=301, headers={"Location": f"r{i + 1}"})
    shop.page("/r6", product_page("shirt", "deep/a.jpg"))
    shop.photo("/deep/a.jpg")
    assert crawl(config(shop, "/r1"), str(tmp_path)).images == 1
    assert manifest(tmp_path)[0]["page_uri"] == f"{shop.url}/r6"
    with pytest.raises(DataError, match="redirected more than 5 times"):
        crawl(config(shop, "/r0"), str(tmp_path))


def test_one_photo_at_many_urls_is_kept_once(shop: Shop, tmp_path: Path) -> None:
    one_product(
        shop, "/a.jpg", "/a.jpg#x", "/a.jpg?v=2", "http://127.0.0.1/../a.jpg".replace("127.0.0.1/..", shop.url[7:])
    )
    shop.photo("/a.jpg")
    shop.photo("/a.jpg?v=2")
    report = crawl(config(shop), str(tmp_path))
    assert (report.found, report.images, report.duplicates) == (2, 1, 1)
    assert shop.times() == {"/": 1, "/a.jpg": 1, "/a.jpg?v=2": 1}


def test_sitemaps_indexes_and_packed_ones(shop: Shop, tmp_path: Path) -> None:
    stocked(shop)
    space = 'xmlns="http://www.sitemaps.org/schemas/sitemap/0.9"'

    def urls(*paths: str) -> bytes:
        return f"<urlset {space}>{''.join(f'<url><loc> {shop.url}{p} </loc></url>' for p in paths)}</urlset>".encode()

    maps = "".join(f"<sitemap><loc>{shop.url}{path}</loc></sitemap>" for path in ("/a.xml", "/b.xml.gz", "/gone.xml"))
    shop.routes["/index.xml"] = Answer(
        f"<?xml version='1.0'?><sitemapindex {space}>{maps}</sitemapindex>".encode(), "text/xml"
    )
    shop.routes["/a.xml"] = Answer(urls("/p/0.html", "/p/1.html") + b"<broken", "application/xml")
    shop.routes["/b.xml.gz"] = Answer(gzip.compress(urls("/p/5.html", "/p/0.html")), "application/gzip")
    report = crawl(config(shop, "/index.xml", include=("/p/",)), str(tmp_path))
    assert (report.sitemaps, report.pages, report.images) == (3, 3, 6)
    assert failures(tmp_path) == {"/gone.xml": "url-missing"}


def test_a_sitemap_that_would_not_end(tmp_path: Path) -> None:
    bomb = gzip.compress(b"<urlset>" + bytes(10_000_000))
    with pytest.raises(FetchError, match="more than 1,000 bytes"):
        unpacked(bomb, "u", 1000)
    with pytest.raises(FetchError, match="damaged gzip"):
        unpacked(b"\x1f\x8bnoise", "u", 1000)
    lol = b'<!DOCTYPE l [<!ENTITY a "x"><!ENTITY b "&a;&a;">]><urlset><url><loc>http://h/&b;</loc></url></urlset>'
    assert all("xx" not in url for url in read_sitemap(lol, "http://h/"))


def test_a_place_that_cannot_be_written_is_found_first(shop: Shop, tmp_path: Path) -> None:
    stocked(shop)
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot be written"):
        crawl(config(shop), str(tmp_path / "file"))
    assert shop.requests == []


def test_no_start_page_is_an_error_with_its_reason(shop: Shop, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no start page could be read: .*does not exist \(404\)") as caught:
        crawl(config(shop, "/nowhere"), str(tmp_path))
    assert caught.value.code == "crawl-empty"


# Pages


def pictures(html: str, url: str = "http://shop/p/1.html") -> dict[str, str]:
    return {picture.url: picture.told.get("alt", "") for picture in read_page(html.encode(), url, None).pictures}


def test_open_graph_pages() -> None:
    page = read_page(
        b"""<head><meta property="og:type" content="product"><meta property="og:title" content=" A &amp; B ">
        <meta property="og:image" content="//cdn/a.jpg"><meta property="product:price:amount" content="5">
        <meta property="product:retailer_item_id" content="77">""",
        "https://shop/x", None,
    )  # fmt: skip
    assert page.is_product
    (found,) = page.pictures
    assert found.url == "https://cdn/a.jpg"
    assert found.told == {"title": "A & B", "price": "5", "product": "77", "page": "https://shop/x"}


def test_img_tags_of_a_product_page() -> None:
    html = """<meta property="og:type" content="product"><base href="/base/">
    <header><img src="logo.png"></header>
    <img src="small.jpg" srcset="small.jpg 100w, big,1.jpg 800w, mid.jpg 400w" alt=" front  view ">
    <img src="data:image/gif;base64,R0" data-src="lazy.jpg">
    <picture><source srcset="p1.webp 1x, p2.webp 2x"><img src="p.jpg"></picture>
    <a href="zoom.JPG?w=1"><img src="thumb.jpg"></a>
    <a href="/p/2.html"><img src="other-product.jpg"></a>
    <img src="javascript:x"><img>"""
    assert pictures(html) == {
        "http://shop/base/big,1.jpg": "front view",
        "http://shop/base/lazy.jpg": "",
        "http://shop/base/p2.webp": "",
        "http://shop/base/zoom.JPG?w=1": "",
    }


def test_lists_of_products_are_not_product_pages() -> None:
    item = '{"@type": "Product", "name": "n", "image": {"@type": "ImageObject", "url": "/i.jpg"}}'
    html = f"""<script type="application/ld+json">{{"@graph": [{{"@type": "ItemList",
      "itemListElement": [{{"item": {item}}}, {{"item": {item}}}]}}]}}</script>"""
    page = read_page(html.encode(), "http://shop/", None)
    assert not page.is_product
    group = (
        f'<script type="application/ld+json">{{"@type": "ProductGroup", "name": "g", "hasVariant": [{item}]}}</script>'
    )
    page = read_page(group.encode(), "http://shop/", None)
    assert page.is_product
    assert [p.told["title"] for p in page.pictures] == ["n"]


def test_broken_pages() -> None:
    for body in (
        b"",
        b"   ",
        b"\x00\xff\xfe",
        b"<" * 100_000,
        b"<div>" * 5_000,
        b"<!-- ",
        b"{}",
        bytes(range(256)) * 9,
    ):
        assert read_page(body, "http://shop/", None).pictures == []
    html = """<a href="http://[broken">x<a href=" /ok "><a href=mailto:x@y><script type="application/ld+json">{broken
    </script><script type='application/ld+json'><!--
    {"@type": ["Product"], "name": "n", "image": ["/a.jpg", null, 5]} --></script><p>ü"""
    for charset in (None, "utf-8", "no-such-charset"):
        page = read_page(html.encode(), "http://shop/x/", charset)
        assert page.links == ["http://shop/ok"]
        assert [p.url for p in page.pictures] == ["http://shop/a.jpg"]


def test_links_that_ask_not_to_be_followed() -> None:
    html = b'<a href="/a" rel="nofollow x">a</a><a href="/b">b</a><a href="/c.jpg">c</a><link rel="next" href="?p=2">'
    assert read_page(html, "http://shop/", None).links == ["http://shop/b", "http://shop/?p=2"]
    assert read_page(b'<meta name="ROBOTS" content="NOINDEX, NOFOLLOW">' + html, "http://shop/", None).links == []


@pytest.mark.parametrize(
    ("text", "largest"),
    [
        ("a.jpg", "a.jpg"), ("a.jpg 1x, b.jpg 2x", "b.jpg"), ("a.jpg 100w,b.jpg 90w", "a.jpg"), ("", None),
        (" , ", None),
        ("a,b.jpg 2x, c.jpg", "a,b.jpg"), ("a.jpg wide, b.jpg 2x", "b.jpg"), ("a.jpg, b.jpg", "a.jpg"),
    ],
)  # fmt: skip
def test_srcset(text: str, largest: str | None) -> None:
    assert largest_of_srcset(text) == largest


@pytest.mark.parametrize("url", ["", "http://", "javascript:x", "ftp://h/x", "//", "http://[::1", "http://h:99999/"])
def test_urls_that_are_none(url: str) -> None:
    with pytest.raises(FetchError, match="no http or https URL"):
        parse_url(url)


def test_urls_in_normal_form() -> None:
    assert str(parse_url("HTTP://Ex.Com:80/a b/../ü?q=1#f")) == "http://ex.com/%C3%BC?q=1"
    assert str(parse_url("//h/x", "https://shop/")) == "https://h/x"
    assert str(parse_url("http://user:secret@h/x")) == "http://h/x", "no credentials"


# Cut off and started again


def test_a_second_run_asks_for_nothing_and_writes_the_same(shop: Shop, tmp_path: Path) -> None:
    stocked(shop)
    first = crawl(config(shop), str(tmp_path))
    files, asked = tree(tmp_path), len(shop.requests)
    assert crawl(config(shop), str(tmp_path)) == first
    assert tree(tmp_path) == files
    assert len(shop.requests) == asked


def test_a_longer_crawl_takes_over_a_shorter_one(shop: Shop, tmp_path: Path) -> None:
    stocked(shop)
    crawl(config(shop, max_pages=5), str(tmp_path / "a"))
    crawl(config(shop), str(tmp_path / "a"))
    assert set(shop.times().values()) == {1}
    crawl(config(shop), str(tmp_path / "b"))
    assert tree(tmp_path / "a") == tree(tmp_path / "b")


def test_failures_are_asked_for_again_only_on_demand(shop: Shop, tmp_path: Path) -> None:
    stocked(shop, num=1)
    good = shop.routes["/c0"]
    shop.routes["/c0"] = Answer(status=500)
    assert crawl(config(shop, fetch={"retries": 0}), str(tmp_path)).failures["url-busy"] == 1
    shop.routes["/c0"] = good
    assert crawl(config(shop), str(tmp_path)).failures["url-busy"] == 1
    report = crawl(config(shop, retry_failed=True), str(tmp_path))
    assert (report.images, report.failures) == (2, {"robots-disallowed": 1})
    assert shop.times()["/"] == 1


SCRIPT = """
import sys
from tryon.data.crawl.walk import crawl
from tryon.data.crawl import CrawlConfig
crawl(CrawlConfig.model_validate_json(sys.argv[1]), sys.argv[2])
"""


def test_kill_9_and_on_again(shop: Shop, tmp_path: Path) -> None:
    stocked(shop, num=20)
    for route in shop.routes.values():
        if isinstance(route, Answer):
            route.wait_s = 0.02
    # Under way are two requests, and what was answered and is not on disk yet.
    crawl_config, under_way = config(shop, fetch={"per_host": 2}), 2 + 4
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "platform")}
    cut = tmp_path / "cut"
    for stop_at in (10, 30, 45):
        process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, crawl_config.model_dump_json(), str(cut)], env=environment
        )
        deadline = time.monotonic() + 60
        while sum(shop.times().values()) < stop_at and time.monotonic() < deadline:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not (cut / "_crawl.json").exists(), "killed in the middle"
    crawl(crawl_config, str(cut))
    asked = shop.times()
    assert sum(count - 1 for count in asked.values()) <= 3 * under_way, "only what was under way is asked for again"
    crawl(crawl_config, str(tmp_path / "whole"))
    assert tree(cut) == tree(tmp_path / "whole")


def test_order_does_not_depend_on_timing(shop: Shop, tmp_path: Path) -> None:
    stocked(shop)
    crawl(config(shop), str(tmp_path / "a"))
    for i, route in enumerate(reversed(shop.routes.values())):
        if isinstance(route, Answer):
            route.wait_s = 0.03 * (i % 4)
    crawl(config(shop, fetch={"per_host": 3}), str(tmp_path / "b"))
    ignored = {"_crawl.json", "_crawl/config.json"}  # they hold the configuration
    a, b = tree(tmp_path / "a"), tree(tmp_path / "b")
    assert {k: v for k, v in a.items() if k not in ignored} == {k: v for k, v in b.items() if k not in ignored}


def test_a_crawl_into_a_bucket(shop: Shop, tmp_path: Path) -> None:
    stocked(shop, num=2)
    crawl(config(shop), str(tmp_path))
    with s3_bucket("crawl-test") as bucket:
        crawl(config(shop), f"{bucket}/shop")
        for name, data in tree(tmp_path).items():
            assert storage.read_bytes(f"{bucket}/shop/{name}") == data, name
        rows = rows_of(open_source(f"{bucket}/shop"))
        assert [row["photo_file"] for row in rows] == [row["photo_file"] for row in rows_of(open_source(str(tmp_path)))]
