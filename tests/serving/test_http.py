"""The service over HTTP: one real Ray Serve application for the module."""

from __future__ import annotations

import base64
import http.client
import io
import json
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt
import pytest
import requests
from PIL import Image

from tests.bad_inputs import CONVERTED, REFUSED, Converted, Refused, pixels, saved
from tests.conftest import ROOT
from tests.serving.prometheus_server import prometheus_server
from tests.test_cli import run_tryon
from tests.test_interrupt import wait_for
from tryon import __version__
from tryon.client import Client, PairInput, RefusedError
from tryon.serving.bench.processes import replicas

pytestmark = [pytest.mark.ray, pytest.mark.xdist_group("service")]

TRYON, HEALTH, BATCH = "/api/v1/tryon", "/api/v1/health", "/api/v1/batch"
TIMEOUT_S = 60
PNG_WITH_MASK = {"output_format": "png", "return_mask": True}


@pytest.fixture
def photos(photo_files: tuple[Path, Path]) -> tuple[bytes, bytes]:
    return photo_files[0].read_bytes(), photo_files[1].read_bytes()


def post(
    url: str, person: bytes, garment: bytes, options: object = None, headers: dict[str, str] | None = None
) -> requests.Response:
    text = options if isinstance(options, str) else json.dumps(options)
    return requests.post(
        url + TRYON,
        files={"person_image": ("person.jpg", person), "garment_image": ("garment.jpg", garment)},
        data={} if options is None else {"options": text},
        headers=headers,
        timeout=TIMEOUT_S,
    )


def refused(reply: requests.Response, status: int, code: str, *words: str) -> dict[str, Any]:
    """The typed body of a refusal, checked."""
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/json"
    body: dict[str, Any] = reply.json()
    assert set(body) == {"status", "code", "message", "field", "request_id"}
    assert (body["status"], body["code"]) == ("error", code)
    assert body["request_id"] == reply.headers["x-request-id"]
    for word in (*words,):
        assert word in body["message"]
    assert "\n" not in body["message"]
    assert "Traceback" not in reply.text
    return body


def opened(text: str) -> tuple[npt.NDArray[np.uint8], str | None]:
    image = Image.open(io.BytesIO(base64.b64decode(text)))
    return np.asarray(image), image.format


def test_health(url: str) -> None:
    reply = requests.get(url + HEALTH, timeout=TIMEOUT_S)
    assert reply.status_code == 200
    body = reply.json()
    assert body.pop("gpu_available") in (True, False)
    assert body == {"status": "healthy", "model_loaded": True, "version": __version__}


def test_png_has_the_input_size_and_leaves_the_rest_alone(url: str, photos: tuple[bytes, bytes]) -> None:
    reply = post(url, *photos, PNG_WITH_MASK)
    assert reply.status_code == 200, reply.text
    body = reply.json()
    result, kind = opened(body["result_image"])
    mask, mask_kind = opened(body["mask_image"])
    person = np.asarray(pixels(photos[0]))
    assert (kind, mask_kind) == ("PNG", "PNG")
    assert result.shape == person.shape
    assert mask.shape == person.shape[:2]
    assert set(np.unique(mask)) == {0, 255}
    outside = mask == 0
    assert np.array_equal(result[outside], person[outside])
    assert np.any(result[~outside] != person[~outside], axis=-1).mean() > 0.2
    size = {"width": person.shape[1], "height": person.shape[0]}
    assert body["metadata"] == {"input_resolution": size, "output_resolution": size, "notices": []}
    assert body["status"] == "success"
    assert 0 < body["processing_time"] < TIMEOUT_S


def test_jpeg_without_mask_is_the_default(url: str, photos: tuple[bytes, bytes]) -> None:
    reply = post(url, *photos)
    assert reply.status_code == 200
    body = reply.json()
    result, kind = opened(body["result_image"])
    assert kind == "JPEG"
    assert result.shape[:2] == np.asarray(pixels(photos[0])).shape[:2]
    assert body["mask_image"] is None


def test_jpeg_quality_counts(url: str, photos: tuple[bytes, bytes]) -> None:
    low, high = (len(post(url, *photos, {"quality": q}).json()["result_image"]) for q in (85, 100))
    assert low < 0.7 * high


def test_the_same_request_gives_the_same_pixels(url: str, photos: tuple[bytes, bytes]) -> None:
    first, second = (post(url, *photos, PNG_WITH_MASK).json()["result_image"] for _ in range(2))
    assert first == second


def test_base64_and_urls_give_what_files_give(url: str, photos: tuple[bytes, bytes], photo_port: int) -> None:
    expected = post(url, *photos, PNG_WITH_MASK).json()["result_image"]
    site = f"http://127.0.0.1:{photo_port}"
    person, garment = (base64.b64encode(photo).decode() for photo in photos)
    bodies: list[dict[str, Any]] = [
        {"person_image": person, "garment_image": f"data:image/png;base64,{garment}"},
        {"person_url": f"{site}/person.png", "garment_image": garment},
        {"person_image": person, "garment_url": f"{site}/garment.png"},
    ]
    for body in bodies:
        reply = requests.post(url + TRYON, json={**body, "options": PNG_WITH_MASK}, timeout=TIMEOUT_S)
        assert reply.status_code == 200, reply.text
        assert reply.json()["result_image"] == expected
        form = {**body, "options": json.dumps(PNG_WITH_MASK)}
        assert requests.post(url + TRYON, data=form, timeout=TIMEOUT_S).json()["result_image"] == expected


@pytest.mark.parametrize(
    ("body", "status", "code", "field"),
    [
        ({"person_image": 3, "garment_image": "aa"}, 422, "field-invalid", "person_image"),
        ({"person_url": "http://127.0.0.1:9/a", "garment_image": "aa"}, 400, "port-not-allowed", "person_url"),
        ({"person_url": "http://10.0.0.1/a", "garment_image": "aa"}, 400, "address-private", "person_url"),
        ({"person_url": "file:///etc/passwd", "garment_image": "aa"}, 400, "url-invalid", "person_url"),
        ({"person_image": "aaaa", "person_url": "http://a/b"}, 422, "field-conflict", "person_url"),
        ({"options": 3}, 400, "options-invalid", "options"),
        ([1], 400, "body-invalid", "body"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_wrong_json(url: str, body: Any, status: int, code: str, field: str) -> None:
    assert refused(requests.post(url + TRYON, json=body, timeout=TIMEOUT_S), status, code)["field"] == field


def test_who_asks_for_an_image_gets_one(url: str, photos: tuple[bytes, bytes]) -> None:
    for media, kind in (("image/png", "PNG"), ("image/jpeg", "JPEG")):
        reply = post(url, *photos, {"output_format": "jpeg"}, headers={"accept": f"{media}, */*"})
        assert reply.headers["content-type"] == media
        with Image.open(io.BytesIO(reply.content)) as image:
            assert (image.format, image.size) == (kind, pixels(photos[0]).size)
    reply = post(url, b"none", photos[1], headers={"accept": "image/png"})
    refused(reply, 415, "not-an-image")


def send(url: str, path: str, options: object = None, **files: bytes) -> requests.Response:
    parts = {name: ("a.png", data) for name, data in files.items()}
    data = {} if options is None else {"options": json.dumps(options)}
    return requests.post(url + path, files=parts, data=data, timeout=TIMEOUT_S)


def test_the_garment_of_a_person(url: str, photos: tuple[bytes, bytes]) -> None:
    options = {"output_format": "png", "return_mask": True, "category": "upper"}
    reply = send(url, "/api/v1/extract", options, person_image=photos[0])
    if reply.status_code == 422:  # an untrained network may make none
        refused(reply, 422, "garment-not-extracted")
        return
    assert reply.status_code == 200, reply.text
    body = reply.json()
    image, kind = opened(body["garment_image"])
    mask, _ = opened(body["mask_image"])
    assert kind == "PNG"
    assert image.shape[:2] == mask.shape == (body["resolution"]["height"], body["resolution"]["width"])
    refused(send(url, "/api/v1/extract", {"category": "hat"}, person_image=photos[0]), 400, "config-invalid", "hat")
    refused(send(url, "/api/v1/extract", person_image=photos[1]), 422, "no-person")


def test_what_photos_show(url: str, photos: tuple[bytes, bytes]) -> None:
    body = send(url, "/api/v1/annotate", person_image=photos[0], garment_image=photos[1]).json()
    person, garment = body["person"], body["garment"]
    size = pixels(photos[0]).size
    for name in ("parse_image", "mask_image", "agnostic_mask_image"):
        assert opened(person[name])[0].shape == (size[1], size[0])
    parse, mask = opened(person["parse_image"])[0], opened(person["mask_image"])[0]
    assert parse.max() < len(body["classes"]) == 18
    assert body["classes"][11] == "face"
    assert set(np.unique(mask)) == {0, 255}
    assert (mask[parse == 11] == 255).mean() > 0.9
    nose = person["keypoints"][0]
    assert parse[round(nose[1]), round(nose[0])] == 11
    result_mask = opened(post(url, *photos, PNG_WITH_MASK).json()["mask_image"])[0]
    assert np.array_equal(opened(person["agnostic_mask_image"])[0], result_mask)
    assert opened(garment["mask_image"])[0].shape == pixels(photos[1]).size[::-1]
    alone = send(url, "/api/v1/annotate", garment_image=photos[1]).json()
    assert (alone["person"], alone["garment"]) == (None, garment)
    refused(send(url, "/api/v1/annotate"), 422, "field-missing", "person_image")


def test_models(url: str) -> None:
    model, other = requests.get(url + "/api/v1/models", timeout=TIMEOUT_S).json()["models"]
    assert (model["model"], other["model"]) == ("default", "sampled")
    assert model["name"] == "bundle"
    assert {network["role"] for network in model["networks"]} == {"warp", "synthesis", "refinement", "extraction"}
    assert all(network["num_parameters"] > 0 for network in model["networks"])
    assert "/tmp" not in json.dumps(model)


def test_a_batch_job_gives_what_single_requests_give(url: str, photo_files: tuple[Path, Path]) -> None:
    person, garment = photo_files
    with Client(url, timeout_s=TIMEOUT_S) as client:
        job = client.submit([PairInput(person, garment), PairInput(garment, garment, id="odd")], output_format="png")
        told = client.wait(job.job_id, timeout_s=TIMEOUT_S, poll_s=0.2)
        assert (told.status, told.completed, told.failed) == ("done", 1, 1)
        _, odd = client.items(job.job_id)
        assert odd.error is not None
        assert (odd.id, odd.error.code) == ("odd", "no-person")
        (result,) = client.results(job.job_id)
        assert client.result(job.job_id, result.index) == client.tryon(person, garment).image
        client.cancel(job.job_id, remove_results=True)
        with pytest.raises(RefusedError) as caught:
            client.result(job.job_id, result.index)
        assert caught.value.status == 404


def test_the_command_line_asks_a_service(url: str, photo_files: tuple[Path, Path], tmp_path: Path) -> None:
    person, garment = (str(file) for file in photo_files)
    out = tmp_path / "out.png"
    reply = run_tryon("infer", "--url", url, "--person", person, "--garment", garment, "--out", str(out))
    assert reply.returncode == 0, reply.stderr
    assert "384x512 px" in reply.stdout
    with Client(url) as client:
        assert out.read_bytes() == client.tryon(person, garment).image
    reply = run_tryon("infer", "--url", url, "--person", garment, "--garment", garment, "--out", str(out))
    assert (reply.returncode, "no person" in reply.stderr) == (2, True)
    words = ("infer", "--url", url, "--person", person, "--garment", garment, "--out", str(out), "--bundle", "b")
    assert "--bundle does not go with --url" in run_tryon(*words).stderr


def test_a_batch_photo_that_is_none_is_refused(url: str) -> None:
    reply = requests.post(url + "/api/v1/uploads", files={"image": ("a.png", b"GIF89a")}, timeout=TIMEOUT_S)
    refused(reply, 415, reply.json()["code"])


@pytest.mark.parametrize("size", [(331, 477), (640, 480), (97, 301), (1201, 1601)], ids=str)
def test_any_size_comes_back_at_its_own(size: tuple[int, int], url: str, photos: tuple[bytes, bytes]) -> None:
    image = pixels(photos[0]).resize((size[0], round(size[0] * 4 / 3)))
    canvas = Image.new("RGB", size, image.getpixel((0, 0)))
    canvas.paste(image, (0, (size[1] - image.height) // 2))
    reply = post(url, saved(canvas, "PNG"), photos[1], PNG_WITH_MASK)
    if reply.status_code == 422:  # a person cut off by an odd frame need not be found
        refused(reply, 422, "no-person")
        return
    result, _ = opened(reply.json()["result_image"])
    assert result.shape == (size[1], size[0], 3)


@pytest.mark.parametrize("category", ["upper", "lower", "dress"])
def test_every_category_is_taken(category: str, url: str, photos: tuple[bytes, bytes]) -> None:
    assert post(url, *photos, {"category": category}).status_code == 200


@pytest.mark.parametrize("photo", ["person_image", "garment_image"])
@pytest.mark.parametrize("case", CONVERTED, ids=lambda case: case.name)
def test_unusual_photos_are_used_and_said(photo: str, case: Converted, url: str, photos: tuple[bytes, bytes]) -> None:
    person, garment = photos
    sent = (case.build(person), garment) if photo == "person_image" else (person, case.build(garment))
    reply = post(url, *sent)
    assert reply.status_code == 200, reply.text
    metadata = reply.json()["metadata"]
    assert len(metadata["notices"]) == 1
    assert photo in metadata["notices"][0]
    assert case.word in metadata["notices"][0]
    upright = pixels(person)
    assert metadata["output_resolution"] == {"width": upright.width, "height": upright.height}


GARMENT_CASES = [case for case in REFUSED if case.as_garment]


@pytest.mark.parametrize(
    ("photo", "case"),
    [("person_image", case) for case in REFUSED] + [("garment_image", case) for case in GARMENT_CASES],
    ids=[f"person-{case.name}" for case in REFUSED] + [f"garment-{case.name}" for case in GARMENT_CASES],
)
def test_a_photo_that_cannot_be_used(photo: str, case: Refused, url: str, photos: tuple[bytes, bytes]) -> None:
    person, garment = photos
    sent = (case.build(person), garment) if photo == "person_image" else (person, case.build(garment))
    body = refused(post(url, *sent), case.http, case.code, case.word)
    assert body["field"] == photo


def test_a_garment_as_person(url: str, photos: tuple[bytes, bytes]) -> None:
    assert refused(post(url, photos[1], photos[1]), 422, "no-person", "no person")["field"] == "person_image"


def test_a_garment_photo_without_a_garment(url: str, photos: tuple[bytes, bytes]) -> None:
    empty = saved(Image.new("RGB", (96, 128), "white"), "PNG")
    assert refused(post(url, photos[0], empty), 422, "no-garment", "no garment")["field"] == "garment_image"


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        ("{", "options-invalid", ("options",)),
        ("no json", "options-invalid", ("options",)),
        ("[]", "options-invalid", ("object", "list")),
        ("3", "options-invalid", ("object",)),
        ("null", "options-invalid", ("object",)),
        ("[" * 100_000, "options-invalid", ("options",)),
        ('{"quality": ' + "9" * 5_000 + "}", "options-invalid", ("options",)),
        ({"colour": "red"}, "config-invalid", ("unknown key", "colour")),
        ({"quality": 50}, "config-invalid", ("quality", "50", "85")),
        ({"quality": 101}, "config-invalid", ("quality", "101", "100")),
        ({"quality": "high"}, "config-invalid", ("quality", "high")),
        ({"quality": None}, "config-invalid", ("quality",)),
        ('{"quality": NaN}', "config-invalid", ("quality",)),
        ({"output_format": "gif"}, "config-invalid", ("output_format", "gif")),
        ({"return_mask": "perhaps"}, "config-invalid", ("return_mask", "perhaps")),
        ({"category": "hat"}, "config-invalid", ("category", "hat", "upper")),
        ({"\ud800": 1}, "config-invalid", ("options",)),
    ],
    ids=lambda value: str(value)[:30],
)
def test_wrong_options(
    options: object, code: str, words: tuple[str, ...], url: str, photos: tuple[bytes, bytes]
) -> None:
    body = refused(post(url, *photos, options), 400, code, *words)
    assert body["field"] == "options"


def test_options_may_be_empty(url: str, photos: tuple[bytes, bytes]) -> None:
    assert post(url, *photos, "").status_code == 200


@pytest.mark.parametrize("missing", ["person_image", "garment_image"])
def test_a_missing_photo_is_named(missing: str, url: str, photos: tuple[bytes, bytes]) -> None:
    files = {"person_image": photos[0], "garment_image": photos[1]}
    del files[missing]
    body = refused(requests.post(url + TRYON, files=files, timeout=TIMEOUT_S), 422, "field-missing", missing)
    assert body["field"] == missing


def test_an_empty_form(url: str) -> None:
    refused(requests.post(url + TRYON, timeout=TIMEOUT_S), 422, "field-missing", "person_image")


def test_text_that_is_no_photo(url: str, photos: tuple[bytes, bytes]) -> None:
    for text, status, code in (("text", 415, "not-an-image"), ("no base64!", 400, "not-base64")):
        files = {"person_image": (None, text), "garment_image": ("g.jpg", photos[1])}
        body = refused(requests.post(url + TRYON, files=files, timeout=TIMEOUT_S), status, code, "person_image")
        assert body["field"] == "person_image"


@pytest.mark.parametrize("kind", ["multipart/form-data", "multipart/form-data; boundary=x", "text/plain", "nonsense"])
def test_a_body_that_is_no_form(kind: str, url: str) -> None:
    reply = requests.post(url + TRYON, data=b"\x00\x01--x", headers={"content-type": kind}, timeout=TIMEOUT_S)
    assert 400 <= reply.status_code < 500
    refused(reply, reply.status_code, reply.json()["code"])


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", TRYON, 405, "method-not-allowed"),
        ("PUT", TRYON, 405, "method-not-allowed"),
        ("DELETE", HEALTH, 405, "method-not-allowed"),
        ("GET", "/nowhere", 404, "not-found"),
        ("GET", "/api/v1/tryon/../../etc/passwd%00", 404, "not-found"),
    ],
)
def test_wrong_paths_and_methods(method: str, path: str, status: int, code: str, url: str) -> None:
    refused(requests.request(method, url + path, timeout=TIMEOUT_S), status, code, method)


def connection(url: str) -> http.client.HTTPConnection:
    parts = urlsplit(url)
    assert parts.hostname is not None
    return http.client.HTTPConnection(parts.hostname, parts.port, timeout=TIMEOUT_S)


def test_a_body_that_says_it_is_too_large_is_not_read(url: str) -> None:
    link = connection(url)
    link.putrequest("POST", TRYON)
    link.putheader("content-length", str(10**9))
    link.putheader("content-type", "multipart/form-data; boundary=x")
    link.endheaders()
    link.send(b"--x\r\n")
    reply = link.getresponse()
    body = json.loads(reply.read())
    assert (reply.status, body["code"]) == (413, "body-too-large")
    assert body["request_id"] == reply.headers["x-request-id"]
    assert "1,000,000,000" in body["message"]
    link.close()


def test_a_body_in_chunks_is_taken_up_to_the_limit_only(url: str) -> None:
    link = connection(url)
    link.putrequest("POST", TRYON)
    link.putheader("transfer-encoding", "chunked")
    link.putheader("content-type", "multipart/form-data; boundary=x")
    link.endheaders()
    head = b'--x\r\ncontent-disposition: form-data; name="person_image"; filename="p"\r\n\r\n'
    piece = bytes(1_000_000)
    try:
        for part in [head, *[piece] * 70]:
            link.send(f"{len(part):x}\r\n".encode() + part + b"\r\n")
        link.send(b"0\r\n\r\n")
    except OSError:
        pass  # the service may close before all is sent
    reply = link.getresponse()
    assert (reply.status, json.loads(reply.read())["code"]) == (413, "body-too-large")
    link.close()


def test_a_file_above_the_limit(url: str, photos: tuple[bytes, bytes]) -> None:
    reply = post(url, photos[0] + bytes(30_000_001), photos[1])
    assert refused(reply, 413, "image-too-large", "person_image", "30,000,000")["field"] == "person_image"


def test_the_request_id_of_the_caller_is_kept(url: str, photos: tuple[bytes, bytes]) -> None:
    mine = uuid.uuid4().hex
    assert post(url, *photos, headers={"x-request-id": mine}).headers["x-request-id"] == mine
    body = refused(post(url, b"", photos[1], headers={"x-request-id": mine}), 400, "image-empty")
    assert body["request_id"] == mine


def test_each_request_gets_an_id_of_its_own(url: str) -> None:
    ids = [requests.get(url + HEALTH, timeout=TIMEOUT_S).headers["x-request-id"] for _ in range(2)]
    assert all(ids)
    assert ids[0] != ids[1]


def test_eight_at_once(url: str, photos: tuple[bytes, bytes]) -> None:
    with ThreadPoolExecutor(9) as pool:
        replies = [pool.submit(post, url, *photos, PNG_WITH_MASK) for _ in range(8)]
        health = pool.submit(requests.get, url + HEALTH, timeout=TIMEOUT_S)
        bodies = [reply.result() for reply in replies]
    assert [reply.status_code for reply in bodies] == [200] * 8
    assert len({reply.json()["result_image"] for reply in bodies}) == 1
    assert health.result().json()["status"] == "healthy"


def test_a_replica_that_dies_costs_no_request(url: str, photos: tuple[bytes, bytes]) -> None:
    expected = post(url, *photos, PNG_WITH_MASK).json()["result_image"]
    for group in ("annotation", "synthesis"):
        (victim,) = replicas("tryon", group)
        with ThreadPoolExecutor(6) as pool:
            replies = [pool.submit(post, url, *photos, PNG_WITH_MASK) for _ in range(6)]
            victim.kill()
            bodies = [reply.result() for reply in replies]
        assert [reply.status_code for reply in bodies] == [200] * 6
        assert {reply.json()["result_image"] for reply in bodies} == {expected}


def test_prometheus_sees_what_the_service_does(url: str, photos: tuple[bytes, bytes], tmp_path: Path) -> None:
    import ray

    from tryon.serving.run import free_port

    (node,) = ray.nodes()
    target = f"{node['NodeManagerAddress']}:{node['MetricsExportPort']}"
    with prometheus_server(tmp_path, free_port(), target) as prometheus:
        requests_of = f'sum by (status, code) (ray_tryon_requests_total{{route="{TRYON}"}})'
        before = prometheus.query(requests_of)
        for _ in range(2):
            assert post(url, *photos).status_code == 200
        refused(post(url, photos[1], photos[1]), 422, "no-person")
        with Client(url) as client:
            job = client.wait(client.submit([PairInput(*photos)]).job_id, timeout_s=TIMEOUT_S)
        assert job.status == "done"

        def grown() -> dict[tuple[str, ...], float]:
            now = prometheus.query(requests_of)
            return {key: value - before.get(key, 0) for key, value in now.items() if value != before.get(key, 0)}

        # At least: what was counted before may be told later than this began.
        least = {("ok", "200"): 2, ("no-person", "422"): 1}
        wait_for(lambda: all(grown().get(key, 0) >= num for key, num in least.items()), 60, "the requests")
        stages = {("pose",), ("warp",), ("synthesize",), ("refine",)}
        by_stage = "sum by (stage) (ray_tryon_stage_seconds_count)"
        wait_for(lambda: stages <= set(prometheus.query(by_stage)), 60, "the stages")
        by_photo = "sum by (photo, found) (ray_tryon_cache_lookups_total)"
        wait_for(lambda: prometheus.query(by_photo).get(("yes", "person"), 0) > 0, 60, "a known person")
        wait_for(lambda: ("done",) in prometheus.query("sum by (status) (ray_tryon_jobs)"), 60, "the jobs")
        in_flight = "sum(ray_tryon_in_flight)"
        wait_for(lambda: set(prometheus.query(in_flight).values()) == {0.0}, 60, "the end of all requests")
        by_end = "sum by (end) (ray_tryon_job_items_total)"
        wait_for(lambda: prometheus.query(by_end).get(("done",), 0) > 0, 60, "the items")
        for name in ("service", "jobs"):
            for panel in json.loads((ROOT / f"cluster/grafana/dashboards/{name}.json").read_text())["panels"]:
                for target in panel["targets"]:
                    prometheus.query(target["expr"].replace("$__rate_interval", "1m"))  # it is understood


def test_docs_and_schema(url: str) -> None:
    assert requests.get(url + "/docs", timeout=TIMEOUT_S).status_code == 200
    schema = requests.get(url + "/openapi.json", timeout=TIMEOUT_S).json()
    assert {TRYON, HEALTH, BATCH, "/api/v1/extract", "/api/v1/annotate", "/api/v1/models"} <= set(schema["paths"])
    assert schema["info"]["version"] == __version__
    operation = schema["paths"][TRYON]["post"]
    assert {"200", "400", "413", "415", "422", "503", "504"} <= set(operation["responses"])
    for kind in ("multipart/form-data", "application/json"):
        fields = operation["requestBody"]["content"][kind]["schema"]["properties"]
        assert set(fields) == {"person_image", "person_url", "garment_image", "garment_url", "options"}
    assert "quality" in fields["options"]["properties"]


def test_after_all_that_the_service_is_well(url: str, photos: tuple[bytes, bytes]) -> None:
    assert requests.get(url + HEALTH, timeout=TIMEOUT_S).json()["status"] == "healthy"
    assert post(url, *photos).status_code == 200
