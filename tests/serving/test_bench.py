"""`tryon bench serve`: its clients, its figures, and a short run of all of it."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.test_cli import run_tryon
from tryon.codec import encode_jpeg
from tryon.images import decode_photo
from tryon.serving.bench.faults import Killed, Overloaded, open_loop
from tryon.serving.bench.inputs import another_file, make_pairs
from tryon.serving.bench.load import Answered, Load, closed_loop, quantile
from tryon.serving.bench.run import Leg, figures_of


def test_a_closed_loop_has_so_many_requests_in_flight() -> None:
    lock = threading.Lock()
    at_once, most, seen = 0, 0, []

    def send(number: int) -> int:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
            seen.append(number)
        time.sleep(0.02)
        with lock:
            at_once -= 1
        return 200 if number else 503

    load = closed_loop(send, 4, num=20)
    assert sorted(seen) == list(range(20))
    assert most == 4
    assert (len(load.answers), load.failed) == (20, 1)
    assert 0.1 <= load.seconds < 1
    assert load.per_s == pytest.approx(19 / load.seconds)
    assert 0.02 <= load.p50_s < 0.2


def test_a_closed_loop_ends_with_its_time() -> None:
    load = closed_loop(lambda _: time.sleep(0.01) or 200, 2, seconds=0.2)
    assert 0.2 <= load.seconds < 1
    assert 2 < len(load.answers) <= 42


def test_an_open_loop_keeps_its_rate_whoever_answers() -> None:
    load = open_loop(lambda _: time.sleep(0.3) or 200, 50, 0.5)
    assert len(load.answers) == 25
    starts = sorted(one.start_s for one in load.answers)
    assert 0.4 < starts[-1] - starts[0] < 0.75
    assert min(one.seconds for one in load.answers) >= 0.3


def test_quantiles() -> None:
    assert (quantile([], 0.5), quantile([3.0], 0.95)) == (0.0, 3.0)
    values = [float(i) for i in range(101)]
    assert quantile(values, 0.5) == pytest.approx(50, abs=0.2)
    assert quantile(values, 0.95) == pytest.approx(95, abs=0.2)
    load = Load([Answered(200, 0, 1.0), Answered(200, 0, 3.0), Answered(0, 0, 2.0)], 2.0)
    assert (load.failed, load.per_s) == (1, 1.0)
    assert load.p50_s == pytest.approx(2.0, abs=0.01)


def test_another_file_is_the_same_picture() -> None:
    photo = encode_jpeg(np.random.default_rng(0).integers(0, 256, (64, 48, 3), dtype=np.uint8), 90)
    files = {another_file(photo, i) for i in range(3)}
    assert len(files) == 3
    pictures = [decode_photo(file, "person_image").pixels for file in (photo, *files)]
    assert all(np.array_equal(one, pictures[0]) for one in pictures)


def test_pairs_are_different_tops() -> None:
    pairs = make_pairs(2, (256, 192))
    assert len({pairs[0].person, pairs[0].garment, pairs[1].person, pairs[1].garment}) == 4
    assert decode_photo(pairs[0].person, "person_image").pixels.shape == (256, 192, 3)
    assert make_pairs(2, (256, 192)) == pairs


def legs(**per_s: float) -> list[Leg]:
    return [
        Leg(kind=kind, part=part, clients=clients, repeat=repeat, p50_s=clients / value, p95_s=1, per_s=value)
        for repeat in range(3)
        for kind, value in per_s.items()
        for part in ("fused", "split", "replicas")
        for clients in (1, 8)
    ]


def test_figures_against_what_is_asked() -> None:
    good = {"local": 10.0, "workers": 12.0, "fused": 9.5, "split": 8.0, "replicas": 11.5, "batching": 10.0}
    found = figures_of(legs(**good, fastapi=9.6, litserve=9.0), [(1.0, 0.5)] * 3, 8)
    assert [figure.passed for figure in found] == [True] * len(found)
    assert len(found) == 9
    assert found[0].value == pytest.approx(10 / 9.5)
    assert found[2].value == pytest.approx(11.5 / 12)
    slow = {**good, "fused": 8.0, "split": 7.0, "replicas": 10.0}
    found = figures_of(legs(**slow, fastapi=9.6, litserve=10.5), [(1.0, 0.7)] * 3, 8)
    assert not any(figure.passed for figure in found)
    assert len(figures_of(legs(**good), [(1.0, 0.5)] * 3, 8)) == 4  # no peer is installed


def test_figures_of_kills_and_overload() -> None:
    killed = {"seconds": 300, "kills": 29, "sent": 2000, "failed": 1, "longest_s": 20, "memory_before_mb": 900}
    assert all(figure.passed for figure in Killed(**killed, memory_after_mb=950).figures)
    assert [f.passed for f in Killed(**{**killed, "failed": 3}, memory_after_mb=1200).figures] == [False, True, False]
    load = {"capacity_per_s": 3, "unloaded_p95_s": 0.4, "bound": 8, "accepted_p95_s": 6.0, "refused_p99_s": 0.05}
    fine = Overloaded(**load, sent=300, accepted=60, refused=240, back_s=3)
    assert all(figure.passed for figure in fine.figures)
    bad = Overloaded(
        **{**load, "accepted_p95_s": 7, "refused_p99_s": 0.2}, sent=300, accepted=60, refused=239, back_s=11
    )
    assert not any(figure.passed for figure in bad.figures)


def bench(bundle: str, out: Path, *options: str) -> tuple[str, Any]:
    """What the command printed and wrote."""
    told = ["--size", "512x384", "--requests", "2", "--clients", "3", *options]
    done = run_tryon("bench", "serve", "--bundle", bundle, *told, "--out", str(out), timeout=1100)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout, json.loads(out.read_text())


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.xdist_group("bench")
@pytest.mark.timeout(1200)
def test_all_that_answers_is_compared(small_bundle: str, tmp_path: Path) -> None:
    text, found = bench(small_bundle, tmp_path / "bench.json", "--repeats", "1")
    for word in ("FastAPI and uvicorn", "LitServe", "a deployment a step", "second garment", "better peer"):
        assert word in text
    kinds = ["local", "workers", "fused", "split", "replicas", "batching", "fastapi", "litserve"]
    assert {leg["kind"] for leg in found["legs"]} == set(kinds)
    assert all(leg["p50_s"] > 0 and leg["per_s"] > 0 for leg in found["legs"])
    assert len(found["figures"]) == 9
    assert [found[name] for name in ("killed", "overloaded", "scaled")] == [None] * 3


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.xdist_group("bench")
@pytest.mark.timeout(1200)
def test_kills_overload_and_scaling(small_bundle: str, tmp_path: Path) -> None:
    options = ("--repeats", "0", "--kills", "12", "--overload", "2", "--scale")
    text, found = bench(small_bundle, tmp_path / "bench.json", *options)
    assert "under kills" in text
    assert found["legs"] == []
    assert found["killed"]["kills"] >= 1
    assert found["killed"]["failed"] == 0
    assert found["scaled"]["cold_start_s"] > found["scaled"]["warm_s"] > 0
    assert found["scaled"]["down_s"] >= 3
    assert found["overloaded"]["accepted"] + found["overloaded"]["refused"] == found["overloaded"]["sent"]
