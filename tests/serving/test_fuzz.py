"""Requests that are wrong in ways nobody thought of: from the OpenAPI document, and with photos that were broken.

``TRYON_FUZZ`` says how many requests are sent; the default keeps the suite quick.
"""

from __future__ import annotations

import io
import json
import logging
import os
import random
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, seed, settings
from PIL import Image
from schemathesis import GenerationMode

from tryon.serving.bench.processes import replicas

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.xdist_group("service"), pytest.mark.timeout(3000)]

NUM = int(os.environ.get("TRYON_FUZZ", "400"))
SEED = 7
TIMEOUT_S = 120
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
logger = logging.getLogger(__name__)  # pytest --log-cli-level=INFO shows the counts
ROUTES = ("tryon", "extract", "annotate", "uploads")


@pytest.fixture
def replicas_live(url: str) -> Iterator[None]:
    """After the test the replicas are the processes that they were before."""
    before = {replica.pid for replica in replicas()}
    assert before
    yield
    assert {replica.pid for replica in replicas()} == before


def check(reply: requests.Response, told: object) -> None:
    assert reply.status_code < 500, f"{told!r}: {reply.status_code} {reply.text}"
    if reply.status_code >= 400:
        body = reply.json()
        assert set(body) == {"status", "code", "message", "field", "request_id"}, body
        assert "Traceback" not in reply.text


def test_requests_from_the_document(url: str, replicas_live: None) -> None:
    schema = schemathesis.openapi.from_url(url + "/openapi.json")
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) >= 10
    seen: Counter[str] = Counter()
    for operation in operations:
        strategy = operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)

        @seed(SEED)
        @settings(
            max_examples=max(3, NUM // (2 * len(operations))),
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(case=strategy)
        def send(case: schemathesis.Case) -> None:
            reply = case.call(timeout=TIMEOUT_S)
            seen[f"{reply.status_code}"] += 1
            assert reply.status_code < 500, f"{case.as_curl_command()}: {reply.status_code} {reply.text}"

        try:
            send()
        except schemathesis.errors.SerializationNotPossible:  # nothing wrong can be said of an operation without input
            continue
    assert sum(seen.values()) >= 0.3 * NUM, seen
    assert sum(count for status, count in seen.items() if status[0] == "4") > 0.5 * sum(seen.values()), seen
    logger.info("from the document: %d requests, %s", sum(seen.values()), dict(seen))


def broken(photo: bytes, draw: random.Random) -> bytes:
    """A file with something wrong in it."""
    data = bytearray(photo)
    for _ in range(draw.choice((1, 1, 2, 5, 20))):
        kind, at = draw.randrange(7), draw.randrange(max(1, len(data)))
        if kind == 0:
            del data[at:]
        elif kind == 1 and data:
            data[at % len(data)] ^= 1 << draw.randrange(8)
        elif kind == 2 and data:  # in the header: sizes, depths, offsets
            data[draw.randrange(min(64, len(data)))] = draw.randrange(256)
        elif kind == 3:
            data[at:at] = draw.randbytes(draw.randrange(1, 64))
        elif kind == 4:
            del data[at : at + draw.randrange(1, 256)]
        elif kind == 5:
            data[at : at + 16] = b"\xff" * 16
        else:
            data += data[at : at + 512]
    return bytes(data)


def files(photo_files: tuple[Path, Path]) -> list[bytes]:
    """The person photo, small, in each format."""
    image = Image.open(photo_files[0]).convert("RGB").resize((96, 128))
    found = []
    for name in FORMATS:
        sink = io.BytesIO()
        image.save(sink, name)
        found.append(sink.getvalue())
    return found


def test_broken_photos(url: str, photo_files: tuple[Path, Path], replicas_live: None) -> None:
    draw = random.Random(SEED)
    photos = files(photo_files)
    jobs = []
    for _ in range(NUM - NUM // 2):
        route = draw.choice(ROUTES)
        names = {"tryon": ("person_image", "garment_image"), "uploads": ("image",)}.get(route, ("person_image",))
        jobs.append((route, {name: broken(draw.choice(photos), draw) for name in names}))

    def send(job: tuple[str, dict[str, bytes]]) -> int:
        route, told = job
        reply = requests.post(f"{url}/api/v1/{route}", files=told, timeout=TIMEOUT_S)
        check(reply, {name: data[:64] for name, data in told.items()})
        return reply.status_code

    with ThreadPoolExecutor(4) as pool:
        seen = Counter(pool.map(send, jobs))
    assert seen[415] + seen[400] + seen[422] > 0.5 * len(jobs), seen
    logger.info("broken photos: %d requests, %s", len(jobs), dict(seen))


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({"content-type": "multipart/form-data"}, b"--x\r\n\r\n"),
        ({"content-type": "multipart/form-data; boundary="}, b"--\r\n"),
        ({"content-type": "multipart/form-data; boundary=x"}, b"--x\r\nContent-Disposition: form-data\r\n\r\na"),
        ({"content-type": "multipart/form-data; boundary=x"}, b"\x00" * 5000),
        ({"content-type": "application/json"}, b"\xff\xfe\x00"),
        ({"content-type": "application/json"}, b"[" * 100_000),
        ({"content-type": "application/json"}, json.dumps({"options": {"seed": 10**400}}).encode()),
        ({"content-type": "application/json; charset=utf-99"}, b"{}"),
        ({"content-type": "text/plain"}, b"hello"),
        ({"content-type": "application/x-www-form-urlencoded"}, b"person_image=%ff%fe&garment_image=%00&options=%7b"),
        ({}, b"x"),
    ],
)
def test_bodies_that_are_none(url: str, headers: dict[str, str], body: bytes, replicas_live: None) -> None:
    for route in ROUTES:
        reply = requests.post(f"{url}/api/v1/{route}", data=body, headers=headers, timeout=TIMEOUT_S)
        check(reply, (route, headers))
        assert reply.status_code >= 400


def test_a_whole_request_is_still_answered(url: str, photo_files: tuple[Path, Path]) -> None:
    person, garment = (path.read_bytes() for path in photo_files)
    told = {"person_image": person, "garment_image": garment}
    assert requests.post(f"{url}/api/v1/tryon", files=told, timeout=TIMEOUT_S).status_code == 200
