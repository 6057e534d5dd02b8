"""Bundles in half precision."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.test_cli import run_main
from tryon.errors import BundleError
from tryon.models.bundle import load_bundle, read_manifest, write_network
from tryon.models.nafnet import NafNet, NafNetConfig
from tryon.models.pack import pack_bundle


def size_of(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))


def test_it_is_half_as_large_and_gives_nearly_the_same(small_bundle: str, tmp_path: Path) -> None:
    out = tmp_path / "packed"
    manifest = pack_bundle(small_bundle, str(out))
    assert manifest == read_manifest(str(out))
    assert size_of(out) < 0.6 * size_of(Path(small_bundle))
    before, after = load_bundle(small_bundle), load_bundle(str(out))
    assert set(before.manifest.networks) == set(after.manifest.networks) == {"warp", "synthesis", "refinement"}
    for role in before.manifest.networks:
        network, size = before.network(role)
        packed, packed_size = after.network(role)
        assert size == packed_size
        assert all(value.dtype == torch.float32 for value in packed.parameters())
        inputs = network.example_inputs(1, *size)  # type: ignore[operator]
        with torch.inference_mode():
            outs = [one.infer(inputs) for one in (network, packed)]  # type: ignore[operator]
        for name, value in outs[0].items():
            assert torch.allclose(outs[1][name], value, atol=0.02), name


def test_a_weight_that_float16_cannot_hold_is_named(tmp_path: Path) -> None:
    config = NafNetConfig(width=4)
    network = NafNet(config)
    with torch.no_grad():
        next(network.parameters()).fill_(1e6)
    write_network(
        str(tmp_path / "a"), "refinement", "nafnet", network, config=config, size=(64, 48), training={}, metrics={}
    )
    with pytest.raises(BundleError, match="beyond 65504"):
        pack_bundle(str(tmp_path / "a"), str(tmp_path / "b"))


def test_the_command_says_how_large_it_is(
    small_bundle: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not run_main(monkeypatch, "models", "pack", small_bundle, str(tmp_path / "b"))
    assert "in float16, " in capsys.readouterr().out
