"""Runs are found where they lie, told as they are, and laid beside one another on one page."""

from __future__ import annotations

import io
import json
import re
import shutil
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.s3 import s3_bucket
from tests.training.test_run import OPTIONS
from tryon import storage
from tryon.codec import encode_jpeg
from tryon.errors import ConfigError, StorageError
from tryon.show_runs import compare_shown, duration, list_shown, run_shown
from tryon.training.compare import COLOURS, compare, write_page
from tryon.training.run import check_run, run
from tryon.training.runs import SILENT_S, SILENT_UNKNOWN_S, find_run, find_runs

NOW = 1_800_000_000.0
Out = pytest.CaptureFixture[str]
VOID = {"meta", "img", "link", "input"}


class Tags(HTMLParser):
    """Checks that tags close, and collects what the page points to."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        del tag, attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def utc(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def write_run(folder: str, lines: list[dict[str, float]], *, age_s: float = 10, config: Any = None, **told: Any) -> str:
    """A run's folder by hand; pictures at the steps of the lines that validated."""
    config = {"recipe": "gmm", "steps": 100, "batch_size": 8, "size": [64, 48], "network": {}, **(config or {})}
    info = {
        "name": folder.rpartition("/")[2], "status": "running", "started": utc(NOW - 9000), "updated": utc(NOW - age_s),
        "tryon_version": "0", "data": "data/x", "out": folder.rpartition("-runs/")[0],
        "provenance": {"config": config, "data_sha256": "ab", "frozen": {}}, **told,
    }  # fmt: skip
    storage.write_bytes(f"{folder}/run.json", json.dumps(info).encode())
    if lines:
        storage.write_bytes(f"{folder}/metrics.jsonl", "".join(json.dumps(line) + "\n" for line in lines).encode())
    for line in lines:
        if "val_l1" in line:
            picture = encode_jpeg(np.full((32, 48, 3), 90, np.uint8))
            storage.write_bytes(f"{folder}/samples/step-{int(line['step']):08d}.jpg", picture)
            storage.write_bytes(f"{folder}/checkpoints/step-{int(line['step']):08d}-0123456789ab.pt", b"x")
    return folder


def lines_of(*values: float, every: int = 10, start: int = 1) -> list[dict[str, float]]:
    """Lines whose loss is each value, validated all the time, at 20 samples/s."""
    return [
        {"step": every * i, "epoch": 0, "lr": 1e-3, "loss": v, "loss_l1": v / 2, "samples_per_s": 20, "val_l1": v / 3,
         "val_mask_iou": 1 - v / 4}
        for i, v in enumerate(values, start)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def trained(small_data: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two bundles, each of a run of two steps; the second learns faster and is wider."""
    folder = tmp_path_factory.mktemp("bundles")
    for name, changes in {"a": {}, "b": {"learning_rate": 0.002, "network": {"width": 6}}}.items():
        values = {**OPTIONS, "report_every": 1, "checkpoint_every": 1, **changes}
        run(check_run("gmm", small_data, str(folder / name), values), lambda _: None)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> str:
    return str(tmp_path / "mine-runs")


def test_a_run_is_read_back_as_it_was_written(trained: Path) -> None:
    found = find_run(str(trained / "a"))
    assert (found.state, found.step, found.recipe, found.metric) == ("finished", 2, "gmm", "-val_l1")
    assert found.uri == str(trained / "a-runs" / found.info.name)
    assert list(found.pictures) == [1, 2] == list(found.checkpoints)
    values = dict(found.points("val_l1"))
    step, best = found.best("val_l1") or (0, 0.0)
    assert best == values[step] == min(values.values())
    assert found.last("val_l1") == values[2]
    assert found.names()[0] == "loss"
    assert "lr" not in found.names()
    assert found.higher_is_better("val_mask_iou")


def test_runs_are_found_from_every_place(trained: Path) -> None:
    one = find_run(str(trained / "a")).uri
    for uri in (str(trained / "a-runs"), one, one + "/", f"{one}/run.json", f"file://{one}"):
        assert [r.uri for r in find_runs([uri]).runs] == [one], uri
    assert len(find_runs([str(trained)]).runs) == 2
    assert len(find_runs([str(trained / "a"), str(trained)]).runs) == 2


def test_a_bundle_that_is_not_written_yet_has_runs(folder: str) -> None:
    write_run(f"{folder}/gmm-1", [])
    assert find_run(folder.removesuffix("-runs"), NOW).info.name == "gmm-1"


def test_runs_on_s3(tmp_path: Path, capsys: Out) -> None:
    with s3_bucket("runs") as bucket:
        write_run(f"{bucket}/mine-runs/gmm-1", lines_of(3, 2), status="stopped")
        found = find_run(f"{bucket}/mine", NOW)
        assert found.uri == f"{bucket}/mine-runs/gmm-1"
        assert found.pictures[20] == f"{bucket}/mine-runs/gmm-1/samples/step-00000020.jpg"
        list_shown([f"{bucket}/mine"])
        assert "20/100" in capsys.readouterr().out
        write_run(f"{bucket}/mine-runs/gmm-2", lines_of(3, 2), status="stopped")
        compare_shown([f"{bucket}/mine"], f"{bucket}/page.html")
        assert storage.read_bytes(f"{bucket}/page.html").count(b"data:image/jpeg;base64,") == 2
        with pytest.raises(StorageError, match="s3://none/mine does not exist, nor does s3://none/mine-runs"):
            find_runs(["s3://none/mine"])


def test_no_lines_yet(folder: str) -> None:
    found = find_run(write_run(f"{folder}/gmm-1", []), NOW)
    assert (found.state, found.step, found.names(), found.samples_per_s) == ("running", 0, [], None)
    assert found.best("loss") is None
    assert found.last("loss") is None


@pytest.mark.parametrize(
    ("lines", "age_s", "state"),
    [
        ([], SILENT_UNKNOWN_S - 60, "running"),
        ([], SILENT_UNKNOWN_S + 60, "silent"),
        (lines_of(3, 2), SILENT_S - 60, "running"),
        (lines_of(3, 2), SILENT_S + 60, "silent"),
        (lines_of(3, 2, every=2000), SILENT_S + 60, "running"),  # 800 s from save to save
        (lines_of(3, 2, every=2000), 3 * 800 + 60, "silent"),
    ],
)  # fmt: skip
def test_a_killed_run_is_known_by_its_silence(
    folder: str, lines: list[dict[str, float]], age_s: float, state: str
) -> None:
    assert find_run(write_run(f"{folder}/gmm-1", lines, age_s=age_s), NOW).state == state
    write_run(f"{folder}/gmm-1", lines, age_s=age_s, status="stopped")
    assert find_run(folder, NOW).state == "stopped"


def test_what_cannot_be_read_is_passed_by_with_a_word(folder: str) -> None:
    write_run(f"{folder}/gmm-1", lines_of(1))
    storage.write_bytes(f"{folder}/gmm-old/checkpoint.pt", b"x")
    storage.write_bytes(f"{folder}/gmm-torn/run.json", b'{"name": ')
    write_run(f"{folder}/gmm-lines", [])
    storage.write_bytes(f"{folder}/gmm-lines/metrics.jsonl", b'{"step": 1, "loss": 2}\n{"loss"\n')
    write_run(f"{folder}/gmm-later", [], colour="red")
    write_run(f"{folder}/gmm-clock", [], updated="yesterday")
    found = find_runs([folder], NOW)
    assert [r.info.name for r in found.runs] == ["gmm-1"]
    told = {uri.rpartition("/")[2]: why for uri, why in found.passed_by.items()}
    assert set(told) == {"gmm-old", "gmm-torn", "gmm-lines", "gmm-later", "gmm-clock"}
    assert "has no run.json" in told["gmm-old"]
    assert "line 2 is no line of metrics" in told["gmm-lines"]
    assert "unknown key 'colour'" in told["gmm-later"]
    assert "yesterday" in told["gmm-clock"]


def test_faults_name_the_place_and_what_is_expected(folder: str, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"nowhere does not exist, nor does .*nowhere-runs; expected is a bundle"):
        find_runs([str(tmp_path / "nowhere")])
    (tmp_path / "empty").mkdir()
    with pytest.raises(StorageError, match=r"empty: there is no run here.*expected is a bundle"):
        find_runs([str(tmp_path / "empty")])
    storage.write_bytes(f"{folder}/gmm-old/checkpoint.pt", b"x")
    with pytest.raises(StorageError, match=r"mine: there is no run.*gmm-old: has no run.json"):
        find_runs([folder.removesuffix("-runs")])
    for name in ("gmm-1", "gmm-2"):
        write_run(f"{folder}/{name}", [])
    with pytest.raises(StorageError, match=r"2 runs are here, one is needed.*gmm-1"):
        find_run(folder)


def test_only_as_many_as_can_be_told_apart_are_compared(folder: str) -> None:
    for i in range(len(COLOURS) + 1):
        write_run(f"{folder}/gmm-{i}", [])
    runs = find_runs([folder], NOW).runs
    for few in (runs[:1], runs):
        with pytest.raises(ConfigError, match=f"2 to {len(COLOURS)} runs can be compared, {len(few)} are given"):
            compare(few)


def test_what_differs_and_who_leads(folder: str) -> None:
    write_run(f"{folder}/gmm-1", lines_of(4, 2, 3), config={"network": {"width": 8}})
    write_run(f"{folder}/gmm-2", lines_of(4, 3), started=utc(NOW - 9999))
    compared = compare(find_runs([folder], NOW).runs)
    assert compared.labels == ["gmm-1", "gmm-2"]
    assert compared.differing == {"network.width": ["8", "-"]}
    assert compared.pictures_step == 20
    first, second = compared.figures["val_l1"]
    assert first is not None
    assert second is not None
    assert (first.last, first.best, first.best_step, first.leads) == (1.0, pytest.approx(2 / 3), 20, True)
    assert (second.last, second.leads) == (1.0, False)
    assert list(compared.figures) == ["val_l1", "val_mask_iou", "loss", "loss_l1"]


def test_runs_of_one_name_are_told_apart_by_their_bundles(tmp_path: Path) -> None:
    for place in ("x/mine", "x/other", "y/mine"):
        write_run(str(tmp_path / f"{place}-runs/gmm-1"), [])
    runs = find_runs([str(tmp_path)], NOW).runs
    both = [r for r in runs if "/x/" in r.uri]
    assert sorted(compare(both).labels) == ["gmm-1 (mine)", "gmm-1 (other)"]
    assert len(set(compare(runs).labels)) == 3


def test_the_page_is_one_file_with_curves_and_pictures(trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    compared = compare(find_runs([str(trained)]).runs)
    write_page(compared, str(out))
    html = out.read_text(encoding="utf-8")
    tags = Tags()
    tags.feed(html)
    assert tags.open == []
    assert len(tags.links) == 2
    assert all(link.startswith("data:image/jpeg;base64,") for link in tags.links)
    assert "url(" not in html
    assert "<script" not in html
    assert {"learning_rate", "network.width"} <= set(compared.differing)
    for text in ("0.002", *compared.labels, *compared.figures, "All at the last step"):
        assert text in html, text
    charts = re.findall(r'aria-label="(\w+) against step"', html)
    assert charts == list(compared.figures)
    assert html.count('<polyline class="curve"') == 2 * len(charts)
    page_of_trained = html.encode()
    write_page(compared, str(out))
    assert out.read_bytes() == page_of_trained


def test_a_page_of_odd_runs(folder: str, tmp_path: Path) -> None:
    """No lines, other figures, NaN, no step in common, a torn picture, words that look like markup."""
    write_run(f"{folder}/gmm-none", [])
    write_run(f"{folder}/gmm-bad", [*lines_of(4), {"step": 20, "loss": float("nan"), "val_l1": float("nan")}],
              status="failed", reason="the loss is <b>nan</b>")  # fmt: skip
    write_run(f"{folder}/other-1", lines_of(2, start=3), config={"recipe": "of-another-version", "a": "<script>"})
    out = tmp_path / "page.html"
    compare_shown([folder], str(out))
    html = out.read_text(encoding="utf-8")
    tags = Tags()
    tags.feed(html)
    assert tags.open == []
    assert "<script" not in html
    assert "the loss is &lt;b&gt;nan&lt;/b&gt;" in html
    assert "it left no pictures" in html
    assert "no step in common" in html
    assert "no lines" not in html
    shutil.rmtree(f"{folder}/other-1")
    shutil.rmtree(f"{folder}/gmm-bad")
    write_run(f"{folder}/gmm-none2", [])
    write_page(compare(find_runs([folder], NOW).runs), str(out))
    assert "None of the runs has written a line yet" in out.read_text(encoding="utf-8")


def test_list(folder: str, capsys: Out) -> None:
    now = time.time()
    write_run(f"{folder}/gmm-live", lines_of(3, 2), updated=utc(now))
    write_run(f"{folder}/gmm-dead", lines_of(3, 2), updated=utc(now - 3 * 3600))
    write_run(f"{folder}/gmm-bad", lines_of(3), status="failed", reason="the loss is [bold]nan[/bold]")
    storage.write_bytes(f"{folder}/gmm-old/checkpoint.pt", b"x")
    list_shown([folder])
    told = capsys.readouterr().out
    for text in ("gmm-live", "running", "silent for 3 h", "20/100", "val_l1 0.6667", "loss is [bold]nan[/bold]"):
        assert text in told, text
    assert f"{folder}/gmm-old has no run.json" in told
    list_shown([folder], as_json=True)
    read = json.loads(capsys.readouterr().out)
    runs = {r["name"]: r for r in read["runs"]}
    assert runs["gmm-dead"]["state"] == "silent"
    assert runs["gmm-live"]["best"]["val_l1"] == {"step": 20, "value": pytest.approx(2 / 3)}
    assert runs["gmm-live"]["samples_per_s"] == 20
    assert len(read["passed_by"]) == 1


def test_show(folder: str, capsys: Out) -> None:
    uri = write_run(
        f"{folder}/gmm-1", [*lines_of(4, 2), {"step": 30, "loss": float("nan")}], status="failed", reason="why"
    )
    run_shown(uri, 2)
    told = capsys.readouterr().out
    there = ("failed: why", "recipe = gmm", "data_sha256 = ab", "the best by -val_l1", "step 30  loss nan")
    for text in (*there, f"{uri}/samples, of step 10, 20", f"tensorboard --logdir {folder}"):
        assert text in told, text
    assert "step 10  loss" not in told
    run_shown(uri, 2, as_json=True)
    read = json.loads(capsys.readouterr().out)
    assert read["last"]["loss"] is None
    assert [line["step"] for line in read["last_lines"]] == [20, 30]
    assert read["info"]["provenance"]["config"]["batch_size"] == 8
    assert [Image.open(io.BytesIO(storage.read_bytes(p))).size for p in read["pictures"]] == [(48, 32)] * 2
    write_run(uri, [], updated=utc(time.time() - 86_400 * 3))
    run_shown(uri)
    assert "silent for 3 days though it says it is running" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (119, "119 s"), (150, "2 min"), (7200, "2 h"), (2e5, "2 days")]
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text
