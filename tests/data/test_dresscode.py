"""The DressCode layout: three categories, layers by number, lists by category or in the root."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.data.reading import decoded, faults_of, quarantine, rows_of
from tests.s3 import s3_bucket
from tryon import storage
from tryon.codec import encode_jpeg, encode_png
from tryon.data.simulator import simulate
from tryon.data.sources.dresscode import COCO_JOINTS, DressCodeSource, body_25
from tryon.data.sources.open import open_source
from tryon.errors import DataError
from tryon.sample import Joint, Label, Row

HEIGHT, WIDTH = 256, 192
UV = np.linspace(0, 1, 2 * HEIGHT * WIDTH, dtype=np.float32).reshape(2, HEIGHT, WIDTH)
PARTS = np.repeat(np.arange(HEIGHT, dtype=np.uint8)[:, None] // 11, WIDTH, axis=1)


@pytest.fixture(scope="module")
def drawn() -> Row:
    return simulate(5, 0, HEIGHT, WIDTH)


def npz(**arrays: np.ndarray[Any, Any]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def coco(pose: np.ndarray[Any, Any]) -> bytes:
    """Keypoints as DressCode has them: on 384x512, joints that are not seen at -1."""
    scale = (384 / WIDTH, 512 / HEIGHT)
    points = [[pose[j, 0] * scale[0], pose[j, 1] * scale[1], pose[j, 2], i] for i, j in enumerate(COCO_JOINTS)]
    points[16] = [-1, -1, 0, -1]
    return json.dumps({"keypoints": [[float(value) for value in point] for point in points]}).encode()


def sample_files(row: Row, number: str, layers: str = "parse pose dense") -> dict[str, bytes]:
    files = {
        f"images/{number}_0.jpg": encode_jpeg(row["person"]),
        f"images/{number}_1.jpg": encode_jpeg(row["garment"]),
    }
    if "parse" in layers:
        files[f"label_maps/{number}_4.png"] = encode_png(row["parse"])
    if "pose" in layers:
        files[f"keypoints/{number}_2.json"] = coco(row["pose"])
        files[f"skeletons/{number}_5.jpg"] = encode_jpeg(row["person"])
    if "dense" in layers:
        files[f"dense/{number}_5.png"] = encode_png(PARTS)
        files[f"dense/{number}_5_uv.npz"] = npz(uv=UV)
    return files


def write(folder: Path, files: dict[str, bytes]) -> None:
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)


@pytest.fixture
def root(tmp_path: Path, drawn: Row) -> Path:
    root = tmp_path / "DressCode"
    for i, folder in enumerate(("upper_body", "lower_body", "dresses")):
        write(root / folder, sample_files(drawn, f"00000{2 * i}"))
        write(root / folder, sample_files(drawn, f"00000{2 * i + 1}", layers=""))
    return root


def test_every_layer_is_read(root: Path, drawn: Row) -> None:
    source = open_source(str(root))
    assert isinstance(source, DressCodeSource)
    rows = {row["id"]: row for row in rows_of(source)}
    assert [(row_id, row["category"]) for row_id, row in rows.items()] == [
        ("upper_body/000000", "upper"), ("upper_body/000001", "upper"), ("lower_body/000002", "lower"),
        ("lower_body/000003", "lower"), ("dresses/000004", "dress"), ("dresses/000005", "dress"),
    ]  # fmt: skip
    full, bare = rows["dresses/000004"], rows["dresses/000005"]
    assert faults_of(list(rows.values())) == {}
    assert (full["person_id"], full["garment_id"]) == ("dresses/000004_0", "dresses/000004_1")
    assert full["person_file"] == (root / "dresses/images/000004_0.jpg").read_bytes()
    assert full["garment_uri"] == f"{root}/dresses/images/000004_1.jpg"
    assert np.array_equal(full["parse"], drawn["parse"])
    seen = [joint for joint in COCO_JOINTS if joint != Joint.RIGHT_EAR and drawn["pose"][joint, 2] > 0]
    assert np.allclose(full["pose"][seen], drawn["pose"][seen], atol=1e-2)
    assert not full["pose"][Joint.RIGHT_EAR].any(), "a joint at -1 was not found"
    assert np.array_equal(full["dense"][..., 0], PARTS)
    inside = PARTS > 0
    assert np.array_equal(full["dense"][..., 1][inside], np.rint(UV[0] * 255).astype(np.uint8)[inside])
    assert not full["dense"][~inside].any(), "outside the body U and V say nothing"
    assert [bare[name] for name in ("parse", "pose", "dense")] == [None] * 3


def test_labels_are_the_ones_that_the_data_set_publishes() -> None:
    published = [
        "background", "hat", "hair", "sunglasses", "upper_clothes", "skirt", "pants", "dress", "belt", "left_shoe",
        "right_shoe", "head", "left_leg", "right_leg", "left_arm", "right_arm", "bag", "scarf",
    ]  # fmt: skip
    ours = [label.name.lower() for label in Label]
    assert [name for name in ours if name != "face"] == [name for name in published if name != "head"]
    assert ours.index("face") == published.index("head")


def test_keypoints_are_scaled_to_the_photo() -> None:
    points = np.tile(np.array([192, 256, 0.9, 0], np.float32), (18, 1))
    points[8, :2], points[11, :2] = (100, 300), (200, 320)
    pose = body_25(points, (768, 1024))
    assert np.allclose(pose[Joint.NOSE], (384, 512, 0.9))
    assert np.allclose(pose[Joint.MID_HIP], (300, 620, 0.9)), "the middle of both hips"
    assert not pose[Joint.LEFT_BIG_TOE :].any()
    points[8] = (-1, -1, 0, -1)
    assert not body_25(points, (768, 1024))[[Joint.RIGHT_HIP, Joint.MID_HIP]].any()


def test_lists_of_each_category(root: Path) -> None:
    (root / "upper_body/train_pairs.txt").write_text("000000_0.jpg\t000000_1.jpg\n")
    (root / "upper_body/test_pairs_paired.txt").write_text("000001_0.jpg\t000001_1.jpg\n\nodd\n../x_0.jpg y_1.jpg\n")
    (root / "lower_body/test_pairs_unpaired.txt").write_text("000002_0.jpg\t000003_1.jpg\n")
    rows = rows_of(DressCodeSource(str(root)))
    assert [(row["id"], row["split"]) for row in rows[:2]] == [
        ("upper_body/000000", "train"),
        ("upper_body/000001", "test"),
    ]
    assert [row["error_code"] for row in rows[2:]] == ["pair-invalid"] * 2
    assert "test_pairs_paired.txt line 3: 'odd'" in rows[2]["error"]
    (row,) = rows_of(DressCodeSource(str(root), "unpaired"))
    assert (row["id"], row["category"], row["split"]) == ("lower_body/000002+000003", "lower", "test")
    assert (row["person_id"], row["garment_id"]) == ("lower_body/000002_0", "lower_body/000003_1")


def test_lists_in_the_root(root: Path) -> None:
    (root / "train_pairs.txt").write_text("000000_0.jpg 000000_1.jpg 0\n000002_0.jpg 000002_1.jpg 1\n")
    (root / "test_pairs_paired.txt").write_text("000005_0.jpg 000005_1.jpg 2\n000004_0.jpg 000004_1.jpg dresses\n")
    rows = rows_of(DressCodeSource(str(root)))
    assert [row["id"] for row in rows] == ["upper_body/000000", "lower_body/000002", "dresses/000005", "dresses/000004"]
    (root / "train_pairs.txt").write_text("000000_0.jpg 000000_1.jpg\n000000_0.jpg 000000_1.jpg 3\n")
    assert [row.get("error_code") for row in rows_of(DressCodeSource(str(root)))[:2]] == ["pair-invalid"] * 2


def test_photos_without_a_partner(root: Path) -> None:
    (root / "dresses/images/000004_1.jpg").unlink()
    (root / "dresses/images/000005_0.jpg").unlink()
    (root / "dresses/images/000005_1.png").write_bytes(b"x")
    (root / "dresses/images/cover.jpg").write_bytes(b"x")
    source = DressCodeSource(str(root))
    rows = {row["id"]: row for row in rows_of(source)}
    assert "garment_file" not in rows["dresses/000004"]
    assert rows["dresses/000004"]["parse"] is not None
    assert "person_file" not in rows["dresses/000005"]
    assert source.left_out is not None
    assert source.left_out.names["name that does not end in _0 or _1"] == [
        "dresses/images/000005_1.png",
        "dresses/images/cover.jpg",
    ]
    with pytest.raises(DataError, match="no unpaired samples"):
        DressCodeSource(str(root), "unpaired")


BROKEN: dict[str, tuple[str, bytes, str, str]] = {
    "parse-noise": ("label_maps/000000_4.png", b"no image", "layer-corrupt", "label_maps is damaged"),
    "parse-cut": ("label_maps/000000_4.png", encode_png(PARTS)[:200], "layer-corrupt", "label_maps is damaged"),
    "parse-label": ("label_maps/000000_4.png", encode_png(np.full_like(PARTS, 18)), "layer-corrupt", "label 18; 0..17"),
    "parse-picture": (
        "label_maps/000000_4.png", encode_png(np.dstack([PARTS] * 3)), "layer-corrupt", "label numbers are needed",
    ),
    "parse-size": ("label_maps/000000_4.png", encode_png(PARTS[:9]), "layer-size", "192x9 px, its photo 192x256 px"),
    "pose-json": ("keypoints/000000_2.json", b"{", "layer-corrupt", "keypoints is no JSON"),
    "pose-list": ("keypoints/000000_2.json", b"[]", "layer-corrupt", "an object is needed"),
    "pose-short": ("keypoints/000000_2.json", b'{"keypoints": [[1, 2, 3, 4]]}', "layer-corrupt", "18 x 4 numbers"),
    "pose-nan": (
        "keypoints/000000_2.json", json.dumps({"keypoints": [[float("nan")] * 4] * 18}).encode(), "layer-corrupt",
        "no number",
    ),
    "dense-label": ("dense/000000_5.png", encode_png(np.full_like(PARTS, 25)), "layer-corrupt", "label 25; 0..24"),
    "uv-noise": ("dense/000000_5_uv.npz", b"PK", "layer-corrupt", "dense uv is damaged"),
    "uv-name": ("dense/000000_5_uv.npz", npz(other=UV), "layer-corrupt", "dense uv is damaged"),
    "uv-size": ("dense/000000_5_uv.npz", npz(uv=UV[:, :9]), "layer-size", "(2, 256, 192)"),
    "uv-range": ("dense/000000_5_uv.npz", npz(uv=UV * 2), "layer-corrupt", "outside 0..1"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_layer_sets_the_sample_aside(root: Path, name: str) -> None:
    path, data, code, words = BROKEN[name]
    (root / "upper_body" / path).write_bytes(data)
    rows = rows_of(DressCodeSource(str(root)))
    assert faults_of(rows) == {"upper_body/000000": code}
    assert words in rows[0]["error"]
    assert rows[0]["person_uri"] == f"{root}/upper_body/images/000000_0.jpg", "quarantine says which photo it was"


def test_a_listed_photo_that_is_missing(root: Path, tmp_path: Path) -> None:
    (root / "dresses/train_pairs.txt").write_text("000004_0.jpg 000004_1.jpg\n9_0.jpg 000004_1.jpg\n")
    manifest = decoded(DressCodeSource(str(root)), tmp_path / "out")
    assert (manifest.rows_in, manifest.rows, manifest.quarantined) == (2, 1, 1)
    assert quarantine(tmp_path / "out") == {"dresses/9+000004": "uri-missing"}


def test_uv_alone_and_labels_alone_are_no_dense_map(root: Path) -> None:
    (root / "upper_body/dense/000000_5.png").unlink()
    (root / "dresses/dense/000004_5_uv.npz").unlink()
    rows = {row["id"]: row for row in rows_of(DressCodeSource(str(root)))}
    assert rows["upper_body/000000"]["dense"] is None
    assert rows["dresses/000004"]["dense"] is None
    assert rows["lower_body/000002"]["dense"] is not None


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with s3_bucket("dresscode-test") as uri:
        yield uri


def test_on_s3(bucket: str, drawn: Row) -> None:
    for path, data in sample_files(drawn, "000000").items():
        storage.write_bytes(f"{bucket}/dc/dresses/{path}", data)
    source = open_source(f"{bucket}/dc")
    assert isinstance(source, DressCodeSource)
    (row,) = rows_of(source)
    assert (row["id"], row["category"]) == ("dresses/000000", "dress")
    assert np.array_equal(row["parse"], drawn["parse"])


def test_another_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no DressCode folder"):
        DressCodeSource(str(tmp_path))
