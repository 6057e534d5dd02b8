"""`tryon extract`, and `tryon infer --garment-from`: what one person wears as a photo, and tried on another."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.test_bad_input_cli import one_sentence
from tests.test_cli import LAYERS, run_main


@pytest.fixture(scope="module")
def wearer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another person photo, simulated, 512x384."""
    from tryon.codec import encode_png
    from tryon.data.simulator import simulate

    file = tmp_path_factory.mktemp("wearer") / "wearer.png"
    file.write_bytes(encode_png(simulate(5, 3, 512, 384)["person"]))
    return file


@pytest.mark.parametrize(
    ("arguments", "size"), [([], (768, 1024)), (["--size", "256x192"], (192, 256)), (["--category", "lower"], None)]
)
def test_extract_writes_a_garment_photo(
    arguments: list[str],
    size: tuple[int, int] | None,
    photo_files: tuple[Path, Path],
    extract_bundle: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "made" / "shirt.png"
    words = ["extract", "--person", str(photo_files[0]), "--out", str(out), "--bundle", extract_bundle, *arguments]
    assert run_main(monkeypatch, *words) == 0
    with Image.open(out) as image:
        assert image.size == (size or (768, 1024))
        assert np.asarray(image).std() > 1
        assert f"{out}: {image.size[0]}x{image.size[1]} px in " in capsys.readouterr().out
    assert [path.name for path in out.parent.iterdir()] == [out.name]


def test_the_bundle_is_the_environments_where_none_is_named(
    photo_files: tuple[Path, Path], extract_bundle: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRYON_BUNDLE", extract_bundle)
    out = tmp_path / "shirt.jpg"
    words = ["--person", str(photo_files[0]), "--out", str(out), "--size", "128x96"]
    assert run_main(monkeypatch, "extract", *words) == 0
    with Image.open(out) as image:
        assert image.format == "JPEG"


def test_what_another_wears_is_tried_on(
    photo_files: tuple[Path, Path], wearer: Path, extract_bundle: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    person, out, layers = photo_files[0], tmp_path / "out.png", tmp_path / "layers"
    words = ["--person", str(person), "--garment-from", str(wearer), "--out", str(out), "--bundle", extract_bundle]
    assert run_main(monkeypatch, "infer", *words, "--layers", str(layers)) == 0
    with Image.open(out) as image, Image.open(person) as photo:
        assert image.size == photo.size
        changed = np.any(np.asarray(image) != np.asarray(photo), axis=2)
    assert 0.01 < changed.mean() < 0.9
    assert {path.stem for path in layers.iterdir()} == LAYERS
    # The garment is the one that `tryon extract` makes of the wearer.
    alone = tmp_path / "alone.png"
    words = ["--person", str(wearer), "--out", str(alone), "--category", "upper", "--bundle", extract_bundle]
    assert run_main(monkeypatch, "extract", *words) == 0
    with Image.open(alone) as a, Image.open(layers / "garment.png") as b:
        assert np.array_equal(np.asarray(a), np.asarray(b))


def test_what_was_converted_is_said_of_both_photos(
    photo_files: tuple[Path, Path],
    wearer: Path,
    extract_bundle: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    files = []
    for name, file in (("a", photo_files[0]), ("b", wearer)):
        files.append(tmp_path / f"{name}.png")
        Image.open(file).convert("RGBA").save(files[-1])
    words = ["--person", str(files[0]), "--garment-from", str(files[1]), "--out", str(tmp_path / "out.png")]
    assert run_main(monkeypatch, "infer", *words, "--bundle", extract_bundle) == 0
    notes = capfd.readouterr().err.splitlines()
    assert [note.split(":")[1].strip() for note in notes] == [str(file) for file in files]


@pytest.mark.parametrize("both", [True, False])
def test_one_of_the_two_garments_is_asked_for(
    both: bool,
    photo_files: tuple[Path, Path],
    extract_bundle: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    person, garment = map(str, photo_files)
    words = ["--person", person, "--out", str(tmp_path / "out.png"), "--bundle", extract_bundle]
    words += ["--garment", garment, "--garment-from", person] if both else []
    assert run_main(monkeypatch, "infer", *words) == 2
    one_sentence(capfd.readouterr().err, "either --garment", "--garment-from")


@pytest.mark.parametrize("verb", ["extract", "infer"])
def test_a_bundle_without_extraction_says_how_to_get_one(
    verb: str,
    photo_files: tuple[Path, Path],
    wearer: Path,
    small_bundle: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    words = ["--person", str(photo_files[0]), "--out", str(tmp_path / "out.png"), "--bundle", small_bundle]
    words += ["--garment-from", str(wearer)] if verb == "infer" else []
    assert run_main(monkeypatch, verb, *words) == 2
    one_sentence(capfd.readouterr().err, "no extraction network", "it has: warp", "`tryon train extract` adds one")
    assert not (tmp_path / "out.png").exists()


def test_a_wearer_who_is_none_is_named(
    photo_files: tuple[Path, Path],
    extract_bundle: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    person, garment = map(str, photo_files)
    words = ["--person", person, "--garment-from", garment, "--out", str(tmp_path / "o.png")]
    assert run_main(monkeypatch, "infer", *words, "--bundle", extract_bundle) == 2
    one_sentence(capfd.readouterr().err, garment, "no person")


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"person": "nowhere.jpg"}, ("nowhere.jpg", "does not exist")),
        ({"person": None}, ("--person",)),
        ({"out": None}, ("--out",)),
        ({"out": "x.gif"}, ("--out", "x.gif", ".png")),
        ({"category": "hat"}, ("--category", "hat", "upper")),
        ({"category": "dress"}, ("person.png", "wears no dress garment")),
        ({"size": "big"}, ("--size", "big", "HEIGHTxWIDTH")),
        ({"bundle": "nowhere/bundle"}, ("nowhere/bundle", "does not exist")),
    ],
    ids=str,
)
def test_wrong_arguments_of_extract(
    changed: dict[str, str | None],
    words: tuple[str, ...],
    photo_files: tuple[Path, Path],
    extract_bundle: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    good = {"person": str(photo_files[0]), "out": str(tmp_path / "out.png"), "bundle": extract_bundle}
    if changed.get("category") == "dress":  # tops and skirts count for one: a parse without either is needed
        monkeypatch.setattr("tryon.stages.extract.WORN_SHARE", 1.0)
    arguments = [word for k, v in {**good, **changed}.items() if v is not None for word in (f"--{k}", v)]
    assert run_main(monkeypatch, "extract", *arguments) == 2
    one_sentence(capfd.readouterr().err, *words)
