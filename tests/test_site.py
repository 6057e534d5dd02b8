"""The documentation builds without a warning, knows every command, and points at what is there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.test_cli import VERBS


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(out)],
        cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, check=False,
        timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stdout + done.stderr
    return out


def test_every_command_is_in_the_reference(site: Path) -> None:
    text = (site / "reference" / "cli.html").read_text()
    for verb in (*VERBS, "bench serve", "bench day", "tune"):
        assert f"tryon {verb}" in text, verb


def test_configuration_and_metrics_are_written_from_the_code(site: Path) -> None:
    text = (site / "reference" / "config.html").read_text()
    assert "target_ongoing_requests" in text
    assert "variety" in text
    assert "tryon_requests_total" in (site / "reference" / "metrics.html").read_text()


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        for address in re.findall(r"<(?:script|link|img)[^>]*(?:src|href)=\"?(https?://[^\" >]+)", page.read_text()):
            assert "fonts" not in address, f"{page.name}: {address}"
            assert not address.endswith((".js", ".css")), f"{page.name}: {address}"


@pytest.mark.parametrize("file", ["README.md", "cluster/README.md", "platform/tryon/default_bundle/CARD.md"])
def test_links_outside_the_site_point_at_files(file: str) -> None:
    path = ROOT / file
    for target in re.findall(r"\]\((?!https?://)([^)#]+)", path.read_text()):
        assert (path.parent / target).exists(), target
