"""Checkpoints: the last and the best, whole or passed by, kept locally when the storage fails."""

from __future__ import annotations

import random
import warnings
from pathlib import Path

import pytest

from tests.s3 import Fault, denying_bucket, faulty_bucket, s3_bucket
from tryon import storage
from tryon.errors import StorageError
from tryon.training.checkpoints import NAME, PAUSES_S, CheckpointStore


def store(uri: str, local: Path, keep_best: int = 1, metric: str = "") -> CheckpointStore:
    return CheckpointStore(uri, keep_best, metric, local, sleep=lambda _: None)


def steps(folder: str) -> list[int]:
    return [int(NAME.fullmatch(uri.rsplit("/", 1)[-1]).group(1)) for uri in storage.list_files(folder, (".pt",))]  # type: ignore[union-attr]


def test_nothing_there_is_no_checkpoint(tmp_path: Path) -> None:
    assert store(str(tmp_path / "none"), tmp_path / "local").latest() is None


@pytest.mark.parametrize(
    ("metric", "keep", "kept"),
    [("val_psnr", 2, [100, 300, 500]), ("-val_l1", 1, [200, 500]), ("", 2, [300, 400, 500]), ("val_psnr", 0, [500])],
)
def test_the_best_and_the_last_are_kept(tmp_path: Path, metric: str, keep: int, kept: list[int]) -> None:
    runs = store(str(tmp_path / "run"), tmp_path / "local", keep, metric)
    figures = {100: (30, 0.5), 200: (20, 0.1), 300: (25, 0.4), 400: (10, 0.3), 500: (15, 0.6)}
    for step, (psnr, l1) in figures.items():
        assert runs.save(f"state {step}".encode(), step, {"val_psnr": psnr, "val_l1": l1})
    assert steps(runs.uri) == kept
    assert runs.latest() == b"state 500"


def test_a_damaged_checkpoint_is_passed_by(tmp_path: Path) -> None:
    runs = store(str(tmp_path / "run"), tmp_path / "local")
    runs.save(b"first", 1, {})
    runs.save(b"second", 2, {})
    (last,) = (tmp_path / "run").glob("step-00000002-*.pt")
    last.write_bytes(b"seco")
    with pytest.warns(UserWarning, match=f"{last.name} is damaged"):
        assert runs.latest() == b"first"


def test_an_unwritable_place_is_named_and_the_state_kept_locally(tmp_path: Path) -> None:
    (tmp_path / "run").write_bytes(b"a file where a folder has to be")
    runs = store(str(tmp_path / "run"), tmp_path / "local")
    with pytest.warns(UserWarning, match=r"step 7 could not be written to .*run.*kept in .*local"):
        assert not runs.save(b"state", 7, {})
    assert steps(str(tmp_path / "local")) == [7]
    (tmp_path / "run").unlink()
    assert store(str(tmp_path / "run"), tmp_path / "local").latest() == b"state"
    runs.clear_local()
    assert not (tmp_path / "local").exists()


def test_a_storage_that_refuses_to_be_read_is_an_error_and_no_new_start(tmp_path: Path) -> None:
    with denying_bucket("closed") as uri, pytest.raises(StorageError):
        store(f"{uri}/run", tmp_path / "local").latest()


def test_the_same_on_s3(tmp_path: Path) -> None:
    with s3_bucket("checkpoints") as uri:
        runs = store(f"{uri}/run", tmp_path / "local", 1, "val_psnr")
        for step, psnr in ((1, 5.0), (2, 9.0), (3, 7.0), (4, 6.0)):
            assert runs.save(b"s" * 100_000 + bytes([step]), step, {"val_psnr": psnr})
        assert steps(runs.uri) == [2, 4]
        assert runs.latest() == b"s" * 100_000 + bytes([4])
    assert not (tmp_path / "local").exists()


@pytest.mark.parametrize("seed", range(2))
def test_faults_on_the_way_to_s3_end_no_save_and_leave_nothing_half_written(tmp_path: Path, seed: int) -> None:
    """A third of all requests fail, in four ways; every state is somewhere, and the last one is what is loaded."""
    rng = random.Random(seed)
    faults: list[Fault] = []
    active = True

    def on_request(method: str, path: str) -> Fault | None:
        if not active or rng.random() > 0.33:
            return None
        faults.append(rng.choice(("error", "slow", "cut", "half")))
        return faults[-1]

    with faulty_bucket(f"faulty-{seed}", on_request) as uri, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it may have to keep one locally, or be unable to remove an old one
        runs = store(f"{uri}/run", tmp_path / "local", keep_best=3)
        states = {step: bytes([step]) * 50_000 for step in range(1, 7)}
        for step, data in states.items():
            runs.save(data, step, {})
        active = False
        assert len(faults) >= 5
        assert store(f"{uri}/run", tmp_path / "local").latest() == states[6]
        for folder in (runs.uri, str(tmp_path / "local")):
            for file in storage.list_files(folder, (".pt",)) if storage.exists(folder) else []:
                match = NAME.fullmatch(file.rsplit("/", 1)[-1])
                assert match is not None
                assert storage.read_bytes(file) == states[int(match.group(1))]


def test_a_place_that_never_answers_is_tried_as_often_as_said(tmp_path: Path) -> None:

    def on_request(method: str, path: str) -> Fault | None:
        return "error" if method in ("PUT", "POST") else None

    pauses: list[float] = []
    with faulty_bucket("down", on_request) as uri:
        runs = CheckpointStore(f"{uri}/run", 1, "", tmp_path / "local", sleep=pauses.append)
        with pytest.warns(UserWarning, match="the run goes on"):
            assert not runs.save(b"state", 1, {})
        assert pauses == list(PAUSES_S)
        assert runs.latest() == b"state"
