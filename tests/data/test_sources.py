"""Sources: photos as people keep them, with what is broken set aside and named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tryon.codec import encode_jpeg, encode_png
from tryon.data.annotate import AnnotateConfig, annotate_job, run_job
from tryon.data.shards import Manifest, read_shard
from tryon.data.simulator import simulate
from tryon.data.sources.base import Source, open_source
from tryon.data.sources.folder import FolderSource
from tryon.data.sources.shards import ShardSource
from tryon.data.sources.viton_hd import LIP_TO_ATR, VitonHdSource
from tryon.errors import ConfigError, DataError
from tryon.sample import Label, Row

ATR_TO_LIP = {int(atr): lip for lip, atr in reversed(list(enumerate(LIP_TO_ATR)))}


def annotated(source: Source, out: Path, config: AnnotateConfig | None = None) -> Manifest:
    return run_job(annotate_job(source, config or AnnotateConfig(), "test"), str(out), num_actors=0)


def quarantine(out: Path) -> dict[str, tuple[str, str]]:
    """Id to code and stage of the rows that were set aside."""
    rows = [row for path in (out / "_quarantine").glob("*.parquet") for row in pq.read_table(path).to_pylist()]
    return {row["id"]: (row["error_code"], row["error_stage"]) for row in rows}


def test_folder_with_good_and_broken_photos(photo_files: tuple[Path, Path], tmp_path: Path) -> None:
    photo = photo_files[0].read_bytes()
    folder = tmp_path / "in"
    (folder / "Größe ☃").mkdir(parents=True)
    (folder / "Größe ☃" / "an a+b.png").write_bytes(photo)
    (folder / "cut.png").write_bytes(photo[: len(photo) // 2])
    (folder / "empty.jpg").touch()
    (folder / "text.jpeg").write_text("no photo")
    (folder / "wall.png").write_bytes(encode_png(np.full((80, 60, 3), 200, np.uint8)))
    (folder / "notes.txt").write_text("is passed by")
    source = open_source(str(folder))
    assert isinstance(source, FolderSource)
    out = tmp_path / "out"
    manifest = annotated(source, out, AnnotateConfig(size=(128, 96)))
    assert (manifest.rows_in, manifest.rows, manifest.quarantined) == (5, 1, 4)
    assert quarantine(out) == {
        "cut.png": ("image-truncated", "decode_person"),
        "empty.jpg": ("image-empty", "decode_person"),
        "text.jpeg": ("not-an-image", "decode_person"),
        "wall.png": ("no-person", "pose"),
    }
    batch = read_shard(str(out / "shard-00000.parquet"))
    assert batch["id"] == ["Größe ☃/an a+b.png"]
    assert batch["agnostic"][0].shape == (128, 96, 3)
    assert "garment" not in batch


def test_a_photo_that_has_gone_is_set_aside(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    out = tmp_path / "out"
    manifest = annotated(FolderSource(str(tmp_path / "in"), [str(tmp_path / "in" / "gone.jpg")]), out)
    assert (manifest.rows, manifest.quarantined) == (0, 1)
    assert quarantine(out) == {"gone.jpg": ("uri-missing", "source")}


def test_nothing_to_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere does not exist"):
        open_source(str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match="holds no photos") as caught:
        open_source(str(tmp_path))
    assert caught.value.code == "data-empty"


def test_tasks_are_cut_in_a_fixed_order(tmp_path: Path) -> None:
    source = FolderSource(str(tmp_path), [f"{tmp_path}/{i:03d}.jpg" for i in range(70)])
    assert [len(task) for task in source.tasks()] == [32, 32, 6]
    assert source.tasks()[1][0].endswith("/032.jpg")


def test_an_annotated_data_set_is_taken_as_one(small_data: str, tmp_path: Path) -> None:
    source = open_source(small_data)
    assert isinstance(source, ShardSource)
    assert source.licence == "Apache-2.0"
    assert len(source.tasks()) == 2
    row = source.read(source.tasks()[1])[3]
    assert row["id"] == "sim-7-00000035"
    assert row["agnostic_mask"].shape == (128, 96)
    with pytest.raises(ConfigError, match="brings person"):
        annotate_job(source, AnnotateConfig(size=(64, 48)), small_data)


# VITON-HD


def lip_png(parse: np.ndarray[Any, Any]) -> bytes:
    return encode_png(np.vectorize(lambda label: ATR_TO_LIP.get(int(label), 0))(parse).astype(np.uint8))


def write_pair(root: Path, name: str, row: Row, layers: str = "mask parse pose") -> None:
    """One sample in VITON-HD's layout, with the layers that are named."""
    files: dict[str, bytes] = {
        f"image/{name}.jpg": encode_jpeg(row["person"]),
        f"cloth/{name}.jpg": encode_jpeg(row["garment"]),
    }
    if "mask" in layers:
        files[f"cloth-mask/{name}.jpg"] = encode_jpeg(np.dstack([row["garment_mask"] * 255] * 3))
    if "parse" in layers:
        files[f"image-parse-v3/{name}.png"] = lip_png(row["parse"])
    if "pose" in layers:
        people = [{"pose_keypoints_2d": row["pose"].ravel().tolist()}]
        files[f"openpose_json/{name}_keypoints.json"] = json.dumps({"people": people}).encode()
    for path, data in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)


@pytest.fixture(scope="module")
def drawn() -> Row:
    return simulate(5, 0, 256, 192)


@pytest.fixture
def split(tmp_path: Path, drawn: Row) -> Path:
    """A VITON-HD split in which every second sample has something wrong with it."""
    root = tmp_path / "viton" / "test"
    for name in ("full", "bad_parse", "bad_label", "bad_pose", "odd_pose", "other_size", "no_cloth"):
        write_pair(root, name, drawn)
    write_pair(root, "bare", simulate(5, 0, 512, 384), layers="")
    (root / "image-parse-v3" / "bad_parse.png").write_bytes(b"no image")
    (root / "image-parse-v3" / "bad_label.png").write_bytes(encode_png(np.full((256, 192), 20, np.uint8)))
    (root / "image-parse-v3" / "other_size.png").write_bytes(encode_png(np.zeros((128, 96), np.uint8)))
    (root / "openpose_json" / "bad_pose_keypoints.json").write_text("{")
    (root / "openpose_json" / "odd_pose_keypoints.json").write_text("[]")
    (root / "cloth" / "no_cloth.jpg").unlink()
    return root


def test_viton_hd_layers_are_read_where_they_are(split: Path, drawn: Row) -> None:
    source = open_source(str(split.parent))
    assert isinstance(source, VitonHdSource)
    rows = {row["id"]: row for task in source.tasks() for row in source.read(task)}
    full, bare = rows["full"], rows["bare"]
    assert np.array_equal(full["parse"], LIP_TO_ATR[np.vectorize(lambda v: ATR_TO_LIP.get(int(v), 0))(drawn["parse"])])
    assert np.allclose(full["pose"], drawn["pose"], atol=1e-3)
    assert (full["garment_mask"] != drawn["garment_mask"]).mean() < 0.01
    assert full["category"] == "upper"
    assert [bare[name] for name in ("parse", "pose", "garment_mask")] == [None] * 3
    assert "no_cloth" not in rows, "without a pair list only names with both photos are pairs"
    bad = {row_id: row["error_code"] for row_id, row in rows.items() if "error_code" in row}
    assert bad == dict.fromkeys(("bad_parse", "bad_label", "bad_pose", "odd_pose", "other_size"), "layer-corrupt")
    assert "label 20" in rows["bad_label"]["error"]
    assert "96x128 px, its photo 192x256 px" in rows["other_size"]["error"]


def test_viton_hd_is_annotated_from_what_is_there(split: Path, tmp_path: Path) -> None:
    (split.parent / "test_pairs.txt").write_text(
        "full.jpg bare.jpg\nbare.jpg full.jpg\nno_cloth.jpg x.jpg\nbad_parse.jpg x.jpg\n"
    )
    out = tmp_path / "out"
    manifest = annotated(open_source(str(split.parent)), out)
    assert (manifest.rows_in, manifest.rows, manifest.quarantined) == (4, 2, 2)
    assert quarantine(out) == {"no_cloth": ("uri-missing", "source"), "bad_parse": ("layer-corrupt", "source")}
    batch = read_shard(str(out / "shard-00000.parquet"))
    assert batch["id"] == ["full", "bare"]
    assert [image.shape for image in batch["agnostic"]] == [(256, 192, 3), (512, 384, 3)]
    assert all((parse == Label.UPPER_CLOTHES).any() or (parse == Label.DRESS).any() for parse in batch["parse"])
    assert manifest.licence.startswith("CC BY-NC")


def test_viton_hd_pair_lists(split: Path) -> None:
    (split.parent / "test_pairs.txt").write_text("full.jpg bare.jpg\n\nbare.jpg full.jpg extra\nodd\n")
    (split.parent / "test_unpaired.txt").write_text("full.jpg bare.jpg\n")
    paired = VitonHdSource(str(split))
    assert list(paired.tasks()[0]) == [("full.jpg", "full.jpg"), ("bare.jpg", "bare.jpg")]
    unpaired = VitonHdSource(str(split), "unpaired")
    assert list(unpaired.tasks()[0]) == [("full.jpg", "bare.jpg")]
    row = unpaired.read(unpaired.tasks()[0])[0]
    assert row["id"] == "full+bare"
    assert row["garment_file"] == (split / "cloth" / "bare.jpg").read_bytes()
    assert row["garment_mask"] is None


def test_viton_hd_without_unpaired_list(split: Path) -> None:
    with pytest.raises(DataError, match="no unpaired samples"):
        VitonHdSource(str(split), "unpaired")


def test_viton_hd_layers_do_not_follow_a_letterboxed_photo(split: Path) -> None:
    with pytest.raises(ConfigError, match=r"size = \(128, 96\).*garment_mask, pose, parse") as caught:
        annotate_job(open_source(str(split)), AnnotateConfig(size=(128, 96)), "x")
    assert caught.value.code == "size-invalid"


def test_lip_is_mapped_by_the_names_of_its_classes() -> None:
    lip = [
        "background", "hat", "hair", "glove", "sunglasses", "upper-clothes", "dress", "coat", "socks", "pants",
        "torso-skin", "scarf", "skirt", "face", "left-arm", "right-arm", "left-leg", "right-leg", "left-shoe",
        "right-shoe",
    ]  # fmt: skip
    assert len(LIP_TO_ATR) == len(lip) == 20
    atr = {name.lower().replace("_", "-"): value for name, value in Label.__members__.items()}
    for number, name in enumerate(lip):
        if name in atr:
            assert LIP_TO_ATR[number] == atr[name], name
    assert LIP_TO_ATR[lip.index("coat")] == Label.UPPER_CLOTHES
    assert LIP_TO_ATR[lip.index("torso-skin")] == Label.FACE, "neck and chest: skin that stays"


def test_real_viton_hd_photos_are_read(shared: Path) -> None:
    source = VitonHdSource(str(shared / "vitonhd" / "test"))
    row = source.read(source.tasks()[0][:1])[0]
    assert row["parse"].shape == Image.open(shared / "vitonhd" / "test" / "image" / f"{row['id']}.jpg").size[::-1]
    assert (row["parse"] == Label.UPPER_CLOTHES).mean() > 0.05
