"""Which source lies at a URI; data sets and VITON-HD folders, with what is broken set aside and named."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.data.reading import decoded, faults_of, quarantine, rows_of
from tests.s3 import denying_bucket, s3_bucket
from tryon import storage
from tryon.codec import encode_jpeg, encode_png
from tryon.data.annotate import AnnotateConfig, annotate_job
from tryon.data.job import run_job
from tryon.data.shards import read_shard
from tryon.data.simulator import simulate
from tryon.data.sources.common import mark_duplicates, merge_names, row_or_error
from tryon.data.sources.folder import FolderSource
from tryon.data.sources.layers import true_iuv, upright_size
from tryon.data.sources.open import open_source
from tryon.data.sources.shards import ShardSource
from tryon.data.sources.viton_hd import LIP_TO_ATR, VitonHdSource
from tryon.errors import ConfigError, DataError, StorageError
from tryon.sample import Label, Row

ATR_TO_LIP = {int(atr): lip for lip, atr in reversed(list(enumerate(LIP_TO_ATR)))}
HEIGHT, WIDTH = 256, 192


# What is there


def test_nothing_to_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere does not exist"):
        open_source(str(tmp_path / "nowhere"))
    with pytest.raises(
        DataError, match=r"no photos .* and no _manifest\.json, Parquet parts, VITON-HD or DressCode layout"
    ):
        open_source(str(tmp_path))


def test_an_annotated_data_set_is_taken_as_one(small_data: str) -> None:
    source = open_source(small_data)
    assert isinstance(source, ShardSource)
    assert source.licence == "Apache-2.0"
    tasks = list(source.tasks())
    assert len(tasks) == 2
    row = source.read(tasks[1])[3]
    assert row["id"] == "sim-7-00000035"
    assert row["agnostic_mask"].shape == (128, 96)


def test_a_crawl_that_was_cut_off_is_no_data(tmp_path: Path) -> None:
    (tmp_path / "_crawl").mkdir()
    (tmp_path / "a.jpg").touch()
    with pytest.raises(DataError, match="goes on from what is there") as caught:
        open_source(str(tmp_path))
    assert caught.value.code == "crawl-unfinished"


def test_a_place_that_denies_access_is_refused() -> None:
    with denying_bucket("locked") as bucket, pytest.raises(StorageError, match="s3://locked/data cannot be read"):
        open_source(f"{bucket}/data")


def test_folders_named_like_layers_are_still_photos(tmp_path: Path) -> None:
    (tmp_path / "image").mkdir()
    (tmp_path / "image" / "a.jpg").touch()
    assert isinstance(open_source(str(tmp_path)), FolderSource)


# What sources share


def test_a_second_sample_of_one_id_is_set_aside() -> None:
    rows = mark_duplicates([{"id": "a"}, {"id": "b"}, {"id": "a"}, {"id": "a", "error_code": "x", "error": "y"}])
    assert [row.get("error_code") for row in rows] == [None, None, "id-duplicate", "x"]


def test_faults_of_any_kind_become_rows() -> None:
    def fail(error: Exception) -> Row:
        raise error

    told = {"id": "a", "person_uri": "p"}
    assert row_or_error(told, lambda: {"person_file": b""}) == {**told, "person_file": b""}
    for error, code in ((DataError("x", code="y"), "y"), (OSError("x"), "uri-unreadable")):
        row = row_or_error(told, lambda error=error: fail(error))  # type: ignore[misc]
        assert (row["error_code"], row["person_uri"]) == (code, "p")
    with pytest.raises(ZeroDivisionError):
        row_or_error(told, lambda: fail(ZeroDivisionError()))


def test_names_are_merged_in_the_order_of_listings() -> None:
    left, right = ["a", "B", "c", "ü"], ["B", "b", "d", "ü"]
    expected = [("a", None), ("B", "B"), (None, "b"), ("c", None), (None, "d"), ("ü", "ü")]
    assert list(merge_names(left, right)) == expected
    assert list(merge_names([], [])) == []
    assert list(merge_names([], ["x"])) == [(None, "x")]


def test_iuv_maps_are_told_from_drawings() -> None:
    iuv = np.zeros((8, 6, 3), np.uint8)
    iuv[2:6] = (24, 200, 90)
    found = true_iuv(iuv)
    assert found is not None
    assert np.array_equal(found, iuv)
    reversed_ = true_iuv(iuv[..., ::-1])
    assert reversed_ is not None
    assert np.array_equal(reversed_, iuv), "as OpenCV writes it"
    assert true_iuv(np.zeros((8, 6, 3), np.uint8)) is None
    assert true_iuv(np.full((8, 6, 3), 25, np.uint8)) is None
    iuv[0, 0] = (0, 1, 0)
    assert true_iuv(iuv) is None, "U where no body is"


# VITON-HD


def rotated(image: np.ndarray[Any, Any], orientation: int) -> bytes:
    """A JPEG stored on its side, which EXIF turns upright."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    Image.fromarray(np.rot90(image)).save(buffer, "JPEG", exif=exif)
    return buffer.getvalue()


def lip_png(parse: np.ndarray[Any, Any]) -> bytes:
    return encode_png(np.vectorize(lambda label: ATR_TO_LIP.get(int(label), 0))(parse).astype(np.uint8))


def pair_files(name: str, row: Row, layers: str = "mask parse pose dense agnostic") -> dict[str, bytes]:
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
    if "dense" in layers:
        files[f"image-densepose/{name}.jpg"] = encode_jpeg(row["person"][:, ::-1].copy())
    if "agnostic" in layers:
        files[f"agnostic-v3.2/{name}.jpg"] = encode_jpeg(row["person"] // 2)
    return files


def write_pair(root: Path, name: str, row: Row, layers: str = "mask parse pose dense agnostic") -> None:
    for path, data in pair_files(name, row, layers).items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)


@pytest.fixture(scope="module")
def drawn() -> Row:
    return simulate(5, 0, HEIGHT, WIDTH)


@pytest.fixture
def split(tmp_path: Path, drawn: Row) -> Path:
    """A VITON-HD split of one full and one bare sample."""
    root = tmp_path / "viton" / "test"
    write_pair(root, "full", drawn)
    write_pair(root, "bare", simulate(5, 0, 512, 384), layers="")
    return root


def by_id(source: VitonHdSource) -> dict[str, Row]:
    return {row["id"]: row for row in rows_of(source)}


def test_viton_hd_layers_are_read_where_they_are(split: Path, drawn: Row) -> None:
    source = open_source(str(split.parent))
    assert isinstance(source, VitonHdSource)
    rows = by_id(source)
    full, bare = rows["full"], rows["bare"]
    lip = np.vectorize(lambda v: ATR_TO_LIP.get(int(v), 0))(drawn["parse"])
    assert np.array_equal(full["lip_parse"], lip), "as it came, for an export that loses nothing"
    assert np.array_equal(full["parse"], LIP_TO_ATR[lip])
    assert np.allclose(full["pose"], drawn["pose"], atol=1e-3)
    assert (full["garment_mask"] != drawn["garment_mask"]).mean() < 0.01
    assert "agnostic" not in full, "without its mask it is of no use"
    assert np.abs(full["densepose_image"].astype(int) - drawn["person"][:, ::-1]).mean() < 3
    assert "dense" not in full, "a drawing is no IUV map"
    assert (full["category"], full["split"], full["person_id"]) == ("upper", "test", "full")
    assert full["garment_uri"] == str(split / "cloth" / "full.jpg")
    layers = ("parse", "lip_parse", "pose", "garment_mask", "dense", "densepose_image", "agnostic", "agnostic_mask")
    assert [bare.get(name) for name in layers] == [None] * len(layers)


def test_viton_hd_older_parse_and_true_iuv(split: Path) -> None:
    parse = np.full((HEIGHT, WIDTH), 5, np.uint8)
    (split / "image-parse").mkdir()
    (split / "image-parse" / "full.png").write_bytes(encode_png(parse))
    (split / "image-densepose" / "full.jpg").unlink()
    iuv = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    iuv[50:90] = (2, 130, 140)
    (split / "image-densepose" / "full.png").write_bytes(encode_png(iuv))
    row = by_id(VitonHdSource(str(split)))["full"]
    assert not (row["parse"] == Label.UPPER_CLOTHES).all(), "v3 goes first"
    assert np.array_equal(row["dense"], iuv)
    (split / "image-parse-v3" / "full.png").unlink()
    assert (by_id(VitonHdSource(str(split)))["full"]["parse"] == Label.UPPER_CLOTHES).all()


BROKEN: dict[str, tuple[str, bytes, str, str]] = {
    "parse-noise": ("image-parse-v3/full.png", b"no image", "layer-corrupt", "image-parse is damaged"),
    "parse-empty": ("image-parse-v3/full.png", b"", "layer-corrupt", "image-parse is damaged"),
    "parse-label": (
        "image-parse-v3/full.png", encode_png(np.full((HEIGHT, WIDTH), 20, np.uint8)), "layer-corrupt",
        "label 20; 0..19",
    ),
    "parse-size": (
        "image-parse-v3/full.png", encode_png(np.zeros((128, 96), np.uint8)), "layer-size",
        "96x128 px, its photo 192x256 px",
    ),
    "mask-cut": (
        "cloth-mask/full.jpg", encode_png(np.zeros((HEIGHT, WIDTH), np.uint8))[:90], "layer-corrupt",
        "cloth-mask is damaged",
    ),
    "mask-size": ("cloth-mask/full.jpg", encode_png(np.zeros((9, 9), np.uint8)), "layer-size", "cloth-mask is 9x9"),
    "dense-size": (
        "image-densepose/full.jpg", encode_jpeg(np.zeros((9, 9, 3), np.uint8)), "layer-size", "image-densepose is 9x9",
    ),
    "pose-json": ("openpose_json/full_keypoints.json", b"{", "layer-corrupt", "openpose_json is no JSON"),
    "pose-list": ("openpose_json/full_keypoints.json", b"[]", "layer-corrupt", "an object is needed"),
    "pose-none": ("openpose_json/full_keypoints.json", b"{}", "layer-corrupt", "no people[0]"),
    "pose-short": (
        "openpose_json/full_keypoints.json", b'{"people": [{"pose_keypoints_2d": [1, 2]}]}', "layer-corrupt",
        "25 x 3 numbers",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_viton_hd_broken_layers_set_the_sample_aside(split: Path, name: str) -> None:
    path, data, code, words = BROKEN[name]
    (split / path).write_bytes(data)
    rows = rows_of(VitonHdSource(str(split)))
    assert faults_of(rows) == {"full": code}
    (row,) = (row for row in rows if row["id"] == "full")
    assert words in row["error"]
    assert row["person_uri"] == str(split / "image" / "full.jpg")


def test_viton_hd_nobody_in_the_pose_file_is_no_pose(split: Path) -> None:
    (split / "openpose_json" / "full_keypoints.json").write_text('{"people": []}')
    assert by_id(VitonHdSource(str(split)))["full"]["pose"] is None


def test_viton_hd_layers_of_a_photo_that_exif_turns(split: Path, drawn: Row) -> None:
    (split / "image" / "full.jpg").write_bytes(rotated(drawn["person"], 6))
    (split / "cloth" / "full.jpg").write_bytes(rotated(drawn["garment"], 8))
    assert upright_size((split / "image" / "full.jpg").read_bytes()) == (WIDTH, HEIGHT)
    assert faults_of(rows_of(VitonHdSource(str(split)))) == {}
    assert upright_size(b"no photo") is None


def test_viton_hd_a_broken_photo_is_named_by_decoding(split: Path, tmp_path: Path) -> None:
    (split / "image" / "full.jpg").write_bytes(b"no photo")
    (split / "cloth" / "bare.jpg").write_bytes(b"")
    decoded(VitonHdSource(str(split)), tmp_path / "out")
    assert quarantine(tmp_path / "out") == {"full": "not-an-image", "bare": "image-empty"}


def test_viton_hd_photos_without_a_partner(split: Path) -> None:
    (split / "cloth" / "bare.jpg").unlink()
    (split / "image" / "notes.txt").touch()
    (split / "cloth" / "extra.png").write_bytes(encode_png(np.zeros((9, 9), np.uint8)))
    source = VitonHdSource(str(split))
    rows = by_id(source)
    assert list(rows) == ["bare", "extra", "full"]
    assert "garment_file" not in rows["bare"]
    assert "person_file" not in rows["extra"]
    assert source.left_out is not None
    assert source.left_out.counts == {"other suffix": 1}


def test_viton_hd_pair_lists(split: Path) -> None:
    (split.parent / "test_pairs.txt").write_text("full.jpg bare.jpg\n\nbare.jpg full.jpg extra\nodd\n../x.jpg y.jpg\n")
    (split.parent / "test_unpaired.txt").write_text("full.jpg bare.jpg\n")
    rows = rows_of(VitonHdSource(str(split)))
    assert [(row["id"], row.get("error_code")) for row in rows] == [
        ("full", None),
        ("bare", None),
        ("test_pairs.txt line 4: 'odd'", "pair-invalid"),
        ("test_pairs.txt line 5: '../x.jpg y.jpg'", "pair-invalid"),
    ]
    (row,) = rows_of(VitonHdSource(str(split), "unpaired"))
    assert (row["id"], row["person_id"], row["garment_id"]) == ("full+bare", "full", "bare")
    assert row["garment_file"] == (split / "cloth" / "bare.jpg").read_bytes()
    assert row["garment_mask"] is None
    assert [row["id"] for row in rows_of(VitonHdSource(str(split), "all"))] == ["bare", "full"]


def test_viton_hd_official_list_is_of_unpaired_couples(split: Path) -> None:
    (split.parent / "test_pairs.txt").write_text("full.jpg bare.jpg\n")
    assert [row["id"] for row in rows_of(VitonHdSource(str(split)))] == ["full"]
    assert [row["id"] for row in rows_of(VitonHdSource(str(split), "unpaired"))] == ["full+bare"]


def test_viton_hd_list_that_names_what_is_not_there(split: Path, tmp_path: Path) -> None:
    (split.parent / "test_unpaired.txt").write_text("full.jpg bare.jpg\nfull.jpg gone.jpg\ngone.jpg full.jpg\n")
    manifest = decoded(VitonHdSource(str(split), "unpaired"), tmp_path / "out")
    assert (manifest.rows_in, manifest.rows, manifest.quarantined) == (3, 1, 2)
    assert quarantine(tmp_path / "out") == {"full+gone": "uri-missing", "gone+full": "uri-missing"}


def test_viton_hd_list_that_names_a_sample_twice(split: Path) -> None:
    (split.parent / "test_pairs.txt").write_text("full.jpg full.jpg\nfull.jpg full.jpg\n")
    assert [row.get("error_code") for row in rows_of(VitonHdSource(str(split)))] == [None, "id-duplicate"]


def test_viton_hd_list_is_streamed(split: Path) -> None:
    with (split.parent / "test_pairs.txt").open("w") as file:
        file.writelines(f"{i:06d}_00.jpg {i:06d}_00.jpg\n" for i in range(20_000))
    tasks = iter(VitonHdSource(str(split)).tasks())
    assert next(tasks) == ("", tuple((f"{i:06d}_00.jpg", f"{i:06d}_00.jpg", "") for i in range(8)))


def test_viton_hd_list_that_is_no_text(split: Path) -> None:
    (split.parent / "test_pairs.txt").write_bytes(b"full.jpg \xff\n")
    with pytest.raises(DataError, match=r"test_pairs\.txt is no UTF-8"):
        VitonHdSource(str(split))


def test_viton_hd_both_splits_are_read(split: Path, drawn: Row) -> None:
    write_pair(split.parent / "train", "one", drawn, layers="mask")
    (split.parent / "train_pairs.txt").write_text("one.jpg one.jpg\n")
    rows = rows_of(open_source(str(split.parent)))
    assert [(row["id"], row["split"]) for row in rows] == [("one", "train"), ("bare", "test"), ("full", "test")]


def test_viton_hd_without_unpaired_list(split: Path) -> None:
    with pytest.raises(DataError, match="no unpaired samples"):
        VitonHdSource(str(split), "unpaired")


def test_viton_hd_empty_folders(tmp_path: Path) -> None:
    (tmp_path / "image").mkdir()
    (tmp_path / "cloth").mkdir()
    with pytest.raises(DataError, match="no paired samples"):
        open_source(str(tmp_path))
    with pytest.raises(DataError, match="no VITON-HD folder"):
        VitonHdSource(str(tmp_path / "image"))


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with s3_bucket("viton-test") as uri:
        yield uri


def test_viton_hd_on_s3(bucket: str, drawn: Row, split: Path) -> None:
    for path, data in pair_files("full", drawn).items():
        storage.write_bytes(f"{bucket}/v/test/{path}", data)
    storage.write_bytes(f"{bucket}/v/test_pairs.txt", b"full.jpg full.jpg\ngone.jpg gone.jpg\n")
    source = open_source(f"{bucket}/v")
    assert isinstance(source, VitonHdSource)
    rows = rows_of(source)
    assert faults_of(rows) == {"gone": "uri-missing"}
    local = by_id(VitonHdSource(str(split)))["full"]
    for name in ("person_file", "parse", "lip_parse", "pose", "garment_mask", "densepose_image"):
        assert np.array_equal(rows[0][name], local[name]), name


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
    source = VitonHdSource(str(shared / "vitonhd" / "test"), "all")
    rows = by_id(source)
    assert faults_of(list(rows.values())) == {}
    assert len(rows) == 27, "24 pairs and three more persons"
    parsed = {row_id for row_id, row in rows.items() if row.get("parse") is not None}
    assert parsed == {"00006_00", "00017_00", "00891_00", "03615_00", "07445_00"}
    row = rows["00006_00"]
    assert row["parse"].shape == row["densepose_image"].shape[:2] == (1024, 768)
    assert (row["parse"] == Label.UPPER_CLOTHES).mean() > 0.05


def test_viton_hd_is_annotated_from_what_is_there(split: Path, tmp_path: Path) -> None:
    (split.parent / "test_pairs.txt").write_text("full.jpg bare.jpg\nbare.jpg full.jpg\ngone.jpg x.jpg\n")
    source, out = open_source(str(split.parent)), tmp_path / "out"
    manifest = run_job(annotate_job(source, AnnotateConfig(quality=None), "x"), str(out), num_actors=0)
    assert (manifest.rows_in, manifest.rows, manifest.quarantined) == (3, 2, 1)
    assert quarantine(out) == {"gone": "uri-missing"}
    batch = read_shard(str(out / "shard-00000.parquet"))
    assert batch["id"] == ["full", "bare"]
    assert [image.shape for image in batch["agnostic"]] == [(256, 192, 3), (512, 384, 3)]
    assert all((parse == Label.UPPER_CLOTHES).any() or (parse == Label.DRESS).any() for parse in batch["parse"])
    assert batch["lip_parse"][1] is None
    assert manifest.licence.startswith("CC BY-NC")


def test_viton_hd_layers_do_not_follow_a_letterboxed_photo(split: Path) -> None:
    with pytest.raises(ConfigError, match=r"size = \(128, 96\).*garment_mask, pose, parse") as caught:
        annotate_job(open_source(str(split)), AnnotateConfig(size=(128, 96)), "x")
    assert caught.value.code == "size-invalid"
