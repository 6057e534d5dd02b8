"""Encode: the result as a file."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tryon.codec import decode_image, encode_jpeg
from tryon.sample import Batch
from tryon.stages.encode import Encode

IMAGE = np.random.default_rng(0).integers(0, 256, (48, 36, 3), dtype=np.uint8)


def encoded(form: Any, quality: Any = None) -> Batch:
    return Encode()({"result": [IMAGE], "output_format": [form], "output_quality": [quality]})


def test_png_loses_nothing() -> None:
    assert np.array_equal(decode_image(encoded("png", 90)["result_file"][0]), IMAGE)


@pytest.mark.parametrize(("told", "quality"), [((None, None), 95), (("jpeg", None), 95), (("jpeg", 85.0), 85)])
def test_jpeg_of_the_quality_that_is_asked_for(told: tuple[Any, Any], quality: int) -> None:
    assert encoded(*told)["result_file"] == [encode_jpeg(IMAGE, quality)]


def test_a_batch_that_says_nothing_of_the_file() -> None:
    assert Encode()({"result": [IMAGE]})["result_file"] == [encode_jpeg(IMAGE, 95)]


def test_another_format_is_named() -> None:
    out = encoded("gif")
    assert out["error_code"] == ["format-unknown"]
    assert "'gif'" in out["error"][0]
    assert out["result_file"] == [None]
