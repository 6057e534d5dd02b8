"""Pairs without garment photos: what each person wears, cut out and un-warped at random, is the garment photo.

A person photo is then the truth of a try-on of its own garment, with the flow known wherever the garment shows. After
the self-supervision of WUTON (Issenhuth et al. 2020, arXiv 2007.02721) and PASTA-GAN (Xie et al. 2021, arXiv
2111.10544), by other means: sleeves are turned as a laid-out top has them, the whole is brought upright, and bent by a
smooth random field. What an arm or hair hides on the person is missing on the photo, closed where the hole is small.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from tryon.config import Config
from tryon.data.derived import KIN_FIELDS, DerivedSource, require_fields, row_rng, with_kin, without_files
from tryon.data.job import Job
from tryon.data.triplets.faults import shift_field
from tryon.data.triplets.worn import WORN
from tryon.errors import SampleError
from tryon.sample import Joint, Row
from tryon.stages.skeleton import SIDES, Body, Point, along, body_of

UInt8 = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]
Bool = npt.NDArray[np.bool_]

NEEDED = ("id", "category", "person", "parse", "pose", "person_mask", "agnostic", "agnostic_mask")
TOLD = ("split", "person_uri")
MADE = ("garment", "garment_mask", "true_flow")
PAPER = 255  # grey value of the ground
FILLED = 0.9  # of the frame, by the garment
SLEEVE = 0.2  # shoulder widths around an arm's bone that turn with it
HEM = 0.03  # of the frame's longer side: holes up to this size are closed
SHORTEST = 0.3  # of the upper arm: less is no sleeve
TEARS = 2.0  # times as far apart as all neighbours go
GAP = 0.25  # upper arms: a hand or hair before a sleeve does not end it
MIN_SHARE = 0.01  # of the frame that the worn garment must take


class UnwarpConfig(Config):
    """How garments are laid out."""

    variants: int = Field(1, ge=1, le=32, description="garment photos of each person")
    sleeves_deg: tuple[float, float] = Field((10.0, 50.0), description="of a sleeve from the vertical, outwards")
    widen: tuple[float, float] = Field(
        (1.0, 1.25), description="width by height against the worn one's: a body is deep"
    )
    bend: float = Field(
        0.025, ge=0, le=0.1, description="largest shift of the smooth random field, share of the height"
    )
    turn_deg: float = Field(4.0, ge=0, le=45, description="largest rotation of the whole, either way")
    seed: int = Field(0, ge=0, le=2**31 - 1, description="same seed, same bytes")

    @model_validator(mode="after")
    def _in_order(self) -> UnwarpConfig:
        for name, least, most in (("sleeves_deg", 0, 90), ("widen", 0.5, 2)):
            low, high = getattr(self, name)
            if not least <= low <= high <= most:
                raise ValueError(f"{name} goes from the least to the largest, {least}..{most}")
        return self


class UnwarpSource(DerivedSource):
    """The persons of a data set, each with a garment photo made of what is worn."""

    def __init__(self, uri: str, config: UnwarpConfig) -> None:
        """Reads the manifest.

        Raises:
            DataError: no data set, or one that lacks layers.
        """
        super().__init__(uri, config.variants)
        self._config = config
        require_fields(uri, self.parent_fields, NEEDED, "unwarp")
        told = tuple(name for name in TOLD if name in self.parent_fields)
        self.written = (*NEEDED, *told, *KIN_FIELDS, *MADE)
        self.fields = tuple(dict.fromkeys((*self.fields, *self.written)))

    def derive(self, row: Row) -> Sequence[Row]:
        """Pairs of one person.

        Raises:
            SampleError: the worn garment is too small to be cut out, or the row lacks a layer.
        """
        missing = [name for name in NEEDED if row.get(name) is None]
        if missing:
            raise SampleError(f"the sample lacks {', '.join(missing)}", code="layer-missing")
        row = with_kin(without_files(row, keep=("person_file", "person_notices")))
        made: list[Row] = []
        for k in range(1, self._config.variants + 1):
            rng = row_rng(self._config.seed, row["id"], "unwarp", k)
            made.append({**row, **unwarp(row, self._config, rng), "id": f"{row['id']}#u{k}"})
        return made


def unwarp(row: Row, config: UnwarpConfig, rng: np.random.Generator) -> Row:
    """A garment photo of what a person wears.

    Args:
        row: with person, parse, pose and category.
        config: how it is laid out.
        rng: random numbers.

    Returns:
        ``garment`` RGB uint8 (H, W, 3) and ``garment_mask`` uint8 (H, W) at the person photo's size; ``true_flow``
        float32 (H, W, 2) from a person pixel to its garment pixel, NaN where no garment shows, and between a sleeve and
        the trunk it lies on.

    Raises:
        SampleError: too little of a garment of the category is seen.
    """
    person: UInt8 = row["person"]
    worn: Bool = np.isin(row["parse"], WORN[row["category"]])
    if worn.mean() < MIN_SHARE:
        text = f"the person's {row['category']} garment takes {worn.mean():.1%} of the photo"
        raise SampleError(f"{text}; {MIN_SHARE:.0%} is asked for", code="garment-not-worn", field="person")
    body = body_of(np.asarray(row["pose"], dtype=np.float32))
    place, grows = _laid_out(body, worn, config, rng, has_sleeves=row["category"] != "lower")
    worn = worn & ~_torn(place, grows)
    garment, mask = _splat(person, worn, place, math.ceil(1.5 * max(1.0, grows)))
    grid = np.stack(np.meshgrid(*(np.arange(n, dtype=np.float32) for n in worn.shape[::-1])), axis=-1)
    flow = np.where(worn[..., None], place - grid, np.float32(np.nan))
    return {"garment": garment, "garment_mask": mask, "true_flow": flow.astype(np.float32)}


def _laid_out(
    body: Body, worn: Bool, config: UnwarpConfig, rng: np.random.Generator, *, has_sleeves: bool
) -> tuple[Float32, float]:
    """Where each pixel of the person goes on the garment photo, float32 (H, W, 2), x and y px; how much it grows."""
    height, width = worn.shape
    ys, xs = np.mgrid[0:height, 0:width].astype(np.float32)
    place = np.stack([xs, ys], axis=-1)
    if has_sleeves:
        angle = float(np.radians(rng.uniform(*config.sleeves_deg)))
        place = place + sum(_sleeve_shift(body, side, angle, worn, place) for side in SIDES)
    turn = np.radians(rng.uniform(-config.turn_deg, config.turn_deg))
    upright = np.arctan2(body.up[0], -body.up[1])  # 0 of an upright trunk
    cos, sin = np.cos(turn - upright), np.sin(turn - upright)
    stretch = np.array([rng.uniform(*config.widen), 1.0])
    matrix = np.array([[cos, -sin], [sin, cos]]) * stretch[:, None]
    place = place @ matrix.T.astype(np.float32)
    low, high = place[worn].min(axis=0), place[worn].max(axis=0)
    scale = FILLED * float((np.array([width, height]) / np.maximum(high - low, 1)).min())
    place = (place - (low + high) / 2) * np.float32(scale) + np.array([width / 2, height / 2], dtype=np.float32)
    bend = shift_field((height, width), rng.uniform(0, config.bend) * height, rng)
    moved: Float32 = place.astype(np.float32)
    bent = cv2.remap(bend, moved[..., 0], moved[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return moved + bent, scale * float(stretch[0])


def _sleeve_shift(body: Body, side: str, angle: float, worn: Bool, place: Float32) -> Float32 | float:
    """How far each pixel moves when an arm is turned so that it hangs outwards by an angle, straight."""
    shoulder, elbow, wrist = body.arm(side)
    length = _sleeve_length(worn, (shoulder, elbow, wrist))
    if length < SHORTEST:
        return 0.0
    outward = shoulder - body.at(Joint.NECK)
    down = -body.up
    across = np.array([-down[1], down[0]])
    across = across if across @ outward >= 0 else -across
    goal = np.cos(angle) * down + np.sin(angle) * across
    turned = shoulder + goal * np.linalg.norm(elbow - shoulder)  # the elbow, once the upper arm has been turned
    upper, fore = _bone_weights(body, side, length, worn.shape)
    shift = np.zeros_like(place)
    for start, end, at, weight in ((shoulder, elbow, shoulder, upper), (elbow, wrist, turned, fore)):
        rotation = _rotation(end - start, goal)
        goes = (place - start) @ rotation.T.astype(np.float32) + at
        shift += weight[..., None] * (goes - place)
    return shift.astype(np.float32)


def _sleeve_length(worn: Bool, joints: Sequence[Point]) -> float:
    """How far down an arm the garment reaches without a gap: 0 at the shoulder, 1 at the elbow, 2 at the wrist."""
    steps = np.linspace(0, 2, 41)
    reach = 0.0
    for t in steps:
        bone = min(int(t), 1)
        x, y = np.rint(joints[bone] + (t - bone) * (joints[bone + 1] - joints[bone])).astype(int)
        if 0 <= y < worn.shape[0] and 0 <= x < worn.shape[1] and worn[y, x]:
            reach = float(t)
        elif t - reach > GAP:
            break
    return reach


def _bone_weights(body: Body, side: str, length: float, shape: tuple[int, ...]) -> tuple[Float32, Float32]:
    """How much a pixel goes with the upper arm and with the forearm, 0 to 1, together at most 1."""
    size, unit = (shape[0], shape[1]), body.unit
    shoulder, elbow, wrist = body.arm(side)
    upper, upper_far = along(size, shoulder, elbow)
    fore, fore_far = along(size, elbow, wrist)
    hip = body.leg(side)[0]
    _, trunk_far = along(size, (shoulder + body.at(Joint.NECK)) / 2, (hip + body.at(Joint.MID_HIP)) / 2)
    near, is_fore = np.minimum(upper_far, fore_far), fore_far < upper_far
    # An arm's pixel is much nearer to its bone than to the trunk's line, begins a little below the shoulder, and ends
    # where the sleeve does.
    arm = _smooth((trunk_far - near) / (0.06 * unit) - 1.0) * _smooth((SLEEVE * unit - near) / (0.06 * unit))
    arm = arm * np.where(is_fore, 1.0, _smooth(upper / 0.35))
    arm = arm * _smooth((length + GAP - np.where(is_fore, 1 + fore, upper)) / (0.5 * GAP))
    lower = _smooth((fore + 0.15) / 0.3) * (fore_far <= upper_far + 0.05 * unit)
    return (arm * (1 - lower)).astype(np.float32), (arm * lower).astype(np.float32)


def _torn(place: Float32, grows: float) -> Bool:
    """Where neighbours go far apart: between a sleeve and the trunk it lies on."""
    across, down = (np.linalg.norm(np.gradient(place, axis=axis), axis=-1) for axis in (1, 0))
    return np.asarray(np.maximum(across, down) > TEARS * max(grows, 1e-6))


def _smooth(x: npt.NDArray[Any]) -> Float32:
    x = np.clip(x, 0, 1)
    return np.asarray(x * x * (3 - 2 * x), dtype=np.float32)


def _rotation(of: Point, onto: Point) -> npt.NDArray[np.float64]:
    """The rotation that turns one direction onto another."""
    turn = np.arctan2(onto[1], onto[0]) - np.arctan2(of[1], of[0])
    cos, sin = np.cos(turn), np.sin(turn)
    return np.array([[cos, -sin], [sin, cos]])


def _splat(person: UInt8, worn: Bool, place: Float32, samples: int) -> tuple[UInt8, UInt8]:
    """The worn pixels at their places on white paper, small holes closed, and their mask.

    Each is taken as so many by so many smaller ones, so that a garment that grows has no gaps.
    """
    height, width = worn.shape
    size = (width * samples, height * samples)
    inside = cv2.resize(worn.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
    at = cv2.resize(place, size, interpolation=cv2.INTER_LINEAR)[inside]
    colour = cv2.resize(person, size, interpolation=cv2.INTER_LINEAR)[inside].astype(np.float32)
    sums, weight = np.zeros((height, width, 3), np.float32), np.zeros((height, width), np.float32)
    corner = np.floor(at).astype(np.int64)
    share = at - corner
    for dx in (0, 1):
        for dy in (0, 1):
            x, y = corner[:, 0] + dx, corner[:, 1] + dy
            there = (x >= 0) & (x < width) & (y >= 0) & (y < height)
            part = np.abs(1 - dx - share[:, 0]) * np.abs(1 - dy - share[:, 1])
            flat = (y * width + x)[there]
            weight += np.bincount(flat, part[there], height * width).reshape(height, width).astype(np.float32)
            for channel in range(3):
                values = np.bincount(flat, (part * colour[:, channel])[there], height * width)
                sums[..., channel] += values.reshape(height, width).astype(np.float32)
    mask = (weight > 0.5).astype(np.uint8)
    image = np.where(weight[..., None] > 1e-3, sums / np.maximum(weight, 1e-3)[..., None], 0)
    known = mask.copy()
    reach = max(1, round(HEM * max(height, width) / 2))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    mask = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, kernel).astype(np.uint8)
    rounded = np.clip(np.rint(image), 0, 255).astype(np.uint8)
    filled = cv2.inpaint(rounded, (mask & ~known & 1).astype(np.uint8), 3, cv2.INPAINT_TELEA)
    garment = np.where(mask[..., None] > 0, filled, np.uint8(PAPER)).astype(np.uint8)
    return garment, mask


def unwarp_job(uri: str, config: UnwarpConfig) -> Job:
    """A job that writes pairs.

    Args:
        uri: of an annotated data set of persons; garment photos it may have are not looked at.
        config: how garments are laid out.

    Raises:
        DataError: no data set, or one that lacks layers.
    """
    source = UnwarpSource(uri, config)
    return Job(source, [], source.written, {"unwarp": config.model_dump(mode="json")}, (source.parent,))
