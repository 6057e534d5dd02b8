"""The page's files; the page itself is clicked through in test_browser.py."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from tests.training.test_runs import Tags
from tryon.serving.app import make_api
from tryon.serving.config import ServeConfig


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with TestClient(make_api(ServeConfig(open_to_all=True))) as client:
        yield client


def test_the_page_is_whole_and_asks_no_other_host(client: TestClient) -> None:
    page = client.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "'unsafe-inline'" not in page.headers["content-security-policy"]
    tags = Tags()
    tags.feed(page.text)
    assert not tags.open
    for name in re.findall(r'(?:src|href)="(/static/[^"]+)"', page.text):
        assert client.get(name).status_code == 200
    script, style = (client.get(f"/static/page.{kind}") for kind in ("js", "css"))
    assert script.headers["content-type"].startswith("text/javascript")
    for text in (page.text, script.text, style.text):
        assert not re.search(r"(?:src|href)=\"//|https?://|@import", text)
    assert "url(" not in style.text
    assert "__" not in re.sub(r"__proto__", "", script.text), "what the server fills in"
    assert script.text.count("[[") == 2, "the parse's colours and the pose's limbs"


def test_every_input_has_a_name(client: TestClient) -> None:
    text = client.get("/").text
    for name in re.findall(r'<(?:input|select|progress)[^>]* id="([\w-]+)"', text):
        before = text[: text.index(f'id="{name}"')]
        labelled = before.rfind("<label") > before.rfind("</label>")
        assert labelled or re.search(rf'id="{name}"[^>]*aria-label=', text), name
    assert all('alt="' in tag for tag in re.findall(r"<img[^>]*>", text))


def test_examples_are_drawn_photos(client: TestClient) -> None:
    seen = set()
    for slot in ("person", "garment"):
        for index in range(3):
            reply = client.get(f"/static/examples/{slot}-{index}.jpg")
            with Image.open(io.BytesIO(reply.content)) as image:
                assert (image.format, image.size) == ("JPEG", (384, 512))
            seen.add(reply.content)
    assert len(seen) == 6


@pytest.mark.parametrize(
    "name", ["__init__.py", "examples/person-3.jpg", "examples/hat-0.jpg", "../app.py", "%2e%2e/app.py"]
)
def test_nothing_else_is_served(client: TestClient, name: str) -> None:
    reply = client.get(f"/static/{name}")
    assert reply.status_code == 404
    assert reply.json()["code"] == "not-found"
