"""Whatever is wrong with the input ends as one sentence that names it, on stderr, and exit code 2."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from tests.bad_inputs import CONVERTED, REFUSED, Converted, Refused
from tests.conftest import ROOT
from tests.test_cli import run_main, run_tryon

Infer = Callable[..., int]


@pytest.fixture
def infer(photo_files: tuple[Path, Path], small_bundle: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Infer:
    """`tryon infer` with good arguments, except for those that are given; None leaves one out."""

    def run(**changed: object) -> int:
        person, garment = photo_files
        good: dict[str, object] = {
            "person": person,
            "garment": garment,
            "out": tmp_path / "out.png",
            "bundle": small_bundle,
        }
        words = [str(w) for k, v in {**good, **changed}.items() if v is not None for w in (f"--{k}", v)]
        return run_main(monkeypatch, "infer", *words)

    return run


def one_sentence(captured: str, *words: str) -> None:
    lines = captured.splitlines()
    assert len(lines) == 1, captured
    assert lines[0].startswith("tryon: ")
    assert "Traceback" not in captured
    for word in words:
        assert word in lines[0]


GARMENT_CASES = [case for case in REFUSED if case.as_garment]


@pytest.mark.parametrize(
    ("photo", "case"),
    [("person", case) for case in REFUSED] + [("garment", case) for case in GARMENT_CASES],
    ids=[f"person-{case.name}" for case in REFUSED] + [f"garment-{case.name}" for case in GARMENT_CASES],
)
def test_a_photo_that_cannot_be_used(
    photo: str,
    case: Refused,
    infer: Infer,
    photo_files: tuple[Path, Path],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    bad = tmp_path / f"{case.name}.jpg"
    bad.write_bytes(case.build(photo_files[photo == "garment"].read_bytes()))
    assert infer(**{photo: bad}) == 2
    one_sentence(capfd.readouterr().err, case.word, *([str(bad)] if case.code != "no-person" else []))
    assert not (tmp_path / "out.png").exists()


@pytest.mark.parametrize("photo", ["person", "garment"])
@pytest.mark.parametrize("case", CONVERTED, ids=lambda case: case.name)
def test_an_unusual_photo_is_used_and_said(
    photo: str,
    case: Converted,
    infer: Infer,
    photo_files: tuple[Path, Path],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    odd = tmp_path / case.name
    odd.write_bytes(case.build(photo_files[photo == "garment"].read_bytes()))
    assert infer(**{photo: odd}) == 0
    notes = capfd.readouterr().err.splitlines()
    assert len(notes) == 1
    assert notes[0].startswith("note: ")
    assert str(odd) in notes[0]
    assert case.word in notes[0]
    with Image.open(tmp_path / "out.png") as image, Image.open(photo_files[0]) as upright:
        assert image.size == upright.size


def test_a_garment_as_person(infer: Infer, photo_files: tuple[Path, Path], capfd: pytest.CaptureFixture[str]) -> None:
    assert infer(person=photo_files[1]) == 2
    one_sentence(capfd.readouterr().err, "no person")


def test_a_garment_photo_without_a_garment(infer: Infer, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    empty = tmp_path / "empty.png"
    Image.new("RGB", (96, 128), "white").save(empty)
    assert infer(garment=empty) == 2
    one_sentence(capfd.readouterr().err, "no garment")


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"person": "nowhere.jpg"}, ("nowhere.jpg", "does not exist")),
        ({"garment": "nowhere.jpg"}, ("nowhere.jpg", "does not exist")),
        ({"person": "."}, ("folder",)),
        ({"person": None}, ("--person",)),
        ({"garment": None}, ("--garment",)),
        ({"out": None}, ("--out",)),
        ({"out": "x.gif"}, ("--out", "x.gif", ".png")),
        ({"out": "x"}, ("--out", ".png")),
        ({"out": "/proc/nowhere/x.png"}, ("/proc/nowhere/x.png", "cannot be written")),
        ({"category": "hat"}, ("--category", "hat", "upper")),
        ({"bundle": "nowhere/bundle"}, ("nowhere/bundle", "does not exist")),
        ({"bundle": "ftp://host/bundle"}, ("ftp", "not supported")),
        ({"colour": "red"}, ("--colour",)),
    ],
    ids=str,
)
def test_wrong_arguments_of_infer(
    changed: dict[str, str | None], words: tuple[str, ...], infer: Infer, capfd: pytest.CaptureFixture[str]
) -> None:
    assert infer(**changed) == 2
    one_sentence(capfd.readouterr().err, *words)


def test_a_bundle_of_the_environment_that_is_not_there(
    infer: Infer, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TRYON_BUNDLE", "nowhere/env-bundle")
    assert infer(bundle=None) == 2
    one_sentence(capfd.readouterr().err, "nowhere/env-bundle")


def break_json(folder: Path) -> None:
    (folder / "bundle.json").write_text('{"format": 1,')


def break_schema(folder: Path) -> None:
    manifest = json.loads((folder / "bundle.json").read_text())
    (folder / "bundle.json").write_text(json.dumps({**manifest, "format": 99}))


def break_list(folder: Path) -> None:
    (folder / "bundle.json").write_text("[]")


def break_weights(folder: Path) -> None:
    weights = next(folder.glob("warp-*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\1\2\3")


def break_bytes(folder: Path) -> None:
    (folder / "bundle.json").write_bytes(b"\xff\xfe\x00\x01")


def drop_weights(folder: Path) -> None:
    next(folder.glob("synthesis-*.safetensors")).unlink()


def drop_manifest(folder: Path) -> None:
    (folder / "bundle.json").unlink()


def drop_role(folder: Path) -> None:
    manifest = json.loads((folder / "bundle.json").read_text())
    del manifest["networks"]["synthesis"]
    (folder / "bundle.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("damage", "word"),
    [
        (break_json, "no JSON"),
        (break_bytes, "no JSON"),
        (break_schema, "format"),
        (break_list, "bundle.json"),
        (break_weights, "sha256"),
        (drop_weights, "lacks"),
        (drop_manifest, "no bundle"),
        (drop_role, ""),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_broken_bundle(
    damage: Callable[[Path], None],
    word: str,
    infer: Infer,
    small_bundle: str,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(small_bundle, folder)
    damage(folder)
    assert infer(bundle=folder) == 2
    one_sentence(capfd.readouterr().err, word)


SYNTH = ("data", "synth", "--out", "{tmp}/data", "--actors", "0")
TRAIN = ("train", "gmm", "--data", "{data}", "--out", "{tmp}/bundle")
EVALUATE = ("evaluate", "--data", "{data}", "--bundle", "{bundle}", "--out", "{tmp}/e")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("no-such-verb",), ("no-such-verb",)),
        (("--no-such-option",), ("--no-such-option",)),
        ((*SYNTH, "--num", "4", "--size", "10x10"), ("--size", "10x10")),
        ((*SYNTH, "--num", "4", "--size", "abc"), ("--size", "abc")),
        ((*SYNTH, "--num", "4", "--size", "9999x9999"), ("--size", "9999x9999")),
        ((*SYNTH, "--num", "0"), ("num", "0")),
        ((*SYNTH, "--num", "many"), ("--num",)),
        (SYNTH, ("--num",)),
        ((*SYNTH, "--num", "4", "--seed", "-1"), ("seed", "-1")),
        (("data", "synth", "--out", "{tmp}/data", "--num", "4", "--actors", "-1"), ("--actors",)),
        (("data", "synth", "--out", "/proc/nowhere", "--num", "4", "--actors", "0"), ("/proc/nowhere",)),
        (("data", "synth", "--out", "", "--num", "4", "--actors", "0"), ("URI",)),
        (("data", "annotate", "nowhere", "--out", "{tmp}/x", "--actors", "0"), ("nowhere", "does not exist")),
        (("data", "annotate", "{tmp}", "--out", "{tmp}/x", "--actors", "0"), ("no photos",)),
        (("train", "gnm", "--data", "{data}", "--out", "{tmp}/b"), ("gnm", "gmm")),
        ((*TRAIN, "--set", "foo=1"), ("foo",)),
        ((*TRAIN, "--set", "steps=abc"), ("steps", "abc")),
        ((*TRAIN, "--set", "steps"), ("--set", "steps")),
        ((*TRAIN, "--set", "steps=0"), ("steps", "0")),
        ((*TRAIN, "--set", "steps=["), ("--set", "steps=[")),
        ((*TRAIN, "--set", "steps=1", "--set", "steps.more=2"), ("steps",)),
        ((*TRAIN, "--set", "size=[100, 100]"), ("size",)),
        ((*TRAIN, "--set", "network.colour=red"), ("colour",)),
        ((*TRAIN, "--config", "nowhere.yaml"), ("--config", "nowhere.yaml")),
        ((*TRAIN, "--config", "{tmp}"), ("--config",)),
        ((*TRAIN, "--config", "{photo}"), ("--config",)),
        (("train", "gmm", "--data", "nowhere", "--out", "{tmp}/b"), ("nowhere", "does not exist")),
        (("train", "gmm", "--data", "{tmp}", "--out", "{tmp}/b"), ("_manifest.json",)),
        (("train", "tom", "--data", "{data}", "--out", "{tmp}/b"), ("warp",)),
        (("evaluate", "--data", "{data}", "--bundle", "nowhere", "--out", "{tmp}/e"), ("nowhere",)),
        (("evaluate", "--data", "nowhere", "--bundle", "{bundle}", "--out", "{tmp}/e", "--actors", "0"), ("nowhere",)),
        ((*EVALUATE, "--fid-weights", "nowhere.pth"), ("--fid-weights", "nowhere.pth", "pt_inception-2015-12-05")),
        ((*EVALUATE, "--lpips-weights", "{photo}"), ("--lpips-weights", "damaged", "alexnet")),
        ((*EVALUATE, "--pairing", "unpaired", "--lpips-weights", "x.pth"), ("--lpips-weights",)),
        ((*EVALUATE, "--pairing", "both"), ("pairing", "both", "'unpaired'")),
        (("serve", "--bundle", "nowhere"), ("nowhere",)),
        (("serve", "--bundle", "{bundle}", "--config", "nowhere.yaml"), ("--config", "nowhere.yaml")),
        (("serve", "--bundle", "{bundle}", "--config", "{tmp}"), ("--config",)),
        (("serve", "--bundle", "{bundle}", "--config", "{photo}"), ("--config",)),
        (("serve", "--bundle", "{bundle}", "--port", "0"), ("--port",)),
        (("serve", "--bundle", "{bundle}", "--port", "70000"), ("--port",)),
        (("serve", "--bundle", "{bundle}", "--port", "{taken}"), ("{taken}", "--port")),
        (("serve", "--bundle", "{bundle}", "--host", "no-such-host.invalid"), ("no-such-host.invalid", "--host")),
        (("serve", "--bundle", "{bundle}", "--host", "a" * 64), ("--host",)),
        (("demo", "--out", "{tmp}/demo", "--person", "nowhere.jpg"), ("nowhere.jpg",)),
        (("demo", "--out", "{tmp}/demo", "--scale", "0"), ("--scale",)),
        (("submit", "sing", "--folder", "{root}"), ("'sing'", "annotate", "train")),
        (("submit", "train", "--folder", "{tmp}"), ("'train'", "none")),
        (("submit", "train", "--folder", "{root}", "--address", "http://127.0.0.1:1"), ("--address", "127.0.0.1:1")),
    ],
    ids=lambda value: " ".join(value)[:60],
)
def test_wrong_arguments(
    arguments: tuple[str, ...],
    words: tuple[str, ...],
    photo_files: tuple[Path, Path],
    small_data: str,
    small_bundle: str,
    taken_port: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    names = {
        "tmp": str(tmp_path), "data": small_data, "bundle": small_bundle, "photo": str(photo_files[0]),
        "taken": str(taken_port), "root": str(ROOT),
    }  # fmt: skip
    assert run_main(monkeypatch, *(word.format(**names) for word in arguments)) == 2
    one_sentence(capfd.readouterr().err, *(word.format(**names) for word in words))


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "application"),
        ("- a list", "application"),
        ("applications: []", "application"),
        ("applications: [text]", "application"),
        ("applications: [{args: 3}]", "application"),
        ("http_options: {port: abc}\napplications: [{args: {}}]", "abc"),
        ("http_options: 3\napplications: [{args: {}}]", "application"),
        ("applications: [{args: {colour: red}}]", "colour"),
        ("applications: [{args: {request_timeout_s: -1}}]", "request_timeout_s"),
        ("applications: [{args: {groups: [{name: a, stages: [pose, pasta]}]}}]", "pasta"),
        ("applications: [{args: {groups: [{name: a, stages: [decode_person, decode_person]}]}}]", "twice|two groups"),
        ("applications: [\n", "YAML|application"),
    ],
)
def test_a_wrong_config_of_the_service(
    text: str,
    word: str,
    small_bundle: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(text)
    assert run_main(monkeypatch, "serve", "--bundle", small_bundle, "--config", str(file)) == 2
    err = capfd.readouterr().err
    one_sentence(err)
    assert any(part in err for part in word.split("|"))


def test_the_console_script(tmp_path: Path) -> None:
    bad = tmp_path / "notes.jpg"
    bad.write_text("no photo")
    done = run_tryon(
        "infer", "--person", str(bad), "--garment", str(bad), "--out", str(tmp_path / "o.png"), "--bundle", "nowhere"
    )
    assert done.returncode == 2
    assert done.stdout == ""
    one_sentence(done.stderr, "nowhere")


def test_the_console_script_with_a_bad_photo(tmp_path: Path, photo_files: tuple[Path, Path], small_bundle: str) -> None:
    bad = tmp_path / "notes.jpg"
    bad.write_text("no photo")
    arguments = ["--person", str(bad), "--garment", str(photo_files[1]), "--out", str(tmp_path / "o.png")]
    done = run_tryon("infer", *arguments, "--bundle", small_bundle)
    assert done.returncode == 2
    one_sentence(done.stderr, str(bad), "no image")


def test_a_wrong_option_with_python_dash_c() -> None:
    code = "import sys; sys.argv = ['tryon', 'infer', '--persn', 'x']; from tryon.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False, cwd=ROOT / "platform"
    )
    assert done.returncode == 2
    one_sentence(done.stderr, "--persn", "--person")


def test_without_a_verb_the_verbs_are_listed() -> None:
    done = run_tryon()
    assert done.returncode == 2
    assert "infer" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
