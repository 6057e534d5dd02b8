from __future__ import annotations

import asyncio
import gzip
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.serving.sites import PHOTO, Site, answer, certified, site, to
from tryon.config import parse_config
from tryon.data.crawl.guard import FetchError
from tryon.errors import ConfigError
from tryon.serving.config import FetchConfig
from tryon.serving.fetch import Fetcher

METADATA = "http://169.254.169.254/latest/meta-data/"
Work = Callable[[Site], Awaitable[None]]


def on_site(work: Work, host: str = "127.0.0.1") -> None:
    """Runs a test's work beside a site, in one event loop."""

    async def both() -> None:
        async with site(host=host) as running:
            await work(running)

    asyncio.run(asyncio.wait_for(both(), 30))


def local(running: Site, **more: object) -> FetchConfig:
    """A config under which the site may be fetched."""
    return FetchConfig.model_validate(
        {"private_hosts": ("127.0.0.1", "photos.test"), "ports": (80, 443, running.port), **more}
    )


async def refused(fetcher: Fetcher, url: str, code: str, *words: str) -> FetchError:
    with pytest.raises(FetchError) as caught:
        await fetcher.fetch(url, field="person_url")
    error = caught.value
    assert (error.code, error.field) == (code, "person_url"), error.message
    for word in words:
        assert word in error.message
    return error


def resolver(*answers: list[str]) -> Callable[[str, int], Awaitable[list[str]]]:
    """DNS that gives one answer after the other, then the last one for ever."""
    left = list(answers)

    async def ask(host: str, port: int) -> list[str]:
        return left.pop(0) if len(left) > 1 else left[0]

    return ask


# What is fetched


def test_a_photo_by_url() -> None:
    async def work(running: Site) -> None:
        assert await Fetcher(local(running)).fetch(running.url()) == PHOTO
        head = running.heads[0].lower()
        assert "accept-encoding: identity" in head
        assert "cookie" not in head

    on_site(work)


def test_the_host_says_no_type() -> None:
    async def work(running: Site) -> None:
        for kind in (None, "application/octet-stream"):
            running.routes["/plain"] = answer(PHOTO, kind)
            assert await Fetcher(local(running)).fetch(running.url("/plain")) == PHOTO

    on_site(work)


def test_redirects_are_followed_up_to_the_bound() -> None:
    async def work(running: Site) -> None:
        for hop in range(4):
            running.routes[f"/{hop}"] = to(f"/{hop + 1}" if hop < 3 else "/photo")
        assert await Fetcher(local(running, max_redirects=4)).fetch(running.url("/0")) == PHOTO
        running.heads.clear()
        await refused(Fetcher(local(running)), running.url("/0"), "too-many-redirects", "3")
        assert len(running.heads) == 4

    on_site(work)


def test_no_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")

    async def work(running: Site) -> None:
        assert await Fetcher(local(running)).fetch(running.url()) == PHOTO

    on_site(work)


# Where a URL may lead


@pytest.mark.parametrize(
    "url",
    ["", "photo.jpg", "//host/x", "ftp://host/x", "file:///etc/passwd", "data:image/png;base64,AA", "gopher://h/",
     "http://", "http:///x", "http://[::1/", "http://h:99999/", "http://a@b\\@127.0.0.1/", "http://h/" + "x" * 5000,
     "http://2130706433/", "http://017700000001/", "http://0x7f000001/", "http://0x7f.0.0.1/", "http://0177.0.0.1/",
     "http://127.1/", "http://127.0.1/", "http://0/", "http://1.2.3.4.5/", "http://256.256.256.256/", "http://a.1/"],
)  # fmt: skip
def test_what_is_no_url(url: str) -> None:
    async def never(host: str, port: int) -> list[str]:
        raise AssertionError("asked")

    asyncio.run(refused(Fetcher(FetchConfig(), never), url, "url-invalid"))


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.0.0.1.", "127.255.255.254", "0.0.0.0", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1",
     "169.254.169.254", "100.64.0.1", "192.0.2.1", "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255",
     "[::]", "[::1]", "[fe80::1]", "[fe80::1%25eth0]", "[fc00::1]", "[fd00:ec2::254]", "[ff02::1]", "[fec0::1]",
     "[::ffff:127.0.0.1]", "[::ffff:a9fe:a9fe]", "[::127.0.0.1]", "[64:ff9b::7f00:1]", "[64:ff9b:1::7f00:1]",
     "[2002:7f00:1::]", "[2001::1]", "[2001:db8::1]", "①②⑦.⓪.⓪.①", "127。0。0。1"],
)  # fmt: skip
def test_a_private_address_written_out(host: str) -> None:
    asyncio.run(refused(Fetcher(FetchConfig()), f"http://{host}/x", "address-private"))


@pytest.mark.parametrize("host", ["localhost", "localhost.", "LOCALHOST"])
def test_a_name_for_loopback(host: str) -> None:
    asyncio.run(refused(Fetcher(FetchConfig()), f"http://{host}/x", "address-private"))


@pytest.mark.parametrize(
    "addresses",
    [["127.0.0.1"], ["::1"], ["10.0.0.7"], ["::ffff:10.0.0.7"], ["8.8.8.8", "10.0.0.7"], ["fe80::1%eth0"], []],
    ids=str,
)
def test_a_name_that_stands_for_a_private_address(addresses: list[str]) -> None:
    asyncio.run(refused(Fetcher(FetchConfig(), resolver(addresses)), "http://photos.test/x", "address-private"))


def test_dns_that_changes_between_check_and_use() -> None:
    """The first answer is the site; whoever asked again would be told another place, where nobody listens."""

    async def work(running: Site) -> None:
        fetcher = Fetcher(local(running), resolver(["127.0.0.1"], ["127.0.0.66"]))
        assert await fetcher.fetch(running.url(host="photos.test")) == PHOTO
        assert f"host: photos.test:{running.port}" in running.heads[0].lower()

    on_site(work)


def test_dns_that_turns_private_at_the_redirect() -> None:
    async def work(running: Site) -> None:
        running.routes["/turn"] = to(running.url(host="photos.test"))
        answers = resolver(["127.0.0.1"], ["169.254.169.254"])
        await refused(Fetcher(local(running), answers), running.url("/turn", "photos.test"), "address-private")
        assert len(running.heads) == 1

    on_site(work)


@pytest.mark.parametrize(
    ("target", "code"),
    [
        (METADATA, "address-private"),
        ("http://[::1]/", "address-private"),
        ("http://[::ffff:169.254.169.254]/", "address-private"),
        ("//10.0.0.1/x", "address-private"),
        ("http://localhost/", "address-private"),
        ("http://2852039166/", "url-invalid"),
        ("http://0xa9fea9fe/", "url-invalid"),
        ("http://0251.0376.0251.0376/", "url-invalid"),
        ("file:///etc/passwd", "url-invalid"),
        ("gopher://127.0.0.1/", "url-invalid"),
        ("http://me:secret@8.8.8.8/", "url-credentials"),
        ("http://127.0.0.1:22/", "port-not-allowed"),
    ],
)
def test_each_redirect_is_checked_anew(target: str, code: str) -> None:
    async def work(running: Site) -> None:
        for status in ("301 Moved", "307 Temporary"):
            running.routes["/away"] = to(target, status)
            error = await refused(Fetcher(local(running)), running.url("/away"), code)
            assert "secret" not in error.message

    on_site(work)


def test_a_private_host_is_opened_by_name_only() -> None:
    async def work(running: Site) -> None:
        ports = (running.port,)
        await refused(Fetcher(FetchConfig(ports=ports)), running.url(), "address-private")
        await refused(Fetcher(FetchConfig(ports=ports, hosts=("127.0.0.1",))), running.url(), "address-private")
        assert running.heads == []
        assert await Fetcher(FetchConfig(ports=ports, private_hosts=("127.0.0.1",))).fetch(running.url()) == PHOTO
        inner = FetchConfig(ports=ports, private_hosts=("*.inner.test",))
        url = running.url(host="a.inner.test")
        assert await Fetcher(inner, resolver(["127.0.0.1"])).fetch(url) == PHOTO
        for never in ("169.254.169.254", "0.0.0.0", "224.0.0.1", "100.100.100.200", "fd00:ec2::254", "fe80::1"):
            await refused(Fetcher(inner, resolver([never])), url, "address-private")

    on_site(work)


def test_the_allow_list() -> None:
    config = FetchConfig(hosts=("cdn.shop.test", "*.img.test"))

    async def work() -> None:
        for host in ("shop.test", "evil-cdn.shop.test", "cdn.shop.test.evil.test", "img.test", "eimg.test", "8.8.8.8"):
            await refused(Fetcher(config, resolver(["8.8.8.8"])), f"http://{host}/", "host-not-allowed", host)
        for host in ("cdn.shop.test", "CDN.shop.test.", "a.b.img.test"):  # let through, to an address that is not
            await refused(Fetcher(config, resolver(["10.0.0.1"])), f"http://{host}/", "address-private")

    asyncio.run(work())


@pytest.mark.parametrize("pattern", ["*shop.test", "a*.test", "http://shop.test", "Shop.test", "shop.test/x", "", "**"])
def test_patterns_that_would_let_others_in(pattern: str) -> None:
    for key in ("hosts", "private_hosts"):
        with pytest.raises(ConfigError, match=key):
            parse_config(FetchConfig, {key: [pattern]}, "fetch")


def test_not_every_host_can_be_private() -> None:
    assert parse_config(FetchConfig, {"hosts": ["*"]}, "fetch").hosts == ("*",)
    with pytest.raises(ConfigError, match="private_hosts"):
        parse_config(FetchConfig, {"private_hosts": ["*"]}, "fetch")


def test_ports_and_credentials() -> None:
    async def work() -> None:
        fetcher = Fetcher(FetchConfig(), resolver(["8.8.8.8"]))
        for port in (22, 6379, 8080, 0):
            await refused(fetcher, f"http://photos.test:{port}/", "port-not-allowed", str(port), "80, 443")
        for who in ("me", "me:secret", ":secret"):
            error = await refused(fetcher, f"http://{who}@photos.test/", "url-credentials", "photos.test")
            assert "secret" not in error.message

    asyncio.run(work())


def test_a_name_without_an_address() -> None:
    async def nothing(host: str, port: int) -> list[str]:
        raise OSError("no such host")

    asyncio.run(refused(Fetcher(FetchConfig(), nothing), "http://photos.test/", "url-unreachable", "photos.test"))
    asyncio.run(refused(Fetcher(FetchConfig()), f"http://{'a' * 70}.test/", "url-unreachable"))


# TLS


def test_tls_is_verified_against_the_name_at_the_pinned_address(tmp_path: Path) -> None:
    server, client = certified(tmp_path, "photos.test")

    async def work() -> None:
        async with site(server) as running:
            config = local(running, private_hosts=("photos.test", "other.test", "127.0.0.1"))
            pinned = resolver(["127.0.0.1"])
            right = running.url(host="photos.test", scheme="https")
            assert await Fetcher(config, pinned, client).fetch(right) == PHOTO
            running.heads.clear()
            for host in ("other.test", "127.0.0.1"):
                wrong = running.url(host=host, scheme="https")
                await refused(Fetcher(config, pinned, client), wrong, "url-unreachable", "certificate")
            await refused(Fetcher(config, pinned), right, "url-unreachable", "certificate")  # whom nobody vouches for
            assert running.heads == []

    asyncio.run(asyncio.wait_for(work(), 30))


# How much, and how long


def test_a_body_that_says_it_is_too_large_is_not_read() -> None:
    async def work(running: Site) -> None:
        running.routes["/large"] = answer(b"", content_length="31000000")
        await refused(Fetcher(local(running)), running.url("/large"), "image-too-large", "30,000,000")
        running.routes["/exact"] = answer(bytes(1000))
        assert len(await Fetcher(local(running, max_bytes=1000)).fetch(running.url("/exact"))) == 1000
        running.routes["/more"] = answer(bytes(1001))
        await refused(Fetcher(local(running, max_bytes=1000)), running.url("/more"), "image-too-large", "1,000")

    on_site(work)


@pytest.mark.parametrize("head", ["connection: close", "transfer-encoding: chunked"])
def test_an_endless_body_is_cut_off_at_the_limit(head: str) -> None:
    sent = 0

    async def work(running: Site) -> None:
        async def endless(writer: asyncio.StreamWriter) -> None:
            nonlocal sent
            writer.write(f"HTTP/1.1 200 OK\r\ncontent-type: image/png\r\n{head}\r\n\r\n".encode())
            piece = bytes(4096)
            while True:
                writer.write(b"1000\r\n" + piece + b"\r\n" if "chunked" in head else piece)
                await writer.drain()
                sent += len(piece)

        running.routes["/endless"] = endless
        await refused(Fetcher(local(running, max_bytes=100_000)), running.url("/endless"), "image-too-large")

    on_site(work)
    assert 100_000 <= sent < 10_000_000  # what the sockets' buffers hold may have gone out besides


def test_a_length_that_lies() -> None:
    async def work(running: Site) -> None:
        running.routes["/short"] = answer(PHOTO, content_length="100")
        error = await refused(Fetcher(local(running)), running.url("/short"), "url-unreachable", "no valid HTTP")
        assert "xff" not in error.message
        running.routes["/long"] = answer(PHOTO, content_length="20000")
        await refused(Fetcher(local(running)), running.url("/long"), "body-cut")
        running.routes["/none"] = answer(PHOTO, content_length="-5")
        await refused(Fetcher(local(running)), running.url("/none"), "url-unreachable")

    on_site(work)


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "x-gzip, gzip"])
def test_a_packed_body_is_not_unpacked(coding: str) -> None:
    bomb = gzip.compress(bytes(10_000_000))

    async def work(running: Site) -> None:
        running.routes["/bomb"] = answer(bomb, content_encoding=coding)
        await refused(Fetcher(local(running)), running.url("/bomb"), "url-encoding", coding)
        running.routes["/file"] = answer(bomb)  # a file of that kind: bytes like others
        assert await Fetcher(local(running)).fetch(running.url("/file")) == bomb

    on_site(work)


def test_drops_that_never_end() -> None:
    async def work(running: Site) -> None:
        async def dripping(writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: image/png\r\ncontent-length: 1000\r\n\r\n")
            while True:
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.05)

        running.routes["/drip"] = dripping
        start = time.monotonic()
        await refused(Fetcher(local(running, total_s=0.5)), running.url("/drip"), "url-timeout", "0.5 s")
        assert time.monotonic() - start < 5

    on_site(work)


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n"])
def test_silence(head: bytes) -> None:
    async def work(running: Site) -> None:
        async def silent(writer: asyncio.StreamWriter) -> None:
            writer.write(head)
            await writer.drain()
            await asyncio.sleep(10)

        running.routes["/silent"] = silent
        start = time.monotonic()
        await refused(Fetcher(local(running, idle_s=0.3)), running.url("/silent"), "url-timeout", "in time")
        assert time.monotonic() - start < 5

    on_site(work)


def test_the_time_is_for_all_hops_together() -> None:
    async def work(running: Site) -> None:
        async def slow(writer: asyncio.StreamWriter) -> None:
            await asyncio.sleep(0.3)
            writer.write(to("/slow"))

        running.routes["/slow"] = slow
        fetcher = Fetcher(local(running, total_s=0.8, max_redirects=20))
        await refused(fetcher, running.url("/slow"), "url-timeout", "0.8 s")
        assert len(running.heads) <= 4

    on_site(work)


# What is no photo


@pytest.mark.parametrize(
    ("response", "code", "word"),
    [
        (answer(b"<html>", "text/html; charset=utf-8"), "not-an-image", "text/html"),
        (answer(b"{}", "application/json"), "not-an-image", "application/json"),
        (answer(b"", status="404 Not Found"), "url-missing", "404"),
        (answer(b"", status="410 Gone"), "url-missing", "410"),
        (answer(b"", status="403 Forbidden"), "http-status", "403"),
        (answer(b"", status="500 Oh"), "http-status", "500"),
        (answer(PHOTO, status="206 Partial Content"), "http-status", "206"),
        (answer(b"", status="302 Found"), "http-status", "302"),  # without saying where to
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "url-unreachable", "no valid HTTP"),
        (b"HTTP/1.1 200 OK\r\nx: " + b"y" * 70_000 + b"\r\n\r\n", "url-unreachable", "no valid HTTP"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_answers_that_are_no_photo(response: bytes, code: str, word: str) -> None:
    async def work(running: Site) -> None:
        running.routes["/x?signature=secret"] = response
        error = await refused(Fetcher(local(running)), running.url("/x?signature=secret"), code, word, "/x")
        assert "secret" not in error.message

    on_site(work)


def test_nobody_listens() -> None:
    async def work(running: Site) -> None:
        config = local(running)
        await refused(Fetcher(config, resolver(["127.0.0.66"])), running.url(host="photos.test"), "url-unreachable")

    on_site(work)
