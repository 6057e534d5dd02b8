"""Duplicates: those that were planted are found across shards, others are not; the same by any number of workers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.data.curated import flipped, photo_row, random_code, write_rows
from tests.s3 import s3_bucket
from tryon import storage
from tryon.codec import decode_image, encode_jpeg
from tryon.data.curate.bits import BANDS, CAP, band_values, codes_of, distances, near_links
from tryon.data.curate.duplicates import find_duplicates, read_links
from tryon.data.curate.links import DuplicateConfig, Kind
from tryon.data.shards import ManifestWriter, write_shard
from tryon.data.simulator import simulate
from tryon.errors import DataError
from tryon.images import resize
from tryon.stages.fingerprint import Fingerprint


def pairs_of(uri: str, *kinds: Kind) -> set[tuple[str, str]]:
    return {tuple(sorted((link.a, link.b))) for link in read_links(uri) if link.kind in (kinds or tuple(Kind))}  # type: ignore[misc]


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_reencoded_and_resized_photos_are_found_across_shards(tmp_path: Path) -> None:
    photos: dict[str, Any] = {f"p{i}": simulate(51, i, 256, 192)["person"] for i in range(12)}
    photos["p3-jpeg"] = decode_image(encode_jpeg(photos["p3"], 35))
    photos["p5-small"] = resize(photos["p5"], 128, 96)
    photos["p7-again"] = photos["p7"].copy()
    stage = Fingerprint()
    rows = [{"id": name, **stage.process({"person": photo, "garment": None})} for name, photo in photos.items()]
    uri = write_rows(tmp_path / "data", rows, rows_per_shard=2)
    made = find_duplicates(uri)
    assert pairs_of(uri) == {("p3", "p3-jpeg"), ("p5", "p5-small"), ("p7", "p7-again")}
    assert pairs_of(uri, Kind.PERSON_SAME) == {("p7", "p7-again")}
    assert (made.rows, made.counts["person_same"], made.counts["garment_near"]) == (15, 1, 0)


def test_every_kind_of_link(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    rows = [photo_row(f"r{i:02d}", rng) for i in range(12)]
    rows[0]["person_id"] = rows[9]["person_id"] = rows[10]["person_id"] = "ann"
    rows[1]["garment_id"] = rows[8]["garment_id"] = "shirt"
    rows[2]["person_id"], rows[7]["garment_id"] = "shirt", "ann"
    rows[11]["garment_digest"] = rows[3]["garment_digest"]
    rows[6]["garment_hash"] = flipped(rows[4]["garment_hash"], rng, structure=6, colour=4)
    rows[5]["person_hash"] = rows[4]["garment_hash"]
    uri = write_rows(tmp_path / "data", rows)
    find_duplicates(uri)
    by_kind = {kind: pairs_of(uri, kind) for kind in Kind}
    assert by_kind == {
        Kind.PERSON_ID: {("r00", "r09"), ("r00", "r10")},
        Kind.GARMENT_ID: {("r01", "r08")},
        Kind.PERSON_SAME: set(),
        Kind.GARMENT_SAME: {("r03", "r11")},
        Kind.PERSON_NEAR: set(),
        Kind.GARMENT_NEAR: {("r04", "r06")},
    }
    (near, *_) = [link for link in read_links(uri) if link.kind is Kind.GARMENT_NEAR]
    assert (near.structure, near.colour) == (6, 4)


def test_thresholds_decide(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    code = random_code(rng)
    changed = {"s8": flipped(code, rng, 8), "s30": flipped(code, rng, 30), "c14": flipped(code, rng, 2, 14)}
    rows = [photo_row("a", rng, person_hash=code)] + [photo_row(n, rng, person_hash=h) for n, h in changed.items()]
    for config, found in (
        (DuplicateConfig(max_structure=10), {("a", "s8")}),
        (DuplicateConfig(max_structure=4, max_colour=20), {("a", "c14")}),
        (DuplicateConfig(max_structure=None), set()),
    ):
        uri = write_rows(tmp_path / "data", rows)
        find_duplicates(uri, config)
        assert pairs_of(uri) == found


def test_banding_finds_near_all_that_comparing_all_finds() -> None:
    rng = np.random.default_rng(3)
    originals = [random_code(rng) for _ in range(300)]
    changed = [flipped(code, rng, structure=24, colour=6) for code in originals]
    same = band_values(codes_of(changed)) == band_values(codes_of(originals))
    assert same.shape == (300, BANDS)
    assert same.any(axis=1).mean() > 0.95


def test_a_crowded_band_costs_no_square_and_keeps_its_duplicates() -> None:
    rng = np.random.default_rng(4)
    blank, other = random_code(rng), random_code(rng)
    hashes = [blank] * 3000 + [other[:4] + random_code(rng)[4:] for _ in range(3 * CAP)]
    hashes += [flipped(hashes[-1], rng, structure=0, colour=3), flipped(hashes[-2], rng, structure=0, colour=1)]
    links = near_links(codes_of(hashes), 0, 32, 12)
    assert len(links) == 2999 + 2
    assert all(i == 0 for i, j, *_ in links if j < 3000)
    assert {(len(hashes) - 3, len(hashes) - 2, 0, 3), (len(hashes) - 4, len(hashes) - 1, 0, 1)} <= set(links)


def test_codes_of_one_structure_do_not_blow_up() -> None:
    rng = np.random.default_rng(5)
    code = random_code(rng)
    hashes = sorted({flipped(code, rng, colour=5) for _ in range(3 * CAP)})
    links = near_links(codes_of(hashes), 3, 32, 12)
    assert len(links) < 2 * len(hashes) + CAP
    reached = {0}
    for i, j, *_ in sorted(links) * 5:
        if i in reached or j in reached:
            reached |= {i, j}
    assert len(reached) == len(hashes)


def test_distances_count_bits() -> None:
    rng = np.random.default_rng(6)
    code = random_code(rng)
    structure, colour = distances(codes_of([code, flipped(code, rng, 7, 3)]))
    assert structure.tolist() == [[0, 7], [7, 0]]
    assert colour.tolist() == [[0, 3], [3, 0]]


def _planted(rng: np.random.Generator, num: int) -> list[dict[str, Any]]:
    rows = [photo_row(f"r{i:04d}", rng) for i in range(num)]
    for i in range(0, num, 7):
        rows[i]["person_hash"] = flipped(rows[num - 1 - i]["person_hash"], rng, 5)
    for i in range(0, num, 5):
        rows[i]["garment_id"] = f"g{i % 15}"
    return rows


@pytest.mark.ray
def test_workers_and_kills_change_nothing(tmp_path: Path, ray_local: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tryon.data.curate.duplicates.RECORDS_A_PARTITION", 1000)
    rows = _planted(np.random.default_rng(7), 120)
    one, two, three = (write_rows(tmp_path / name / "data", rows) for name in ("one", "two", "three"))
    made = find_duplicates(one, num_actors=0)
    assert made.num_parts > 3
    assert find_duplicates(two, num_actors=2) == made
    with pytest.raises(KeyboardInterrupt):
        find_duplicates(three, num_actors=0, on_step=_killed_after("link", 2))
    steps: list[str] = []
    assert find_duplicates(three, num_actors=0, on_step=lambda name, *_: steps.append(name)) == made
    assert files_of(tmp_path / "one") == files_of(tmp_path / "two") == files_of(tmp_path / "three")
    assert not list((tmp_path / "three").rglob("_work"))
    again: list[str] = []
    assert find_duplicates(three, on_step=lambda name, *_: again.append(name)) == made
    assert again == []


def _killed_after(step: str, num: int) -> Any:
    def on_step(name: str, done: int, total: int) -> None:
        if (name, done) == (step, num):
            raise KeyboardInterrupt

    return on_step


def test_shard_sizes_and_order_do_not_matter(tmp_path: Path) -> None:
    rows = _planted(np.random.default_rng(8), 60)
    uris = [write_rows(tmp_path / "a", rows), write_rows(tmp_path / "b", rows[::-1], rows_per_shard=7)]
    for uri in uris:
        find_duplicates(uri)
    near = [pairs_of(uri, Kind.PERSON_NEAR) for uri in uris]
    assert near[0] == near[1]
    assert len(near[0]) == 9


def test_on_s3(tmp_path: Path) -> None:
    rows = _planted(np.random.default_rng(9), 30)
    local = write_rows(tmp_path / "data", rows)
    made = find_duplicates(local)
    with s3_bucket("links-test") as bucket:
        uri = write_rows(f"{bucket}/deep/data", rows)
        assert find_duplicates(uri) == made
        assert pairs_of(uri) == pairs_of(local)
        assert not storage.exists(f"{uri}/_links/_work")


def test_a_data_set_without_hashes_is_refused(tmp_path: Path) -> None:
    uri = str(tmp_path / "data")
    writer = ManifestWriter(uri, ("id", "person_hash"), {}, {}, (), "test")
    batch = {"id": ["a"], "person_hash": ["00"], "error_code": [None]}
    writer.add(write_shard(uri, 0, batch, ("id", "person_hash"), "x"))
    writer.finish()
    with pytest.raises(DataError, match=r"lacks garment_hash; `tryon data annotate .* adds them"):
        find_duplicates(uri)


def test_links_of_another_data_set_are_stale(tmp_path: Path) -> None:
    rng = np.random.default_rng(10)
    uri = write_rows(tmp_path / "data", [photo_row(f"r{i}", rng) for i in range(8)])
    with pytest.raises(DataError, match="has no links"):
        next(read_links(uri))
    find_duplicates(uri)
    write_rows(tmp_path / "data", [photo_row(f"r{i}", rng) for i in range(6)])
    with pytest.raises(DataError, match="before the data set changed"):
        next(read_links(uri))
    assert find_duplicates(uri).rows == 6
