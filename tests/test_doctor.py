from __future__ import annotations

import importlib.metadata

import pytest

from tests.test_cli import run_main
from tryon import doctor

NEEDED = ("Python", "CPU", "memory", "disk", "GPU", "ray", "torch", "mediapipe", "pose models", "default bundle")


@pytest.fixture
def report(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Exit code and output of `tryon doctor` in which one needed package is not there."""
    version = importlib.metadata.version

    def without(name: str) -> str:
        if name == "torchmetrics":
            raise importlib.metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr("tryon.console.console._width", 200)
    monkeypatch.setattr(importlib.metadata, "version", without)
    return run_main(monkeypatch, "doctor"), capsys.readouterr().out


def line_of(text: str, what: str) -> str:
    return next(line for line in text.splitlines() if what in line)


def test_all_is_here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("tryon.console.console._width", 200)
    assert run_main(monkeypatch, "doctor") == 0
    out = capsys.readouterr().out
    for what in NEEDED:
        assert what in out
    assert importlib.metadata.version("ray") in line_of(out, " ray ")
    assert "everything that is needed is here" in out


def test_a_missing_package_is_named_with_its_cure(report: tuple[int, str]) -> None:
    code, out = report
    assert code == 1
    line = line_of(out, "torchmetrics")
    assert "missing" in line
    assert "make install" in line
    assert out.splitlines()[-1] == "missing: torchmetrics"


def test_a_missing_extra_is_no_fault(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(doctor, "EXTRAS", {"no-such-package": "pip install 'tryon[gpu]'"})
    monkeypatch.setattr("tryon.console.console._width", 200)
    assert run_main(monkeypatch, "doctor") == 0
    line = line_of(capsys.readouterr().out, "no-such-package")
    assert "optional" in line
    assert "tryon[gpu]" in line


def test_a_library_that_does_not_load_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> str:
        raise ImportError("libGL.so.1: cannot open shared object file")

    monkeypatch.setattr("tryon.console.console._width", 200)
    monkeypatch.setattr(doctor, "_import_cv2", broken)
    assert run_main(monkeypatch, "doctor") == 1
    line = line_of(capsys.readouterr().out, "image library")
    assert "libGL.so.1" in line
    assert "libgl1" in line


def test_a_named_bundle_that_is_not_there_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tryon.console.console._width", 300)
    monkeypatch.setenv("TRYON_BUNDLE", "nowhere/bundle")
    assert run_main(monkeypatch, "doctor") == 0
    assert "nowhere/bundle" in line_of(capsys.readouterr().out, "default bundle")
