"""Sorting photos: simulated persons and garments, junk, real photos where those are at hand; rows and faults."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from tryon.codec import encode_png
from tryon.data.simulator import simulate
from tryon.stages.registry import stage_class
from tryon.stages.sort import Judge, Sort

UInt8 = npt.NDArray[np.uint8]
SIZE = (384, 288)


@pytest.fixture(scope="module")
def stage() -> Sort:
    return Sort()


def jpeg(image: UInt8) -> bytes:
    return bytes(cv2.imencode(".jpg", np.ascontiguousarray(image[..., ::-1]))[1].tobytes())


def landscape() -> UInt8:
    image = np.full((288, 384, 3), (150, 190, 230), np.uint8)
    image[170:] = (70, 110, 50)
    for x, height, colour in ((90, 90, (90, 80, 110)), (250, 130, (60, 90, 70))):
        cv2.fillPoly(image, [np.array([(x - 110, 170), (x, 170 - height), (x + 120, 170)])], colour)
    noise = np.random.default_rng(0).normal(0, 6, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def text() -> UInt8:
    image = np.full((*SIZE, 3), 250, np.uint8)
    for y in range(30, 370, 22):
        cv2.putText(image, "lorem ipsum dolor sit", (12, y), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (20, 20, 20), 1)
    return image


JUNK = {
    "flat": np.full((*SIZE, 3), 200, np.uint8),
    "noise": np.random.default_rng(1).integers(0, 256, (*SIZE, 3), dtype=np.uint8),
    "landscape": landscape(),
    "text": text(),
    "stripe": np.pad(np.full((300, 12, 3), 30, np.uint8), ((40, 44), (130, 146), (0, 0)), constant_values=240),
}


@pytest.mark.parametrize("index", range(6))
def test_simulated_photos(stage: Sort, index: int) -> None:
    row = simulate(21, index, *SIZE)
    person, garment = encode_png(row["person"]), encode_png(row["garment"])
    out = stage({"photo_file": [person, garment]})
    assert out["error_code"] == [None, None]
    assert out["photo_kind"] == ["person", "garment"]
    assert out["person_file"] == [person, None]
    assert out["garment_file"] == [None, garment]


@pytest.mark.parametrize("name", JUNK)
def test_junk_is_neither(stage: Sort, name: str) -> None:
    out = stage({"photo_file": [jpeg(JUNK[name])]})
    assert out["error_code"] == ["photo-neither"]
    assert out["error"][0].startswith("the photo shows neither a person nor a garment: ")
    assert "score" in out["error"][0]
    assert out["photo_kind"] == out["person_file"] == out["garment_file"] == [None]


def test_what_is_said_about_a_photo_is_believed(stage: Sort) -> None:
    data = jpeg(JUNK["noise"])
    out = stage({"photo_file": [data, data, data], "photo_kind": ["person", "garment", "shoe"]})
    assert out["person_file"] == [data, None, None]
    assert out["garment_file"] == [None, data, None]
    assert out["error_code"] == [None, None, "photo-kind-unknown"]
    assert "'shoe'" in out["error"][2]


def test_a_sorted_row_is_not_looked_at_again(stage: Sort, monkeypatch: pytest.MonkeyPatch) -> None:
    first = stage({"photo_file": [jpeg(simulate(21, 0, *SIZE)["person"])]}, fill_missing=True)
    assert first["photo_kind"] == ["person"]

    def never(*_: Any) -> None:
        raise AssertionError("judged twice")

    monkeypatch.setattr(Judge, "__call__", never)
    again = stage(first, fill_missing=True)
    assert {name: again[name] for name in Sort.adds} == {name: first[name] for name in Sort.adds}
    assert again["error_code"] == [None]


def test_rows_that_are_sorted_by_their_source_pass(stage: Sort) -> None:
    batch = {"photo_file": [None], "person_file": [b"x"], "garment_file": [None]}
    out = stage(batch, fill_missing=True)
    assert out["person_file"] == [b"x"]
    assert out["photo_kind"] == [None]
    assert out["error_code"] == [None]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "image-empty"),
        (b"GIF89 or not", "not-an-image"),
        (jpeg(JUNK["text"])[:900], "image-truncated"),
        (jpeg(np.zeros((4, 4, 3), np.uint8)), "image-too-small"),
    ],
)
def test_faults_have_the_decoders_codes(stage: Sort, data: bytes, code: str) -> None:
    out = stage({"photo_file": [data]})
    assert out["error_code"] == [code]
    assert out["error_stage"] == ["sort"]


def test_limits_apply() -> None:
    out = Sort(limits={"max_pixels": 10_000})({"photo_file": [jpeg(JUNK["flat"])]})
    assert out["error_code"] == ["image-too-large"]


def test_survives_pickling_and_is_known_by_name(stage: Sort) -> None:
    data = encode_png(simulate(21, 1, *SIZE)["garment"])
    assert pickle.loads(pickle.dumps(stage))({"photo_file": [data]})["photo_kind"] == ["garment"]
    assert stage_class("sort") is Sort


def test_real_photos(stage: Sort, shared: Path) -> None:
    folder = shared / "vitonhd" / "test"
    for kind, name in (("person", "image"), ("garment", "cloth")):
        files = [path.read_bytes() for path in sorted((folder / name).glob("*.jpg"))]
        assert stage({"photo_file": files})["photo_kind"] == [kind] * len(files)


def test_a_wearer_without_a_head_is_neither(stage: Sort, shared: Path) -> None:
    image = cv2.imread(str(shared / "vitonhd" / "test" / "image" / "00891_00.jpg"))
    assert image is not None
    out = stage({"photo_file": [bytes(cv2.imencode(".jpg", image[360:])[1].tobytes())]})
    assert out["error_code"] == ["photo-neither"]
