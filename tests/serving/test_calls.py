"""What one request may ask for beside one garment and one picture: several of either, a seed, another bundle."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import requests
from PIL import Image

from tests.conftest import ROOT
from tryon.client import AsyncClient, Client, RefusedError, TryOn
from tryon.codec import encode_png
from tryon.data.simulator import simulate
from tryon.serving.api import MAX_SEED, TryOnCall

pytestmark = [pytest.mark.ray, pytest.mark.xdist_group("service")]


@pytest.fixture(scope="module")
def trousers() -> bytes:
    """A garment photo of another category."""
    row = next(row for row in (simulate(5, i, 512, 384) for i in range(2, 40)) if row["category"] == "lower")
    return encode_png(row["garment"])


def opened(file: bytes) -> npt.NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(file)))


def refused(url: str, photos: tuple[Path, Path], options: dict[str, Any], **headers: str) -> tuple[int, dict[str, Any]]:
    files = {"person_image": photos[0].read_bytes(), "garment_image": photos[1].read_bytes()}
    reply = requests.post(
        url + "/api/v1/tryon", files=files, data={"options": json.dumps(options)}, headers=headers, timeout=60
    )
    return reply.status_code, reply.json()


def test_garments_worn_together_are_put_on_one_after_the_other(
    url: str, photo_files: tuple[Path, Path], trousers: bytes
) -> None:
    person, top = photo_files
    with Client(url) as client:
        first = client.tryon(person, top, return_mask=True)
        second = client.tryon(first.image, trousers, category="lower", return_mask=True)
        both = client.tryon(person, [top, trousers], category=["upper", "lower"], return_mask=True)
    assert both.image == second.image
    assert first.mask is not None
    assert second.mask is not None
    assert both.mask is not None
    assert np.array_equal(opened(both.mask), np.maximum(opened(first.mask), opened(second.mask)))
    assert not np.array_equal(opened(both.mask), opened(second.mask))


def test_garments_of_json_may_be_a_list(url: str, photo_files: tuple[Path, Path], trousers: bytes) -> None:
    person, top = (base64.b64encode(file.read_bytes()).decode() for file in photo_files)
    body = {
        "person_image": person,
        "garment_image": [top, base64.b64encode(trousers).decode()],
        "options": {"category": ["upper", "lower"], "output_format": "png"},
    }
    reply = requests.post(url + "/api/v1/tryon", json=body, timeout=60)
    assert reply.status_code == 200, reply.text
    with Client(url) as client:
        expected = client.tryon(photo_files[0], [photo_files[1], trousers], category=["upper", "lower"])
    assert base64.b64decode(reply.json()["result_image"]) == expected.image


def test_each_garment_needs_its_category(url: str, photo_files: tuple[Path, Path]) -> None:
    person, top = photo_files
    with Client(url) as client:
        with pytest.raises(RefusedError, match="names 1 for 2 garments") as caught:
            client.tryon(person, [top, top])
        assert (caught.value.status, caught.value.code) == (422, "field-conflict")
        with pytest.raises(RefusedError, match="at most once"):
            client.tryon(person, [top, top], category=["upper", "upper"])
        with pytest.raises(RefusedError, match="given 4 times: 1 to 3 are taken"):
            client.tryon(person, [top] * 4, category=["upper", "lower", "dress"])


def test_another_bundle_is_chosen_by_a_field(url: str, photo_files: tuple[Path, Path]) -> None:
    with Client(url) as client:
        assert [model.model for model in client.models().models] == ["default", "sampled"]
        default, named, other = (client.tryon(*photo_files, model=name) for name in (None, "default", "sampled"))
    assert default.image == named.image
    assert default.image != other.image
    status, body = refused(url, photo_files, {"model": "spring"})
    assert (status, body["code"], body["field"]) == (404, "model-missing", "options")
    assert "'spring'" in body["message"]
    assert "default, sampled" in body["message"]


def test_a_seed_is_a_picture(url: str, photo_files: tuple[Path, Path]) -> None:
    with Client(url) as client:
        one, again, two = (client.tryon(*photo_files, model="sampled", seed=seed) for seed in (1, 1, 2))
        more = client.tryon(*photo_files, model="sampled", seed=1, steps=5)
        several = client.tryon(*photo_files, model="sampled", seed=1, num_samples=2)
    assert one.image == again.image
    assert len({one.image, two.image, more.image}) == 3
    assert several.samples == (one.image, two.image)
    assert several.image == one.image
    assert one.samples == ()


@pytest.mark.parametrize(
    ("options", "word"), [({"seed": 1}, "seed"), ({"steps": 5}, "steps"), ({"num_samples": 2}, "seed")]
)
def test_a_network_of_one_pass_refuses_to_sample(
    url: str, photo_files: tuple[Path, Path], options: dict[str, int], word: str
) -> None:
    status, body = refused(url, photo_files, options)
    assert (status, body["code"], body["field"]) == (422, "option-unused", "options")
    assert word in body["message"]


def test_an_image_file_is_one_picture(url: str, photo_files: tuple[Path, Path]) -> None:
    status, body = refused(url, photo_files, {"model": "sampled", "num_samples": 2}, accept="image/png")
    assert (status, body["code"]) == (422, "field-conflict")
    assert "num_samples 2" in body["message"]


def test_the_asyncio_client_takes_the_same(url: str, photo_files: tuple[Path, Path], trousers: bytes) -> None:
    person, top = photo_files

    async def run() -> TryOn:
        async with AsyncClient(url) as client:
            return await client.tryon(
                person, [top, trousers], category=["upper", "lower"], model="sampled", seed=3, num_samples=2
            )

    made = asyncio.run(run())
    assert len(made.samples) == 2
    assert made.samples[0] != made.samples[1]


def test_options_of_each_garment_and_picture() -> None:
    call = TryOnCall.model_validate({"category": ["lower", "upper"], "num_samples": 3, "seed": 7, "quality": 90})
    one = call.one(1, 2)
    assert (one.category, one.seed, one.quality) == ("upper", 9, 90)
    assert TryOnCall().one(0, 0).seed is None
    assert TryOnCall(num_samples=2).one(0, 1).seed == 1
    with pytest.raises(ValueError, match="go past the last seed"):
        TryOnCall(seed=MAX_SEED, num_samples=2)


def test_the_document_describes_it(url: str) -> None:
    document = requests.get(url + "/openapi.json", timeout=60).json()
    content = document["paths"]["/api/v1/tryon"]["post"]["requestBody"]["content"]
    garment = content["multipart/form-data"]["schema"]["properties"]["garment_image"]["anyOf"]
    assert [one["type"] for one in garment] == ["string", "array"]
    assert "num_samples" in content["application/json"]["schema"]["properties"]["options"]["properties"]
    assert (ROOT / "docs/service.md").read_text().count("num_samples")
