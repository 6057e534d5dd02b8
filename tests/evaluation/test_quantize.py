"""Int8 files of a bundle: made from try-ons, kept where these stay what they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.models.test_backends import SMALL, run_of, write
from tests.test_bad_input_cli import one_sentence
from tests.test_cli import run_main
from tryon.errors import BundleError
from tryon.evaluation.quantize import quantize_bundle
from tryon.models import backends
from tryon.models.backends import optimize_bundle
from tryon.models.bundle import copy_bundle, load_bundle, read_manifest


@pytest.fixture(autouse=True)
def _needs_onnx() -> None:
    for package in ("onnx", "onnxruntime"):
        pytest.importorskip(package, reason="pip install 'tryon[onnx]'")


@pytest.fixture(scope="module")
def optimized(small_bundle: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The small bundle with ONNX files, and a warp that can have one. Not to be written to."""
    folder = tmp_path_factory.mktemp("optimized")
    source, out = str(folder / "source"), str(folder / "bundle")
    copy_bundle(small_bundle, source)
    write(source, "warp", "flow", {"width": 8})
    optimize_bundle(source, out)
    return out


@pytest.fixture(scope="module")
def quantized(optimized: str, small_data: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The same with int8 files, whatever they cost."""
    out = str(tmp_path_factory.mktemp("quantized") / "bundle")
    copy_bundle(optimized, out)
    made = quantize_bundle(out, small_data, num=16, max_loss=2.0)
    assert [one.role for one in made] == ["warp", "synthesis", "refinement"]
    assert all(one.kept and one.seconds > 0 and one.num_bytes > 0 for one in made)
    assert made[1].ssim[0] == made[0].ssim[1], "each network is tried after those that were kept"
    return out


def test_int8_is_smaller_and_near(quantized: str, optimized: str) -> None:
    for role, entry in read_manifest(quantized).networks.items():
        sizes = {name: (Path(quantized) / file.file).stat().st_size for name, file in entry.backends.items()}
        assert set(sizes) == {"onnx", "int8"}
        if role == "synthesis":
            assert sizes["int8"] < 0.6 * sizes["onnx"]
        assert entry.backends["int8"].difference > 0
        assert entry.backends["onnx"] == read_manifest(optimized).networks[role].backends["onnx"]
    network: Any = load_bundle(quantized).network("synthesis")[0]
    inputs = network.example_inputs(2, *SMALL)
    with torch.inference_mode():
        wanted, got = (run_of(quantized, "synthesis", backend)(inputs) for backend in ("eager", "int8"))
    away = (wanted["rendering"] - got["rendering"]).abs()
    assert 0 < float(away.mean()) < 0.05, "of -1 to 1"


def test_what_costs_too_much_is_not_kept(optimized: str, small_data: str, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    copy_bundle(optimized, str(bundle))
    made = quantize_bundle(str(bundle), small_data, num=8, max_loss=-1.0)
    assert not any(one.kept for one in made)
    assert not list(bundle.glob("*.int8"))
    assert read_manifest(str(bundle)) == read_manifest(optimized)
    with pytest.raises(BundleError, match="no int8 file of its warp network"):
        run_of(str(bundle), "warp", "int8")


def test_auto_takes_it_where_the_cpu_is_made_for_it(quantized: str, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = read_manifest(quantized).networks["warp"]
    monkeypatch.setattr(backends, "cpu_has_amx_bf16", lambda: False)
    for vnni, wanted in ((True, "int8"), (False, "onnx")):
        monkeypatch.setattr(backends, "cpu_has_vnni", lambda vnni=vnni: vnni)
        assert backends._best(entry, torch.device("cpu")) == wanted


def test_without_onnx_files_there_is_nothing_to_quantise(small_bundle: str, small_data: str) -> None:
    with pytest.raises(BundleError, match="has no ONNX files"):
        quantize_bundle(small_bundle, small_data)


def test_the_verb_says_what_it_costs(
    optimized: str, small_data: str, photo_files: tuple[Path, Path], tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    out = tmp_path / "out"
    told = ("models", "optimize", optimized, str(out), "--num", "8")
    assert run_main(monkeypatch, *told, "--int8", small_data) == 0
    text = capsys.readouterr().out
    assert all(f"int8      {role}: SSIM " in text for role in ("warp", "synthesis", "refinement"))
    assert run_main(monkeypatch, *told, "--int8", "nowhere") == 2
    one_sentence(capsys.readouterr().err, "nowhere")
