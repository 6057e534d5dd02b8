"""The page in a real browser, by clicking through it; with TRYON_SCREENSHOTS=FOLDER it leaves pictures to look at."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.test_interrupt import wait_for

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.xdist_group("service"),
]

PATIENCE_MS = 90_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    binary = shutil.which("chromium")
    if binary is None:
        pytest.skip("no chromium on this machine: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=binary, args=["--no-sandbox"])
        yield browser
        browser.close()


class Opened:
    """The page, and what it said and asked for."""

    def __init__(self, browser: Any, url: str, width: int = 1200, height: int = 900) -> None:
        self.errors: list[str] = []
        self.asked: list[str] = []
        self.page = browser.new_page(viewport={"width": width, "height": height})
        self.page.set_default_timeout(PATIENCE_MS)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda said: self.errors.append(said.text) if said.type == "error" else None)
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(url)

    def shot(self, name: str) -> None:
        folder = os.environ.get("TRYON_SCREENSHOTS")
        if folder:
            self.page.screenshot(path=f"{folder}/{name}.png", full_page=True)


@pytest.fixture
def opened(browser: Any, url: str) -> Iterator[Opened]:
    made = Opened(browser, url)
    yield made
    made.page.close()


def test_a_try_on_by_mouse(opened: Opened, url: str) -> None:
    page = opened.page
    page.click("#person-examples button:nth-child(1)")
    page.click("#garment-examples button:nth-child(2)")
    page.wait_for_selector("#garment-examples button:nth-child(2)[aria-pressed=true]")
    page.click("#go")
    page.wait_for_selector("#compare:not([hidden])")
    assert page.locator("#steps .done").count() == 3
    assert page.text_content("#status").startswith("Done.")
    size = page.evaluate(
        "[document.querySelector('#after').naturalWidth, document.querySelector('#after').naturalHeight]"
    )
    assert size == [384, 512]
    page.click("#layers summary")
    titles = page.locator("#layer-list figcaption").all_text_contents()
    assert titles == ["Pose", "Parse", "Garment mask", "Agnostic", "Warped garment"]
    colours = page.evaluate(
        "(() => { const c = document.querySelectorAll('#layer-list canvas')[1]; const d = c.getContext('2d')"
        ".getImageData(0, 0, c.width, c.height).data; const s = new Set(); for (let i = 0; i < d.length; i += 4)"
        " s.add(`${d[i]},${d[i + 1]},${d[i + 2]}`); return s.size; })()"
    )
    assert 4 <= colours <= 18
    opened.shot("desktop")
    assert not opened.errors
    assert all(asked.startswith((url, "blob:", "data:")) for asked in opened.asked), "this service alone is asked"


def test_a_try_on_by_keyboard(opened: Opened, photo_files: tuple[Path, Path]) -> None:
    page = opened.page
    page.set_input_files("#person", str(photo_files[0]))
    page.set_input_files("#garment", str(photo_files[1]))
    reached = []
    for _ in range(14):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.tagName"))
        if reached[-1] == "go":
            break
    assert [name for name in reached if name in ("person", "garment", "category", "go")] == [
        "person", "garment", "category", "go"
    ]  # fmt: skip
    page.keyboard.press("Enter")
    page.wait_for_selector("#compare:not([hidden])")
    assert page.evaluate("document.activeElement.id") == "result"
    page.focus("#divide")
    for _ in range(10):
        page.keyboard.press("ArrowRight")
    assert page.evaluate("document.querySelector('.pictures').style.getPropertyValue('--at')") == "60%"
    assert page.get_attribute("#divide", "aria-valuetext") == "40 % after"
    assert not opened.errors


def test_faults_are_said(opened: Opened, photo_files: tuple[Path, Path]) -> None:
    page = opened.page
    page.click("#go")
    assert page.text_content("#fault") == "Choose a person first."
    page.set_input_files("#person", str(photo_files[1]))
    page.set_input_files("#garment", str(photo_files[1]))
    assert page.locator("#fault").is_hidden()
    page.click("#go")
    page.wait_for_selector("#fault:not([hidden])")
    assert page.text_content("#fault").startswith("No person")
    assert page.is_enabled("#go")
    assert page.locator("#steps .runs").count() == 0


def test_a_batch_on_a_phone(browser: Any, url: str, photo_files: tuple[Path, Path]) -> None:
    opened = Opened(browser, url, 360, 740)
    page = opened.page
    page.set_input_files("#person", str(photo_files[0]))
    page.set_input_files("#garment", [str(photo_files[1]), str(photo_files[1].with_name("person.png")), __file__])
    assert page.text_content("#status") == "3 garments: a batch."
    page.set_input_files("#garment", [str(photo_files[1]), str(photo_files[1])])
    page.click("#go")
    wait_for(lambda: page.text_content("#status") == "The batch has ended.", PATIENCE_MS / 1000, "the batch's end")
    states = page.locator("#batch-rows td:nth-child(2)").all_text_contents()
    assert states == ["done", "done"]
    page.wait_for_function(
        "[...document.querySelectorAll('#batch-rows td:nth-child(3) img')].every((i) => i.naturalWidth)"
    )
    assert page.locator("#batch-rows td:nth-child(3) img").count() == 2
    assert page.text_content("#batch-status") == "2 of 2"
    opened.shot("phone")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360, "nothing is cut off"
    assert not opened.errors
    page.close()


def test_the_api_pages_are_linked(opened: Opened, url: str) -> None:
    assert opened.page.get_attribute("nav a", "href") == "/docs"
