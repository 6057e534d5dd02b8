"""The parser on a bundle's own network: labels at the photo's own size, the bundle pinned by its weights."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tryon import storage
from tryon.cli import main
from tryon.data.shards import read_manifest, read_shard, shard_uris
from tryon.errors import BundleError, ConfigError
from tryon.infer import tryon_pipeline
from tryon.models import bundle as bundles
from tryon.models.nafnet import NafNet, NafNetConfig
from tryon.models.segment import Segment, SegmentConfig
from tryon.stages.parse_segment import SegmentParse
from tryon.stages.parsers import parser_spec
from tryon.stages.registry import build_stage

UInt8 = np.ndarray[Any, np.dtype[np.uint8]]
SIZE = (64, 48)


def write(folder: Path, seed: int = 0) -> str:
    """A bundle with a parsing network whose random weights tell all classes apart."""
    torch.manual_seed(seed)
    network = Segment(SegmentConfig(width=4, levels=2))
    nn.init.normal_(network.head.weight)
    bundles.write_network(
        str(folder), "parsing", "segment", network, config=network.config, size=SIZE, training={}, metrics={}
    )
    return str(folder)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write(tmp_path_factory.mktemp("segment") / "bundle")


def photo(height: int, width: int) -> UInt8:
    blocks = np.random.default_rng(3).integers(0, 256, (8, 6, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(blocks, (width, height), interpolation=cv2.INTER_NEAREST), dtype=np.uint8)


def by_hand(bundle: str, image: UInt8, inner: tuple[int, int]) -> UInt8:
    """Laid into the network's size at `inner`, through the network, cut out, enlarged, and the highest taken."""
    h, w = inner
    y, x = (SIZE[0] - h) // 2, (SIZE[1] - w) // 2
    edge = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]]).mean(axis=0)
    canvas = np.tile(np.rint(edge).astype(np.uint8), (*SIZE, 1))
    canvas[y : y + h, x : x + w] = cv2.resize(image, (w, h), interpolation=cv2.INTER_AREA)
    network, _ = bundles.load_bundle(bundle).network("parsing")
    with torch.inference_mode():
        logits = network(torch.from_numpy(canvas.transpose(2, 0, 1).copy())[None] / 127.5 - 1)
    full = F.interpolate(logits[..., y : y + h, x : x + w], size=image.shape[:2], mode="bilinear", align_corners=False)
    return full[0].argmax(dim=0).numpy().astype(np.uint8)


@pytest.mark.parametrize(
    ("size", "inner"), [((64, 48), (64, 48)), ((256, 192), (64, 48)), ((200, 400), (24, 48)), ((300, 100), (64, 21))]
)
def test_labels_are_those_of_the_steps_by_hand(bundle: str, size: tuple[int, int], inner: tuple[int, int]) -> None:
    parse = SegmentParse(bundle)({"person": [photo(*size)]})["parse"][0]
    want = by_hand(bundle, photo(*size), inner)
    assert parse.shape == size
    assert parse.dtype == np.uint8
    assert len(np.unique(want)) > 5
    # Where a photo does not fill the network's size, its outermost half pixel is mixed with what lies beside it.
    assert (parse == want).mean() > (0.999 if inner == SIZE else 0.98)


def test_photos_of_many_sizes_share_a_batch(bundle: str) -> None:
    photos = [photo(*size) for size in ((200, 150), (90, 90), (64, 128))]
    ones = SegmentParse(bundle, batch_size=1)({"person": photos})["parse"]
    threes = SegmentParse(bundle, batch_size=3)({"person": photos})["parse"]
    assert [parse.shape for parse in threes] == [image.shape[:2] for image in photos]
    assert all((a != b).mean() < 1e-3 for a, b in zip(ones, threes, strict=True))


def test_a_bundle_is_pinned_by_its_parsing_networks_weights(
    bundle: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(bundle, tmp_path / "b")
    monkeypatch.chdir(tmp_path)
    spec = parser_spec("segment", "b", {"batch_size": 2})
    assert spec.name == "parse_segment"
    digest = bundles.read_manifest("b").networks["parsing"].sha256
    assert spec.options == {"weights": str(tmp_path / "b"), "sha256": digest, "batch_size": 2}
    assert build_stage(spec)({"person": [photo(64, 48)]})["parse"][0].shape == (64, 48)
    write(tmp_path / "b", seed=1)
    with pytest.raises(BundleError, match="is not the one that this run began with") as caught:
        build_stage(spec)
    assert caught.value.code == "weights-changed"
    assert parser_spec("segment", "b").options["sha256"] != digest


def test_what_does_not_fit_is_named(bundle: str, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="none' does not exist"):
        parser_spec("segment", str(tmp_path / "none"))
    other = NafNet(NafNetConfig(width=4))
    written = {"config": other.config, "size": SIZE, "training": {}, "metrics": {}}
    bundles.write_network(str(tmp_path / "other"), "refinement", "nafnet", other, **written)
    with pytest.raises(BundleError, match=r"has no parsing network \(it has: refinement\)"):
        parser_spec("segment", str(tmp_path / "other"))
    with pytest.raises(ConfigError, match="parse_segment: unknown key 'wieghts'"):
        SegmentParse(bundle, wieghts=3)
    shutil.copytree(bundle, tmp_path / "broken")
    entry = bundles.read_manifest(bundle).networks["parsing"]
    storage.write_bytes(f"{tmp_path}/broken/{entry.file}", b"not these")
    with pytest.raises(BundleError, match=r"is not the file bundle\.json names"):
        SegmentParse(f"{tmp_path}/broken")


def test_annotation_takes_it_by_name(
    bundle: str, photo_files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "photos").mkdir()
    shutil.copy(photo_files[0], tmp_path / "photos")
    out = str(tmp_path / "out")
    arguments = ["--out", out, "--photos", "person", "--layers", "parse", "--actors", "0", "--set", "quality=null"]
    arguments += ["--parser", "segment", "--parser-weights", bundle]
    monkeypatch.setattr(sys, "argv", ["tryon", "data", "annotate", str(tmp_path / "photos"), *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    manifest = read_manifest(out)
    assert manifest.annotators["parse_segment"] == 1
    (row,) = read_shard(shard_uris(out, manifest)[0], ("parse",))["parse"]
    image = cv2.cvtColor(cv2.imread(str(photo_files[0])), cv2.COLOR_BGR2RGB)
    assert np.array_equal(row, SegmentParse(bundle)({"person": [image]})["parse"][0])


def test_a_bundle_that_has_one_parses_with_it(
    small_bundle: str, photo_files: tuple[Path, Path], tmp_path: Path
) -> None:
    whole = str(tmp_path / "whole")
    bundles.copy_bundle(small_bundle, whole)
    write(Path(whole))
    person, garment = (file.read_bytes() for file in photo_files)
    files = {"id": "a", "category": "upper", "person_file": person, "garment_file": garment}
    row, without = (tryon_pipeline(bundle).run_row(files) for bundle in (whole, small_bundle))
    stage = SegmentParse(whole)
    assert np.array_equal(row["parse"], stage({"person": [row["person"]]})["parse"][0])
    assert np.array_equal(row["person"], without["person"])
    assert not np.array_equal(row["parse"], without["parse"])
