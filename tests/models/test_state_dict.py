"""Checkpoints are read safely, whatever is in the file, and loaded strictly."""

from __future__ import annotations

import os
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tests.s3 import s3_bucket
from tryon.errors import BundleError, StorageError
from tryon.models.state_dict import load_strictly, read_state

STATE = OrderedDict(weight=torch.tensor([[1.0, -2.0], [0.5, 4.0]]), bias=torch.tensor([3.0, 5.0]))
MODULE = {f"module.{key}": value for key, value in STATE.items()}


def same(state: dict[str, torch.Tensor]) -> bool:
    return list(state) == list(STATE) and all(torch.equal(state[key], STATE[key]) for key in STATE)


@pytest.mark.parametrize(
    "held",
    [STATE, MODULE, {"state_dict": MODULE, "epoch": 150}, {"params": STATE}, {"params_ema": STATE, "params": {}}],
    ids=["bare", "module", "state_dict", "params", "params_ema"],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_both_formats_and_all_wrappers_are_read(tmp_path: Path, held: Any, zipped: bool) -> None:
    file = tmp_path / "weights.pth"
    torch.save(held, file, _use_new_zipfile_serialization=zipped)
    assert same(read_state(str(file)))


def test_safetensors_are_read(tmp_path: Path) -> None:
    save_file(dict(STATE), tmp_path / "weights.safetensors")
    state = read_state(str(tmp_path / "weights.safetensors"))
    assert all(torch.equal(state[key], STATE[key]) for key in STATE)


def test_halves_become_floats_and_whole_numbers_stay() -> None:
    state = read_state({"a": torch.ones(2, dtype=torch.float16), "n": torch.tensor(7)})
    assert state["a"].dtype == torch.float32
    assert state["n"].dtype == torch.int64


def test_s3_is_downloaded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tryon import storage

    monkeypatch.setenv("TRYON_CACHE", str(tmp_path / "cache"))
    torch.save(STATE, tmp_path / "w.pth")
    with s3_bucket("weights") as bucket:
        uri = f"{bucket}/schp/w.pth"
        storage.write_bytes(uri, (tmp_path / "w.pth").read_bytes())
        assert same(read_state(uri))
        kept = [file for file in (tmp_path / "cache").rglob("*") if file.is_file()]
        assert [file.name for file in kept] == ["w.pth"]
        before = os.stat(kept[0])
        assert same(read_state(uri))
        assert os.stat(kept[0]).st_mtime_ns == before.st_mtime_ns
        torch.save({"other": torch.zeros(1)}, tmp_path / "w.pth")
        storage.write_bytes(uri, (tmp_path / "w.pth").read_bytes())
        assert list(read_state(uri)) == ["other"], "what has changed there is fetched again"
        with pytest.raises(StorageError, match="does not exist"):
            read_state(f"{bucket}/schp/w2.pth")
        with pytest.raises(StorageError, match="schp is a folder"):
            read_state(f"{bucket}/schp")


class Bomb:
    def __init__(self, file: Path) -> None:
        self.file = str(file)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.file,)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_checkpoint_is_not_run(tmp_path: Path, zipped: bool) -> None:
    torch.save(
        {"state_dict": STATE, "x": Bomb(tmp_path / "ran")}, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped
    )
    with pytest.raises(BundleError, match=r"w\.pth .*holds more than tensors") as caught:
        read_state(str(tmp_path / "w.pth"))
    assert caught.value.code == "weights-corrupt"
    assert not (tmp_path / "ran").exists()


def damaged(whole: bytes) -> dict[str, bytes]:
    return {
        "empty": b"",
        "text": b"<html>404 Not Found</html>",
        "half": whole[: len(whole) // 2],
        "first byte": whole[:1],
        "zeros": bytes(1000),
        "zip of nothing": b"PK\x05\x06" + bytes(18),
    }


@pytest.mark.parametrize("name", damaged(b""))
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_damage_is_named(tmp_path: Path, name: str, suffix: str) -> None:
    file = tmp_path / f"w{suffix}"
    if suffix == ".pth":
        torch.save(STATE, file)
    else:
        save_file(dict(STATE), file)
    file.write_bytes(damaged(file.read_bytes())[name])
    with pytest.raises(BundleError, match=rf"w\{suffix} (is damaged|holds no weights)"):
        read_state(str(file))


@pytest.mark.parametrize("held", [{}, {"epoch": 3}, {"state_dict": {}}, [1, 2], torch.zeros(3), {"a": STATE}])
def test_what_is_no_state_dict_is_refused(tmp_path: Path, held: Any) -> None:
    torch.save(held, tmp_path / "w.pth")
    with pytest.raises(BundleError, match="holds no weights"):
        read_state(str(tmp_path / "w.pth"))


def test_missing_files_and_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"none\.pth does not exist") as caught:
        read_state(str(tmp_path / "none.pth"))
    assert caught.value.code == "uri-missing"
    with pytest.raises(StorageError, match="is a folder, a file of weights is needed"):
        read_state(str(tmp_path))


def test_strict_loading_fills_a_network_without_memory() -> None:
    with torch.device("meta"):
        network = nn.Linear(2, 2)
    load_strictly(network, STATE, "w.pth", "Linear")
    assert torch.equal(network(torch.eye(2)), STATE["weight"].T + STATE["bias"])


@pytest.mark.parametrize(
    ("state", "fault"),
    [
        ({"bias": STATE["bias"]}, "'weight' is missing among its 1 tensors"),
        ({"bias": torch.zeros(3), "weight": torch.zeros(2)}, "'weight' is 2, Linear has 2x2"),
        ({**STATE, "scale": torch.zeros(1)}, "it holds 'scale', which Linear does not have"),
    ],
)
def test_strict_loading_names_the_first_fault(state: dict[str, torch.Tensor], fault: str) -> None:
    with pytest.raises(BundleError) as caught:
        load_strictly(nn.Linear(2, 2), state, "w.pth", "Linear")
    assert caught.value.message == f"w.pth is no checkpoint of Linear: {fault}"
