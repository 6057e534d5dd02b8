"""What a page of a shop says: links, photos, and the product they show (JSON-LD of schema.org, OpenGraph, img tags)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import lxml.etree
import lxml.html

from tryon.data.crawl.guard import FetchError, parse_url

MAX_IMAGES = 200  # of a page; a gallery has ten
MAX_LINKS = 20_000
PHOTO_ENDS = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp")
_NESTED = ("@graph", "mainEntity", "itemListElement", "item", "hasVariant", "mainEntityOfPage")
_PRODUCTS = ("Product", "ProductGroup", "IndividualProduct", "ProductModel")
_FURNITURE = "ancestor::header or ancestor::footer or ancestor::nav or ancestor::aside or ancestor::noscript"


@dataclass(frozen=True)
class Picture:
    """A photo that a page shows, with what the page says of it.

    Attributes:
        url: absolute.
        told: title, brand, price, currency, category, product, alt: those that are known, as text.
    """

    url: str
    told: dict[str, str]


@dataclass(frozen=True)
class Page:
    """What was read from a page.

    Attributes:
        links: absolute URLs, in the page's order.
        pictures: photos of the product, or all of the page.
        is_product: the page says that it shows a product.
    """

    links: list[str] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    is_product: bool = False


def read_page(body: bytes, url: str, charset: str | None) -> Page:
    """Reads HTML, however broken.

    Args:
        body: the page.
        url: where it came from, which relative URLs refer to.
        charset: that the host told; None: the page's own word for it.
    """
    try:
        root = lxml.html.document_fromstring(body, parser=_parser(charset))
    except (lxml.etree.ParserError, lxml.etree.XMLSyntaxError, ValueError):  # empty, or nothing that is markup
        return Page()
    base = next((href for href in root.xpath("//base/@href")), "")
    base = _absolute(base, url) or url
    products = list(_products(root))
    graph = _open_graph(root)
    is_product = _shows_one(products) or graph.get("og:type", [""])[0].startswith("product")
    told = {**_told_by_graph(graph), **(_told_by_product(products[0]) if _shows_one(products) else {}), "page": url}
    pictures: dict[str, Picture] = {}
    for picture_url, more in _pictures(root, products, graph, is_product):
        absolute = _absolute(picture_url, base)
        if absolute and len(pictures) < MAX_IMAGES:
            pictures.setdefault(absolute, Picture(absolute, {**told, **more}))
    return Page([] if _is_nofollow(root) else _links(root, base), list(pictures.values()), is_product)


def _parser(charset: str | None) -> lxml.html.HTMLParser:
    try:
        return lxml.html.HTMLParser(encoding=charset)
    except LookupError:  # a charset that nobody knows
        return lxml.html.HTMLParser()


def _absolute(url: str, base: str) -> str | None:
    try:
        return str(parse_url(url, base))
    except FetchError:  # javascript:, mailto:, data: and the like
        return None


def _is_nofollow(root: Any) -> bool:
    words = " ".join(root.xpath("//meta[translate(@name, 'ROBTS', 'robts')='robots']/@content")).lower()
    return "nofollow" in words or "none" in words.replace(",", " ").split()


def _links(root: Any, base: str) -> list[str]:
    hrefs = root.xpath(
        "//a[@href][not(contains(concat(' ', @rel, ' '), ' nofollow '))]/@href | //link[@rel='next']/@href"
    )
    found = (_absolute(href, base) for href in hrefs[:MAX_LINKS])
    return [url for url in dict.fromkeys(found) if url and not _is_photo(url)]


def _is_photo(url: str) -> bool:
    return url.partition("?")[0].lower().endswith(PHOTO_ENDS)


# JSON-LD


def _products(root: Any) -> Iterator[dict[str, Any]]:
    for script in root.xpath("//script[contains(translate(@type, 'LDJSON', 'ldjson'), 'ld+json')]"):
        text = (script.text or "").strip().removeprefix("<!--").removesuffix("-->").strip()
        try:
            yield from _find_products(json.loads(text, strict=False), 0)
        except (ValueError, RecursionError):  # pages with broken JSON-LD are common; the other ways are still there
            continue


def _find_products(node: Any, depth: int) -> Iterator[dict[str, Any]]:
    if depth > 8:
        return
    if isinstance(node, list):
        for child in node:
            yield from _find_products(child, depth + 1)
    elif isinstance(node, dict):
        kinds = node.get("@type")
        if any(kind in _PRODUCTS for kind in (kinds if isinstance(kinds, list) else [kinds])):
            yield node
        for key in _NESTED:
            yield from _find_products(node.get(key), depth + 1)


def _shows_one(products: list[dict[str, Any]]) -> bool:
    """One product, maybe with its variants; several are a list of products that have pages of their own."""
    return len(products) == 1 or (bool(products) and products[0].get("@type") == "ProductGroup")


def _told_by_product(product: dict[str, Any]) -> dict[str, str]:
    offer = _first(product.get("offers"))
    offer = offer if isinstance(offer, dict) else {}
    names = ("productID", "sku", "productGroupID", "mpn", "gtin13", "gtin", "@id")
    told = {
        "product": next((_text(product[name]) for name in names if product.get(name)), ""),
        "title": _text(product.get("name")),
        "brand": _text(product.get("brand")),
        "category": _text(product.get("category")),
        "price": _text(offer.get("price") or offer.get("lowPrice")),
        "currency": _text(offer.get("priceCurrency")),
    }
    return {name: value for name, value in told.items() if value}


def _first(value: Any) -> Any:
    return (value[0] if value else None) if isinstance(value, list) else value


def _text(value: Any) -> str:
    value = _first(value)
    if isinstance(value, dict):
        value = value.get("name") or value.get("@value") or value.get("@id")
    return " ".join(str(value).split()) if isinstance(value, str | int | float) else ""


def _product_images(product: dict[str, Any]) -> Iterator[str]:
    images = product.get("image")
    for image in images if isinstance(images, list) else [images]:
        url = (image.get("contentUrl") or image.get("url")) if isinstance(image, dict) else image
        if isinstance(url, str) and url:
            yield url


# OpenGraph


def _open_graph(root: Any) -> dict[str, list[str]]:
    graph: dict[str, list[str]] = {}
    for meta in root.xpath("//meta[@property][@content]"):
        graph.setdefault(meta.get("property").strip().lower(), []).append(meta.get("content").strip())
    return graph


def _told_by_graph(graph: dict[str, list[str]]) -> dict[str, str]:
    names = {
        "title": ("og:title",),
        "brand": ("product:brand", "og:brand"),
        "category": ("product:category",),
        "price": ("product:price:amount", "og:price:amount"),
        "currency": ("product:price:currency", "og:price:currency"),
        "product": ("product:retailer_item_id",),
    }
    told = {key: next((graph[name][0] for name in of if name in graph), "") for key, of in names.items()}
    return {key: value for key, value in told.items() if value}


# Pictures


def _pictures(
    root: Any, products: list[dict[str, Any]], graph: dict[str, list[str]], is_product: bool
) -> Iterator[tuple[str, dict[str, str]]]:
    """URLs with what is told of each beyond the page's own product; the best source first."""
    for product in products:
        for url in _product_images(product):
            yield url, _told_by_product(product)
    for url in (*graph.get("og:image:secure_url", []), *graph.get("og:image", []), *graph.get("og:image:url", [])):
        yield url, {}
    for image in root.xpath(f"//img[not({_FURNITURE})]" if is_product else "//img"):
        link = next(image.iterancestors("a"), None)
        href = "" if link is None else link.get("href") or ""
        if is_product and href and not href.startswith("#") and not _is_photo(href):
            continue  # a picture that leads to another page shows another product
        yield from _of_img(image, href)


def _of_img(image: Any, href: str) -> Iterator[tuple[str, dict[str, str]]]:
    alt = " ".join((image.get("alt") or "").split())
    told = {"alt": alt} if alt else {}
    if _is_photo(href):  # a thumbnail in a link to the photo itself
        yield href, told
        return
    sets = [image.get(name) or "" for name in ("srcset", "data-srcset")]
    around = next(image.iterancestors("picture"), None)
    if around is not None:  # the parser takes <source> for a container: the img may lie inside it
        sets += [source.get("srcset") or "" for source in around.iter("source")]
    largest = largest_of_srcset(",".join(text for text in sets if text))
    url = largest or image.get("data-src") or image.get("src") or ""
    if url and not url.startswith("data:"):
        yield url, told


def largest_of_srcset(text: str) -> str | None:
    """URL of the widest (``800w``) or densest (``2x``) candidate of a srcset; the first of equals.

    Candidates are parted by commas, and URLs may hold commas: a comma ends a URL only where white space follows it, or
    after a descriptor.
    """
    best, best_size = None, -1.0
    rest = text.strip().lstrip(",").strip()
    while rest:
        url, _, rest = rest.partition(" ")
        descriptor = ""
        if not url.endswith(","):
            descriptor, _, rest = rest.partition(",")
        size = _descriptor_size(descriptor)
        if url.rstrip(",") and size > best_size:
            best, best_size = url.rstrip(","), size
        rest = rest.strip().lstrip(",").strip()
    return best


def _descriptor_size(descriptor: str) -> float:
    word = descriptor.strip().split(" ")[0]
    try:
        return float(word[:-1]) if word[-1:] in ("w", "x") else 1.0
    except ValueError:
        return 1.0
