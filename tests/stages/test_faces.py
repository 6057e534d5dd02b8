"""Counting faces: in nothing, in one person's photo, and in several photos side by side."""

from __future__ import annotations

import pickle
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from tryon.stages._faces import Face, FaceFinder, count_faces, main_faces

UInt8 = npt.NDArray[np.uint8]


def person(shared: Path, name: str) -> UInt8:
    image = cv2.imread(str(shared / "vitonhd" / "test" / "image" / f"{name}.jpg"))
    assert image is not None
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), dtype=np.uint8)


@pytest.mark.parametrize("image", [np.full((96, 64, 3), 200, np.uint8), np.zeros((300, 201, 3), np.uint8)])
def test_no_face(image: UInt8) -> None:
    assert count_faces(image) == 0


def test_small_faces_beside_a_large_one_are_passers_by() -> None:
    near, far, other = Face(0.1, 0.1, 0.2, 0.2, 0.9), Face(0.8, 0.1, 0.05, 0.05, 0.9), Face(0.5, 0.1, 0.15, 0.15, 0.8)
    assert main_faces([near, far, other]) == [near, other]
    assert main_faces([]) == []


def test_counts_people(shared: Path) -> None:
    names = ("00006_00", "00017_00", "03615_00")
    photos = [person(shared, name) for name in names]
    assert [count_faces(photo) for photo in photos] == [1, 1, 1]
    assert count_faces(np.concatenate(photos[:2], axis=1)) == 2


def test_finder_survives_pickling_and_is_deterministic(shared: Path) -> None:
    finder, photo = FaceFinder(), person(shared, "00891_00")
    first = finder(photo)
    assert len(first) == 1
    assert 0.05 < first[0].height < 0.4
    assert pickle.loads(pickle.dumps(finder))(photo) == first
