"""Options from a file and from pairs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tryon.errors import ConfigError
from tryon.options import read_options


def test_pairs_are_read_as_yaml() -> None:
    pairs = ["steps=20", "size=[64, 48]", "bf16=false", "recipe=gmm", "learning_rate=0.5", "network={}", "note=a=b"]
    assert read_options(None, pairs) == {
        "steps": 20, "size": [64, 48], "bf16": False, "recipe": "gmm", "learning_rate": 0.5, "network": {},
        "note": "a=b",
    }  # fmt: skip
    assert read_options(None, []) == {}


def test_dots_go_into_nested_options() -> None:
    assert read_options(None, ["network.width=32", "network.grid=5"]) == {"network": {"width": 32, "grid": 5}}


def test_pairs_win_over_the_file_and_leave_the_rest(tmp_path: Path) -> None:
    file = tmp_path / "gmm.yaml"
    file.write_text("steps: 10\nnetwork:\n  width: 8\n  grid: 3\n")
    assert read_options(file, ["steps=20", "network.grid=5"]) == {"steps": 20, "network": {"width": 8, "grid": 5}}


@pytest.mark.parametrize("pair", ["steps", "=3", "", "size=[64", "network=3"])
def test_pairs_that_cannot_be_read_are_quoted(pair: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_options(None, [pair, "network.width=3"])
    assert caught.value.code == "option-invalid"
    assert caught.value.field == "--set"
    assert "network.width=3" in caught.value.message if pair == "network=3" else repr(pair) in caught.value.message


@pytest.mark.parametrize("content", [b"- a\n- b\n", b"just text", b"a: [1", b"", b"\xff\xfe\x00"])
def test_files_that_are_no_mapping_are_named(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "odd.yaml"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=r"odd\.yaml") as caught:
        read_options(file, [])
    assert caught.value.code == "config-invalid"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml.*No such file") as caught:
        read_options(tmp_path / "nowhere.yaml", [])
    assert caught.value.code == "config-missing"
