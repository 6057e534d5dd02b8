"""Every command that README and docs show is one that the command line takes, and those of a newcomer's way are run."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
import typer.main
import yaml

from tests.conftest import ROOT
from tests.video.films import write_film
from tryon.cli import app
from tryon.codec import encode_jpeg
from tryon.data.simulator import simulate
from tryon.data.simulator.walk import walk
from tryon.serving.run import free_port

PAGES = (
    *sorted((ROOT / "docs").rglob("*.md")), ROOT / "README.md", ROOT / "cluster/README.md", ROOT / "CONTRIBUTING.md",
    ROOT / "platform/tryon/default_bundle/CARD.md",
)  # fmt: skip
BLOCK = re.compile(r"^ *```bash\n(.*?)^ *```", re.M | re.S)
SPAN = re.compile(r"`(?:\.venv/bin/)?(tryon [a-z][^`]*)`")
PROGRAMS = ("tryon", ".venv/bin/tryon")
JOBS = {  # what is submitted, as the verb that does it here
    "annotate": ["data", "annotate"], "train": ["train"], "tune": ["tune"], "evaluate": ["evaluate"],
    "batch_tryon": ["data", "tryon"], "build_bundle": ["train"],
}  # fmt: skip
NEWCOMER = {**os.environ, "COLUMNS": "200"}
GROUP_OPTIONS = {"--help", "--version"}
# What a reader puts his own words for.
PLACEHOLDER = re.compile(r"^[A-Z][A-Z_./\[\]=…-]*$|…|\.\.\.")


def commands(text: str) -> list[list[str]]:
    """The words of each command of a block, comments left out; one may go on over several lines."""
    found, begun = [], ""
    for line in text.replace("\\\n", " ").splitlines():
        begun += f"{line}\n"
        try:
            words = shlex.split(begun, comments=True)
        except ValueError:  # within quotes
            continue
        found += [words] if words else []
        begun = ""
    assert not begun, begun
    return found


def shown() -> Iterator[tuple[str, list[str]]]:
    """Page and words of all `tryon` commands in blocks."""
    for page in PAGES:
        for block in BLOCK.findall(page.read_text()):
            for words in commands(block):
                if words[0] in PROGRAMS:
                    yield page.name, words[1:]


def verb_of(words: list[str]) -> tuple[Any, list[str]]:
    """The command that these words name, and what follows its name; a group where they name one."""
    command: Any = typer.main.get_command(app)
    rest = list(words)
    while rest and hasattr(command, "commands") and rest[0] in command.commands:
        command = command.commands[rest.pop(0)]
    return command, rest


@pytest.mark.parametrize(("page", "words"), list(shown()), ids=lambda value: value if isinstance(value, str) else None)
def test_a_command_in_a_block_is_one_the_command_line_takes(page: str, words: list[str]) -> None:
    command, rest = verb_of(words)
    assert not hasattr(command, "commands") or set(rest) <= GROUP_OPTIONS, f"{page}: no verb in tryon {' '.join(words)}"
    if not hasattr(command, "commands"):
        with command.make_context(command.name, list(rest)) as context:
            if words[0] == "submit":
                test_a_command_in_a_block_is_one_the_command_line_takes(page, [*JOBS[rest[0]], *context.args])
            else:
                assert not context.args, f"{page}: {context.args} is left over of tryon {' '.join(words)}"


def test_commands_within_sentences_name_verbs_and_options_that_are_there() -> None:
    found = 0
    for page in PAGES:
        for span in SPAN.findall(page.read_text()):
            words = span.replace("|", " ").split()[1:]
            command, rest = verb_of(words)
            if words[0] != "VERB" and rest and hasattr(command, "commands"):
                named = [word for word in rest if not word.startswith("-") and not PLACEHOLDER.search(word)]
                assert all(word in command.commands for word in named), f"{page.name}: tryon {span}"
                continue
            known = {name for option in command.params for name in (*option.opts, *option.secondary_opts)}
            told = {word.split("=")[0] for word in rest if word.startswith("--")}
            assert told <= known | GROUP_OPTIONS, f"{page.name}: {span}"
            found += 1
    assert found > 30


# A newcomer's way ---------------------------------------------------------------------------------------------------

TINY = "--set steps=2 --set batch_size=4 --set size=[128,96] --set num_workers=0 --set val_fraction=.2"
# What is changed so that it takes seconds, not hours; every command below is run but for these.
SMALLER = (
    (r"--num \d+ --size 256x192", "--num 24 --size 128x96"),
    (r"--set steps=\d+", TINY),
    # Ray starts in 5 s each time.
    (r"(tryon (?:data (?:synth|annotate|unwarp|tryon)|evaluate|video) )", r"\1--actors 0 "),
    ("s3://shop/models", "shop/models"),
)  # fmt: skip
ELSEWHERE = {
    "make install": "the suite's own Makefile target",
    "make demo": "tests/test_cli.py",
    "make test": "this",
    "--plan plans/small.yaml": "tests/training/test_plan.py",
    "tune gmm": "tests/training/test_tune.py",
    "data gallery": "tests/test_cli.py",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What a newcomer has: a clone, photos of himself, a friend and a shirt, and a folder of photos in pairs."""
    for name in ("platform", "plans", "spaces", "serve_configs"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/tryon").symlink_to(Path(sys.executable).with_name("tryon"))
    tops = [row for index in range(14) if (row := simulate(5, index, 512, 384))["category"] == "upper"]
    for name, row, field in (("me", tops[0], "person"), ("friend", tops[1], "person"), ("shirt", tops[1], "garment")):
        (tmp_path / f"{name}.jpg").write_bytes(encode_jpeg(row[field], 92))
    write_film(tmp_path / "walk.mp4", [row["person"] for row in walk(5, 4, 256, 192)])
    pairs = {"person_url": ["me.jpg", "friend.jpg"], "garment_url": ["shirt.jpg", "shirt.jpg"]}
    pyarrow.parquet.write_table(pyarrow.table(pairs), tmp_path / "pairs.parquet")
    return tmp_path


def write_pairs(folder: Path) -> None:
    """Photos in VITON-HD's layout: the person wears the garment."""
    for index in range(8):
        row = simulate(6, index, 256, 192)
        for name, field in (("image", "person"), ("cloth", "garment")):
            file = folder / "photos" / "train" / name / f"{index:05d}_00.jpg"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(encode_jpeg(row[field], 95))


def write_people(folder: Path) -> None:
    """A plain folder of photos."""
    (folder / "photos").mkdir()
    for index in range(6):
        row = simulate(6, index, 256, 192)
        (folder / "photos" / f"{index}.jpg").write_bytes(encode_jpeg(row["person"], 95))


def smaller(line: str) -> str:
    for pattern, other in SMALLER:
        line = re.sub(pattern, other, line)
    return line


def follow(page: Path, folder: Path) -> list[str]:
    """Runs the commands of a page's blocks in their order; the ones that ran."""
    ran = []
    for block in BLOCK.findall(page.read_text()):
        for words in commands(smaller(block)):
            line = shlex.join(words)
            if any(text in line for text in ELSEWHERE) or words[0] == "curl":
                continue
            assert words[0] == ".venv/bin/tryon", line
            if words[1] == "serve":
                serve_and_ask(folder, words)
            else:
                done = subprocess.run(
                    words, cwd=folder, env=NEWCOMER, capture_output=True, text=True, check=False, timeout=500
                )
                assert done.returncode == 0, f"{line}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
            ran.append(line)
    return ran


def serve_and_ask(folder: Path, words: list[str]) -> None:
    """Starts the service as the page says, asks it as the page says, and ends it."""
    port = free_port()
    with (folder / "serve.log").open("wb") as log:
        server = subprocess.Popen([*words, "--port", str(port)], cwd=folder, env=NEWCOMER, stdout=log, stderr=log)
        try:
            text = (ROOT / "README.md").read_text()
            (found,) = (line for block in BLOCK.findall(text) for line in commands(block) if line[0] == "curl")
            ask = [word.replace(":8000", f":{port}") for word in found]
            end = time.monotonic() + 120
            answer = b""
            while b'"result_image"' not in answer:
                assert server.poll() is None, (folder / "serve.log").read_text()
                assert time.monotonic() < end, answer[:500]
                time.sleep(0.5)
                answer = subprocess.run([*ask, "-s"], cwd=folder, capture_output=True, check=False).stdout
        finally:
            server.send_signal(signal.SIGTERM)
            assert server.wait(60) == 0


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_tutorial_works_from_its_first_line_to_its_last(folder: Path) -> None:
    write_people(folder)
    ran = follow(ROOT / "docs" / "tutorial.md", folder)
    assert len(ran) >= 10
    for made in ("out/me.png", "out/mine.html", "bundles/mine/bundle.json", "out/before/report.html"):
        assert (folder / made).is_file(), made


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_readme_works_from_its_first_line_to_its_last(folder: Path) -> None:
    write_pairs(folder)
    ran = follow(ROOT / "README.md", folder)
    assert len(ran) >= 25
    for made in (
        "out/me-in-shirt.png",
        "out/mine.html",
        "bundles/mine/bundle.json",
        "shirt.png",
        "out/eval/report.html",
        "out/walk-in-shirt.mp4",
    ):
        assert (folder / made).is_file(), made


def test_what_is_run_elsewhere_is_told_apart() -> None:
    for name in ELSEWHERE.values():
        assert not name.endswith(".py") or (ROOT / name).is_file(), name


def test_forms_and_hooks_are_whole() -> None:
    for file in sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml")):
        form = yaml.safe_load(file.read_text())
        assert {"name", "description", "body"} <= set(form), file.name
        for part in form["body"]:
            assert part["type"] in ("textarea", "input", "dropdown", "checkboxes"), file.name
            assert part["attributes"]["label"], file.name
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    for hook in hooks:
        assert Path(sys.executable).with_name(Path(hook["entry"].split()[0]).name).is_file(), hook["id"]
