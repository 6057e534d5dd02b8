"""Backends: what runs a bundle's networks gives what PyTorch gives, is found in the bundle, and is refused by name."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.conftest import SMALL
from tests.models.checks import seeded
from tests.test_bad_input_cli import one_sentence
from tests.test_cli import run_main
from tryon.config import StageSpec
from tryon.errors import BundleError, ConfigError, TryonError
from tryon.infer import tryon_pipeline
from tryon.models import backends
from tryon.models.backends import STEPS, optimize_bundle, runner
from tryon.models.bundle import (
    Role,
    add_backend,
    copy_bundle,
    load_bundle,
    read_manifest,
    tryon_stages,
    write_network,
)
from tryon.models.catalogue import push, verify
from tryon.models.pack import pack_bundle

CPU = torch.device("cpu")
ROLES: tuple[Role, ...] = ("warp", "synthesis", "refinement")


@pytest.fixture(autouse=True)
def _needs_onnx() -> None:
    for package in ("onnx", "onnxruntime"):
        pytest.importorskip(package, reason="pip install 'tryon[onnx]'")


@pytest.fixture(autouse=True)
def _plain_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a CPU without matrix units, whose PyTorch rounds nothing."""
    monkeypatch.setattr(backends, "cpu_has_amx_bf16", lambda: False)
    monkeypatch.setattr("tryon.models.device.cpu_has_amx_bf16", lambda: False)


@pytest.fixture(scope="module")
def optimized(small_bundle: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The small bundle with ONNX files. Not to be written to."""
    folder = tmp_path_factory.mktemp("optimized")
    source, out = str(folder / "source"), str(folder / "bundle")
    copy_bundle(small_bundle, source)
    write(source, "warp", "flow", {"width": 8})  # a gmm of this size is none that ONNX knows
    made = optimize_bundle(source, out)
    assert [one.role for one in made] == list(ROLES)
    assert all(one.difference < 1e-3 and one.eager_s > 0 and one.onnx_s > 0 and not one.fault for one in made)
    return out


def write(bundle: str, role: Role, name: str, config: dict[str, Any], size: tuple[int, int] = SMALL) -> None:
    """Gives a bundle another network, of random weights."""
    network: Any = seeded(name, config)
    write_network(bundle, role, name, network, config=network.config, size=size, training={}, metrics={})


def run_of(bundle: str, role: Role, backend: Any) -> Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]:
    opened = load_bundle(bundle)
    return runner(opened, role, opened.network(role)[0], CPU, backend)


def examples(bundle: str, role: Role, batch: int) -> dict[str, torch.Tensor]:
    network, size = load_bundle(bundle).network(role)
    made: dict[str, torch.Tensor] = network.example_inputs(batch, *size)  # type: ignore[operator]
    return made


def without_package(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    find = importlib.util.find_spec
    for module in ("backends", "export"):
        monkeypatch.setattr(f"tryon.models.{module}.find_spec", lambda name: None if name == package else find(name))


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("batch", [1, 3])
def test_onnx_gives_what_pytorch_gives(role: Role, batch: int, optimized: str) -> None:
    inputs = examples(optimized, role, batch)
    with torch.inference_mode():
        wanted, got = (run_of(optimized, role, backend)(inputs) for backend in ("eager", "onnx"))
    assert set(got) == set(wanted)
    for name, value in wanted.items():
        assert got[name].shape == value.shape
        assert torch.allclose(got[name], value, atol=1e-3)
        assert float(value.std()) > 0


def test_a_try_on_by_onnx_is_the_same_to_a_level(optimized: str, photo_files: tuple[Path, Path]) -> None:
    person, garment = (file.read_bytes() for file in photo_files)
    files = {"id": "a", "category": "upper", "person_file": person, "garment_file": garment}
    wanted, got = (
        tryon_pipeline(optimized, backend=backend).run_row(files)["result"].astype(int) for backend in ("eager", "onnx")
    )
    assert np.abs(wanted - got).max() <= 1


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler: apt-get install g++")
def test_compiled_gives_what_pytorch_gives(tmp_path: Path) -> None:
    bundle = str(tmp_path / "bundle")
    write(bundle, "refinement", "nafnet", {"width": 4, "encoder_blocks": (1,), "decoder_blocks": (1,)}, (64, 48))
    inputs = examples(bundle, "refinement", 2)
    with torch.inference_mode():
        wanted, got = (run_of(bundle, "refinement", backend)(inputs) for backend in ("eager", "compile"))
    assert torch.allclose(got["restored"], wanted["restored"], atol=1e-3)


def test_auto_takes_onnx_where_it_is_there_and_faster(
    optimized: str, small_bundle: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def is_onnx(bundle: str) -> bool:
        return isinstance(run_of(bundle, "warp", "auto"), backends.Session)

    assert is_onnx(optimized)
    assert not is_onnx(small_bundle)
    with monkeypatch.context() as patch:
        without_package(patch, "onnxruntime")
        assert not is_onnx(optimized)
    monkeypatch.setattr(backends, "cpu_has_amx_bf16", lambda: True)
    assert not is_onnx(optimized), "matrix units are faster still"


def test_options_reach_the_stages(optimized: str) -> None:
    specs = tryon_stages(optimized, backend="onnx")
    assert specs[0] == StageSpec(name="warp", options={"bundle": optimized, "backend": "onnx"})
    assert "backend" not in tryon_stages(optimized)[0].options, "what was made by earlier versions is taken over"


# What cannot be


def test_a_bundle_without_files_says_how_to_get_them(small_bundle: str) -> None:
    with pytest.raises(BundleError, match=r"no onnx file of its warp network: `tryon models optimize`"):
        run_of(small_bundle, "warp", "onnx")


def test_a_missing_package_is_named(optimized: str, small_bundle: str, tmp_path: Path, monkeypatch: Any) -> None:
    without_package(monkeypatch, "onnxruntime")
    with pytest.raises(ConfigError, match=r"pip install 'tryon\[onnx\]'"):
        run_of(optimized, "warp", "onnx")
    with pytest.raises(TryonError, match="needs the package onnxruntime"):
        optimize_bundle(small_bundle, str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_an_unknown_backend_is_refused(small_bundle: str) -> None:
    with pytest.raises(ConfigError, match=r"backend 'tensorrt' is not one of auto, eager, compile, onnx, int8"):
        run_of(small_bundle, "warp", "tensorrt")


def test_a_file_that_computes_something_else_is_refused(optimized: str, tmp_path: Path) -> None:
    bundle = str(tmp_path / "bundle")
    copy_bundle(optimized, bundle)
    network, size = load_bundle(bundle).network("refinement")
    other = seeded("nafnet", network.config)  # type: ignore[arg-type]
    data = backends.trace_onnx(other, lambda x: {"restored": other(x["image"])}, size)  # type: ignore[arg-type]
    add_backend(bundle, "refinement", "onnx", data)
    with pytest.raises(BundleError, match="gives another restored than PyTorch"):
        run_of(bundle, "refinement", "onnx")


def test_a_network_that_samples_runs_on_pytorch_alone(small_bundle: str, tmp_path: Path) -> None:
    bundle, out = str(tmp_path / "bundle"), tmp_path / "out"
    copy_bundle(small_bundle, bundle)
    sizes = {"widths": (16, 24), "num_heads": 2, "token_width": 16, "sampling": {"steps": 2}}
    autoencoder = {"patch": 4, "widths": (8, 12), "latent_channels": 3}
    write(bundle, "synthesis", "latent_diffusion", {**sizes, "autoencoder": autoencoder})
    with pytest.raises(ConfigError, match=r"latent_diffusion makes its result in a loop"):
        run_of(bundle, "synthesis", "onnx")
    faults = {one.role: one.fault for one in optimize_bundle(bundle, str(out))}
    assert "cannot be exported" in faults["warp"], "a gmm of this size"
    assert "in a loop" in faults["synthesis"]
    assert not faults["refinement"]
    assert len(list(out.glob("*.onnx"))) == 1
    assert callable(run_of(str(out), "synthesis", "auto"))


# Files of a bundle


def test_files_are_the_bundles(optimized: str, tmp_path: Path) -> None:
    entry = read_manifest(optimized).networks["warp"]
    assert len(entry.files) == 2
    registry = str(tmp_path / "models" / "shirt")
    pushed = push(optimized, registry)
    assert verify(pushed.version.uri).num_files == 7
    assert not verify(pushed.version.uri).problems
    copied = tmp_path / "copied"
    copy_bundle(optimized, str(copied))
    (copied / entry.backends["onnx"].file).write_bytes(b"damaged")
    (problem,) = verify(str(copied)).problems
    assert entry.backends["onnx"].file in problem
    with pytest.raises(BundleError, match="sha256"):
        run_of(str(copied), "warp", "onnx")


def test_other_weights_have_no_files_of_the_old_ones(optimized: str, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    copy_bundle(optimized, str(bundle))
    old = read_manifest(optimized).networks["warp"]
    write(str(bundle), "warp", "gmm", {"width": 8})
    assert read_manifest(str(bundle)).networks["warp"].backends == {}
    assert not (bundle / old.backends["onnx"].file).exists()
    assert (bundle / read_manifest(optimized).networks["synthesis"].backends["onnx"].file).exists()
    packed = pack_bundle(optimized, str(tmp_path / "packed"))
    assert all(not entry.backends for entry in packed.networks.values())


def test_the_verb_says_what_it_made(
    optimized: str, small_bundle: str, photo_files: tuple[Path, Path], tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    out = tmp_path / "out"
    assert run_main(monkeypatch, "models", "optimize", optimized, str(out)) == 0
    text = capsys.readouterr().out
    assert all(f"{role}: " in text for role in ROLES)
    assert len(list(out.glob("*.onnx"))) == len(STEPS)
    words = ["--person", str(photo_files[0]), "--garment", str(photo_files[1]), "--out", str(tmp_path / "a.png")]
    assert run_main(monkeypatch, "infer", *words, "--bundle", str(out), "--backend", "onnx") == 0
    assert run_main(monkeypatch, "infer", *words, "--bundle", small_bundle, "--backend", "onnx") == 2
    one_sentence(capsys.readouterr().err, "tryon models optimize")
