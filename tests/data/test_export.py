"""Export: what VITON-HD's and HR-VITON's loaders open is there, and comes back as it was."""

from __future__ import annotations

import hashlib
import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from tests.data.assets import clean_rows, write_rows
from tests.s3 import s3_bucket
from tryon import storage
from tryon.codec import encode_jpeg
from tryon.config import StageSpec
from tryon.data.curate.pairs import pair_data, read_pairs
from tryon.data.curate.splits import SplitConfig, read_split, split_data
from tryon.data.export import ExportConfig, export
from tryon.data.export.fit import fit_row
from tryon.data.export.lip import ATR_TO_LIP, lip_of, parse_agnostic
from tryon.data.export.names import safe_stem
from tryon.data.export.openpose import draw_openpose, pose_json
from tryon.data.job import Job, run_job
from tryon.data.rows import iter_decoded, iter_rows
from tryon.data.shards import read_manifest, shard_uris
from tryon.data.sources.viton_hd import LIP_TO_ATR, VitonHdSource
from tryon.errors import ConfigError, DataError
from tryon.sample import Label, Row

NAMES = {
    "hr-viton": {
        "parse": "image-parse-v3/{}.png", "json": "openpose_json/{}_keypoints.json",
        "pose": "openpose_img/{}_rendered.png", "dense": "image-densepose/{}.jpg",
        "agnostic": "image-parse-agnostic-v3.2/{}.png",
    },
    "viton-hd": {
        "parse": "image-parse/{}.png", "json": "openpose-json/{}_keypoints.json",
        "pose": "openpose-img/{}_rendered.png",
    },
}  # fmt: skip


def load(root: Path, split: str, loader: str) -> list[dict[str, Any]]:
    """What the published loaders do with a folder: names, modes, shapes and label ranges as they need them."""
    samples = []
    for line in (root / f"{split}_pairs.txt").read_text(encoding="ascii").splitlines():
        person, garment = line.strip().split()
        folder = root / split
        image = Image.open(folder / "image" / person)
        cloth = Image.open(folder / "cloth" / garment)
        mask = Image.open(folder / "cloth-mask" / garment)
        assert (image.mode, cloth.mode, mask.mode) == ("RGB", "RGB", "L")
        assert mask.size == cloth.size
        # HR-VITON's training loader finds layers so; a name must not hold what is replaced.
        assert f"image/{person}".replace("image", "image-parse-v3") == f"image-parse-v3/{person}"
        stem = person.replace(".jpg", "")
        sample = {"image": np.array(image), "cloth": np.array(cloth), "mask": np.array(mask) >= 128, "stem": stem}
        for name, path in NAMES[loader].items():
            at = folder / path.format(stem)
            if name == "json":
                flat = json.loads(at.read_bytes())["people"][0]["pose_keypoints_2d"]
                sample[name] = np.array(flat).reshape((-1, 3))
                continue
            layer = Image.open(at)
            assert layer.size == image.size
            assert layer.mode == ("P" if name in ("parse", "agnostic") else "RGB")
            sample[name] = np.array(layer)
            if layer.mode == "P":
                assert sample[name].max() < 20
                assert len(layer.getpalette()) == 768
        samples.append(sample)
    return samples


def upper_rows(*, jpeg: bool = False) -> list[Row]:
    """Clean rows as upper garments; with JPEG photos as a camera would have sent them."""
    rows = [row | {"category": "upper"} for row in clean_rows()]
    for row in rows if jpeg else ():
        for name in ("person", "garment"):
            row[f"{name}_file"] = encode_jpeg(row[name], 90)
            row[name] = np.array(Image.open(io.BytesIO(row[f"{name}_file"])))
            row[f"{name}_notices"] = ""
        row["agnostic"] = np.where(row["agnostic_mask"][..., None] > 0, np.uint8(128), row["person"])
    return rows


def sayable(parse: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """A parse as LIP's classes can say it: they have no bag and no belt."""
    return np.where(parse == Label.BAG, 0, np.where(parse == Label.BELT, Label.PANTS, parse)).astype(np.uint8)


@pytest.fixture
def data(tmp_path: Path) -> str:
    uri = str(tmp_path / "data")
    write_rows(uri, upper_rows())
    return uri


def files(root: Path) -> dict[str, str]:
    found = (path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


@pytest.mark.parametrize("loader", NAMES)
def test_loaders_find_all_they_open(data: str, tmp_path: Path, loader: str) -> None:
    out = tmp_path / "out"
    result = export(data, str(out), num_actors=0)
    assert result.splits == {"train": 4, "test": 1}
    assert result.lists == {
        "test/metadata.jsonl": 1, "test_pairs.txt": 1, "train/metadata.jsonl": 4, "train_pairs.txt": 4,
    }  # fmt: skip
    samples = load(out, "train", loader) + load(out, "test", loader)
    rows = {row["id"]: row for row in upper_rows()}
    assert {sample["stem"] for sample in samples} == set(rows)
    for sample in samples:
        row = rows[sample["stem"]]
        np.testing.assert_array_equal(sample["mask"], row["garment_mask"] > 0)
        np.testing.assert_array_equal(LIP_TO_ATR[sample["parse"]], sayable(row["parse"]))
        np.testing.assert_array_equal(sample["json"].astype(np.float32), row["pose"])
        assert np.abs(sample["image"].astype(int) - row["person"]).mean() < 2.5
        assert sample["pose"].any()
        if loader == "hr-viton":
            gone = np.isin(sample["parse"], (5, 6, 7, 10))
            assert gone.any()
            assert not sample["agnostic"][gone].any()


def test_sizes_that_the_loader_cannot_take_are_told(data: str, tmp_path: Path) -> None:
    result = export(data, str(tmp_path / "out"), num_actors=0)
    assert any("768x1024" in notice and count == 5 for notice, count in result.notices.items())
    big = tmp_path / "big"
    result = export(data, str(big), config=ExportConfig(size=(256, 160)), num_actors=0)
    for sample in load(big, "train", "hr-viton"):
        assert sample["image"].shape == (256, 160, 3)
        assert sample["cloth"].shape == (256, 160, 3)
        assert sample["json"][:, 0].max() <= 160


def test_letterboxing_moves_every_layer_alike() -> None:
    row = upper_rows()[0]
    tall = fit_row(row, (256, 96))  # half of it border, above and below
    np.testing.assert_array_equal(tall["parse"][64:192], row["parse"])
    np.testing.assert_array_equal(tall["garment_mask"][64:192], row["garment_mask"])
    assert not tall["parse"][:64].any()
    seen = row["pose"][:, 2] > 0
    np.testing.assert_allclose(tall["pose"][seen, 1], row["pose"][seen, 1] + 64)
    np.testing.assert_array_equal(tall["true_flow"][64:192], row["true_flow"])


def test_round_trip_keeps_photos_and_lossless_layers(tmp_path: Path) -> None:
    """VITON-HD folder -> shards -> export -> folder -> shards."""
    first, second = tmp_path / "first", tmp_path / "second"
    write_rows(str(tmp_path / "drawn"), upper_rows(jpeg=True))
    export(str(tmp_path / "drawn"), str(first), num_actors=0)
    assert ingest(first, tmp_path / "a") == 5
    export(str(tmp_path / "a"), str(second), num_actors=0)
    assert ingest(second, tmp_path / "b") == 5
    same_rows(tmp_path / "a", tmp_path / "b")
    assert all(row["dense"] is not None for row in iter_rows(str(tmp_path / "b" / "shard-00000.parquet")))
    photos = [name for name in files(first) if "/image/" in name or "/cloth/" in name]
    assert len(photos) == 10
    assert {name: files(first)[name] for name in photos} == {name: files(second)[name] for name in photos}
    for name in files(first):
        if name.endswith(("keypoints.json", "pairs.txt")) or "parse-v3" in name:
            assert files(first)[name] == files(second)[name], name


def ingest(folder: Path, out: Path) -> int:
    """Shards from a VITON-HD folder; what it lacks is annotated, or the loaders would not read it."""
    source = VitonHdSource(str(folder))
    names = (
        "decode_person",
        "decode_garment",
        "fit_person",
        "fit_garment",
        "pose",
        "parse",
        "garment_mask",
        "agnostic",
    )
    options = {name: {"label": "photo"} if name.startswith("decode") else {"size": None} for name in names[:4]}
    specs = [StageSpec(name=name, options=options.get(name, {})) for name in names]
    layers = ("person", "garment", "person_mask", "agnostic_mask")
    kept = (name for name in source.fields if not name.endswith("_file"))
    return run_job(Job(source, specs, tuple(dict.fromkeys((*kept, *layers))), {}), str(out), num_actors=0).rows


def same_rows(a: Path, b: Path) -> None:
    uris = [shard_uris(str(uri), read_manifest(str(uri))) for uri in (a, b)]
    rows = [{row["id"]: row for uri in some for row in iter_decoded(uri)} for some in uris]
    assert set(rows[0]) == set(rows[1])
    for row_id, row in rows[0].items():
        for name in ("person", "garment", "garment_mask", "parse", "lip_parse", "pose", "dense", "split"):
            if row.get(name) is not None:
                np.testing.assert_array_equal(row[name], rows[1][row_id][name], err_msg=f"{row_id} {name}")


def test_official_folder_goes_round(shared: Path, tmp_path: Path) -> None:
    assert ingest(shared / "vitonhd" / "test", tmp_path / "a") == 24
    export(str(tmp_path / "a"), str(tmp_path / "out"), num_actors=0)
    official = shared / "vitonhd" / "test"
    written = tmp_path / "out" / "test"
    for photo in official.glob("cloth/*.jpg"):
        assert (written / "cloth" / photo.name).read_bytes() == photo.read_bytes()
        assert (written / "image" / photo.name).read_bytes() == (official / "image" / photo.name).read_bytes()
    for path in official.glob("image-parse-v3/*.png"):
        ours, theirs = Image.open(written / "image-parse-v3" / path.name), Image.open(path)
        assert (ours.mode, ours.getpalette()) == (theirs.mode, theirs.getpalette())
        np.testing.assert_array_equal(np.array(ours), np.array(theirs))
    with_pose = [p.name.split("_key")[0] for p in official.glob("openpose_json/*.json")]
    for stem in (p.stem for p in official.glob("image-parse-agnostic-v3.2/*.png")):
        if stem in with_pose:  # the others' pose is our own
            ours = np.array(Image.open(written / "image-parse-agnostic-v3.2" / f"{stem}.png"))
            theirs = np.array(Image.open(official / "image-parse-agnostic-v3.2" / f"{stem}.png"))
            np.testing.assert_array_equal(ours, theirs)
    assert len(load(tmp_path / "out", "test", "viton-hd")) == 24
    ingest(tmp_path / "out", tmp_path / "b")
    same_rows(tmp_path / "a", tmp_path / "b")


def test_same_bytes_again_and_after_a_cut(data: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export(data, str(out), num_actors=0)
    before = files(out)
    assert not any(name.startswith("_export/") for name in before)
    (out / "train_pairs.txt").unlink()
    (out / "train" / "image" / "sim-3-00000002.jpg").unlink()
    (out / "_export.json").write_text(json.dumps({k: json.loads((out / "_export.json").read_text())[k]
                                                  for k in ("source_sha256", "layout")}))  # fmt: skip
    export(data, str(out), num_actors=0)
    assert files(out) == before


def test_a_folder_of_something_else_is_left_alone(data: str, tmp_path: Path) -> None:
    out = tmp_path / "mine"
    (out / "train" / "image").mkdir(parents=True)
    (out / "train" / "image" / "x.jpg").write_bytes(b"x")
    with pytest.raises(DataError, match="no export wrote"):
        export(data, str(out), num_actors=0)
    other = str(tmp_path / "other")
    write_rows(other, upper_rows()[:2])
    export(other, str(tmp_path / "taken"), num_actors=0)
    with pytest.raises(DataError, match="another export"):
        export(data, str(tmp_path / "taken"), num_actors=0)


def test_layers_that_are_missing_are_left_out_and_told(tmp_path: Path) -> None:
    rows = upper_rows()
    rows[0] |= {"pose": None, "dense": None}
    rows[1] |= {"garment": None, "garment_mask": None}
    rows[2]["parse"][:9, :9] = Label.BELT
    rows[3]["category"] = "lower"
    rows[4]["pose"][12] = 0
    data, out = str(tmp_path / "data"), tmp_path / "out"
    write_rows(data, rows)
    notices = export(data, str(out), num_actors=0).notices
    told = " | ".join(f"{count} {notice}" for notice, count in notices.items())
    for part in (
        "1 no pose",
        "1 no dense",
        "1 no garment photo",
        "1 belt in the parse",
        "1 category lower",
        "a hip has",
    ):
        assert part in told, part
    assert not (out / "test" / "openpose_json").exists()
    assert f"{rows[1]['id']}.jpg" not in (out / "train_pairs.txt").read_text()
    assert (out / "train" / "image" / f"{rows[1]['id']}.jpg").exists()


def test_only_the_categories_asked_for(tmp_path: Path) -> None:
    rows = upper_rows()
    rows[2]["category"] = None  # nobody has said, so it is not another one
    rows[3]["category"] = "lower"
    data = str(tmp_path / "data")
    write_rows(data, rows)
    result = export(data, str(tmp_path / "out"), config=ExportConfig(categories=("upper",)), num_actors=0)
    assert (result.rows, result.written, result.left_out) == (5, 4, 1)


def test_awkward_ids_get_names_of_their_own(tmp_path: Path) -> None:
    rows = upper_rows()
    ids = ["a/b", "a-b", "Fräulein Müller", "image.jpg", "x" * 300]
    for row, row_id in zip(rows, ids, strict=True):
        row |= {"id": row_id, "split": "train"}
    data, out = str(tmp_path / "data"), tmp_path / "out"
    write_rows(data, rows)
    export(data, str(out), num_actors=0)
    samples = load(out, "train", "hr-viton")
    assert len({sample["stem"] for sample in samples}) == 5
    told = [json.loads(line) for line in (out / "train" / "metadata.jsonl").read_text().splitlines()]
    assert {line["id"]: line["file_name"] for line in told} == {i: f"image/{safe_stem(i)}.jpg" for i in ids}


@pytest.mark.parametrize("row_id", ["plain", "00006_00", "a.b", "a+b"])
def test_plain_ids_stay(row_id: str) -> None:
    assert safe_stem(row_id) == row_id


@pytest.mark.parametrize(
    "row_id", ["", ".", "..", "../x", "a b", "-x", "x.", "my-image", "a.JPG", "é", "a~0", "\udcff"]
)
def test_others_are_made_safe(row_id: str) -> None:
    stem = safe_stem(row_id)
    assert stem != row_id
    assert safe_stem(row_id + "!") != stem
    stem.encode("ascii")
    assert not set(stem) & set("/ .")


def test_folders_are_those_of_the_splits(data: str, tmp_path: Path) -> None:
    split_data(data, SplitConfig(keep=False, val_fraction=0.4, test_fraction=0.4), num_actors=0)
    sides: dict[str, str] = {}
    for shard in range(2):
        sides |= read_split(data, shard) or {}
    result = export(data, str(tmp_path / "out"), num_actors=0)
    assert result.splits == dict(Counter(sides.values()).most_common())
    for row_id, side in sides.items():
        assert (tmp_path / "out" / side / "image" / f"{row_id}.jpg").exists()
    write_rows(data, upper_rows()[:3])
    with pytest.raises(DataError, match="split"):
        export(data, str(tmp_path / "other"), num_actors=0)


def test_unpaired_lists_are_those_that_were_made(data: str, tmp_path: Path) -> None:
    rows = upper_rows()
    twin = rows[2] | {"id": "twin"}  # the same photos again
    write_rows(data, [*rows, twin])
    split_data(data, SplitConfig(keep=False, val_fraction=0.0), num_actors=0)
    pair_data(data, num_actors=0)
    out = tmp_path / "out"
    result = export(data, str(out), num_actors=0)
    made = list(read_pairs(data, "train", "unpaired"))
    assert len(made) == 5
    lines = (out / "train_unpaired.txt").read_text().splitlines()
    assert [tuple(line.replace(".jpg", "").split()) for line in lines] == made
    for line in lines:
        person, garment = line.split()
        assert person != garment
        assert (out / "train" / "cloth" / garment).exists()
    assert len((out / "train_pairs.txt").read_text().splitlines()) == 5
    assert result.notices["stands back for a duplicate: in no pair list"] == 1


def test_an_id_that_occurs_twice_is_refused(tmp_path: Path) -> None:
    rows = upper_rows()
    rows[4]["id"] = rows[3]["id"]
    data = str(tmp_path / "data")
    write_rows(data, rows)
    with pytest.raises(DataError, match="2 rows would be written"):
        export(data, str(tmp_path / "out"), num_actors=0)


def test_unknown_layout(data: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'coco' is not one of viton-hd"):
        export(data, str(tmp_path / "out"), "coco", num_actors=0)


def test_plain_folder_loses_nothing(tmp_path: Path) -> None:
    rows = upper_rows(jpeg=True)
    for row in rows[:2]:
        row["person_file"] = None  # kept as PNG
    data, out = str(tmp_path / "data"), tmp_path / "out"
    write_rows(data, rows)
    export(data, str(out), "folder", num_actors=0)
    told = [json.loads(line) for path in sorted(out.rglob("*.jsonl")) for line in path.read_text().splitlines()]
    folders = {"test": "test", "train": "train"}
    by_id = {row["id"]: row for row in rows}
    for line in told:
        row = by_id[line["id"]]
        path = out / folders[line["split"]] / line["file_name"]
        np.testing.assert_array_equal(np.array(Image.open(path)), row["person"])
        assert path.suffix == (".png" if row["person_file"] is None else ".jpg")
        assert (out / line["split"] / line["garment_file_name"]).read_bytes() == row["garment_file"]


def test_lip_neck_is_below_the_chin() -> None:
    row = upper_rows()[0]
    lip = lip_of(row["parse"], row["pose"])
    assert (lip == 13).any()
    assert (lip == 10).any()
    assert np.nonzero(lip == 13)[0].max() <= np.nonzero(lip == 10)[0].max()
    np.testing.assert_array_equal(LIP_TO_ATR[lip], sayable(row["parse"]))
    lost = [label for label in Label if LIP_TO_ATR[ATR_TO_LIP[label]] != label]
    assert lost == [Label.BELT, Label.BAG]


def test_parse_agnostic_keeps_hands_and_legs() -> None:
    lip = np.zeros((1024, 768), np.uint8)
    lip[300:600, 300:500], lip[600:, 300:500], lip[300:1000, 500:560] = 5, 9, 14
    pose = np.zeros((25, 3), np.float32)
    pose[[2, 5, 6, 7]] = [(300, 320, 1), (500, 320, 1), (530, 450, 1), (530, 600, 1)]
    made = parse_agnostic(lip, pose)
    assert not (made == 5).any()
    assert (made == 9).sum() == (lip == 9).sum()
    assert not made[300:600, 520:540].any()
    assert (made[700:1000, 500:560] == 14).all()


def test_pose_without_anybody() -> None:
    assert json.loads(pose_json(None)) == {"version": 1.3, "people": []}
    assert not draw_openpose(None, (64, 48)).any()


def test_on_s3(data: str, tmp_path: Path) -> None:
    export(data, str(tmp_path / "out"), num_actors=0)
    here = files(tmp_path / "out")
    with s3_bucket("exports") as bucket:
        export(data, f"{bucket}/out", num_actors=0)
        there = {
            uri.removeprefix(f"{bucket}/out/"): hashlib.sha256(storage.read_bytes(uri)).hexdigest()
            for uri in storage.list_files(f"{bucket}/out")
        }
    assert there == here


@pytest.mark.ray
def test_actors_write_the_same(data: str, tmp_path: Path, ray_local: None) -> None:
    export(data, str(tmp_path / "a"), num_actors=0)
    export(data, str(tmp_path / "b"), num_actors=2)
    assert files(tmp_path / "a") == files(tmp_path / "b")


def test_rows_of_columns_that_are_missing(data: str) -> None:
    rows = list(iter_rows(shard_uris(data, read_manifest(data))[0], ["nothing"]))
    assert rows == [{}] * 3
