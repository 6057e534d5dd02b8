"""Webhooks: signature, retries, at least once, and where they may not go."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tryon.serving.jobs.config import WebhookConfig
from tryon.serving.jobs.records import NewJob
from tryon.serving.jobs.store import JobStore
from tryon.serving.jobs.webhooks import WebhookSender, owner_secret, service_secret, sign, verify

QUICK = WebhookConfig(first_pause_s=0.0, poll_s=0.02, timeout_s=5.0, private_hosts=("127.0.0.1",))


@dataclass
class Receiver:
    """What came in, and the answers it gives, the last one again and again."""

    answers: list[int]
    url: str = ""
    calls: list[tuple[dict[str, str], bytes]] = field(default_factory=list)


@contextlib.contextmanager
def receiving(*answers: int) -> Iterator[Receiver]:
    receiver = Receiver(list(answers))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            receiver.calls.append(({name.lower(): value for name, value in self.headers.items()}, body))
            status = receiver.answers.pop(0) if len(receiver.answers) > 1 else receiver.answers[0]
            self.send_response(status)
            if status == 302:
                self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    receiver.url = f"http://127.0.0.1:{server.server_port}/hook"
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def ended_job(store: JobStore, url: str, owner: str = "shop", job_id: str = "a") -> None:
    items = [{"person_url": "https://x.example/p", "garment_url": "https://x.example/g"}]
    store.submit(NewJob(job_id, owner, {}, items, "h", 3600.0, webhook_url=url))
    (lease,) = store.lease("w", 1, 60.0)
    store.finish(lease, "0.jpg")


def send(store: JobStore, rounds: int = 1, config: WebhookConfig = QUICK, post: Any = None) -> int:
    sender = WebhookSender(store.database, config, post)

    async def run() -> int:
        return sum([await sender.send_due() for _ in range(rounds)])

    return asyncio.run(run())


def row(store: JobStore) -> dict[str, Any]:
    found = store.database.read(lambda tx: tx.one("SELECT * FROM batch_deliveries"))
    assert found is not None
    return found


def test_a_receiver_that_fails_thrice_gets_it_the_fourth_time(store: JobStore) -> None:
    with receiving(500, 503, 302, 204) as receiver:
        ended_job(store, receiver.url)
        assert send(store, rounds=8) == 4
    assert row(store)["state"] == "delivered"
    assert len(receiver.calls) == 4
    assert len({headers["webhook-id"] for headers, _ in receiver.calls}) == 1
    assert len({body for _, body in receiver.calls}) == 1
    secret = owner_secret(service_secret(store.database), "shop")
    assert all(verify(secret, headers, body) for headers, body in receiver.calls)
    assert json.loads(receiver.calls[0][1]) == {
        "type": "batch.done",
        "data": {"job_id": "a", "status": "done", "total": 1, "completed": 1, "failed": 0, "cancelled": 0},
    }


def test_the_signature_is_that_of_standard_webhooks(store: JobStore) -> None:
    with receiving(200) as receiver:
        ended_job(store, receiver.url)
        send(store)
    ((headers, body),) = receiver.calls
    # Worked out here as the specification says.
    secret = owner_secret(service_secret(store.database), "shop")
    content = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    digest = hmac.new(base64.b64decode(secret.removeprefix("whsec_")), content, hashlib.sha256).digest()
    assert headers["webhook-signature"] == "v1," + base64.b64encode(digest).decode()
    assert int(headers["webhook-timestamp"]) == pytest.approx(time.time(), abs=60)
    assert headers["content-type"] == "application/json"


def test_the_specification_s_own_example() -> None:
    # github.com/standard-webhooks/standard-webhooks, libraries' test vector
    secret, delivery_id, timestamp = (
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1614265330,
    )
    body = b'{"test": 2432232314}'
    assert sign(secret, delivery_id, timestamp, body) == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize(
    "change",
    [
        {"webhook-id": "msg_other"},
        {"webhook-timestamp": "1614265331"},
        {"webhook-timestamp": "soon"},
        {"webhook-signature": "v1,AAAA"},
        {"webhook-signature": "v1,ä"},
        {"webhook-signature": ""},
    ],
)
def test_what_is_not_signed_so_is_refused(change: dict[str, str]) -> None:
    secret, body, then = owner_secret(b"s", "shop"), b"{}", 1_614_265_330
    headers = {"webhook-id": "msg_a", "webhook-timestamp": str(then)}
    headers["webhook-signature"] = "v1,older " + sign(secret, "msg_a", then, body)
    assert verify(secret, headers, body, now_s=then + 299)
    assert not verify(secret, headers, body, now_s=then + 301)
    assert not verify(secret, headers, b"{ }", now_s=then)
    assert not verify(owner_secret(b"s", "other"), headers, body, now_s=then)
    assert not verify(secret, {**headers, **change}, body, now_s=then)
    assert not verify(secret, {k: v for k, v in headers.items() if k not in change}, body, now_s=then)


def test_a_sender_that_dies_leaves_the_call_to_another(store: JobStore) -> None:
    async def dies(url: str, headers: Mapping[str, str], body: bytes) -> int:
        raise KeyboardInterrupt

    with receiving(200) as receiver:
        ended_job(store, receiver.url)
        with pytest.raises(KeyboardInterrupt):
            send(store, post=dies)
        assert row(store)["state"] == "waiting"
        assert send(store) == 0  # it may still be at it
        store.database.write(lambda tx: tx.run("UPDATE batch_deliveries SET ready_s = now_s()"))
        assert send(store) == 1
    assert len(receiver.calls) == 1
    assert (row(store)["state"], row(store)["attempts"]) == ("delivered", 2)


def test_pauses_grow_and_end(store: JobStore) -> None:
    config = WebhookConfig(max_attempts=4, first_pause_s=100.0, longest_pause_s=250.0, private_hosts=("127.0.0.1",))
    pauses = []
    with receiving(500) as receiver:
        ended_job(store, receiver.url)
        for _ in range(4):
            store.database.write(lambda tx: tx.run("UPDATE batch_deliveries SET ready_s = now_s()"))
            send(store, config=config)
            pauses.append(row(store)["ready_s"] - time.time())
    assert [50 <= pauses[0] + 5 <= 110, 100 <= pauses[1] + 5 <= 210, 125 <= pauses[2] + 5 <= 260] == [True] * 3
    assert (row(store)["state"], row(store)["last_error"]) == ("given-up", "HTTP 500")
    store.database.write(lambda tx: tx.run("UPDATE batch_deliveries SET ready_s = now_s()"))
    assert send(store) == 0


def test_a_receiver_that_is_gone_is_left_alone(store: JobStore) -> None:
    with receiving(410) as receiver:
        ended_job(store, receiver.url)
        send(store, rounds=3)
    assert len(receiver.calls) == 1
    assert row(store)["state"] == "given-up"


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::1]", "169.254.169.254", "10.0.0.1", "2130706433", "0x7f.1"]
)
def test_private_addresses_are_not_called(host: str, sqlite_store: JobStore) -> None:
    with receiving(200) as receiver:
        ended_job(sqlite_store, receiver.url.replace("127.0.0.1", host))
        send(sqlite_store, config=WebhookConfig(first_pause_s=0.0, timeout_s=5.0))
    assert receiver.calls == []
    assert row(sqlite_store)["state"] == "waiting"
    why = "is not a canonical IPv4 address" if host == "2130706433" else "leads to a private address"
    assert why in row(sqlite_store)["last_error"]


def test_a_job_without_a_url_tells_nobody(store: JobStore) -> None:
    store.submit(NewJob("a", "shop", {}, [{}], "h", 3600.0))
    store.cancel("a", "shop")
    assert send(store) == 0


def test_a_cancelled_job_is_told_of_once(store: JobStore) -> None:
    with receiving(200) as receiver:
        store.submit(NewJob("a", "shop", {}, [{}, {}], "h", 3600.0, webhook_url=receiver.url))
        store.cancel("a", "shop")
        store.cancel("a", "shop", results=True)
        send(store, rounds=2)
    assert [json.loads(body)["type"] for _, body in receiver.calls] == ["batch.cancelled"]


def test_owners_have_secrets_of_their_own(store: JobStore) -> None:
    secret = service_secret(store.database)
    assert service_secret(store.database) == secret
    assert len(secret) == 32
    assert owner_secret(secret, "a") != owner_secret(secret, "b")


def test_run_sends_until_it_is_stopped(store: JobStore) -> None:
    async def run() -> None:
        stop = asyncio.Event()
        running = asyncio.create_task(WebhookSender(store.database, QUICK).run(stop))
        await asyncio.to_thread(ended_job, store, receiver.url)
        async with asyncio.timeout(30):
            while not receiver.calls:
                await asyncio.sleep(0.02)
            stop.set()
            await running

    with receiving(200) as receiver:
        asyncio.run(run())
    assert row(store)["state"] == "delivered"
