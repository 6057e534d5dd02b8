"""Maps of a frame: flow, keypoints and pictures go to the same places, and nothing unknown comes into view."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest

from tests.data.test_augment import SIZE, config_of, full_row
from tryon.data.augment.config import AffineConfig, CropConfig
from tryon.data.augment.geometry import (
    FrameMap,
    draw_affine,
    draw_crop,
    hold_edges,
    identity,
    map_flow,
    mirror,
    then,
    touched_edges,
)
from tryon.data.augment.variant import map_row
from tryon.data.simulator import warp_by_flow
from tryon.sample import Joint, Row

# Flow


@pytest.mark.parametrize("with_garment", [True, False])
def test_the_flow_still_leads_from_each_person_pixel_to_its_garment_pixel(with_garment: bool) -> None:
    """The worn garment mapped as a picture, which knows nothing of flow, is the mapped garment by the mapped flow."""
    rng = np.random.default_rng(4)
    settings = config_of()
    for index in range(6):
        row = full_row(index)
        # Blurred, so that being sampled twice does not show, and a wrong place does.
        row["garment"] = cv2.GaussianBlur(row["garment"], (0, 0), 6)
        worn = warp_by_flow(row["garment"], row["true_flow"], row["true_mask"])
        flips = index % 2 == 1
        person = then(mirror(SIZE) if flips else identity(SIZE), draw_affine(settings.affine, SIZE, rng))
        person = then(person, draw_crop(settings.crop, SIZE, rng))
        garment = mirror(SIZE) if flips and with_garment else identity(SIZE)
        garment = then(garment, draw_affine(settings.garment_affine, SIZE, rng))
        made = map_row(row, person, garment)
        inner = cv2.erode(made["true_mask"], np.ones((3, 3), np.uint8)) > 0
        picture = cv2.remap(worn, *person.lookup, cv2.INTER_LINEAR)

        def off(flow: np.ndarray[Any, Any], made: Row = made, picture: Any = picture, inner: Any = inner) -> float:
            warped = warp_by_flow(made["garment"], flow, made["true_mask"])
            return float(np.abs(warped.astype(int) - picture)[inner].mean())

        assert off(made["true_flow"]) < 1.0, index
        assert off(made["true_flow"] + np.float32(1.5)) > 2 * off(made["true_flow"]), "the test would not notice"


def test_flow_of_a_smooth_warp_is_mapped_to_a_hundredth_of_a_pixel() -> None:
    y, x = np.mgrid[:64, :48].astype(np.float64)
    there = np.stack([0.8 * x + 0.1 * y + 3, 1.1 * y - 0.05 * x], axis=-1)
    flow = (there - np.stack([x, y], axis=-1)).astype(np.float32)
    flow[:5] = np.nan
    rng = np.random.default_rng(0)
    person = then(mirror((64, 48)), draw_affine(config_of().affine, (64, 48), rng))
    garment = draw_affine(config_of().garment_affine, (64, 48), rng)
    mapped = map_flow(flow, person, garment)
    back = np.linalg.inv(person.matrix)
    qx, qy = (back[i, 0] * x + back[i, 1] * y + back[i, 2] for i in (0, 1))
    truth = garment.points(np.stack([0.8 * qx + 0.1 * qy + 3, 1.1 * qy - 0.05 * qx], axis=-1)) - np.stack([x, y], -1)
    inside = (qx > 0) & (qx < 47) & (qy > 6) & (qy < 63)
    # OpenCV samples at multiples of 1/32 px.
    assert np.abs(mapped - truth)[inside].max() < 0.05
    assert np.isnan(mapped[(qy < 4) | (qx < -1)]).all()


def test_a_seam_between_two_layers_is_not_averaged() -> None:
    flow = np.zeros((20, 20, 2), np.float32)
    flow[:, 10:, 0] = 9
    half = identity((20, 20)).matrix.copy()
    half[0, 2] = 0.5
    mapped = map_flow(flow, FrameMap(half, (20, 20)), identity((20, 20)))
    assert set(np.unique(np.round(mapped[:, 2:-2, 0] + 0.5))) <= {0.0, 1.0, 9.0, 10.0}
    assert mapped[0, 10, 0] < 1 or mapped[0, 10, 0] > 8


# Keypoints


def mirrored_joint(joint: Joint) -> Joint:
    sides = {"LEFT": "RIGHT", "RIGHT": "LEFT"}
    side, _, rest = joint.name.partition("_")
    return Joint[f"{sides[side]}_{rest}"] if side in sides else joint


@pytest.mark.parametrize("flips", [False, True])
def test_keypoints_land_on_the_pixels_they_lay_on(flips: bool) -> None:
    """Each joint is painted into the parse as a spot of its own; the spot and the keypoint must arrive together."""
    rng = np.random.default_rng(2)
    wide = AffineConfig(probability=1, scale=(0.7, 1.6), rotation_deg=30, shift=0.3)
    met = left = 0
    for index in range(8):
        row = full_row(index % 2)
        spots = np.zeros(SIZE, np.uint8)
        for joint in Joint:
            if row["pose"][joint, 2] > 0:
                cv2.circle(spots, tuple(np.rint(row["pose"][joint, :2]).astype(int).tolist()), 2, 100 + joint, -1)
        person = then(mirror(SIZE) if flips else identity(SIZE), draw_affine(wide, SIZE, rng))
        made = map_row({**row, "parse": spots}, person, identity(SIZE))
        for joint in Joint:
            source = mirrored_joint(joint) if flips else joint
            x, y, confidence = made["pose"][joint]
            ys, xs = np.nonzero(made["parse"] == 100 + source)
            if confidence > 0 and len(xs):
                assert np.hypot(xs - x, ys - y).min() <= 1.5, joint.name
                met += 1
            elif confidence == 0 and row["pose"][source, 2] > 0:
                assert not (0 <= x <= SIZE[1] - 1 and 0 <= y <= SIZE[0] - 1), f"{joint.name} lost its confidence inside"
                left += 1
    assert met > 60
    assert left > 10


def test_joints_never_found_stay_at_zero_and_landmarks_turn_with_the_picture() -> None:
    pose = np.zeros((25, 3), np.float32)
    pose[3] = 10, 20, 0.5
    quarter = FrameMap(np.array([[0, -1, 63], [1, 0, 0], [0, 0, 1]], float), (64, 64))
    moved = quarter.keypoints(pose)
    assert moved[3].tolist() == [43, 10, 0.5]
    assert not np.delete(moved, 3, axis=0).any()
    world = np.array([[1, 2, 3, 0.5]] * 33, np.float32)
    assert quarter.landmarks(world)[0].tolist() == pytest.approx([-2, 1, 3, 0.5])
    assert then(mirror((64, 64)), quarter).mirrors
    assert np.allclose(then(mirror((64, 64)), FrameMap(np.diag([2.0, 2, 1]), (64, 64))).turn, np.eye(2))


# What may come into view, and what must stay in it


def test_an_edge_that_cuts_off_the_figure_never_comes_into_view() -> None:
    rng = np.random.default_rng(1)
    mask = np.zeros((64, 48), np.uint8)
    mask[20:, 10:30] = 1
    assert touched_edges(mask).tolist() == [False, False, False, True]
    assert touched_edges(None).all()
    for touched in ([0, 0, 0, 1], [1, 0, 1, 0], [1, 1, 1, 1], [0, 1, 0, 0]):
        for _ in range(50):
            moved = draw_affine(AffineConfig(scale=(0.6, 1.2), rotation_deg=20, shift=0.3), (64, 48), rng)
            held = hold_edges(moved, np.array(touched, bool))
            x, y = held.lookup
            over = [x.min() < -1.01, y.min() < -1.01, x.max() > 48.01, y.max() > 64.01]
            assert not any(np.array(over) & np.array(touched, bool)), touched
    inner = draw_crop(CropConfig(min_side=0.5), (64, 48), rng)
    assert np.allclose(hold_edges(inner, np.ones(4, bool)).matrix, inner.matrix), "a crop shows no edge: left as it is"
