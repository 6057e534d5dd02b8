"""Annotation of a photo that was seen before is not done again."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tryon.config import StageSpec
from tryon.engines.in_process import Pipeline, build_pipeline
from tryon.engines.photo_cache import CachingPipeline, PhotoCache, Source, sources_of
from tryon.sample import Batch, num_rows
from tryon.serving.bench.pipeline import FUSED
from tryon.serving.config import DEFAULT_GROUPS, ServeConfig
from tryon.serving.graph import TRYON, plan_groups
from tryon.stages.base import Stage
from tryon.stages.registry import build_stage, stage_class

SIZE = (256, 192)
PERSON = ("decode_person", "fit_person", "pose", "parse")
GARMENT = ("decode_garment", "fit_garment", "garment_mask")


def specs() -> list[StageSpec]:
    options: dict[str, dict[str, Any]] = {"fit_person": {"size": SIZE}, "fit_garment": {"size": SIZE}}
    return [StageSpec(name=name, options=options.get(name, {})) for name in DEFAULT_GROUPS[0].stages]


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return build_pipeline(specs(), TRYON.given)


@pytest.fixture
def rows_run(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How many rows each stage has run on."""
    counted: Counter[str] = Counter()
    for spec in specs():
        cls = stage_class(spec.name)

        def run(self: Stage, batch: Any, num: int, run: Any = cls.run) -> Any:
            counted[self.name] += num
            return run(self, batch, num)

        monkeypatch.setattr(cls, "run", run)
    return counted


@pytest.fixture(scope="module")
def photos(photo_files: tuple[Path, Path]) -> tuple[bytes, bytes]:
    return photo_files[0].read_bytes(), photo_files[1].read_bytes()


def batch(*pairs: tuple[bytes, bytes], category: str = "upper") -> Batch:
    return {
        "id": [str(i) for i in range(len(pairs))],
        "category": [category] * len(pairs),
        "person_file": [person for person, _ in pairs],
        "garment_file": [garment for _, garment in pairs],
        **{name: [None] * len(pairs) for name in TRYON.given[4:]},
    }


def assert_same(a: Batch, b: Batch) -> None:
    assert a.keys() == b.keys()
    for name in a:
        for i in range(num_rows(a)):
            assert np.array_equal(a[name][i], b[name][i]), name


def test_which_stages_look_at_one_photo_alone(pipeline: Pipeline) -> None:
    found = sources_of(pipeline.stages, pipeline.given)
    person, garment = dict.fromkeys(PERSON, Source("person_file")), dict.fromkeys(GARMENT, Source("garment_file"))
    assert found == person | garment | {"agnostic": Source("person_file", ("category",))}


def test_a_stage_that_looks_at_both_photos_or_at_what_it_changes_is_not_kept(small_bundle: str) -> None:
    (plan,) = plan_groups(ServeConfig(bundle=small_bundle, groups=(FUSED,)))
    part = plan.parts["tryon"]
    stages = [build_stage(spec) for spec in plan.specs if spec.name in part.stages]
    assert set(sources_of(stages, part.given)) == {*PERSON, *GARMENT, "agnostic"}


def test_the_second_garment_on_a_person(
    pipeline: Pipeline, photos: tuple[bytes, bytes], rows_run: Counter[str]
) -> None:
    person, garment = photos
    other = garment + b"\0"  # another file of the same picture
    lookups: list[tuple[str, bool]] = []
    cached = CachingPipeline(pipeline, PhotoCache(100_000_000), lambda photo, hit: lookups.append((photo, hit)))
    first = cached(batch((person, garment)))
    second = cached(batch((person, other)))
    assert rows_run == Counter(dict.fromkeys(PERSON, 1) | dict.fromkeys(GARMENT, 2) | {"agnostic": 1})
    assert lookups == [
        ("person_file", False), ("garment_file", False), ("person_file", True), ("garment_file", False)
    ]  # fmt: skip
    assert_same(first, pipeline(batch((person, garment))))
    assert_same(second, pipeline(batch((person, other))))


def test_another_category_is_not_taken_from_the_cache(pipeline: Pipeline, photos: tuple[bytes, bytes]) -> None:
    cached = CachingPipeline(pipeline, PhotoCache(100_000_000))
    upper, lower, again = (cached(batch(photos, category=category)) for category in ("upper", "lower", "upper"))
    assert not np.array_equal(upper["agnostic_mask"][0], lower["agnostic_mask"][0])
    assert_same(lower, pipeline(batch(photos, category="lower")))
    assert_same(again, upper)


def test_a_batch_of_known_and_new_rows(pipeline: Pipeline, photos: tuple[bytes, bytes], rows_run: Counter[str]) -> None:
    person, garment = photos
    cached = CachingPipeline(pipeline, PhotoCache(100_000_000))
    cached(batch((person, garment)))
    rows_run.clear()
    pairs = ((person + b"\0", garment), (person, garment + b"\0"), (person, garment))
    out = cached(batch(*pairs))
    assert rows_run == Counter(dict.fromkeys((*PERSON, *GARMENT), 1) | {"agnostic": 1})
    assert_same(out, pipeline(batch(*pairs)))


def test_rows_of_one_batch_share_what_is_found(
    pipeline: Pipeline, photos: tuple[bytes, bytes], rows_run: Counter[str]
) -> None:
    persons = [photos[0] + bytes([i]) for i in range(2)]
    garments = [photos[1] + bytes([i]) for i in range(3)]
    pairs = [(person, garment) for person in persons for garment in garments]
    bad = (garments[0], garments[1])
    out = CachingPipeline(pipeline, PhotoCache(100_000_000))(batch(*pairs, bad, bad))
    assert out["error_code"] == [None] * 6 + ["no-person"] * 2
    assert rows_run["decode_person"] == 2 + 2, "what failed is tried again"
    assert [rows_run[name] for name in (*GARMENT, "agnostic")] == [3, 3, 3, 2]
    rows_run.clear()
    alone = pipeline(batch(*pairs))
    assert rows_run["decode_person"] == 6
    assert_same({name: column[:6] for name, column in out.items()}, alone)


def test_a_photo_that_cannot_be_used_is_not_kept(pipeline: Pipeline, photos: tuple[bytes, bytes]) -> None:
    person, garment = photos
    cache = PhotoCache(100_000_000)
    cached = CachingPipeline(pipeline, cache)
    for _ in range(2):
        out = cached(batch((garment, garment), (b"no photo", garment)))
        assert out["error_code"] == ["no-person", "not-an-image"]
    assert cache.num_bytes == 0
    assert cached(batch((person, garment)))["error_code"] == [None]
    assert cache.num_bytes > 0


def test_what_was_not_used_for_longest_gives_way() -> None:
    cache = PhotoCache(2500)
    value = {"person": np.zeros((4, 4, 3), np.uint8)}
    for key in "ab":
        cache.put(key, value)
    assert cache.get("a") is not None
    cache.put("c", value)
    assert [cache.get(key) is not None for key in "abc"] == [True, False, True]
    assert cache.num_bytes == 2 * 1048
    cache.put("d", {"person": np.zeros(5000, np.uint8)})
    assert cache.get("d") is None
    assert cache.num_bytes == 2 * 1048
    cache.put("a", {"notices": "x" * 10})
    assert cache.num_bytes == 1048 + 1010


def test_a_kept_array_cannot_be_changed() -> None:
    cache = PhotoCache(1_000_000)
    whole = np.zeros((100, 100), np.uint8)
    cache.put("a", {"parse": whole[:10]})
    whole[:] = 1
    found = cache.get("a")
    assert found is not None
    assert not found["parse"].any()
    with pytest.raises(ValueError, match="read-only"):
        found["parse"][0] = 1


def test_threads_share_it() -> None:
    cache = PhotoCache(20_000)

    def work(i: int) -> None:
        for n in range(500):
            key = str((i * 7 + n) % 40)
            if cache.get(key) is None:
                cache.put(key, {"person": np.full(100, int(key), np.uint8)})
            found = cache.get(key)
            assert found is None or found["person"][0] == int(key)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert 0 < cache.num_bytes <= 20_000


def test_no_room_keeps_nothing(pipeline: Pipeline, photos: tuple[bytes, bytes], rows_run: Counter[str]) -> None:
    cached = CachingPipeline(pipeline, PhotoCache(0))
    for _ in range(2):
        cached(batch(photos))
    assert rows_run["pose"] == 2
