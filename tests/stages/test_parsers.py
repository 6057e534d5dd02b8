"""Parsers by name: what each needs is asked for, and weights are pinned by their bytes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.s3 import s3_bucket
from tests.test_layout import python
from tryon import storage
from tryon.errors import BundleError, ConfigError, StorageError
from tryon.stages.parsers import PARSERS, WEIGHTS_OF, parser_spec
from tryon.stages.registry import stage_class


@pytest.mark.parametrize("name", PARSERS.values())
def test_every_parser_adds_the_parse(name: str) -> None:
    assert stage_class(name).adds == ("parse",)
    assert "person" in stage_class(name).reads


def test_the_geometric_parser_takes_no_weights() -> None:
    spec = parser_spec("geometric", options={"rounds": 2})
    assert (spec.name, spec.options) == ("parse", {"rounds": 2})
    with pytest.raises(ConfigError, match=r"geometric parser has no weights, 'w\.pth' was given") as caught:
        parser_spec("geometric", "w.pth")
    assert caught.value.field == "--parser-weights"


@pytest.mark.parametrize("parser", WEIGHTS_OF)
@pytest.mark.parametrize("weights", [None, ""])
def test_weights_that_are_needed_are_asked_for(parser: str, weights: str | None) -> None:
    with pytest.raises(ConfigError, match=f"the {parser} parser needs weights: give --parser-weights") as caught:
        parser_spec(parser, weights)
    assert caught.value.code == "parser-weights"


def test_an_unknown_parser_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"unknown parser 'segfomer' .*did you mean 'segformer'"):
        parser_spec("segfomer")


def test_weights_are_pinned_by_their_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "w.pth").write_bytes(b"weights")
    monkeypatch.chdir(tmp_path)
    spec = parser_spec("schp", "w.pth", {"classes": "cihp"})
    assert spec.name == "parse_schp"
    assert spec.options == {
        "weights": str(tmp_path / "w.pth"), "sha256": storage.sha256(b"weights"), "classes": "cihp",
    }  # fmt: skip
    (tmp_path / "w.pth").write_bytes(b"others")
    assert parser_spec("schp", "w.pth").options["sha256"] != spec.options["sha256"]


def test_s3_has_the_bytes_of_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRYON_CACHE", str(tmp_path / "cache"))
    with s3_bucket("weights") as bucket:
        for root in (f"{bucket}/clothes", str(tmp_path / "clothes")):
            for name in ("config.json", "preprocessor_config.json", "model.safetensors"):
                storage.write_bytes(f"{root}/{name}", name.encode())
        there, here = (
            parser_spec("segformer", f"{bucket}/clothes/"),
            parser_spec("segformer", str(tmp_path / "clothes")),
        )
    assert there.name == "parse_segformer"
    assert there.options["weights"] == f"{bucket}/clothes"
    assert there.options["sha256"] == here.options["sha256"]


def test_weights_that_are_not_there_are_named_before_the_run(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"none\.pth does not exist"):
        parser_spec("schp", str(tmp_path / "none.pth"))
    with pytest.raises(BundleError, match=r"it has no config\.json"):
        parser_spec("segformer", str(tmp_path))


def test_choosing_a_parser_imports_nothing_heavy() -> None:
    shown = python(
        "import sys; from tryon.stages.parsers import parser_spec; parser_spec('geometric');"
        "print([name for name in ('torch', 'cv2', 'ray', 'transformers', 'pyarrow') if name in sys.modules])",
        PYTHONPATH=str(Path(__file__).parents[2] / "platform"),
    )
    assert shown == "[]"
