"""Tables of URIs: any format, any column name, dead URIs set aside, wrong tables refused with what would do."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.data.reading import decoded, faults_of, quarantine, rows_of
from tests.data.shop import Answer, Shop, open_shop, picture
from tests.s3 import s3_bucket
from tryon import storage
from tryon.data.crawl import FetchLimits
from tryon.data.sources.manifest import ManifestSource
from tryon.data.sources.open import open_source
from tryon.errors import DataError, StorageError
from tryon.sample import Row

PHOTO = picture()
ROWS: list[dict[str, Any]] = [
    {
        "id": "007",
        "person": "in/a b.jpg",
        "garment": "in/ü.jpg",
        "category": "Tops",
        "split": "validation",
        "colour": "red",
    },
    {
        "id": "008",
        "person": "in/a b.jpg",
        "garment": None,
        "category": "Women > Shirts",
        "split": "odd",
        "colour": None,
    },
]
FAST = FetchLimits(delay_s=0, allow_private=True, backoff_s=0.01, retries=1, timeout_s=5)


def as_csv(rows: list[dict[str, Any]], separator: str = ",") -> bytes:
    lines = [
        separator.join(rows[0]),
        *(separator.join(str(v) if v is not None else "" for v in row.values()) for row in rows),
    ]
    return "\n".join(lines).encode()


def as_parquet(rows: list[dict[str, Any]]) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def as_json_lines(rows: list[dict[str, Any]]) -> bytes:
    return "\n".join(json.dumps(row) for row in rows).encode()


FORMATS: dict[str, Callable[[list[dict[str, Any]]], bytes]] = {
    "m.csv": as_csv,
    "M.CSV": as_csv,
    "bom.csv": lambda rows: "\ufeff".encode() + as_csv(rows),
    "m.csv.gz": lambda rows: gzip.compress(as_csv(rows)),
    "m.tsv": lambda rows: as_csv(rows, "\t"),
    "m.parquet": as_parquet,
    "m.jsonl": as_json_lines,
    "m.jsonl.gz": lambda rows: gzip.compress(as_json_lines(rows)),
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    for name in ("a b.jpg", "ü.jpg"):
        (tmp_path / "in" / name).write_bytes(PHOTO)
    return tmp_path


def written(root: Path, text: str, name: str = "m.csv") -> ManifestSource:
    (root / name).write_text(text)
    source = open_source(str(root / name), fetch=FAST)
    assert isinstance(source, ManifestSource)
    return source


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_rows(root: Path, name: str) -> None:
    (root / name).write_bytes(FORMATS[name](ROWS))
    source = open_source(str(root / name))
    rows = rows_of(source)
    assert faults_of(rows) == {}
    assert [row["id"] for row in rows] == ["007", "008"], "text, not numbers"
    first, second = rows
    assert (first["category"], first["split"], first["person_file"]) == ("upper", "val", PHOTO)
    assert first["garment_uri"] == str(root / "in" / "ü.jpg")
    assert json.loads(first["metadata"]) == {"colour": "red"}
    assert (second["category"], second["split"], second["garment_uri"]) == (None, None, None)
    assert "garment_file" not in second
    assert json.loads(second["metadata"]) == {"category": "Women > Shirts", "split": "odd"}


@pytest.mark.parametrize(
    ("columns", "field"),
    [
        ("image,cloth", "person_file"),
        ("Person_URI, garment_uri ", "person_file"),
        ("url,x", "photo_file"),
        ("photo,x", "photo_file"),
    ],
)
def test_columns_by_other_names(root: Path, columns: str, field: str) -> None:
    (row,) = rows_of(written(root, f"{columns}\nin/a b.jpg,in/ü.jpg\n"))
    assert row[field] == PHOTO
    assert row["id"] == "row-00000000"
    assert row["person_uri"] == str(root / "in" / "a b.jpg")


def test_where_uris_lead(root: Path) -> None:
    (root / "sub").mkdir()
    text = f"person\n../in/a b.jpg\n./../in/./a b.jpg\n{root}/in/a b.jpg\nfile://{root}/in/a b.jpg\n"
    rows = rows_of(written(root, text, "sub/m.csv"))
    assert [row["person_file"] for row in rows] == [PHOTO] * 4
    assert rows[1]["person_uri"] == str(root / "in" / "a b.jpg")


def test_licence_of_each_row(root: Path) -> None:
    source = written(root, "person,license\nin/a b.jpg,CC0\n")
    assert source.licence == "stated for each row, in its metadata"
    assert json.loads(rows_of(source)[0]["metadata"]) == {"licence": "CC0"}
    assert written(root, "person\nx\n").licence == "unstated"


def test_columns_that_are_not_understood(root: Path) -> None:
    with pytest.raises(
        DataError, match=r"columns foo, bar; none of them names a photo \(person: person, .*cloth.*url\)"
    ) as e:
        written(root, "foo,bar\n1,2\n")
    assert e.value.code == "manifest-columns"


BAD_TABLES: dict[str, tuple[str, bytes]] = {
    "empty": ("m.csv", b""),
    "latin1": ("m.csv", "person\nin/\xfc.jpg\n".encode("latin1")),
    "no-parquet": ("m.parquet", b"PAR1 no parquet"),
    "cut-parquet": ("m.parquet", as_parquet(ROWS)[:200]),
    "no-gzip": ("m.csv.gz", b"person\na.jpg\n"),
    "empty-json": ("m.jsonl", b""),
}


@pytest.mark.parametrize("name", BAD_TABLES)
def test_tables_that_cannot_be_read_are_refused(root: Path, name: str) -> None:
    file, data = BAD_TABLES[name]
    (root / file).write_bytes(data)
    with pytest.raises((DataError, StorageError), match=file):
        rows_of(open_source(str(root / file)))


def test_rows_that_cannot_be_understood(root: Path, tmp_path: Path) -> None:
    source = written(root, 'id,person\na,in/a b.jpg\nb,in/a b.jpg,extra\nc\n"d\nd",in/a b.jpg\ne,\n')
    rows = rows_of(source)
    assert {row["id"]: row.get("error_code") for row in rows if row["id"] in ("a", "d\nd", "e")} == {
        "a": None, "d\nd": None, "e": "row-empty",
    }  # fmt: skip
    invalid = [row["error"] for row in rows if row.get("error_code") == "row-invalid"]
    assert len(invalid) == 2
    assert "3 columns, 2 are named: 'b,in/a b.jpg,extra'" in invalid[0]
    manifest = decoded(source, tmp_path / "out")
    assert (manifest.rows_in, manifest.rows, manifest.quarantined) == (5, 2, 3)
    rows = rows_of(written(root, '{"person": "in/a b.jpg"}\n{"person": \n[1]\n', "m.jsonl"))
    assert [row.get("error_code") for row in rows] == [None, "row-invalid", "row-invalid"]


def test_json_objects_of_different_keys(root: Path) -> None:
    lines = [{"person": "in/a b.jpg"}, {"Garment": "in/ü.jpg", "brand": "B"}, {"brand": "C"}]
    rows = rows_of(written(root, "\n".join(json.dumps(line) for line in lines), "m.jsonl"))
    assert [row.get("error_code") for row in rows] == [None, None, "row-empty"]
    assert rows[1]["garment_file"] == PHOTO


def test_words_that_some_readers_take_for_nothing(root: Path) -> None:
    (row,) = rows_of(written(root, "id,person,brand\nnull,in/a b.jpg,NA\n"))
    assert (row["id"], json.loads(row["metadata"])) == ("null", {"brand": "NA"})


def test_a_table_without_rows(root: Path) -> None:
    with pytest.raises(DataError, match=r"m\.csv has no rows"):
        written(root, "person\n")


def test_ids_that_come_twice(root: Path) -> None:
    rows = rows_of(written(root, "id,person\na,in/a b.jpg\nb,in/a b.jpg\na,in/a b.jpg\n"))
    assert [row.get("error_code") for row in rows] == [None, None, "id-duplicate"]


def test_dead_uris_are_set_aside_with_the_reason(root: Path, tmp_path: Path) -> None:
    text = "id,person,garment\na,in/a b.jpg,in/ü.jpg\nb,in/gone.jpg,in/ü.jpg\nc,in,in/ü.jpg\nd,ftp://x/y.jpg,in/ü.jpg\n"
    source = written(root, text)
    rows = rows_of(source)
    assert faults_of(rows) == {"b": "uri-missing", "c": "uri-unreadable", "d": "uri-invalid"}
    assert f"{root}/in/gone.jpg does not exist" in rows[1]["error"]
    decoded(source, tmp_path / "out")
    assert set(quarantine(tmp_path / "out")) == {"b", "c", "d"}


def test_a_folder_of_parts(root: Path) -> None:
    parts = root / "parts"
    parts.mkdir()
    for i in range(2):
        rows = [{"id": f"{i}-{j}", "person": "../in/a b.jpg"} for j in range(3)]
        (parts / f"part-{i}.parquet").write_bytes(as_parquet(rows))
    (parts / "_SUCCESS").touch()
    source = open_source(str(parts))
    assert isinstance(source, ManifestSource)
    assert [row["id"] for row in rows_of(source)] == ["0-0", "0-1", "0-2", "1-0", "1-1", "1-2"]
    (parts / "part-2.parquet").write_bytes(as_parquet([{"foo": 1}]))
    with pytest.raises(DataError, match=r"part-2\.parquet has the columns foo"):
        rows_of(source)


def test_numbers_and_dates_of_a_parquet_file_are_kept(root: Path) -> None:
    import datetime

    table = [{"id": 7, "person": "in/a b.jpg", "price": 9.5, "day": datetime.date(2026, 1, 2), "thumb": b"\xff"}]
    (root / "m.parquet").write_bytes(as_parquet(table))
    (row,) = rows_of(open_source(str(root / "m.parquet")))
    assert row["id"] == "7"
    assert json.loads(row["metadata"]) == {"day": "2026-01-02", "price": 9.5}


def test_a_long_table_is_streamed(root: Path) -> None:
    with (root / "long.csv").open("w") as file:
        file.write("id,person\n")
        file.writelines(f"{i},in/a b.jpg\n" for i in range(200_000))
    tasks = iter(open_source(str(root / "long.csv")).tasks())
    allocated = pa.total_allocated_bytes()
    first = next(tasks)
    assert [entry[1]["id"] for entry in first] == [str(i) for i in range(32)]  # type: ignore[index]
    for _ in range(1000):
        next(tasks)
    assert pa.total_allocated_bytes() - allocated < 30_000_000


@pytest.fixture
def shop() -> Iterator[Shop]:
    with open_shop() as shop:
        yield shop


def over_http(shop: Shop, root: Path, *paths: str) -> list[Row]:
    return rows_of(written(root, "id,photo\n" + "".join(f"{path},{shop.url}{path}\n" for path in paths)))


def test_photos_over_http(shop: Shop, root: Path) -> None:
    photo = shop.photo("/a.jpg")
    shop.routes["/page"] = Answer(b"<html>")
    shop.routes["/bytes"] = Answer(photo, "application/octet-stream")
    shop.routes["/to"] = Answer(status=302, headers={"Location": "/a.jpg"})
    shop.routes["/loop"] = Answer(status=302, headers={"Location": "/loop"})
    shop.routes["/denied"] = Answer(status=403)
    shop.routes["/down"] = Answer(status=500)
    shop.routes["/cut"] = Answer(photo, "image/jpeg", cut=100)
    rows = over_http(shop, root, "/a.jpg", "/page", "/bytes", "/to", "/loop", "/gone", "/denied", "/down", "/cut")
    assert faults_of(rows) == {
        "/page": "content-type", "/loop": "too-many-redirects", "/gone": "url-missing", "/denied": "url-denied",
        "/down": "url-busy", "/cut": "body-cut",
    }  # fmt: skip
    assert [row["photo_file"] for row in rows if "photo_file" in row] == [photo] * 3
    assert rows[0]["person_uri"] == f"{shop.url}/a.jpg"


def test_a_photo_over_http_that_comes_at_the_second_attempt(shop: Shop, root: Path) -> None:
    photo = picture()
    shop.routes["/a.jpg"] = lambda before: Answer(photo, "image/jpeg") if before else Answer(status=503)
    assert over_http(shop, root, "/a.jpg")[0]["photo_file"] == photo


def test_private_addresses_are_not_read_unless_allowed(shop: Shop, root: Path) -> None:
    shop.photo("/a.jpg")
    port = shop.url.rsplit(":", 1)[1]
    hosts = ("127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "2130706433", "0.0.0.0", "10.0.0.1")
    text = "id,photo\n" + "".join(f"{host},http://{host}:{port}/a.jpg\n" for host in hosts)
    (root / "m.csv").write_text(text)
    rows = rows_of(ManifestSource(str(root / "m.csv"), FetchLimits(retries=0, delay_s=0)))
    faults = faults_of(rows)
    assert faults.pop("2130706433") in ("address-private", "url-unreachable"), "127.0.0.1 as a number"
    assert faults == dict.fromkeys((host for host in hosts if host != "2130706433"), "address-private")
    assert shop.requests == []


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with s3_bucket("manifest-test") as uri:
        yield uri


def test_on_s3(bucket: str, root: Path) -> None:
    storage.write_bytes(f"{bucket}/m/in/a.jpg", PHOTO)
    text = f"id,person\na,in/a.jpg\nb,{bucket}/m/in/a.jpg\nc,{bucket}/m/gone.jpg\nd,s3://no-such-bucket/x.jpg\ne,{root}/in/ü.jpg\n"
    storage.write_bytes(f"{bucket}/m/list.csv.gz", gzip.compress(text.encode()))
    rows = rows_of(open_source(f"{bucket}/m/list.csv.gz"))
    assert [row["id"] for row in rows if row.get("person_file") == PHOTO] == ["a", "b", "e"]
    assert set(faults_of(rows)) == {"c", "d"}
    storage.write_bytes(f"{bucket}/parts/p.parquet", as_parquet([{"photo": "../m/in/a.jpg"}]))
    (row,) = rows_of(open_source(f"{bucket}/parts"))
    assert row["photo_file"] == PHOTO
