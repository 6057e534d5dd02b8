"""Human parsing of a drawn figure, whose true labels are known, and of real photos where those are at hand."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from tryon.data.sources.viton_hd import LIP_TO_ATR
from tryon.sample import Joint, Label
from tryon.stages.parse import GeometricParse
from tryon.stages.skeleton import body_of, draw_capsule, fill_hull

UInt8 = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]

SKIN, HAIR, SHIRT, TROUSERS, WALL = (225, 175, 145), (70, 45, 30), (40, 80, 170), (60, 60, 66), (240, 240, 240)
JOINTS = {
    Joint.NOSE: (96, 42), Joint.RIGHT_EYE: (90, 37), Joint.LEFT_EYE: (102, 37), Joint.RIGHT_EAR: (83, 40),
    Joint.LEFT_EAR: (109, 40), Joint.NECK: (96, 75), Joint.RIGHT_SHOULDER: (68, 75), Joint.LEFT_SHOULDER: (124, 75),
    Joint.RIGHT_ELBOW: (54, 118), Joint.LEFT_ELBOW: (138, 118), Joint.RIGHT_WRIST: (48, 158),
    Joint.LEFT_WRIST: (144, 158), Joint.MID_HIP: (96, 155), Joint.RIGHT_HIP: (80, 155), Joint.LEFT_HIP: (112, 155),
    Joint.RIGHT_KNEE: (78, 210), Joint.LEFT_KNEE: (114, 210),
    Joint.RIGHT_ANKLE: (77, 252), Joint.LEFT_ANKLE: (115, 252),
}  # fmt: skip


def drawn_pose(scale: float = 1.0) -> Float32:
    """BODY_25 of the figure, which stands in a frame of 256 x 192 px times `scale`."""
    pose = np.zeros((25, 3), dtype=np.float32)
    for joint, (x, y) in JOINTS.items():
        pose[joint] = x * scale, y * scale, 0.95
    return pose


def figure(sleeve: float = 1.0, scale: float = 1.0) -> tuple[UInt8, UInt8, Float32]:
    """A person of capsules.

    Args:
        sleeve: arm coordinate at which the sleeve ends: 0 shoulder, 1 elbow, 2 wrist.
        scale: of the frame, 1 = 256 x 192 px.

    Returns:
        The photo, its true labels and the pose.
    """
    shape = round(256 * scale), round(192 * scale)
    pose = drawn_pose(scale)
    at = {joint: pose[joint, :2].astype(np.float64) for joint in Joint}
    labels = np.zeros(shape, dtype=np.uint8)

    def limb(label: Label, a: npt.NDArray[np.float64], b: npt.NDArray[np.float64], ra: float, rb: float) -> None:
        part = np.zeros(shape, dtype=np.uint8)
        draw_capsule(part, a, b, ra * scale, rb * scale)
        labels[part > 0] = label

    head = at[Joint.NOSE]
    limb(Label.HAIR, head - (0, 7 * scale), head - (0, 2 * scale), 24, 22)
    limb(Label.FACE, head, at[Joint.NECK], 8, 9)
    for hip in (Joint.RIGHT_HIP, Joint.LEFT_HIP):
        limb(Label.PANTS, at[hip], at[Joint(hip + 1)], 16, 12)
        limb(Label.PANTS, at[Joint(hip + 1)], at[Joint(hip + 2)], 12, 9)
    trunk = np.zeros(shape, dtype=np.uint8)
    corners = np.array([(66, 70), (126, 70), (120, 152), (72, 152)]) * scale
    fill_hull(trunk, corners)
    labels[trunk > 0] = Label.UPPER_CLOTHES
    for shoulder, label in ((Joint.RIGHT_SHOULDER, Label.RIGHT_ARM), (Joint.LEFT_SHOULDER, Label.LEFT_ARM)):
        a, b, c = at[shoulder], at[Joint(shoulder + 1)], at[Joint(shoulder + 2)]
        hand = c + 0.35 * (c - b)
        limb(label, a, b, 8, 7)
        limb(label, b, c, 7, 6)
        limb(label, c, hand, 6, 6)
        if sleeve > 0:
            limb(Label.UPPER_CLOTHES, a, a + min(sleeve, 1) * (b - a), 9, 8)
        if sleeve > 1:
            limb(Label.UPPER_CLOTHES, b, b + (sleeve - 1) * (c - b), 8, 7)
    face = np.zeros(shape, dtype=np.uint8)
    cv2.ellipse(
        face, (round(96 * scale), round(43 * scale)), (round(14 * scale), round(18 * scale)), 0, 0, 360, (1,), -1
    )
    labels[face > 0] = Label.FACE
    colours = {Label.HAIR: HAIR, Label.UPPER_CLOTHES: SHIRT, Label.PANTS: TROUSERS, Label.BACKGROUND: WALL}
    image = np.zeros((*shape, 3), dtype=np.float32)
    for name in np.unique(labels):
        image[labels == name] = colours.get(Label(name), SKIN)
    image += np.random.default_rng(0).normal(0, 3, image.shape)
    return np.clip(image, 0, 255).astype(np.uint8), labels, pose


def iou(a: UInt8, b: UInt8, label: Label) -> float:
    return float(((a == label) & (b == label)).sum() / max(1, ((a == label) | (b == label)).sum()))


def parsed(image: UInt8, labels: UInt8, pose: Float32) -> UInt8:
    row = {"person": image, "pose": pose, "person_mask": (labels > 0).astype(np.uint8)}
    parse: UInt8 = GeometricParse().process(row)["parse"]
    assert parse.dtype == np.uint8
    assert parse.shape == image.shape[:2]
    assert parse.max() < len(Label)
    return parse


@pytest.mark.parametrize("sleeve", [0.0, 0.5, 1.0, 2.0])
def test_drawn_figure(sleeve: float) -> None:
    image, labels, pose = figure(sleeve)
    parse = parsed(image, labels, pose)
    assert iou(parse, labels, Label.UPPER_CLOTHES) > 0.85
    assert iou(parse, labels, Label.PANTS) > 0.85
    assert iou(parse, labels, Label.FACE) > 0.7
    assert iou(parse, labels, Label.HAIR) > 0.6


def redrawn(kind: str) -> tuple[UInt8, UInt8, Float32]:
    """The figure at twice its size with another garment below, or a longer one above; painted anew."""
    _, labels, pose = figure(0.6, 2.0)
    at = {joint: pose[joint, :2].astype(np.float64) for joint in Joint}
    hips, knees = (at[Joint.RIGHT_HIP] + at[Joint.LEFT_HIP]) / 2, (at[Joint.RIGHT_KNEE] + at[Joint.LEFT_KNEE]) / 2
    arms = np.isin(labels, (Label.LEFT_ARM, Label.RIGHT_ARM))
    part = np.zeros(labels.shape, dtype=np.uint8)
    flare, end = (90, 20) if kind != "long top" else (70, -50)
    bottom = knees + np.array([0, end])
    waist = [at[Joint.RIGHT_HIP] - (22, 20), at[Joint.LEFT_HIP] + (22, -20)]
    fill_hull(part, np.stack([*waist, bottom - np.array([flare, 0]), bottom + np.array([flare, 0])]))
    if kind != "long top":
        labels[labels == Label.PANTS] = Label.LEFT_LEG
        labels[(labels == Label.LEFT_LEG) & (np.arange(labels.shape[1]) < hips[0])] = Label.RIGHT_LEG
    name = {"skirt": Label.SKIRT, "dress": Label.DRESS, "long top": Label.UPPER_CLOTHES}[kind]
    labels[(part > 0) & ~arms] = name
    if kind == "dress":
        labels[labels == Label.UPPER_CLOTHES] = Label.DRESS
    colours = {
        Label.HAIR: HAIR, Label.UPPER_CLOTHES: SHIRT, Label.DRESS: SHIRT, Label.SKIRT: TROUSERS, Label.PANTS: TROUSERS,
        Label.BACKGROUND: WALL,
    }  # fmt: skip
    image = np.zeros((*labels.shape, 3), dtype=np.float32)
    for label in np.unique(labels):
        image[labels == label] = colours.get(Label(label), SKIN)
    image += np.random.default_rng(0).normal(0, 3, image.shape)
    return np.clip(image, 0, 255).astype(np.uint8), labels, pose


def test_a_skirt_is_one_undivided_piece() -> None:
    image, labels, pose = redrawn("skirt")
    parse = parsed(image, labels, pose)
    assert iou(parse, labels, Label.SKIRT) > 0.85
    assert iou(parse, labels, Label.UPPER_CLOTHES) > 0.8
    assert not (parse == Label.PANTS).any()


def test_one_material_without_a_seam_is_a_dress() -> None:
    image, labels, pose = redrawn("dress")
    parse = parsed(image, labels, pose)
    assert iou(parse, labels, Label.DRESS) > 0.85
    assert not np.isin(parse, (Label.UPPER_CLOTHES, Label.SKIRT, Label.PANTS)).any()


def test_a_long_top_reaches_over_the_hips() -> None:
    image, labels, pose = redrawn("long top")
    parse = parsed(image, labels, pose)
    assert iou(parse, labels, Label.UPPER_CLOTHES) > 0.85
    assert iou(parse, labels, Label.PANTS) > 0.8


def test_a_tie_that_hangs_over_the_trousers_is_the_tops() -> None:
    image, labels, pose = figure(0.6, 2.0)
    hip = pose[Joint.MID_HIP, :2].astype(int)
    tie = (slice(hip[1] - 8, hip[1] + 56), slice(hip[0] + 8, hip[0] + 36))
    image[tie], labels[tie] = SHIRT, Label.UPPER_CLOTHES
    parse = parsed(image, labels, pose)
    assert (parse[tie] == Label.UPPER_CLOTHES).mean() > 0.8


def test_a_dark_collar_is_not_hair() -> None:
    image, labels, pose = figure(2.0, 2.0)
    neck, nose = pose[Joint.NECK, :2].astype(int), pose[Joint.NOSE, :2].astype(int)
    image[labels == Label.UPPER_CLOTHES] = HAIR
    bare_head = (labels == Label.HAIR) & (np.arange(labels.shape[0])[:, None] > nose[1])
    image[bare_head], labels[bare_head] = WALL, Label.BACKGROUND
    collar = (slice(neck[1] - 22, neck[1] + 4), slice(neck[0] - 18, neck[0] + 18))
    image[collar], labels[collar] = HAIR, Label.UPPER_CLOTHES
    parse = parsed(image, labels, pose)
    assert (parse[collar] == Label.HAIR).mean() < 0.2


def test_bare_arms_are_told_from_sleeves_and_left_from_right() -> None:
    image, labels, pose = figure(0.5)
    bare = parsed(image, labels, pose)
    assert iou(bare, labels, Label.LEFT_ARM) > 0.7
    assert iou(bare, labels, Label.RIGHT_ARM) > 0.7
    image, labels, pose = figure(2.0)
    covered = parsed(image, labels, pose)
    elbow = pose[Joint.LEFT_ELBOW, :2].astype(int)
    assert bare[elbow[1] + 8, elbow[0] + 2] == Label.LEFT_ARM
    assert covered[elbow[1] + 8, elbow[0] + 2] == Label.UPPER_CLOTHES


def test_background_stays_outside_the_person_mask() -> None:
    image, labels, pose = figure()
    parse = parsed(image, labels, pose)
    far = cv2.dilate((labels > 0).astype(np.uint8), np.ones((7, 7), np.uint8)) == 0
    assert not parse[far].any()


@pytest.mark.parametrize("scale", [0.25, 0.51, 3.0])
def test_any_size_and_deterministic(scale: float) -> None:
    image, labels, pose = figure(1.0, scale)
    parse = parsed(image, labels, pose)
    assert iou(parse, labels, Label.UPPER_CLOTHES) > 0.7
    assert np.array_equal(parse, parsed(image, labels, pose))


def test_missing_joints_do_not_break_it() -> None:
    image, labels, pose = figure()
    for joint in (Joint.LEFT_WRIST, Joint.RIGHT_ELBOW, Joint.MID_HIP, Joint.LEFT_HIP, Joint.RIGHT_HIP, Joint.LEFT_EAR):
        pose[joint] = 0
    assert iou(parsed(image, labels, pose), labels, Label.UPPER_CLOTHES) > 0.5


def test_empty_pose_is_an_error_row_and_errors_are_passed_by() -> None:
    image, labels, pose = figure()
    mask = (labels > 0).astype(np.uint8)
    batch = GeometricParse()(
        {
            "person": [image, None, image],
            "pose": [np.zeros_like(pose), None, pose],
            "person_mask": [mask, None, mask],
            "error_code": [None, "no-person", None],
            "error": [None, "nobody", None],
            "error_stage": [None, "pose", None],
        }
    )
    assert batch["error_code"] == ["pose-empty", "no-person", None]
    assert batch["error_stage"] == ["parse", "pose", None]
    assert batch["parse"][0] is None
    assert batch["parse"][1] is None
    assert batch["parse"][2] is not None


def test_rounds_must_be_positive() -> None:
    with pytest.raises(ValueError, match="rounds = 0"):
        GeometricParse(rounds=0)


def test_a_body_is_completed_by_proportion() -> None:
    pose = drawn_pose()
    pose[Joint.LEFT_WRIST] = 0
    pose[[Joint.LEFT_HIP, Joint.RIGHT_HIP, Joint.MID_HIP]] = 0
    body = body_of(pose)
    _, elbow, wrist = body.arm("left")
    assert wrist[1] > elbow[1]
    assert not body.known[Joint.LEFT_WRIST]
    assert body.joints[Joint.MID_HIP] == pytest.approx((96, 155), abs=12)


@pytest.mark.parametrize(("name", "folder"), [("00006_00", "image-parse-v3"), ("00891_00", "image-parse")])
def test_agrees_with_official_parse(name: str, folder: str, shared: Path) -> None:
    from tryon.stages.pose import Pose

    root = shared / "vitonhd" / "test"
    image = np.array(Image.open(root / "image" / f"{name}.jpg").convert("RGB"))
    official = LIP_TO_ATR[np.array(Image.open(root / folder / f"{name}.png"))]
    row = {"person": image, **Pose().process({"person": image})}
    parse = GeometricParse().process(row)["parse"]
    assert iou(parse, official, Label.UPPER_CLOTHES) > 0.9
    assert iou(parse, official, Label.PANTS) > 0.85
    assert iou(parse, official, Label.FACE) > 0.75
