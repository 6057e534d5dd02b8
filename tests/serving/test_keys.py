from __future__ import annotations

import asyncio
import json
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.test_cli import run_main
from tryon import storage
from tryon.errors import ConfigError, StorageError
from tryon.serving.keys import SCOPES, AccessError, KeyRing, create_key, read_keys, revoke_key, verify
from tryon.serving.limits import Rule


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return str(tmp_path / "sub" / "keys.json")


def refused(uri: str, token: str, code: str, now: datetime | None = None) -> AccessError:
    with pytest.raises(AccessError) as caught:
        verify({key.id: key for key in read_keys(uri)}, token, now or datetime.now(UTC))
    assert caught.value.code == code
    return caught.value


def found(uri: str, token: str, now: datetime | None = None) -> str:
    return verify({key.id: key for key in read_keys(uri)}, token, now or datetime.now(UTC)).name


def test_a_key_is_found_again_and_others_are_not(uri: str) -> None:
    shop, shop_key = create_key(uri, "shop", ["tryon"])
    admin, _ = create_key(uri, "admin", ["admin"])
    assert (found(uri, shop), found(uri, admin)) == ("shop", "admin")
    brand, name, secret = shop.split("_", 2)
    assert len(secret) == 43  # 32 bytes in base64
    other = admin.split("_", 2)
    for wrong in (
        "", "_", "__", shop[:-1], shop + "x", shop.upper(), f"x{shop}", f"{brand}_{name}_", f"{brand}_{name}",
        f"{brand}_{other[1]}_{secret}", f"{brand}_{'0' * 12}_{secret}", f"other_{name}_{secret}", secret,
        shop_key.hash, f"{brand}_{name}_{shop_key.hash}", "x" * 100_000, "tryon_é_ÿ", "tryon_a_\x00",
    ):  # fmt: skip
        assert refused(uri, wrong, "key-invalid").message == "the API key is not known"


def test_only_hashes_are_kept(uri: str) -> None:
    token, key = create_key(uri, "shop", ["tryon", "batch"], days=1, rule=Rule(rate_per_min=5, concurrency=2))
    text = Path(uri).read_text()
    assert token.split("_", 2)[2] not in text
    assert key.hash in text
    again, other = create_key(uri, "shop", ["tryon"])
    assert again != token
    assert (other.salt, other.hash) != (key.salt, key.hash)
    assert read_keys(uri) == (key, other)
    assert key.rule == Rule(rate_per_min=5, concurrency=2)
    assert token.startswith(key.shown.removesuffix("…"))


def test_expiry(uri: str) -> None:
    token, key = create_key(uri, "shop", ["tryon"], days=2)
    now = datetime.now(UTC)
    assert found(uri, token, now + timedelta(days=1.99)) == "shop"
    late = now + timedelta(days=2.01)
    error = refused(uri, token, "key-expired", late)
    assert key.shown in error.message
    assert f"{key.expires_at:%Y-%m-%d}" in error.message
    refused(uri, token[:-1], "key-invalid", late)  # who has not the secret does not learn that it expired


def test_revoking(uri: str) -> None:
    token, key = create_key(uri, "shop", ["tryon"])
    other, _ = create_key(uri, "other", ["tryon"])
    assert revoke_key(uri, key.shown).revoked_at is not None
    assert key.shown in refused(uri, token, "key-revoked").message
    refused(uri, token[:-1], "key-invalid")
    assert found(uri, other) == "other"
    first = revoke_key(uri, key.id).revoked_at
    assert revoke_key(uri, key.id).revoked_at == first
    for unknown in ("0" * 12, "", "shop"):
        with pytest.raises(ConfigError, match="no key"):
            revoke_key(uri, unknown)


def test_scopes(uri: str) -> None:
    _, key = create_key(uri, "shop", ["tryon", "batch", "tryon"])
    assert key.scopes == ("tryon", "batch")
    assert [scope for scope in SCOPES if key.allows(scope)] == ["tryon", "batch"]
    _, admin = create_key(uri, "admin", ["admin"])
    assert all(admin.allows(scope) for scope in SCOPES)


def test_what_cannot_be_a_key(uri: str) -> None:
    for scopes, word in ((["paint"], "paint"), ([], "scopes")):
        with pytest.raises(ConfigError, match=word):
            create_key(uri, "shop", scopes)
    with pytest.raises(ConfigError, match="name"):
        create_key(uri, "", ["tryon"])
    for days in (0, -1, 1e9, float("nan")):
        with pytest.raises(ConfigError, match="--days"):
            create_key(uri, "shop", ["tryon"], days=days)
    assert not Path(uri).exists()


def test_many_writers_lose_nothing(uri: str) -> None:
    made, busy = [], 0
    gate = threading.Barrier(6)

    def write(index: int) -> None:
        nonlocal busy
        gate.wait()
        while True:
            try:
                made.append(create_key(uri, f"shop {index}", ["tryon"])[1].id)
                return
            except ConfigError as error:
                assert error.code == "keys-busy"  # noqa: PT017 - it is tried again
                busy += 1
            except StorageError:  # the lock went while its text was read
                busy += 1

    threads = [threading.Thread(target=write, args=(index,)) for index in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {key.id for key in read_keys(uri)} == set(made)
    assert len(made) == 6
    assert sorted(path.name for path in Path(uri).parent.iterdir()) == ["keys.json"]


def test_a_lock_that_was_left_behind_is_named(uri: str) -> None:
    storage.write_bytes(f"{uri}.lock", b"token 2026-01-02 03:04:05")
    with pytest.raises(ConfigError, match=r"since 2026-01-02 03:04:05 UTC.*delete .*keys\.json\.lock"):
        create_key(uri, "shop", ["tryon"])


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"version": 2}', '{"keys": [{}]}', '{"keys": [{"hash": "sesame"}]}', '{"other": 1}', "\xff"],
    ids=str,
)
def test_what_is_no_file_of_keys(text: str, tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match="no file of keys") as caught:
        read_keys(str(file))
    assert "sesame" not in caught.value.message
    with pytest.raises(StorageError, match="does not exist"):
        read_keys(str(tmp_path / "none.json"))


def test_a_running_service_sees_changes_and_outlives_the_storage(uri: str) -> None:
    now = 0.0
    ring = KeyRing(uri, reload_s=10.0, clock=lambda: now)

    async def work() -> None:
        nonlocal now
        with pytest.raises(StorageError):
            await ring.find("x")
        token, key = create_key(uri, "shop", ["tryon"])
        assert (await ring.find(token)).id == key.id
        later, _ = create_key(uri, "later", ["tryon"])
        revoke_key(uri, key.id)
        assert (await ring.find(token)).id == key.id  # not read again yet
        now = 10.0
        with pytest.raises(AccessError, match="revoked"):
            await ring.find(token)
        storage.delete(uri)
        now = 20.0
        assert (await ring.find(later)).name == "later"
        storage.write_bytes(uri, b"broken")
        now = 30.0
        assert (await ring.find(later)).name == "later"
        storage.write_bytes(uri, b'{"keys": []}')
        now = 40.0
        with pytest.raises(AccessError, match="not known"):
            await ring.find(later)

    asyncio.run(work())


def test_a_storage_that_hangs_holds_nobody_up_for_long(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tryon.serving.keys.PATIENCE_S", 0.2)
    token, _ = create_key(uri, "shop", ["tryon"])
    go_on = threading.Event()
    reads = 0

    def hanging(uri: str) -> object:
        nonlocal reads
        reads += 1
        assert go_on.wait(20)
        return read_keys(uri)

    async def work() -> None:
        ring = KeyRing(uri, reload_s=0.0)
        await ring.find(token)
        monkeypatch.setattr("tryon.serving.keys.read_keys", hanging)
        try:
            names = [(await asyncio.wait_for(ring.find(token), 5)).name for _ in range(5)]
            assert names == ["shop"] * 5
            assert reads == 1
            with pytest.raises(StorageError, match="still being read"):
                await KeyRing(uri).find(token)
        finally:
            go_on.set()

    asyncio.run(work())


# The command line


def test_the_verbs(uri: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    make = ("keys", "create", uri, "--name", "my shop", "--scope", "tryon", "--scope", "batch", "--rate", "60")
    assert run_main(monkeypatch, *make, "--days", "90", "--concurrency", "4") == 0
    shown = capsys.readouterr()
    token = shown.out.strip()
    assert found(uri, token) == "my shop"
    assert "only time" in shown.err
    assert token.split("_", 2)[2] not in shown.err
    key = read_keys(uri)[0]
    assert run_main(monkeypatch, "keys", "list", uri) == 0
    listed = capsys.readouterr().out
    assert key.id in listed
    assert key.hash not in listed
    assert run_main(monkeypatch, "keys", "list", uri, "--json") == 0
    row = json.loads(capsys.readouterr().out)[0]
    assert (row["id"], row["state"], row["scopes"]) == (key.id, "valid", ["tryon", "batch"])
    assert not {"hash", "salt"} & set(row)
    assert run_main(monkeypatch, "keys", "revoke", uri, key.id) == 0
    refused(uri, token, "key-revoked")
    assert run_main(monkeypatch, "keys", "list", uri, "--json") == 0
    assert "revoked" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("create", "K", "--name", "x", "--scope", "paint"), "paint"),
        (("create", "K", "--name", "x"), "scope"),
        (("create", "K", "--name", "x", "--scope", "tryon", "--rate", "0"), "rate_per_min"),
        (("create", "ftp://x/keys", "--name", "x", "--scope", "tryon"), "ftp"),
        (("list", "K"), "does not exist"),
        (("revoke", "K", "abc"), "does not exist"),
    ],
    ids=str,
)
def test_wrong_commands(
    arguments: tuple[str, ...],
    word: str,
    uri: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = [uri if argument == "K" else argument for argument in arguments]
    assert run_main(monkeypatch, "keys", *given) == 2
    assert word in capsys.readouterr().err
    assert not Path(uri).exists()
