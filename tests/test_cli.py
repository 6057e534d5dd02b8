from __future__ import annotations

import json
import os
import re
import resource
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import ROOT
from tryon import __version__
from tryon.cli import main

VERBS = (
    "infer", "extract", "train", "evaluate", "measure", "serve", "submit", "demo", "export-onnx", "doctor",
    "data synth", "data annotate", "data crawl", "data split", "data augment", "data downsample", "data triplets",
    "data info", "data validate", "data report", "data diff", "data export", "data sheet", "data gallery",
    "runs list", "runs show", "runs compare", "models networks", "models list", "models show", "models push",
    "models pull", "models promote", "models verify", "keys create", "keys list", "keys revoke",
)  # fmt: skip
HELP_S = 0.8
SIZE = "128x96"
LAYERS = {
    "person", "garment", "agnostic", "warped_garment", "tryon", "person_mask", "garment_mask", "agnostic_mask",
    "warped_mask", "composition_mask", "parse",
}  # fmt: skip
TINY = {"size": "[128, 96]", "steps": "2", "batch_size": "2", "num_workers": "0", "network.width": "8"}


def run_main(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """The CLI in this process; its exit code."""
    monkeypatch.setattr(sys, "argv", ["tryon", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def run_tryon(*arguments: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """The console script beside this Python."""
    script = Path(sys.executable).with_name("tryon")
    return subprocess.run(
        [str(script), *arguments], capture_output=True, text=True, timeout=timeout, check=False, cwd=ROOT
    )


def set_options(**options: str) -> list[str]:
    return [word for key, value in options.items() for word in ("--set", f"{key}={value}")]


def digests(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_help_answers_at_once_and_lists_every_verb() -> None:
    times = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = run_tryon("--help")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        # CPU time: help waits for nothing, so this is its wall time on a machine that does nothing else.
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert done.returncode == 0
    assert {verb.split()[0] for verb in VERBS} <= set(re.findall(r"[\w-]+", done.stdout))
    assert statistics.median(times) < HELP_S, times


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['tryon', '--help']\nfrom tryon.cli import main\ntry: main()\nexcept SystemExit: pass\n"
    )
    code += "print([m for m in ('ray', 'torch', 'numpy', 'cv2', 'mediapipe', 'pyarrow') if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "platform")},
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_explains_itself(
    verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_main(monkeypatch, *verb.split(), "--help") == 0
    assert verb in capsys.readouterr().out


def test_version(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_main(monkeypatch, "--version") == 0
    assert capsys.readouterr().out.strip() == __version__


@pytest.mark.parametrize(("name", "kind"), [("out.png", "PNG"), ("out.jpg", "JPEG"), ("new/folder/out.JPEG", "JPEG")])
def test_infer_writes_the_person_photos_size(
    name: str,
    kind: str,
    tmp_path: Path,
    photo_files: tuple[Path, Path],
    small_bundle: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    person, garment = photo_files
    out = tmp_path / name
    arguments = ["--person", str(person), "--garment", str(garment), "--out", str(out), "--bundle", small_bundle]
    assert run_main(monkeypatch, "infer", *arguments) == 0
    with Image.open(out) as image, Image.open(person) as photo:
        assert image.format == kind
        assert image.size == photo.size
        changed = np.any(np.asarray(image) != np.asarray(photo), axis=2).mean()
    assert changed > 0.01
    assert [path.name for path in out.parent.iterdir()] == [out.name]


def test_infer_writes_layers(
    tmp_path: Path, photo_files: tuple[Path, Path], small_bundle: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    person, garment = photo_files
    out, layers = tmp_path / "out.png", tmp_path / "layers"
    arguments = ["--person", str(person), "--garment", str(garment), "--out", str(out), "--layers", str(layers)]
    monkeypatch.setenv("TRYON_BUNDLE", small_bundle)
    assert run_main(monkeypatch, "infer", *arguments) == 0
    assert {path.stem for path in layers.iterdir()} == LAYERS
    for path in layers.iterdir():
        assert np.asarray(Image.open(path)).std() > 0, f"{path.name} is one flat colour"


def test_the_whole_way_from_samples_to_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    raw, data, bundle, report = (str(tmp_path / name) for name in ("raw", "data", "bundle", "report"))
    assert run_main(monkeypatch, "data", "synth", "--out", raw, "--num", "12", "--size", SIZE, "--actors", "0") == 0
    assert "12 rows in = 12 out + 0 quarantined" in capsys.readouterr().out
    assert run_main(monkeypatch, "data", "annotate", raw, "--out", data, "--actors", "0") == 0
    manifest = json.loads((tmp_path / "data/_manifest.json").read_text())
    assert manifest["rows_in"] == 12 == manifest["rows"] + manifest["quarantined"]
    assert {"agnostic", "agnostic_mask", "parse", "pose"} <= set(manifest["fields"])
    for recipe in ("gmm", "tom"):
        assert run_main(monkeypatch, "train", recipe, "--data", data, "--out", bundle, *set_options(**TINY)) == 0
    networks = json.loads((tmp_path / "bundle/bundle.json").read_text())["networks"]
    assert set(networks) == {"warp", "synthesis"}
    capsys.readouterr()
    assert run_main(monkeypatch, "evaluate", "--data", data, "--bundle", bundle, "--out", report, "--actors", "0") == 0
    assert "SSIM" in capsys.readouterr().out
    metrics = json.loads((tmp_path / "report/metrics.json").read_text())
    assert metrics["samples"] == manifest["rows"]
    assert (tmp_path / "report/report.html").stat().st_size > 1000


def test_a_finished_training_run_is_not_repeated(
    small_data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["train", "gmm", "--data", small_data, "--out", str(tmp_path / "bundle"), *set_options(**TINY)]
    assert run_main(monkeypatch, *arguments) == 0
    before = digests(tmp_path / "bundle")
    capsys.readouterr()
    assert run_main(monkeypatch, *arguments) == 0
    assert "done before" in capsys.readouterr().out
    assert digests(tmp_path / "bundle") == before


def test_options_come_from_a_file_and_set_wins(
    small_data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "tiny.yaml"
    file.write_text("size: [128, 96]\nsteps: 3\nbatch_size: 2\nnum_workers: 0\nnetwork: {width: 8}\n")
    out = str(tmp_path / "bundle")
    assert (
        run_main(
            monkeypatch, "train", "gmm", "--data", small_data, "--out", out, "--config", str(file), "--set", "steps=1"
        )
        == 0
    )
    entry = json.loads((tmp_path / "bundle/bundle.json").read_text())["networks"]["warp"]
    assert entry["training"]["config"]["steps"] == 1
    assert entry["training"]["config"]["batch_size"] == 2


@pytest.mark.ray
@pytest.mark.usefixtures("ray_local")
def test_synth_gives_the_same_bytes_over_any_number_of_actors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for actors in ("0", "2"):
        out = str(tmp_path / actors)
        arguments = ["--out", out, "--num", "70", "--size", SIZE, "--seed", "3", "--actors", actors]
        assert run_main(monkeypatch, "data", "synth", *arguments) == 0
    here, on_ray = digests(tmp_path / "0"), digests(tmp_path / "2")
    assert len(here) == 4  # three shards and the manifest
    assert here == on_ray
