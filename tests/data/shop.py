"""A web shop on loopback for the crawler's tests: each path is a response that a test sets, each request is noted."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np

from tryon.codec import encode_jpeg


@dataclass
class Answer:
    """One response; `body` is sent in full unless `cut` says after how many bytes the connection breaks."""

    body: bytes = b""
    type: str | None = "text/html; charset=utf-8"
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    wait_s: float = 0.0
    cut: int | None = None


@dataclass
class Request:
    path: str
    at: float
    headers: dict[str, str]


Route = Answer | Callable[[int], Answer]  # the latter is told how often the path was asked for before


class Shop:
    """Routes by path; `requests` is what was asked for, in order."""

    def __init__(self) -> None:
        self.routes: dict[str, Route] = {}
        self.requests: list[Request] = []
        self.url = ""
        self._lock = threading.Lock()

    def page(self, path: str, html: str, **more: object) -> None:
        self.routes[path] = Answer(html.encode(), **more)  # type: ignore[arg-type]

    def photo(self, path: str, seed: int = 0, size: tuple[int, int] = (64, 48), **more: object) -> bytes:
        data = picture(seed, size)
        self.routes[path] = Answer(data, "image/jpeg", **more)  # type: ignore[arg-type]
        return data

    def times(self) -> Counter[str]:
        """How often each path was asked for, robots.txt aside: it is asked for once a run."""
        return Counter(request.path for request in self.requests if request.path != "/robots.txt")

    def answer(self, request: Request) -> Answer:
        with self._lock:
            before = sum(seen.path == request.path for seen in self.requests)
            self.requests.append(request)
        route = self.routes.get(request.path, Answer(b"not here", "text/plain", 404))
        return route if isinstance(route, Answer) else route(before)


def picture(seed: int = 0, size: tuple[int, int] = (64, 48)) -> bytes:
    """A JPEG of (height, width) px that differs with the seed."""
    rng = np.random.default_rng(seed)
    return encode_jpeg(np.full((*size, 3), rng.integers(0, 255, 3), np.uint8))


@contextmanager
def open_shop() -> Iterator[Shop]:
    """A shop that serves on a free port of 127.0.0.1."""
    shop = Shop()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            answer = shop.answer(Request(self.path, time.monotonic(), dict(self.headers)))
            time.sleep(answer.wait_s)
            self.send_response(answer.status)
            if answer.type is not None:
                self.send_header("Content-Type", answer.type)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body[: answer.cut])
            if answer.cut is not None:
                self.close_connection = True

        def log_message(self, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            pass  # a client that was killed, or had enough

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    shop.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield shop
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def product_page(title: str, *images: str, sku: str = "", links: str = "") -> str:
    """A product page with JSON-LD, as shops write it."""
    listed = ", ".join(f'"{image}"' for image in images)
    return f"""<html><head><title>{title}</title><script type="application/ld+json">
    {{"@context": "https://schema.org", "@type": "Product", "name": "{title}", "sku": "{sku or title}",
      "image": [{listed}], "brand": {{"@type": "Brand", "name": "Acme"}}, "category": "Women > Tops",
      "offers": {{"@type": "Offer", "price": 19.9, "priceCurrency": "EUR"}}}}
    </script></head><body>{links}</body></html>"""


def stocked(shop: Shop, num: int = 6) -> None:
    """A front page, category pages and `num` products of two photos each."""
    shop.page("/robots.txt", "User-agent: *\nDisallow: /private\n", type="text/plain")
    shop.page("/", "".join(f'<a href="/c{i}">c</a>' for i in range(2)) + '<a href="/private/x">no</a>')
    for c in range(2):
        shop.page(f"/c{c}", "".join(f'<a href="p/{i}.html">p</a>' for i in range(num) if i % 2 == c))
    for i in range(num):
        shop.page(f"/p/{i}.html", product_page(f"shirt {i}", f"../i/{i}a.jpg", f"/i/{i}b.jpg"))
        shop.photo(f"/i/{i}a.jpg", 2 * i)
        shop.photo(f"/i/{i}b.jpg", 2 * i + 1)
