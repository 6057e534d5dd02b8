"""Parsing in the 20 classes of LIP, as the VITON-HD layout and its loaders hold it."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt

from tryon.data.look.anatomy import CHIN, face_height
from tryon.sample import Joint, Label

UInt8 = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]

GLOVE, NECK, FACE, LEFT_ARM, RIGHT_ARM = 3, 10, 13, 14, 15
UPPER = (5, 6, 7)  # upper-clothes, dress, coat
# The 18 ATR classes, in order. LIP has no belt, which lies on trousers, and no bag: its gloves are what HR-VITON
# counts as noise, so that nothing is learned from them.
ATR_TO_LIP = np.array([0, 1, 2, 4, 5, 12, 9, 6, 9, 18, 19, 13, 16, 17, 14, 15, GLOVE, 11], dtype=np.uint8)
# The colours that VITON-HD's files carry; loaders read the indices.
_COLOURS = (
    (0, 0, 0), (128, 0, 0), (254, 0, 0), (0, 85, 0), (169, 0, 51), (254, 85, 0), (0, 0, 85), (0, 119, 220),
    (85, 85, 0), (0, 85, 85), (85, 51, 0), (52, 86, 128), (0, 128, 0), (0, 0, 254), (51, 169, 220), (0, 254, 254),
    (85, 254, 169), (169, 254, 85), (254, 254, 0), (254, 169, 0),
)  # fmt: skip
LIP_PALETTE = bytes(v for colour in _COLOURS for v in colour) + bytes(
    grey for grey in range(len(_COLOURS), 256) for _ in range(3)
)
REFERENCE_HEIGHT = 1024  # px at which the widths below were set
ARM_WIDTH, JOINT_RADIUS, WRIST_RADIUS = 100, 150, 40
_ARMS = (
    (LEFT_ARM, (Joint.RIGHT_SHOULDER, Joint.LEFT_SHOULDER, Joint.LEFT_ELBOW, Joint.LEFT_WRIST)),
    (RIGHT_ARM, (Joint.LEFT_SHOULDER, Joint.RIGHT_SHOULDER, Joint.RIGHT_ELBOW, Joint.RIGHT_WRIST)),
)


def lip_of(parse: UInt8, pose: Float32 | None) -> UInt8:
    """A parse of the 18 ATR classes as one of LIP's 20.

    Args:
        parse: uint8 (H, W), values of `Label`.
        pose: float32 (25, 3), px; where it says how high the chin is, skin below becomes class 10, which the loaders
            take as the neck and paint out. Without it, all such skin stays face.

    Returns:
        uint8 (H, W), 0..19.
    """
    lip = ATR_TO_LIP[parse]
    down = None if pose is None else face_height(pose, parse.shape)
    if down is not None:
        lip[(parse == Label.FACE) & (down > CHIN)] = NECK
    return lip


def encode_lip(lip: UInt8) -> bytes:
    """Palette PNG with VITON-HD's colours.

    Args:
        lip: uint8 (H, W), 0..19.
    """
    from PIL import Image

    image = Image.fromarray(lip, mode="P")
    image.putpalette(LIP_PALETTE)
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()


def parse_agnostic(lip: UInt8, pose: Float32) -> UInt8:
    """The parse without what the new garment decides: upper clothes, neck, and the arms along their bones.

    As HR-VITON's `image-parse-agnostic-v3.2` has it: strokes 100 px wide with 150 px round the joints and 40 px round
    the wrists, at a height of 1024 px.

    Args:
        lip: uint8 (H, W), 0..19.
        pose: float32 (25, 3), px; joints at exactly 0, 0 are unknown.

    Returns:
        uint8 (H, W), 0..19.
    """
    agnostic = lip.copy()
    for label, joints in _ARMS:
        agnostic[(lip == label) & _strokes(pose, joints, lip.shape)] = 0
    agnostic[np.isin(lip, (*UPPER, NECK))] = 0
    return agnostic


def _strokes(pose: Float32, joints: tuple[Joint, ...], shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    from PIL import Image, ImageDraw

    scale = shape[0] / REFERENCE_HEIGHT
    mask = Image.new("L", (shape[1], shape[0]), 0)
    draw = ImageDraw.Draw(mask)
    last = joints[0]
    for joint in joints[1:]:
        start, end = (tuple(float(v) for v in pose[j, :2]) for j in (last, joint))
        if start == (0.0, 0.0) or end == (0.0, 0.0):
            continue
        draw.line([start, end], 1, width=max(1, round(ARM_WIDTH * scale)))
        radius = scale * (WRIST_RADIUS if joint == joints[-1] else JOINT_RADIUS)
        draw.ellipse((end[0] - radius, end[1] - radius, end[0] + radius, end[1] + radius), 1)
        last = joint
    return np.asarray(mask) > 0
