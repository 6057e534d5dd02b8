"""The guard in front of a small app with the service's own handlers; the whole service is in test_http.py."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Annotated, Any

import pytest
from fastapi import FastAPI, File, Request, UploadFile
from fastapi.testclient import TestClient
from httpx2 import Response  # what TestClient is made of
from starlette.websockets import WebSocketDisconnect

from tryon import storage
from tryon.errors import ConfigError, StorageError
from tryon.serving.config import ServeConfig
from tryon.serving.faults import BusyError, install
from tryon.serving.guard import HA_PROXY, SCHEMES, check_open, is_loopback, owner_of, protect, scope_of
from tryon.serving.keys import create_key, revoke_key
from tryon.serving.limits import Rule

TRYON, HEALTH, BATCH = "/api/v1/tryon", "/api/v1/health", "/api/v1/batch"
LOCAL, AWAY = "127.0.0.1", "203.0.113.9"


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return str(tmp_path / "keys.json")


def make_app(config: ServeConfig) -> FastAPI:
    api = FastAPI(dependencies=SCHEMES)
    protect(api, config)
    install(api)
    api.state.read = []  # uploads that a route was called with
    api.state.slow = threading.Event()
    api.state.started = threading.Semaphore(0)

    @api.get(HEALTH)
    def health() -> str:
        return "well"

    @api.get("/")
    def page() -> str:
        return "page"

    @api.post(TRYON)
    def tryon(person_image: Annotated[UploadFile, File()], request: Request) -> str:
        api.state.read.append(person_image.size)
        return owner_of(request)

    @api.get(BATCH + "/slow")
    def slow() -> str:
        api.state.started.release()
        assert api.state.slow.wait(20)
        return "done"

    @api.get(BATCH + "/busy")
    def busy() -> str:
        raise BusyError("all are busy")

    @api.get(BATCH + "/broken")
    def broken() -> str:
        raise RuntimeError("secret of the inside")

    return api


def client(config: ServeConfig, address: str = AWAY) -> TestClient:
    return TestClient(make_app(config), client=(address, 5), raise_server_exceptions=False)


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def post(app: TestClient, headers: dict[str, Any] | None = None) -> Response:
    return app.post(TRYON, files={"person_image": b"12345"}, headers=headers)


def refused(reply: Response, status: int, code: str, *words: str) -> dict[str, Any]:
    body: dict[str, Any] = reply.json()
    assert (reply.status_code, body["status"], body["code"]) == (status, "error", code), reply.text
    assert body["request_id"] == reply.headers["x-request-id"]
    for word in words:
        assert word in body["message"]
    return body


# Who is let in


def test_a_key_in_either_header(uri: str) -> None:
    token, key = create_key(uri, "shop", ["tryon"])
    app = client(ServeConfig(keys=uri))
    for headers in (bearer(token), {"x-api-key": token}, {"authorization": f"bearer  {token} "}):
        reply = post(app, headers)
        assert (reply.status_code, reply.json()) == (200, key.id)


def test_without_a_key_nothing_is_read(uri: str) -> None:
    create_key(uri, "shop", ["tryon"])
    app = client(ServeConfig(keys=uri), LOCAL)  # with keys, loopback needs one too
    for headers in ({}, {"authorization": ""}, {"authorization": "Basic c2hvcDp4"}, {"authorization": "Bearer "}):
        reply = post(app, headers)
        refused(reply, 401, "key-missing", "X-API-Key")
        assert reply.headers["www-authenticate"].startswith("Bearer")
    assert app.app.state.read == []  # type: ignore[attr-defined]


def test_the_upload_of_one_without_a_key_is_not_taken(uri: str) -> None:
    """The answer comes before a byte of the body is asked for."""
    create_key(uri, "shop", ["tryon"])
    sent: list[Any] = []

    async def receive() -> Any:
        raise AssertionError("the body was read")

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": "POST", "path": TRYON, "raw_path": TRYON.encode(), "query_string": b"",
        "headers": [(b"content-length", b"60000000")], "client": (AWAY, 5), "server": ("a", 80), "scheme": "http",
        "http_version": "1.1", "root_path": "",
    }  # fmt: skip
    asyncio.run(make_app(ServeConfig(keys=uri))(scope, receive, send))
    assert sent[0]["status"] == 401


def test_wrong_keys(uri: str) -> None:
    token, key = create_key(uri, "shop", ["tryon"])
    ended, _ = create_key(uri, "old", ["tryon"], days=1e-9)
    gone, gone_key = create_key(uri, "gone", ["tryon"])
    revoke_key(uri, gone_key.id)
    app = client(ServeConfig(keys=uri))
    for wrong in (token[:-1], key.id, "sesame", "x" * 5000, "tryon__", f"{token} {token}"):
        body = refused(post(app, bearer(wrong)), 401, "key-invalid")
        assert wrong not in body["message"]
    refused(post(app, bearer(ended)), 401, "key-expired", "expired")
    refused(post(app, bearer(gone)), 401, "key-revoked", gone_key.shown)
    refused(post(app, {"x-api-key": b"tryon_\xff_\xfe"}), 401, "key-invalid")
    assert post(app, bearer(token)).status_code == 200


def test_scopes(uri: str) -> None:
    batch, _ = create_key(uri, "shop", ["batch", "models"])
    admin, _ = create_key(uri, "admin", ["admin"])
    app = client(ServeConfig(keys=uri))
    refused(post(app, bearer(batch)), 403, "scope-missing", "'tryon'", "batch, models")
    refused(app.get(BATCH + "/busy", headers=bearer(batch)), 503, "busy")
    assert post(app, bearer(admin)).status_code == 200
    for path in ("/api/v1/nowhere", "/nowhere", "/api/v2/tryon"):  # not known, so an admin's
        refused(app.get(path, headers=bearer(batch)), 403, "scope-missing", "'admin'")
        refused(app.get(path), 401, "key-missing")
        refused(app.get(path, headers=bearer(admin)), 404, "not-found")


def test_what_needs_no_key(uri: str) -> None:
    create_key(uri, "shop", ["tryon"])
    app = client(ServeConfig(keys=uri))
    for path in (HEALTH, "/", "/docs", "/openapi.json"):
        assert app.get(path).status_code == 200, path
    schemes = app.get("/openapi.json").json()["components"]["securitySchemes"]
    assert {scheme["type"] for scheme in schemes.values()} == {"http", "apiKey"}


@pytest.mark.parametrize(
    ("path", "scope"),
    [
        (TRYON, "tryon"),
        (TRYON + "/", "tryon"),
        (BATCH + "/1/results", "batch"),
        ("/api/v1/uploads", "batch"),
        ("/api/v1/models", "models"),
        (HEALTH, None),
        ("/static/page.css", None),
        (HEALTH + "/../tryon", "admin"),
        (HEALTH + "/", "admin"),
        ("//api/v1/tryon", "admin"),
        ("/api/v1/", "admin"),
        ("/api/v1/TRYON", "admin"),
        ("/docs/x", "admin"),
        ("", "admin"),
    ],
)
def test_what_a_path_needs(path: str, scope: str | None) -> None:
    assert scope_of(path) == scope


def test_under_a_prefix_the_same_paths_need_the_same(uri: str) -> None:
    token, _ = create_key(uri, "shop", ["tryon"])
    app = TestClient(make_app(ServeConfig(keys=uri)), root_path="/shop", client=(AWAY, 5))
    assert app.get("/shop" + HEALTH).status_code == 200
    assert app.post("/shop" + TRYON, files={"person_image": b"1"}, headers=bearer(token)).status_code == 200
    assert app.post("/shop" + TRYON, files={"person_image": b"1"}).status_code == 401


def test_a_web_socket_does_not_come_in(uri: str) -> None:
    create_key(uri, "shop", ["tryon"])
    with pytest.raises(WebSocketDisconnect), client(ServeConfig(keys=uri)).websocket_connect(TRYON):
        pass


def test_keys_that_cannot_be_read(uri: str, caplog: pytest.LogCaptureFixture) -> None:
    app = client(ServeConfig(keys=uri))
    body = refused(post(app, bearer("tryon_0_x")), 503, "keys-unreadable")
    assert uri not in body["message"]
    token, _ = create_key(uri, "shop", ["tryon"])
    assert post(app, bearer(token)).status_code == 200


# How often


def test_the_rate(uri: str) -> None:
    token, key = create_key(uri, "shop", ["tryon"], rule=Rule(rate_per_min=2, burst=2))
    other, _ = create_key(uri, "other", ["tryon"])
    app = client(ServeConfig(keys=uri))
    assert [post(app, bearer(token)).status_code for _ in range(2)] == [200, 200]
    reply = post(app, bearer(token))
    refused(reply, 429, "rate-limited", key.shown, "2 requests a minute")
    assert 1 <= int(reply.headers["retry-after"]) <= 30
    assert post(app, bearer(other)).status_code == 200
    refused(app.get(BATCH, headers=bearer(token)), 403, "scope-missing")  # what it may not do does not count


def test_so_many_at_once_and_each_gives_its_slot_back(uri: str) -> None:
    token, _ = create_key(uri, "shop", ["batch"], rule=Rule(concurrency=2))
    with client(ServeConfig(keys=uri)) as app:
        state = app.app.state  # type: ignore[attr-defined]
        replies: list[Response] = []

        def ask() -> None:
            replies.append(app.get(BATCH + "/slow", headers=bearer(token)))

        threads = [threading.Thread(target=ask) for _ in range(2)]
        for thread in threads:
            thread.start()
        for _ in threads:
            assert state.started.acquire(timeout=20)
        reply = app.get(BATCH + "/busy", headers=bearer(token))
        refused(reply, 429, "too-many-at-once", "2 requests in flight")
        assert reply.headers["retry-after"] == "1"
        state.slow.set()
        for thread in threads:
            thread.join(20)
        assert [one.status_code for one in replies] == [200, 200]
        for _ in range(3):  # those that fail give theirs back, too
            refused(app.get(BATCH + "/busy", headers=bearer(token)), 503, "busy")
            assert app.get(BATCH + "/broken", headers=bearer(token)).json()["code"] == "internal"


def test_a_client_that_has_gone_leaves_no_slot_taken(uri: str) -> None:
    """Its task is cancelled in the middle of the request, as Serve does."""
    token, _ = create_key(uri, "shop", ["batch"], rule=Rule(concurrency=1))

    async def work() -> None:
        from tryon.serving.guard import Guard

        started, statuses = asyncio.Event(), []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            started.set()
            await asyncio.sleep(0 if scope["query_string"] else 30)
            await send({"type": "http.response.start", "status": 200, "headers": []})

        async def send(message: Any) -> None:
            statuses.append(message.get("status"))

        async def receive() -> Any:
            return {"type": "http.disconnect"}

        guard = Guard(app, config=ServeConfig(keys=uri))

        def request(query: bytes) -> Any:
            head = [(b"authorization", f"Bearer {token}".encode())]
            scope = {"type": "http", "method": "GET", "path": BATCH, "query_string": query, "headers": head}
            return guard(scope, receive, send)

        gone = asyncio.create_task(request(b""))
        await started.wait()
        await request(b"now")
        assert statuses.pop(0) == 429
        statuses.clear()
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        await request(b"now")
        assert statuses == [200]

    asyncio.run(asyncio.wait_for(work(), 20))


def test_services_that_name_one_redis_count_together(uri: str, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tryon.serving.limits.ANSWER_S", 20.0)  # the machine may be busy
    token, _ = create_key(uri, "shop", ["tryon"], rule=Rule(rate_per_min=0.6, burst=3))
    config = ServeConfig(keys=uri, redis=redis_url)
    with client(config) as one, client(config) as other:
        assert [post(app, bearer(token)).status_code for app in (one, other, one, other, one)] == [200] * 3 + [429] * 2


# Without keys


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "localhost", "LOCALHOST", "::1", "[::1]"])
def test_loopback_needs_no_keys(host: str) -> None:
    assert is_loopback(host)
    check_open(ServeConfig(), host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "10.0.0.1", "203.0.113.9", "shop.test", "localhost.shop.test"])
def test_another_address_without_keys_is_refused_unless_said(host: str, uri: str) -> None:
    with pytest.raises(ConfigError, match="tryon keys create") as caught:
        check_open(ServeConfig(), host)
    assert (caught.value.code, caught.value.field) == ("open-without-keys", "--host")
    check_open(ServeConfig(open_to_all=True), host)
    with pytest.raises(StorageError, match="does not exist"):
        check_open(ServeConfig(keys=uri), host)
    storage.write_bytes(uri, b"{")
    with pytest.raises(ConfigError, match="no file of keys"):
        check_open(ServeConfig(keys=uri), host)
    storage.delete(uri)
    create_key(uri, "shop", ["tryon"])
    check_open(ServeConfig(keys=uri), host)


def test_behind_haproxy_without_keys_it_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(HA_PROXY, "1")
    with pytest.raises(ConfigError, match="HAProxy hides who asks: unset it, or make some") as caught:
        check_open(ServeConfig(), "127.0.0.1")
    assert caught.value.field == HA_PROXY
    check_open(ServeConfig(open_to_all=True), "127.0.0.1")
    monkeypatch.setenv(HA_PROXY, "0")
    check_open(ServeConfig(), "127.0.0.1")


def test_the_service_does_not_start_open(tmp_path: Path) -> None:
    from tryon.serving.run import serve_forever

    file = tmp_path / "serve.yaml"
    file.write_text("http_options: {host: 0.0.0.0}\napplications: [{args: {}}]")
    with pytest.raises(ConfigError, match=r"0\.0\.0\.0 without keys"):
        serve_forever(file, bundle=None, host=None, port=None)


def test_a_service_without_keys_answers_its_own_machine_only() -> None:
    """However it was started: `serve deploy` does not ask `check_open`."""
    refused(post(client(ServeConfig())), 403, "open-without-keys", "open_to_all")
    assert client(ServeConfig()).get(HEALTH).status_code == 200
    for app in (client(ServeConfig(), LOCAL), client(ServeConfig(), "::1"), client(ServeConfig(open_to_all=True))):
        reply = post(app)
        assert (reply.status_code, reply.json()) == (200, "")
    own = TestClient(make_app(ServeConfig()), base_url=f"http://{AWAY}", client=(AWAY, 5))
    assert post(own).status_code == 200


# Headers


def test_headers_are_on_every_answer(uri: str) -> None:
    token, _ = create_key(uri, "shop", ["tryon", "batch"])
    app = client(ServeConfig(keys=uri))
    head = bearer(token)
    data = [
        post(app, head), post(app), app.get(HEALTH), app.get(BATCH + "/busy", headers=head),
        app.get(BATCH + "/broken", headers=head), app.put(TRYON, headers=head),
        app.post(TRYON, headers={**head, "content-length": "900000000"}),
    ]  # fmt: skip
    assert [reply.status_code for reply in data] == [200, 401, 200, 503, 500, 405, 413]
    for reply in data:
        assert reply.headers["cache-control"] == "no-store"
        assert "script-src" not in reply.headers["content-security-policy"]
    pages = [app.get("/"), app.get("/docs"), app.get("/nowhere")]
    for reply in [*data, *pages]:
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["referrer-policy"] == "no-referrer"
        policy = reply.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert policy.count("default-src") == 1
    assert "secret" not in data[4].text
    page = pages[0].headers["content-security-policy"]
    assert "http" not in page
    assert "unsafe" not in page


def test_the_documentation_may_load_what_it_is_made_of() -> None:
    import re
    from urllib.parse import urlsplit

    app = client(ServeConfig(), LOCAL)
    for path in ("/docs", "/redoc"):
        reply = app.get(path)
        policy = reply.headers["content-security-policy"]
        hosts = {urlsplit(url).netloc for url in re.findall(r'(?:src|href)="(https://[^"]+)"', reply.text)}
        assert hosts
        assert all(host in policy for host in hosts), hosts


def test_an_answers_own_headers_stay() -> None:
    api = FastAPI()
    install(api)

    @api.get("/api/v1/part")
    def part() -> Any:
        from fastapi.responses import PlainTextResponse

        return PlainTextResponse("x", headers={"cache-control": "max-age=5"})

    assert TestClient(api).get("/api/v1/part").headers["cache-control"] == "max-age=5"
