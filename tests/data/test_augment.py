"""Augmentation: whatever is done to a sample, its layers still tell the same story."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest

from tryon.config import parse_config
from tryon.data.augment import SIDES, AugmentConfig, Side, augment_row
from tryon.data.augment.geometry import (
    identity,
    mirror,
)
from tryon.data.augment.mirror import DENSE_PAIRS, swap_parts
from tryon.data.augment.photometric import Light, add_grain, through_jpeg
from tryon.data.augment.variant import map_row
from tryon.data.derived import base_id
from tryon.data.simulator import simulate, warp_by_flow
from tryon.errors import ConfigError, SampleError
from tryon.sample import FIELDS, GREY, Joint, Kind, Label, Row
from tryon.stages.dense import draw_dense

SIZE = (256, 192)
STILL = {
    "flip": {"probability": 0}, "affine": {"probability": 0}, "crop": {"probability": 0},
    "garment_affine": {"probability": 0}, "light": {"probability": 0}, "noise": {"probability": 0},
    "jpeg": {"probability": 0},
}  # fmt: skip
GEOMETRY = {name: STILL[name] for name in ("light", "noise", "jpeg")}


def config_of(**changes: Any) -> AugmentConfig:
    return AugmentConfig.model_validate(changes)


def full_row(index: int = 0, size: tuple[int, int] = SIZE) -> Row:
    """A simulated sample with an agnostic image and a layer of each other kind that moves."""
    row = simulate(21, index, *size)
    row["agnostic_mask"] = cv2.dilate(row["true_amodal_mask"], np.ones((9, 9), np.uint8))
    row["agnostic"] = np.where(row["agnostic_mask"][..., None] > 0, np.uint8(GREY), row["person"])
    row["generated"] = np.where(row["agnostic_mask"][..., None] > 0, row["unoccluded_person"], row["person"])
    row["lip_parse"] = np.where(row["parse"] == Label.LEFT_ARM, np.uint8(14), np.uint8(0))
    row["lip_parse"][row["parse"] == Label.RIGHT_ARM] = 15
    row["pose_world"] = np.random.default_rng(0).normal(size=(33, 4)).astype(np.float32)
    row["dense"] = np.dstack([row["parse"] * (row["parse"] > 3), row["person"][..., 0], row["person"][..., 1]])
    row["dense"][row["parse"] <= 3] = 0
    return row


@pytest.fixture(scope="module")
def row() -> Row:
    return full_row()


def variants(config: AugmentConfig, num: int = 6, rows: int = 2) -> list[tuple[Row, Row]]:
    return [(made, augment_row(made, config, k)) for made in map(full_row, range(rows)) for k in range(1, num + 1)]


def equal(a: Any, b: Any) -> bool:
    if not isinstance(a, np.ndarray):
        return bool(a == b)
    return np.array_equal(a, b, equal_nan=a.dtype.kind == "f")


# Fields


def test_every_field_is_on_one_side_and_every_kind_that_moves_is_handled() -> None:
    assert set(SIDES) == set(FIELDS), "a new field must say what augmentation does with it"
    moving = {name for name, side in SIDES.items() if side in (Side.PERSON, Side.GARMENT)}
    assert {FIELDS[name].kind for name in moving}.isdisjoint({Kind.TEXT, Kind.NUMBER, Kind.FILE, Kind.VECTOR})
    assert {name for name in FIELDS if FIELDS[name].kind is Kind.FLOW} == {
        name for name, side in SIDES.items() if side is Side.BOTH
    }
    shape = (8, 6)
    values = {
        Kind.IMAGE: np.zeros((*shape, 3), np.uint8), Kind.MASK: np.zeros(shape, np.uint8),
        Kind.ALPHA: np.zeros(shape, np.uint8), Kind.LABELS: np.zeros(shape, np.uint8),
        Kind.IUV: np.zeros((*shape, 3), np.uint8), Kind.KEYPOINTS: np.ones((25, 3), np.float32),
        Kind.LANDMARKS: np.ones((33, 4), np.float32), Kind.FLOW: np.zeros((*shape, 2), np.float32),
        Kind.TEXT: "text", Kind.NUMBER: 1.0, Kind.FILE: b"file", Kind.VECTOR: np.ones(4, np.float32),
    }  # fmt: skip
    everything = {name: values[field.kind] for name, field in FIELDS.items()}
    mapped = map_row(everything, mirror(shape), identity(shape))
    for name, side in SIDES.items():
        if side is Side.LOST or name == "densepose_image":
            assert mapped[name] is None, name
        elif side is Side.KEPT:
            assert mapped[name] == everything[name], name
        else:
            assert mapped[name].shape == everything[name].shape, name
            assert mapped[name].dtype == everything[name].dtype, name


def test_nothing_happens_where_nothing_may(row: Row) -> None:
    made = augment_row(row, config_of(**STILL), 3)
    assert made.pop("id") == f"{row['id']}#a3"
    assert base_id(f"{row['id']}#a3") == row["id"]
    for name, value in made.items():
        if name == "true_flow":
            assert np.nanmax(np.abs(value - row[name])) < 1e-4
        else:
            assert equal(value, row[name]), name


# Mirror


def test_twice_mirrored_is_the_sample_itself(row: Row) -> None:
    flip = config_of(**{**STILL, "flip": {"probability": 1}})
    once = augment_row(row, flip, 1)
    twice = augment_row(once, flip, 1)
    for name, value in row.items():
        if name == "id":
            continue
        symmetric = isinstance(value, np.ndarray) and value.shape[:2] == SIZE and equal(value, value[:, ::-1])
        assert not equal(once[name], value) or symmetric or SIDES[name] is Side.KEPT, f"{name} was not mirrored"
        if value is not None and np.asarray(value).dtype.kind == "f":
            assert np.allclose(twice[name], value, atol=1e-3, equal_nan=True), name
        elif name == "true_garment":  # sampled anew by the flow, in OpenCV's steps of 1/32 px
            assert np.abs(twice[name].astype(int) - value).mean() < 0.1
        else:
            assert equal(twice[name], value), name


def test_left_and_right_change_places(row: Row) -> None:
    once = augment_row(row, config_of(**{**STILL, "flip": {"probability": 1}}), 1)
    width = SIZE[1]
    for name in ("parse", "lip_parse"):
        left, right = (14, 15)
        assert np.array_equal(once[name] == right, (row[name] == left)[:, ::-1]), name
    assert np.array_equal(once["parse"] == Label.UPPER_CLOTHES, (row["parse"] == Label.UPPER_CLOTHES)[:, ::-1])
    a, b = row["pose"][Joint.LEFT_WRIST], once["pose"][Joint.RIGHT_WRIST]
    assert b[0] == pytest.approx(width - 1 - a[0], abs=1e-3)
    assert (b[1], b[2]) == pytest.approx((a[1], a[2]))
    assert once["pose_world"][16] == pytest.approx(row["pose_world"][15] * (-1, 1, 1, 1))
    assert np.array_equal(once["person"], row["person"][:, ::-1])
    assert np.array_equal(once["garment"], row["garment"][:, ::-1])


def test_body_parts_change_sides_and_v_turns_round() -> None:
    iuv = np.array([[[0, 0, 0], [1, 10, 20], [2, 0, 5], [3, 100, 7], [20, 255, 9], [24, 30, 40]]], np.uint8)
    wanted = [[0, 0, 0], [1, 10, 235], [2, 0, 250], [4, 100, 248], [19, 255, 246], [23, 30, 215]]
    assert swap_parts(iuv)[0].tolist() == wanted
    assert sorted(part for pair in DENSE_PAIRS for part in pair) == list(range(3, 25))


def test_a_mirrored_dense_map_is_the_one_drawn_of_the_mirrored_person() -> None:
    for index in range(3):
        row = full_row(index)
        row["dense"] = draw_dense(row["pose"], row["parse"], row["person_mask"])
        made = map_row(row, mirror(SIZE), identity(SIZE))
        drawn = draw_dense(made["pose"], made["parse"], made["person_mask"])
        same = made["dense"][..., 0] == drawn[..., 0]
        assert same.mean() > 0.97
        on = same & (drawn[..., 0] > 0)
        off = np.abs(made["dense"][on].astype(int) - drawn[on])
        assert off.mean() < 4
        unchanged = np.abs(row["dense"][:, ::-1][on][:, 2].astype(int) - drawn[on][:, 2])
        assert unchanged.mean() > 30, "the test would notice V left as it was"


def test_a_drawing_that_names_sides_by_colour_is_dropped_by_a_mirror_only(row: Row) -> None:
    drawn = {**row, "densepose_image": row["person"]}
    assert augment_row(drawn, config_of(**{**STILL, "flip": {"probability": 1}}), 1)["densepose_image"] is None
    assert augment_row(drawn, config_of(**STILL), 1)["densepose_image"] is not None


# Masks and flow


def test_masks_and_flow_are_defined_on_the_same_pixels() -> None:
    for row, made in variants(config_of(**GEOMETRY)):
        del row
        assert np.array_equal(np.isfinite(made["true_flow"]).all(-1), made["true_amodal_mask"] == 1)
        assert not ((made["true_mask"] == 1) & (made["true_amodal_mask"] == 0)).any()
        assert np.array_equal(made["person_mask"] > 0, made["parse"] > 0)
        again = warp_by_flow(made["garment"], made["true_flow"], made["true_mask"])
        assert np.array_equal(made["true_garment"], again)


def test_the_garment_stays_in_the_frame() -> None:
    wild = {"probability": 1, "scale": (0.9, 2.0), "shift": 0.5}
    for row, made in variants(config_of(**GEOMETRY, affine=wild, garment_affine=wild, min_visible=0.8), rows=3):
        zoom = made["true_amodal_mask"].sum() / max(1, row["true_amodal_mask"].sum())
        assert zoom > 0.8 * 0.8 - 0.1
        assert made["garment_mask"][[0, -1]].sum() == made["garment_mask"][:, [0, -1]].sum() == 0


# Pictures


def test_agnostic_and_composed_pictures_are_the_person_outside_the_mask() -> None:
    busy = {"light": {"probability": 1}, "noise": {"probability": 1}, "jpeg": {"probability": 1}}
    for row, made in variants(config_of(**busy)):
        outside = made["agnostic_mask"] == 0
        assert np.array_equal(made["agnostic"][outside], made["person"][outside])
        assert np.array_equal(made["generated"][outside], made["person"][outside])
        assert (made["agnostic"][~outside] == GREY).all()
        assert not equal(made["person"], row["person"])


def test_pictures_of_one_camera_share_light_grain_and_garments_nearly() -> None:
    grey = np.full((32, 24, 3), 120, np.uint8)
    row = dict.fromkeys(("person", "unoccluded_person", "tryon", "garment", "warped_garment"), grey)
    config = config_of(light={"probability": 1}, noise={"probability": 1}, jpeg={"probability": 0})
    apart = []
    for k in range(1, 8):
        made = augment_row({"id": "a", "garment_mask": np.ones((32, 24), np.uint8), **row}, config, k)
        assert equal(made["person"], made["unoccluded_person"])
        assert equal(made["person"], made["tryon"])
        apart.append(abs(made["person"].mean() - made["garment"].mean()))
    assert 0 < np.mean(apart) < 0.15 * 0.25 * 255


def test_light_noise_and_compression_do_what_they_say() -> None:
    image = np.random.default_rng(0).integers(40, 200, (16, 16, 3)).astype(np.uint8)
    assert equal(Light()(image), image)
    assert Light(brightness=0.2)(image).mean() == pytest.approx(image.mean() * 1.2, rel=0.01)
    assert Light(contrast=0.5)(image).std() > 1.3 * image.std()
    grey = Light(saturation=-1.0)(image)
    assert np.ptp(grey.astype(int), axis=-1).max() == 0
    warm = Light(warmth=0.1)(image).astype(int) - image
    assert warm[..., 0].mean() > 5
    assert warm[..., 2].mean() < -5
    grain = np.full((16, 16, 1), 300, np.float32)
    assert (add_grain(image, grain) == 255).all()
    assert 0 < np.abs(through_jpeg(image, 50).astype(int) - image).mean() < 60


# Rows


def test_a_variant_depends_on_seed_id_and_number_alone(row: Row) -> None:
    config = config_of()
    again = augment_row(dict(row), config, 2)
    assert all(equal(value, again[name]) for name, value in augment_row(row, config, 2).items())
    for other in (
        augment_row(row, config, 3),
        augment_row({**row, "id": "other"}, config, 2),
        augment_row(row, config_of(seed=1), 2),
    ):
        assert not equal(other["person"], again["person"])


@pytest.mark.parametrize("names", [("person", "pose"), ("garment", "garment_mask"), ("id",), ("true_flow",)])
def test_rows_that_lack_a_side_are_augmented_in_what_they_have(row: Row, names: tuple[str, ...]) -> None:
    part = {"id": row["id"], **{name: row[name] for name in names if name != "id"}, "parse": None}
    made = augment_row(part, config_of(), 1)
    assert set(made) == set(part)
    assert made["parse"] is None


def test_what_cannot_be_made_of_its_parts_is_null(row: Row) -> None:
    alone = {name: row[name] for name in ("id", "agnostic", "parse")}
    assert augment_row(alone, config_of(), 1)["agnostic"] is None


def test_layers_of_different_sizes_are_refused(row: Row) -> None:
    with pytest.raises(SampleError, match="parse 192x255") as caught:
        augment_row({**row, "parse": row["parse"][1:]}, config_of(), 1)
    assert caught.value.code == "layers-differ"


@pytest.mark.parametrize(
    "values",
    [{"variants": 0}, {"variants": 33}, {"affine": {"scale": (1.2, 1.0)}}, {"jpeg": {"quality": (0, 90)}},
     {"noise": {"sigma": (3, 1)}}, {"flip": {"odds": 1}}, {"light": {"brightness": 0.9}}],
)  # fmt: skip
def test_bounds_of_the_config(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="augment"):
        parse_config(AugmentConfig, values, "augment")
