"""Weights from a folder, `s3://` or the hub's cache end as the same local files."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from tests.s3 import s3_bucket
from tryon import storage
from tryon.errors import BundleError, ConfigError, StorageError
from tryon.models.checkpoint_layout import DIFFUSERS
from tryon.models.weights import absolute, check_digest, digest, local_file, local_folder

FILES = {
    "config.json": b"{}",
    "preprocessor_config.json": b'{"size": 64}',
    "model.safetensors": b"weights",
    "README.md": b"words",
}
WANTED = sorted(set(FILES) - {"README.md"})


def write(folder: Path, **changed: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in {**FILES, **changed}.items():
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's cache, empty, and a machine without a network."""
    from huggingface_hub import constants

    def refuse(*_: Any, **__: Any) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return tmp_path / "hub"


def test_a_folder_stays_where_it_is(tmp_path: Path) -> None:
    folder = write(tmp_path / "segformer")
    assert local_folder(str(folder)) == folder
    assert local_folder(f"file://{folder}") == folder
    assert local_file(str(folder / "model.safetensors")) == folder / "model.safetensors"


def test_a_folder_with_the_form_of_a_hub_id_is_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(tmp_path / "acme" / "clothes")
    monkeypatch.chdir(tmp_path)
    assert local_folder("acme/clothes") == folder


def test_s3_is_fetched_once_and_only_what_matters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRYON_CACHE", str(tmp_path / "cache"))
    with s3_bucket("weights") as bucket:
        uri = f"{bucket}/runs/clothes"
        for name, data in FILES.items():
            storage.write_bytes(f"{uri}/{name}", data)
        folder = local_folder(uri)
        assert sorted(file.name for file in folder.iterdir()) == WANTED
        assert local_folder(f"{uri}/") == folder
        storage.write_bytes(f"{uri}/model.safetensors", b"Weights")
        assert (local_folder(uri) / "model.safetensors").read_bytes() == b"Weights"
        with pytest.raises(StorageError, match="does not exist"):
            local_folder(f"{bucket}/runs/none")
        assert len(list((tmp_path / "cache" / "weights").iterdir())) == 2, "one folder a version"
    assert folder.is_dir()
    assert not list((tmp_path / "cache").rglob("*.tmp"))


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("TRYON_CACHE", str(tmp_path / "file"))
    with s3_bucket("weights") as bucket:
        storage.write_bytes(f"{bucket}/w.pth", b"x")
        with pytest.raises(StorageError, match="cannot be fetched into") as caught:
            local_file(f"{bucket}/w.pth")
    assert str(tmp_path / "file") in caught.value.message


def snapshot(hub: Path, name: str, commit: str, **changed: bytes) -> Path:
    root = hub / f"models--{name.replace('/', '--')}"
    (root / "refs").mkdir(parents=True, exist_ok=True)
    (root / "refs" / "main").write_text(commit)
    return write(root / "snapshots" / commit, **changed)


def test_a_hub_id_is_taken_from_the_hubs_cache(hub: Path) -> None:
    old = snapshot(hub, "acme/clothes", "a" * 40)
    new = snapshot(hub, "acme/clothes", "b" * 40)
    assert local_folder("acme/clothes") == new
    assert local_folder("acme/clothes", revision="a" * 40) == old


def test_pickled_weights_do_where_there_are_no_safe_ones(hub: Path) -> None:
    folder = snapshot(hub, "acme/old", "a" * 40)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert local_folder("acme/old") == folder


def test_a_hub_id_that_cannot_be_had_says_what_to_do(hub: Path) -> None:
    with pytest.raises(BundleError, match="'acme/none' is no folder here, and as a hub id") as caught:
        local_folder("acme/none")
    assert caught.value.code == "weights-missing"
    assert "`hf download acme/none`" in caught.value.message
    assert "model.safetensors" in caught.value.message
    assert "Name or service not known" in caught.value.message


@pytest.mark.parametrize("weights", ["/nowhere/clothes", "./clothes", "clothes", "a/b/c"])
def test_a_path_that_is_not_there_is_not_asked_of_the_hub(hub: Path, weights: str) -> None:
    with pytest.raises(StorageError, match="does not exist"):
        local_folder(weights)


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json"])
def test_a_folder_that_lacks_a_config_is_refused(tmp_path: Path, name: str) -> None:
    folder = write(tmp_path / "clothes")
    (folder / name).unlink()
    with pytest.raises(BundleError, match=f"it has no {name}"):
        local_folder(str(folder))


def test_a_revision_is_of_a_hub_id(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="revision = 'v1' is of a hub id"):
        local_folder(str(write(tmp_path / "clothes")), revision="v1")


def test_the_digest_is_of_what_decides_the_labels(tmp_path: Path) -> None:
    a, b = write(tmp_path / "a"), write(tmp_path / "b")
    assert digest(a) == digest(b)
    write(b, **{"README.md": b"other words"})
    assert digest(a) == digest(b)
    for name in WANTED:
        assert digest(write(tmp_path / name, **{name: b"changed"})) != digest(a)
    assert digest(a / "README.md") == storage.sha256(b"words")


def test_weights_that_have_changed_are_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "clothes")
    check_digest(folder, None, "w")
    check_digest(folder, digest(folder), "w")
    with pytest.raises(BundleError, match="is not the checkpoint that this run began with") as caught:
        check_digest(write(folder, **{"model.safetensors": b"new"}), digest(write(tmp_path / "c")), "w")
    assert caught.value.code == "weights-changed"


PIPELINE = {
    "model_index.json": b"{}",
    "unet/config.json": b"{}",
    "unet/diffusion_pytorch_model.safetensors": b"u",
    "vae/config.json": b"{}",
    "vae/diffusion_pytorch_model-00001-of-00002.safetensors": b"v1",
    "vae/diffusion_pytorch_model-00002-of-00002.safetensors": b"v2",
    "vae/diffusion_pytorch_model.safetensors.index.json": b"{}",
    "text_encoder/config.json": b"{}",
    "text_encoder/pytorch_model.bin": b"t",
    "tokenizer/vocab.json": b"{}",
    "tokenizer/merges.txt": b"",
    "scheduler/scheduler_config.json": b"{}",
}
BESIDE = {
    "unet/diffusion_pytorch_model.bin": b"the same, pickled",
    "unet/diffusion_pytorch_model.fp16.safetensors": b"a variant",
    "safety_checker/model.safetensors": b"another part",
    "v1-5-inpainting.safetensors": b"one file",
    "README.md": b"words",
}


def write_pipeline(folder: Path) -> Path:
    for name, data in {**PIPELINE, **BESIDE}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def held(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_diffusers_pipeline_is_its_parts_in_one_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_pipeline(tmp_path / "sd")
    assert local_folder(str(folder), layout=DIFFUSERS) == folder
    monkeypatch.setenv("TRYON_CACHE", str(tmp_path / "cache"))
    with s3_bucket("weights") as bucket:
        for name in held(folder):
            storage.write_bytes(f"{bucket}/sd/{name}", (folder / name).read_bytes())
        fetched = local_folder(f"{bucket}/sd", layout=DIFFUSERS)
    assert held(fetched) == sorted(PIPELINE)
    assert digest(fetched, DIFFUSERS) == digest(folder, DIFFUSERS)
    (folder / "README.md").write_bytes(b"other words")
    assert digest(fetched, DIFFUSERS) == digest(folder, DIFFUSERS)
    for name in PIPELINE:
        changed = write_pipeline(tmp_path / name.replace("/", "-"))
        (changed / name).write_bytes(b"changed")
        assert digest(changed, DIFFUSERS) != digest(folder, DIFFUSERS)


def test_a_diffusers_pipeline_of_the_hubs_cache(hub: Path) -> None:
    folder = write_pipeline(snapshot(hub, "acme/sd", "a" * 40))
    assert local_folder("acme/sd", layout=DIFFUSERS) == folder
    (folder / "text_encoder/pytorch_model.bin").unlink()
    with pytest.raises(BundleError, match="it holds no weights in text_encoder"):
        local_folder("acme/sd", layout=DIFFUSERS)


def test_a_folder_that_lacks_a_part_is_no_pipeline(tmp_path: Path) -> None:
    folder = write_pipeline(tmp_path / "sd")
    (folder / "vae/config.json").unlink()
    with pytest.raises(BundleError, match=r"sd is no diffusers pipeline: it has no vae/config\.json"):
        local_folder(str(folder), layout=DIFFUSERS)


def test_weights_mean_the_same_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "acme" / "clothes")
    monkeypatch.chdir(tmp_path)
    assert absolute("acme/clothes") == str(tmp_path / "acme" / "clothes")
    assert [absolute(name) for name in ("acme/other", "s3://b/k/")] == ["acme/other", "s3://b/k"]
