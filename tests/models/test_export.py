"""ONNX export: files agree with PyTorch for any batch, and the sampling they need is what it was."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tryon.cli import main
from tryon.errors import TryonError
from tryon.models import export
from tryon.models.bundle import write_network
from tryon.models.contract import Runnable
from tryon.models.export import TOLERANCE, export_onnx
from tryon.models.nafnet import LayerNorm2d
from tryon.models.registry import build_network
from tryon.models.tps import control_points, tps_basis, tps_grid

CONFIGS = {
    "gmm": ({"width": 8}, (256, 192)),
    "tom": ({"width": 16, "num_blocks": 2}, (128, 96)),
    "nafnet": ({"width": 8, "encoder_blocks": (1, 2), "decoder_blocks": (1, 1)}, (64, 48)),
    "segment": ({"width": 8, "levels": 4}, (64, 48)),
    "autoencoder": ({"width": 8, "levels": 5}, (64, 48)),  # whose factor, 32, does not divide 48
    "vae": ({"width": 8, "levels": 3}, (64, 48)),
}


def network_of(name: str) -> nn.Module:
    """A small network none of whose branches is switched off by its initialisation."""
    torch.manual_seed(0)
    network = build_network(name, CONFIGS[name][0])
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return network


@pytest.fixture(autouse=True)
def _needs_onnx() -> None:
    pytest.importorskip("onnx", reason="ONNX export needs onnx")


@pytest.fixture
def no_files(tmp_path: Path) -> Iterator[Path]:
    """A place for a file that must not come to be."""
    yield tmp_path / "network.onnx"
    assert not (tmp_path / "network.onnx").exists()


@pytest.mark.parametrize("name", CONFIGS)
def test_a_network_agrees_with_pytorch_at_any_batch(name: str, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="the check needs onnxruntime")
    network, size = network_of(name), CONFIGS[name][1]
    file = tmp_path / f"{name}.onnx"
    written = export_onnx(network, str(file), size)
    assert network.training
    assert written.num_bytes == file.stat().st_size
    assert written.difference is not None
    assert written.difference <= TOLERANCE
    assert isinstance(network, Runnable)
    session = onnxruntime.InferenceSession(file.read_bytes(), providers=["CPUExecutionProvider"])
    assert [value.name for value in session.get_outputs()] == list(written.outputs)
    for batch in (1, 2, 5):
        inputs = network.example_inputs(batch, *size)
        assert list(inputs) == list(written.inputs) == [value.name for value in session.get_inputs()]
        # Not the inputs of the trace: a file that holds their values as constants would show here.
        changed = {key: 0.9 * value.flip(0) for key, value in inputs.items()}
        with torch.inference_mode():
            wanted = network.eval().infer(changed)  # type: ignore[operator]
        got = session.run(None, {key: value.numpy() for key, value in changed.items()})
        for key, value in zip(wanted, got, strict=True):
            np.testing.assert_allclose(value, wanted[key].numpy(), atol=TOLERANCE)


@pytest.mark.parametrize("opset", [16, 20])
@pytest.mark.parametrize("name", CONFIGS)
def test_the_first_and_the_last_opset_agree_too(name: str, opset: int, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="the check needs onnxruntime")
    written = export_onnx(network_of(name), str(tmp_path / "network.onnx"), CONFIGS[name][1], opset=opset)
    assert written.difference is not None
    assert written.difference <= TOLERANCE


def test_a_file_that_differs_is_not_written(no_files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime", reason="the check needs onnxruntime")
    monkeypatch.setattr(export, "TOLERANCE", -1.0)
    with pytest.raises(TryonError, match="NafNet as ONNX differs from PyTorch by"):
        export_onnx(network_of("nafnet"), str(no_files), (64, 48))


def test_what_cannot_be_exported_is_named(no_files: Path) -> None:
    with pytest.raises(TryonError, match="Linear cannot be exported: it has no `example_inputs`"):
        export_onnx(nn.Linear(2, 2), str(no_files), (64, 48))
    with pytest.raises(TryonError, match=r"Gmm at 128x96 cannot be exported: .*adaptive_avg_pool2d"):
        export_onnx(network_of("gmm"), str(no_files), (128, 96))


@pytest.mark.parametrize(
    ("size", "opset", "named"),
    [((100, 96), 17, "100x96"), ((64, 16), 17, "64x16"), ((64, 48), 15, "opset 15"), ((64, 48), 99, "opset 99")],
)
def test_bad_arguments_are_named(no_files: Path, size: tuple[int, int], opset: int, named: str) -> None:
    with pytest.raises(TryonError, match=named):
        export_onnx(network_of("nafnet"), str(no_files), size, opset=opset)


def test_a_missing_package_is_named(no_files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "find_spec", lambda name: None)
    with pytest.raises(TryonError, match=r"needs the package onnx: pip install"):
        export_onnx(network_of("nafnet"), str(no_files), (64, 48))


def test_layer_norm_and_splines_are_to_the_bit_what_they_were_before_they_could_be_exported() -> None:
    x = torch.randn(2, 6, 5, 4, generator=torch.Generator().manual_seed(0))
    norm = LayerNorm2d(6)
    channels = (x.shape[1],)
    before = torch.nn.functional.layer_norm(x.permute(0, 2, 3, 1), channels, norm.weight, norm.bias, norm.eps)
    assert torch.equal(norm(x), before.permute(0, 3, 1, 2))
    sources: Tensor = control_points(5)[None] + 0.1 * torch.randn(3, 25, 2, generator=torch.Generator().manual_seed(1))
    assert torch.equal(tps_grid(sources, 32, 24), (tps_basis(5, 32, 24) @ sources).view(3, 32, 24, 2))


def test_the_verb_writes_a_bundles_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    network, size = network_of("tom"), CONFIGS["tom"][1]
    bundle, out = str(tmp_path / "bundle"), tmp_path / "tom.onnx"
    write_network(bundle, "synthesis", "tom", network, config=network.config, size=size, training={}, metrics={})  # type: ignore[arg-type]
    for role, code in (("synthesis", 0), ("painting", 2)):
        monkeypatch.setattr(
            sys, "argv", ["tryon", "export-onnx", "--bundle", bundle, "--role", role, "--out", str(out)]
        )
        with pytest.raises(SystemExit) as ended:
            main()
        assert int(ended.value.code or 0) == code
    shown = capsys.readouterr()
    assert "warped_mask -> rendering, composition_mask, tryon" in shown.out
    assert "has no painting network (it has: synthesis)" in shown.err
    assert out.stat().st_size > 100_000


@pytest.mark.parametrize(
    ("role", "name", "told"),
    [
        ("parsing", "segment", "person -> logits"),
        ("reconstruction", "vae", "image -> reconstruction, mean, log_variance"),
    ],
)
def test_the_verb_knows_every_role(
    role: Any, name: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    network, size = network_of(name), CONFIGS[name][1]
    bundle, out = str(tmp_path / "bundle"), str(tmp_path / "network.onnx")
    write_network(bundle, role, name, network, config=network.config, size=size, training={}, metrics={})  # type: ignore[arg-type]
    monkeypatch.setattr(sys, "argv", ["tryon", "export-onnx", "--bundle", bundle, "--role", role, "--out", out])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    assert told in capsys.readouterr().out
