"""The routes over HTTP, on a small app."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient
from PIL import Image

from tryon.images import decode_photo
from tryon.serving.faults import install
from tryon.serving.jobs.bodies import BatchOptions
from tryon.serving.jobs.config import JobsConfig, WorkerConfig
from tryon.serving.jobs.routes import make_router
from tryon.serving.jobs.service import JobService, open_jobs
from tryon.serving.jobs.worker import Worker

BATCH, UPLOADS = "/api/v1/batch", "/api/v1/uploads"
PNG = b"\x89PNG\r\n\x1a\n"


def make_config(folder: Path, **more: Any) -> JobsConfig:
    places = {"store": str(folder / "jobs.db"), "results": str(folder / "out"), "uploads": str(folder / "up")}
    return JobsConfig(**{**places, "max_pairs": 50, **more})


def owner_of(request: Request) -> str:
    return request.headers.get("x-owner", "")


@pytest.fixture
def service(tmp_path: Path) -> Iterator[JobService]:
    service = open_jobs(make_config(tmp_path))
    yield service
    service.close()


@pytest.fixture
def client(service: JobService) -> Iterator[TestClient]:
    api = FastAPI()
    install(api)
    api.include_router(make_router(lambda: service, decode_photo, owner_of))
    with TestClient(api, raise_server_exceptions=False) as client:
        yield client


def by_url(i: int, **more: Any) -> dict[str, Any]:
    return {"person_url": f"https://x.example/p{i}", "garment_url": f"https://x.example/g{i}", **more}


def photo(colour: str = "red") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (64, 64), colour).save(file, "PNG")
    return file.getvalue()


def work_off(service: JobService) -> None:
    """Works all off: a garment of an odd number fails."""

    async def fetch(url: str, field: str | None) -> bytes:
        return url.encode()

    async def tryon(person: bytes, garment: bytes, options: BatchOptions, request_id: str) -> bytes:
        if int(garment[-1:]) % 2:
            raise ValueError("odd")
        return PNG + garment

    async def run() -> None:
        stop = asyncio.Event()
        config = WorkerConfig(poll_s=0.02, first_pause_s=0.0)
        worker = Worker(service.store, service.uploads, service.config.results, tryon, fetch, config)
        running = asyncio.create_task(worker.run(stop))
        async with asyncio.timeout(60):
            while {"queued", "running"} & {name for name, num in service.store.count_jobs().items() if num}:
                await asyncio.sleep(0.02)
        stop.set()
        await running

    asyncio.run(run())


def refused(reply: Any, status: int, code: str, field: str | None, *words: str) -> None:
    body = reply.json()
    assert (reply.status_code, body["status"], body["code"], body["field"]) == (status, "error", code, field), body
    assert body["request_id"] == reply.headers["x-request-id"]
    assert all(word in body["message"] for word in words), body["message"]


def test_a_job_over_http(client: TestClient, service: JobService) -> None:
    pairs = [by_url(i, id=f"look-{i}") for i in range(4)]
    reply = client.post(BATCH, json={"pairs": pairs, "options": {"output_format": "png"}})
    assert reply.status_code == 202
    job = reply.json()
    assert (job["status"], job["total"], job["completed"], job["webhook_secret"]) == ("queued", 4, 0, None)
    url = f"{BATCH}/{job['job_id']}"
    assert reply.headers["location"] == url
    assert client.get(url).json()["items"][0] == {
        "index": 0, "id": "look-0", "state": "waiting", "attempts": 0, "error": None
    }  # fmt: skip
    work_off(service)
    seen = client.get(url).json()
    assert (seen["status"], seen["completed"], seen["failed"], seen["cancelled"]) == ("done", 2, 2, 0)
    assert datetime.fromisoformat(seen["created_at"]) <= datetime.fromisoformat(seen["ended_at"])
    assert [item["state"] for item in seen["items"]] == ["done", "failed", "done", "failed"]
    assert seen["items"][1]["error"]["code"] == "internal"
    results = client.get(f"{url}/results").json()
    assert [(one["index"], one["id"], one["uri"]) for one in results["results"]] == [
        (0, "look-0", None),
        (2, "look-2", None),
    ]
    image = client.get(results["results"][1]["url"])
    assert (image.status_code, image.headers["content-type"]) == (200, "image/png")
    assert image.content == PNG + b"https://x.example/g2"
    assert image.headers["cache-control"] == "private, no-store"
    for index in (1, 9):
        refused(client.get(f"{url}/results/{index}"), 404, "result-missing", "index", f"index {index}")


def test_pages(client: TestClient) -> None:
    job = client.post(BATCH, json={"pairs": [by_url(i) for i in range(5)]}).json()
    url, after, seen = f"{BATCH}/{job['job_id']}", -1, []
    while after is not None:
        page = client.get(url, params={"after": after, "limit": 2}).json()
        seen.append([item["index"] for item in page["items"]])
        after = page["next_after"]
    assert seen == [[0, 1], [2, 3], [4]]
    assert client.get(url, params={"state": "done"}).json()["items"] == []
    assert len(client.get(url, params={"state": "waiting"}).json()["items"]) == 5
    assert client.get(f"{url}/results").json() == {"job_id": job["job_id"], "results": [], "next_after": None}
    refused(client.get(url, params={"limit": 1001}), 422, "field-invalid", "limit", "1000")
    refused(client.get(url, params={"after": 2**31}), 422, "field-invalid", "after")


def test_the_same_idempotency_key_makes_one_job(client: TestClient) -> None:
    body, key = {"pairs": [by_url(0)]}, {"Idempotency-Key": "order-7"}
    first = client.post(BATCH, json=body, headers=key)
    again = client.post(BATCH, json=body, headers=key)
    assert first.json()["job_id"] == again.json()["job_id"]
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    other = client.post(BATCH, json={"pairs": [by_url(1)]}, headers=key)
    refused(other, 422, "idempotency-key-reused", "Idempotency-Key", "'order-7'")
    elsewhere = client.post(BATCH, json=body, headers={**key, "X-Owner": "other"}).json()
    assert elsewhere["job_id"] != first.json()["job_id"]
    assert client.post(BATCH, json=body).json()["job_id"] != first.json()["job_id"]


@pytest.mark.parametrize(
    ("body", "field", "words"),
    [
        ({}, "pairs", ["missing"]),
        ({"pairs": []}, "pairs", ["at least 1"]),
        ({"pairs": [{"person_url": "https://x.example/p"}]}, "pairs.0", ["garment_url and garment_id"]),
        ({"pairs": [by_url(0), by_url(1, person_id="0" * 64)]}, "pairs.1", ["person_url and person_id", "not both"]),
        ({"pairs": [by_url(0, person_url="file:///etc/passwd")]}, "pairs.0.person_url", ["pattern"]),
        ({"pairs": [by_url(0, category="hat")]}, "pairs.0.category", ["'upper', 'lower' or 'dress'"]),
        ({"pairs": [by_url(0, colour="red")]}, "pairs.0.colour", ["not permitted"]),
        ({"pairs": [by_url(0)], "options": {"return_mask": True}}, "options.return_mask", ["no masks"]),
        ({"pairs": [by_url(0)], "webhook_url": "ftp://x.example"}, "webhook_url", ["pattern"]),
    ],
)
def test_bodies_that_are_refused(client: TestClient, body: dict[str, Any], field: str, words: list[str]) -> None:
    reply = client.post(BATCH, json=body)
    refused(reply, 422, "field-missing" if words == ["missing"] else "field-invalid", field, *words)


def test_too_many_pairs_are_refused(client: TestClient) -> None:
    reply = client.post(BATCH, json={"pairs": [by_url(i) for i in range(51)]})
    refused(reply, 400, "too-many-pairs", "pairs", "51 pairs", "at most 50")


def test_too_many_open_items_are_refused_for_now(tmp_path: Path) -> None:
    service = open_jobs(make_config(tmp_path, max_open_items=2))
    api = FastAPI()
    install(api)
    api.include_router(make_router(lambda: service, decode_photo))
    reply = TestClient(api).post(BATCH, json={"pairs": [by_url(i) for i in range(3)]})
    refused(reply, 503, "busy", None, "at most 2")
    assert reply.headers["retry-after"] == "2"
    service.close()


def test_uploads_are_used_by_id(client: TestClient, service: JobService) -> None:
    reply = client.post(UPLOADS, files={"image": ("a.png", photo())})
    assert reply.status_code == 201
    kept = reply.json()
    assert (len(kept["upload_id"]), kept["bytes"]) == (64, len(photo()))
    assert client.post(UPLOADS, files={"image": ("b.png", photo())}).json()["upload_id"] == kept["upload_id"]
    pair = {"person_id": kept["upload_id"], "garment_url": "https://x.example/g0"}
    job = client.post(BATCH, json={"pairs": [pair]}).json()
    work_off(service)
    assert client.get(f"{BATCH}/{job['job_id']}").json()["completed"] == 1
    stranger = client.post(BATCH, json={"pairs": [by_url(0), pair]}, headers={"X-Owner": "other"})
    refused(stranger, 404, "upload-missing", "pairs.1.person_id", kept["upload_id"])


def test_a_job_comes_again_when_its_uploads_have_expired(client: TestClient, service: JobService) -> None:
    kept = client.post(UPLOADS, files={"image": ("a.png", photo())}).json()
    body = {"pairs": [{"person_id": kept["upload_id"], "garment_url": "https://x.example/g0"}]}
    first = client.post(BATCH, json=body, headers={"Idempotency-Key": "k"}).json()
    service.store.database.write(lambda tx: tx.run("UPDATE batch_uploads SET expires_s = now_s()"))
    again = client.post(BATCH, json=body, headers={"Idempotency-Key": "k"})
    assert (again.status_code, again.json()["job_id"]) == (202, first["job_id"])
    refused(client.post(BATCH, json=body), 404, "upload-missing", "pairs.0.person_id")


def test_what_is_no_image_is_not_kept(client: TestClient, tmp_path: Path) -> None:
    refused(client.post(UPLOADS, files={"image": ("a.png", b"text")}), 415, "not-an-image", "image")
    refused(client.post(UPLOADS, files={"image": ("a.png", photo()[:80])}), 400, "image-truncated", "image")
    refused(client.post(UPLOADS), 422, "field-missing", "image")
    assert not (tmp_path / "up").exists()


def test_cancelling_and_removing(client: TestClient, service: JobService, tmp_path: Path) -> None:
    job = client.post(BATCH, json={"pairs": [by_url(0)]}).json()
    work_off(service)
    url = f"{BATCH}/{job['job_id']}"
    assert client.delete(url).json()["status"] == "done"
    assert client.get(f"{url}/results/0").status_code == 200
    assert client.delete(url, params={"results": True}).status_code == 200
    assert client.delete(url, params={"results": True}).status_code == 200
    refused(client.get(f"{url}/results/0"), 404, "result-missing", "index")
    assert client.get(f"{url}/results").json()["results"] == []
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == []
    waiting = client.post(BATCH, json={"pairs": [by_url(0), by_url(1)]}).json()
    gone = client.delete(f"{BATCH}/{waiting['job_id']}").json()
    assert (gone["status"], gone["cancelled"]) == ("cancelled", 2)
    assert gone["ended_at"] is not None


def test_a_job_of_another_owner_is_not_there(client: TestClient) -> None:
    job = client.post(BATCH, json={"pairs": [by_url(0)]}).json()
    url, other = f"{BATCH}/{job['job_id']}", {"X-Owner": "other"}
    for reply in (
        client.get(url, headers=other),
        client.get(f"{url}/results", headers=other),
        client.get(f"{url}/results/0", headers=other),
        client.delete(url, headers=other),
        client.get(f"{BATCH}/none"),
    ):
        refused(reply, 404, "job-missing", "job_id")
    assert client.get(url).json()["status"] == "queued"


def test_the_secret_of_a_webhook_is_the_owner_s(client: TestClient) -> None:
    body = {"pairs": [by_url(0)], "webhook_url": "https://x.example/hook"}
    ours = client.post(BATCH, json=body)
    theirs = client.post(BATCH, json=body, headers={"X-Owner": "other"})
    again = client.post(BATCH, json=body)
    secrets = [reply.json()["webhook_secret"] for reply in (ours, theirs, again)]
    assert secrets[0].startswith("whsec_")
    assert secrets[0] == secrets[2] != secrets[1]
    assert client.get(ours.headers["location"]).json()["webhook_secret"] is None


def test_what_has_expired_is_removed(tmp_path: Path) -> None:
    service = open_jobs(make_config(tmp_path, job_ttl_s=0.001, upload_ttl_s=0.001))
    api = FastAPI()
    install(api)
    api.include_router(make_router(lambda: service, decode_photo))
    client = TestClient(api)
    client.post(UPLOADS, files={"image": ("a.png", photo())})
    job = client.post(BATCH, json={"pairs": [by_url(0)]}).json()
    service.sweep()
    assert client.get(f"{BATCH}/{job['job_id']}").status_code == 200  # its time begins at its end
    work_off(service)
    assert (tmp_path / "out" / job["job_id"] / "000000.jpg").exists()
    service.sweep()
    refused(client.get(f"{BATCH}/{job['job_id']}"), 404, "job-missing", "job_id")
    assert [path for place in ("out", "up") for path in (tmp_path / place).rglob("*") if path.is_file()] == []
    service.close()


def test_the_description_has_examples_that_are_taken(client: TestClient) -> None:
    description = client.get("/openapi.json").json()
    schemas = description["components"]["schemas"]
    (example,) = schemas["BatchRequest"]["examples"]
    example["pairs"] = example["pairs"][:1]  # the other names an upload
    assert client.post(BATCH, json=example).status_code == 202
    for name in ("JobResponse", "ProgressResponse", "UploadResponse"):
        (shown,) = schemas[name]["examples"]
        assert set(shown) == set(schemas[name]["properties"])
    assert {(path, method) for path, methods in description["paths"].items() for method in methods} == {
        (BATCH, "post"),
        (f"{BATCH}/{{job_id}}", "get"),
        (f"{BATCH}/{{job_id}}", "delete"),
        (f"{BATCH}/{{job_id}}/results", "get"),
        (f"{BATCH}/{{job_id}}/results/{{index}}", "get"),
        (UPLOADS, "post"),
    }
