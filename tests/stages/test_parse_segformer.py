"""The parser on `transformers` checkpoints: any folder, prefix or hub id; labels matched by name; its own pictures."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.s3 import s3_bucket
from tryon import storage
from tryon.errors import BundleError, ConfigError, StorageError
from tryon.sample import NUM_LABELS
from tryon.stages.labels import ATR_NAMES, CIHP_NAMES, CIHP_TO_ATR
from tryon.stages.parse_segformer import SegformerParse
from tryon.stages.parsers import parser_spec
from tryon.stages.registry import build_stage

pytest.importorskip("transformers", reason="the segformer parser needs transformers")

UInt8 = np.ndarray[Any, np.dtype[np.uint8]]
# As SegFormer-clothes has it, at a smaller size.
PREPROCESSOR = {
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.485, 0.456, 0.406],
    "image_processor_type": "SegformerImageProcessor",
    "image_std": [0.229, 0.224, 0.225],
    "resample": 2,
    "rescale_factor": 1 / 255,
    "size": {"height": 64, "width": 64},
}


def save(folder: Path, names: Any, preprocessor: Mapping[str, Any] | None = None) -> Path:
    """A SegFormer of a few thousand random weights."""
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    torch.manual_seed(0)
    config = SegformerConfig(
        depths=[1, 1, 1, 1],
        hidden_sizes=[8, 8, 16, 16],
        num_attention_heads=[1, 1, 2, 2],
        decoder_hidden_size=16,
        id2label=dict(enumerate(names)),
        label2id={name: i for i, name in enumerate(names)},
    )
    network = SegformerForSemanticSegmentation(config).eval()
    torch.nn.init.normal_(network.decode_head.classifier.weight)
    network.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({**PREPROCESSOR, **(preprocessor or {})}))
    return folder


@pytest.fixture(scope="module")
def clothes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("segformer") / "clothes", [name.capitalize() for name in ATR_NAMES])


@pytest.fixture
def copy(clothes: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(clothes, tmp_path / "copy"))


def photo(height: int = 200, width: int = 150) -> UInt8:
    rng = np.random.default_rng(3)
    blocks = rng.integers(0, 256, (8, 6, 3), dtype=np.uint8)
    return np.asarray(blocks.repeat(-(-height // 8), axis=0).repeat(-(-width // 6), axis=1)[:height, :width])


def by_hand(folder: Path, image: UInt8) -> UInt8:
    """Resized with Pillow, normalised, through the network, enlarged as transformers does, and the highest taken."""
    from PIL import Image
    from transformers import SegformerForSemanticSegmentation

    small = np.asarray(Image.fromarray(image).resize((64, 64), Image.Resampling.BILINEAR), dtype=np.float32) / 255
    x = (small - np.float32(PREPROCESSOR["image_mean"])) / np.float32(PREPROCESSOR["image_std"])
    network = SegformerForSemanticSegmentation.from_pretrained(folder).eval()
    with torch.inference_mode():
        logits = network(torch.from_numpy(x.transpose(2, 0, 1).copy())[None]).logits
        full = F.interpolate(logits, size=image.shape[:2], mode="bilinear", align_corners=False)
    return full[0].argmax(dim=0).numpy().astype(np.uint8)


@pytest.mark.parametrize("size", [(200, 150), (64, 64), (61, 333), (1024, 768)])
def test_labels_are_those_of_the_steps_by_hand(clothes: Path, size: tuple[int, int]) -> None:
    image = photo(*size)
    parse = SegformerParse(str(clothes))({"person": [image]})["parse"][0]
    want = by_hand(clothes, image)
    assert parse.shape == size
    assert parse.dtype == np.uint8
    assert len(np.unique(want)) > 3
    assert (parse == want).mean() > 0.999


def test_other_label_sets_are_mapped(tmp_path: Path) -> None:
    folder = save(tmp_path / "cihp", CIHP_NAMES)
    parse = SegformerParse(str(folder))({"person": [photo()]})["parse"][0]
    assert (parse == CIHP_TO_ATR[by_hand(folder, photo())]).mean() > 0.999
    assert parse.max() < NUM_LABELS


def test_labels_without_a_name_need_a_map(tmp_path: Path) -> None:
    names = [f"LABEL_{i}" for i in range(18)]
    folder = save(tmp_path / "unnamed", names)
    with pytest.raises(ConfigError, match=r"which ATR class is meant by 'LABEL_0', .* and 10 more") as caught:
        SegformerParse(str(folder))
    assert caught.value.code == "labels-unmapped"
    given = dict(zip(names, reversed(ATR_NAMES), strict=True))
    parse = build_stage(parser_spec("segformer", str(folder), {"labels": given}))({"person": [photo()]})["parse"][0]
    assert (parse == 17 - by_hand(folder, photo())).mean() > 0.999


def test_photos_of_many_sizes_share_a_batch(clothes: Path) -> None:
    photos = [photo(*size) for size in ((200, 150), (90, 90), (64, 128))]
    ones = SegformerParse(str(clothes), batch_size=1)({"person": photos})["parse"]
    threes = SegformerParse(str(clothes), batch_size=3)({"person": photos})["parse"]
    assert [parse.shape for parse in threes] == [image.shape[:2] for image in photos]
    assert all((a != b).mean() < 1e-3 for a, b in zip(ones, threes, strict=True))


def test_inputs_that_keep_their_aspect_are_batched_by_size(tmp_path: Path) -> None:
    folder = save(tmp_path / "w", ATR_NAMES, {"size": {"shortest_edge": 64}})
    photos = [photo(200, 150), photo(128, 96), photo(96, 128), photo(100, 75)]
    ones = SegformerParse(str(folder), batch_size=1)({"person": photos})["parse"]
    fours = SegformerParse(str(folder), batch_size=4)({"person": photos})["parse"]
    assert [parse.shape for parse in fours] == [image.shape[:2] for image in photos]
    assert all((a != b).mean() < 1e-3 for a, b in zip(ones, fours, strict=True))


def test_s3_gives_the_labels_of_the_folder(clothes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRYON_CACHE", str(tmp_path / "cache"))
    with s3_bucket("weights") as bucket:
        for file in clothes.iterdir():
            storage.write_bytes(f"{bucket}/clothes/{file.name}", file.read_bytes())
        there = build_stage(parser_spec("segformer", f"{bucket}/clothes"))
    here = SegformerParse(str(clothes))
    assert np.array_equal(there({"person": [photo()]})["parse"][0], here({"person": [photo()]})["parse"][0])


def test_a_hub_id_comes_from_the_hubs_cache(clothes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    def refuse(*_: Any, **__: Any) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    with pytest.raises(BundleError, match="`hf download acme/clothes` where there is a network"):
        SegformerParse("acme/clothes")
    root = tmp_path / "hub" / "models--acme--clothes"
    shutil.copytree(clothes, root / "snapshots" / ("a" * 40))
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text("a" * 40)
    spec = parser_spec("segformer", "acme/clothes")
    assert spec.options["weights"] == "acme/clothes"
    parse = build_stage(spec)({"person": [photo()]})["parse"][0]
    assert (parse == by_hand(clothes, photo())).mean() > 0.999


def test_weights_that_are_missing_are_not_made_up(copy: Path) -> None:
    from safetensors.torch import load_file, save_file

    state = load_file(copy / "model.safetensors")
    del state["decode_head.classifier.bias"]
    save_file(state, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BundleError, match=r"'decode_head\.classifier\.bias' is missing or of another size"):
        SegformerParse(str(copy))


def test_a_classifier_is_no_segmentation(tmp_path: Path, clothes: Path) -> None:
    from transformers import SegformerConfig, SegformerForImageClassification

    config = SegformerConfig(depths=[1, 1, 1, 1], hidden_sizes=[8, 8, 16, 16], num_attention_heads=[1, 1, 2, 2])
    SegformerForImageClassification(config).save_pretrained(tmp_path / "w")
    shutil.copy(clothes / "preprocessor_config.json", tmp_path / "w")
    with pytest.raises(BundleError, match="is no complete semantic-segmentation checkpoint"):
        SegformerParse(str(tmp_path / "w"))


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "preprocessor_config.json"])
@pytest.mark.parametrize("damage", ["empty", "half"])
def test_damage_is_named(copy: Path, name: str, damage: str) -> None:
    data = (copy / name).read_bytes()
    (copy / name).write_bytes(data[: len(data) // 2] if damage == "half" else b"")
    with pytest.raises(BundleError, match="copy cannot be used as a semantic-segmentation checkpoint: "):
        SegformerParse(str(copy))


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("model.safetensors", "cannot be used"),
        ("config.json", "no config.json"),
        ("preprocessor_config.json", "has no"),
    ],
)
def test_files_that_are_missing_are_named(copy: Path, name: str, error: str) -> None:
    (copy / name).unlink()
    with pytest.raises(BundleError, match=error):
        SegformerParse(str(copy))


def test_a_processor_that_cuts_photos_is_refused(tmp_path: Path) -> None:
    changed = {"do_center_crop": True, "crop_size": {"height": 32, "width": 32}}
    with pytest.raises(BundleError, match="has do_center_crop in its preprocessor_config"):
        SegformerParse(str(save(tmp_path / "w", ATR_NAMES, changed)))


def test_options_that_do_not_fit_are_named(clothes: Path) -> None:
    with pytest.raises(ConfigError, match="parse_segformer: unknown key 'wieghts'"):
        SegformerParse(str(clothes), wieghts=3)
    with pytest.raises(ConfigError, match="has no label 'blazer'"):
        SegformerParse(str(clothes), labels={"blazer": "upper-clothes"})
    with pytest.raises(BundleError, match="is not the checkpoint that this run began with"):
        SegformerParse(str(clothes), sha256="0" * 64)
    with pytest.raises(StorageError, match="does not exist"):
        SegformerParse(f"{clothes}-2")


def test_nothing_is_printed(clothes: Path, capfd: pytest.CaptureFixture[str]) -> None:
    SegformerParse(str(clothes))({"person": [photo()]})
    assert capfd.readouterr() == ("", "")
