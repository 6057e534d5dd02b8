"""What must hold for one sample: each check looks at some layers and says in a sentence what is wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import Field

from tryon.config import Config
from tryon.data.look.anatomy import CHIN, GARMENT_LABELS, face_height, grown, has_label
from tryon.sample import CATEGORIES, FIELDS, GREY, NUM_LABELS, Joint, Kind, Label, Row
from tryon.stages.fingerprint import DIGEST_DIGITS, HASH_BITS

UInt8 = npt.NDArray[np.uint8]
Bool = npt.NDArray[np.bool_]

NUM_LIP_LABELS = 20
NUM_PARTS = 24
JSON_FIELDS = ("quality", "metadata")
HEX_FIELDS = {
    "person_hash": HASH_BITS // 4,
    "garment_hash": HASH_BITS // 4,
    "person_digest": DIGEST_DIGITS,
    "garment_digest": DIGEST_DIGITS,
}  # hex digits
TRUNK = (Joint.LEFT_SHOULDER, Joint.RIGHT_SHOULDER, Joint.LEFT_HIP, Joint.RIGHT_HIP)
ON_PERSON = (
    "person", "parse", "lip_parse", "person_mask", "dense", "densepose_image", "agnostic", "agnostic_mask",
    "warped_garment", "warped_mask", "tryon", "composition_mask", "true_flow", "true_garment", "true_mask",
    "true_amodal_mask", "unoccluded_person", "generated",
)  # fmt: skip
ON_GARMENT = ("garment", "garment_mask")


class ValidateConfig(Config):
    """How much of a fault is a fault. The defaults let simulated and VITON-HD samples pass."""

    min_confidence: float = Field(0.5, ge=0, le=1, description="of keypoints that must lie on the person")
    min_on_person: float = Field(0.75, ge=0, le=1, description="share of confident keypoints on the person mask")
    near_share: float = Field(0.03, ge=0, le=1, description="of the height: as near to the person counts as on it")
    min_covered: float = Field(0.99, ge=0, le=1, description="share of the worn garment under the agnostic mask")
    max_face_covered: float = Field(0.03, ge=0, le=1, description="share of the face under the agnostic mask")
    min_parse_agreement: float = Field(0.6, ge=0, le=1, description="IoU of person mask and parse")
    min_garment_share: float = Field(0.001, ge=0, le=1, description="of the frame: less of the worn garment is none")
    max_border: float = Field(0.5, ge=0, le=1, description="share of a mask's border strip that may be 1")
    min_dense_on_person: float = Field(0.8, ge=0, le=1, description="share of dense parts on the person")
    min_flow_on_garment: float = Field(0.95, ge=0, le=1, description="share of the flow that ends on the garment")
    max_level: int = Field(2, ge=0, le=255, description="levels by which equal pixels may differ")


@dataclass(frozen=True)
class Check:
    """One thing that must hold.

    Attributes:
        name: kebab-case, in tables and JSON.
        meaning: what must hold, in a few words.
        reads: fields that a row must have to be looked at.
        test: what is wrong with the row, in a sentence; None if nothing.
        compares: lays one layer on another, which takes that their sizes agree.
    """

    name: str
    meaning: str
    reads: tuple[str, ...]
    test: Callable[[Row, ValidateConfig], str | None]
    compares: bool = True


def check_row(row: Row, config: ValidateConfig) -> dict[str, str | None]:
    """Runs all checks that a row has the fields for.

    Args:
        row: decoded.
        config: thresholds.

    Returns:
        By check: what is wrong, or None. Checks that could not look are left out.
    """
    found: dict[str, str | None] = {SIZES: sizes_agree(row)} if any(row.get(n) is not None for n in ON_PERSON) else {}
    agree = found.get(SIZES) is None
    for check in CHECKS:
        if all(row.get(name) is not None for name in check.reads) and (agree or not check.compares):
            found[check.name] = check.test(row, config)
    for field in (*JSON_FIELDS, *HEX_FIELDS):
        if row.get(field) is not None:
            found[TEXT] = found.get(TEXT) or _text_form(field, row[field])
    return found


def sizes_agree(row: Row) -> str | None:
    """All layers of the person are of one size, and those of the garment."""
    for names in (ON_PERSON, ON_GARMENT):
        shapes = {name: row[name].shape[:2] for name in names if row.get(name) is not None}
        first = next(iter(shapes), "")
        for name, shape in shapes.items():
            if shape != shapes[first]:
                return f"{name} is {_size(shape)}, {first} {_size(shapes[first])}"
    return None


def _size(shape: Sequence[int]) -> str:
    return f"{shape[1]}x{shape[0]} px"


def _text_form(field: str, value: str) -> str | None:
    if field in HEX_FIELDS:
        digits = HEX_FIELDS[field]
        fits = re.fullmatch(f"[0-9a-f]{{{digits}}}", value)
        return None if fits else f"{field} {value[:40]!r} is not {digits} hex digits"
    try:
        told = json.loads(value)
    except ValueError:
        return f"{field} is no JSON: {value[:40]!r}"
    return None if isinstance(told, dict) else f"{field} is no JSON object: {value[:40]!r}"


def _category(row: Row, _: ValidateConfig) -> str | None:
    known = row["category"] in CATEGORIES
    return None if known else f"category {row['category']!r} is not one of {', '.join(CATEGORIES)}"


def _split(row: Row, _: ValidateConfig) -> str | None:
    return None if row["split"] in ("train", "val", "test") else f"split {row['split']!r} is not train, val or test"


def _labels(field: str, count: int) -> Callable[[Row, ValidateConfig], str | None]:
    def test(row: Row, _: ValidateConfig) -> str | None:
        top = int(row[field].max(initial=0))
        return f"{field} has label {top}; 0 to {count - 1} are known" if top >= count else None

    return test


def _keypoints(row: Row, _: ValidateConfig) -> str | None:
    pose = row["pose"]
    height, width = row["person"].shape[:2]
    if not np.isfinite(pose).all():
        return "the pose holds values that are not finite"
    if pose[:, 2].min() < 0 or pose[:, 2].max() > 1:
        return f"a keypoint has confidence {pose[:, 2].max():.3g}; 0 to 1 is the range"
    # A pixel beyond the edge is let pass: whether 0 is a pixel's centre or its corner differs between tools.
    inside = ((pose[:, :2] >= -1) & (pose[:, :2] <= (width, height))).all(axis=1)
    for joint in np.nonzero((pose[:, 2] > 0) & ~inside)[0]:
        x, y = pose[joint, :2]
        return f"keypoint {Joint(joint).name.lower()} is at {x:.0f}, {y:.0f}, outside {_size((height, width))}"
    return None


def _seen(row: Row, on: Bool, joints: Sequence[int], config: ValidateConfig) -> dict[Joint, bool]:
    """Confident joints, and whether each lies on a region or near it."""
    height, width = on.shape
    near = grown(on, config.near_share * height)
    found = {}
    for joint in joints:
        x, y, confidence = row["pose"][joint]
        if confidence >= config.min_confidence and 0 <= x < width and 0 <= y < height:
            found[Joint(joint)] = bool(near[int(y), int(x)])
    return found


def _pose_on_mask(row: Row, config: ValidateConfig) -> str | None:
    seen = _seen(row, row["person_mask"] > 0, range(len(Joint)), config)
    share = sum(seen.values()) / len(seen) if seen else 1.0
    if share >= config.min_on_person:
        return None
    return f"{share:.0%} of the confident keypoints lie on the person mask; {config.min_on_person:.0%} are needed"


def _pose_on_parse(row: Row, config: ValidateConfig) -> str | None:
    seen = _seen(row, row["parse"] > 0, TRUNK, config)
    off = [joint.name.lower().replace("_", " ") for joint, on in seen.items() if not on]
    if len(off) <= (1 - config.min_on_person) * len(TRUNK):
        return None
    return f"the {' and the '.join(off)} lie on the parse's background"


def _polarity(field: str) -> Callable[[Row, ValidateConfig], str | None]:
    def test(row: Row, config: ValidateConfig) -> str | None:
        mask = row[field] > 0
        share = float(mask.mean())
        if share == 0 or share == 1:
            return f"{field} is {share:.0f} everywhere"
        border = float(np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]]).mean())
        if border > config.max_border and border > share:
            return f"{field} is 1 on {border:.0%} of the border and {share:.0%} of the frame: it looks inverted"
        return None

    return test


def _mask_parse(row: Row, config: ValidateConfig) -> str | None:
    mask, parse = row["person_mask"] > 0, row["parse"] > 0
    union = np.count_nonzero(mask | parse)
    iou = np.count_nonzero(mask & parse) / union if union else 1.0
    if iou >= config.min_parse_agreement:
        return None
    return f"person mask and parse agree by an IoU of {iou:.2f}; {config.min_parse_agreement} is needed"


def _worn(row: Row) -> Bool:
    return has_label(row["parse"], GARMENT_LABELS.get(row["category"], ()))


def _garment_worn(row: Row, config: ValidateConfig) -> str | None:
    share = float(_worn(row).mean())
    if row["category"] not in CATEGORIES or share >= config.min_garment_share:
        return None
    return f"category is {row['category']}, but {share:.2%} of the parse is such a garment"


def _covers(row: Row, config: ValidateConfig) -> str | None:
    worn = _worn(row)
    total = np.count_nonzero(worn)
    covered = np.count_nonzero(worn & (row["agnostic_mask"] > 0)) / total if total else 1.0
    if covered >= config.min_covered:
        return None
    return f"the agnostic mask covers {covered:.1%} of the worn garment; {config.min_covered:.0%} are needed"


def _spares_face(row: Row, config: ValidateConfig) -> str | None:
    down = face_height(row["pose"], row["parse"].shape)
    if down is None:
        return None
    face = has_label(row["parse"], (Label.FACE, Label.SUNGLASSES)) & (down < 0.8 * CHIN)
    total = np.count_nonzero(face)
    covered = np.count_nonzero(face & (row["agnostic_mask"] > 0)) / total if total else 0.0
    if covered <= config.max_face_covered:
        return None
    return f"the agnostic mask covers {covered:.1%} of the face; {config.max_face_covered:.0%} are let pass"


def _outside(row: Row, config: ValidateConfig) -> str | None:
    off = _off(cv2.absdiff(row["agnostic"], row["person"]), config)
    wrong = np.count_nonzero(off & (row["agnostic_mask"] == 0))
    return f"{wrong} px of the agnostic outside its mask are not the person's" if wrong else None


def _grey(row: Row, config: ValidateConfig) -> str | None:
    off = _off(cv2.absdiff(row["agnostic"], np.full_like(row["agnostic"], GREY)), config)
    wrong = np.count_nonzero(off & (row["agnostic_mask"] > 0))
    return f"{wrong} px of the agnostic inside its mask are not grey {GREY}" if wrong else None


def _off(difference: npt.NDArray[Any], config: ValidateConfig) -> Bool:
    """Where a channel differs by more levels than equal pixels may."""
    return np.asarray(cv2.inRange(difference, np.zeros(3), np.full(3, float(config.max_level))) == 0)


def _dense(row: Row, _: ValidateConfig) -> str | None:
    top = int(row["dense"][..., 0].max(initial=0))
    return f"dense has part {top}; 0 to {NUM_PARTS} are known" if top > NUM_PARTS else None


def _dense_on_person(row: Row, config: ValidateConfig) -> str | None:
    parts = row["dense"][..., 0] > 0
    total = np.count_nonzero(parts)
    near = grown(row["person_mask"] > 0, config.near_share * parts.shape[0])
    share = np.count_nonzero(parts & near) / total if total else 1.0
    if share >= config.min_dense_on_person:
        return None
    return f"{share:.0%} of the dense parts lie on the person mask; {config.min_dense_on_person:.0%} are needed"


def _flow_finite(row: Row, _: ValidateConfig) -> str | None:
    wrong = np.count_nonzero((row["true_mask"] > 0) & ~np.isfinite(row["true_flow"]).all(axis=-1))
    return f"the flow is not defined on {wrong} px of the visible garment" if wrong else None


def _flow_lands(row: Row, config: ValidateConfig) -> str | None:
    ys, xs = np.nonzero((row["true_mask"] > 0) & np.isfinite(row["true_flow"]).all(axis=-1))
    if not len(ys):
        return None
    height, width = row["garment_mask"].shape
    flow = row["true_flow"][ys, xs]
    to_x, to_y = np.rint(xs + flow[:, 0]).astype(int), np.rint(ys + flow[:, 1]).astype(int)
    inside = (to_x >= 0) & (to_x < width) & (to_y >= 0) & (to_y < height)
    hits = row["garment_mask"][to_y[inside], to_x[inside]] > 0
    share = np.count_nonzero(hits) / len(ys)
    if share >= config.min_flow_on_garment:
        return None
    return f"{share:.0%} of the flow ends on the garment; {config.min_flow_on_garment:.0%} are needed"


def _amodal(row: Row, _: ValidateConfig) -> str | None:
    wrong = np.count_nonzero((row["true_mask"] > 0) & (row["true_amodal_mask"] == 0))
    return f"{wrong} px of the visible garment are outside the whole garment" if wrong else None


SIZES, TEXT = "sizes-agree", "text-form"
MEANINGS: Mapping[str, str] = {
    SIZES: "the person's layers are of one size, the garment's of one",
    TEXT: "JSON fields hold objects, hashes hex digits",
}
CHECKS: tuple[Check, ...] = (
    Check("category-known", "upper, lower or dress", ("category",), _category, compares=False),
    Check("split-known", "train, val, test or none", ("split",), _split, compares=False),
    Check("parse-labels", f"0..{NUM_LABELS - 1}", ("parse",), _labels("parse", NUM_LABELS), compares=False),
    Check("lip-labels", "0..19", ("lip_parse",), _labels("lip_parse", NUM_LIP_LABELS), compares=False),
    Check("keypoints-inside", "seen keypoints lie in the frame", ("pose", "person"), _keypoints, compares=False),
    Check("pose-on-mask", "most keypoints lie on the person mask", ("pose", "person_mask"), _pose_on_mask),
    Check("pose-on-parse", "shoulders and hips lie on the parsed person", ("pose", "parse"), _pose_on_parse),
    Check("garment-mask", "1 on the garment, 0 around", ("garment_mask",), _polarity("garment_mask"), compares=False),
    Check("person-mask", "1 on the person, 0 around", ("person_mask",), _polarity("person_mask"), compares=False),
    Check("mask-parse", "person mask and parse show one person", ("person_mask", "parse"), _mask_parse),
    Check("garment-worn", "the parse has a garment of the category", ("parse", "category"), _garment_worn),
    Check("agnostic-covers", "99 % of the worn garment", ("agnostic_mask", "parse", "category"), _covers),
    Check("agnostic-face", "the face stays visible", ("agnostic_mask", "parse", "pose"), _spares_face),
    Check("agnostic-outside", "the person outside the mask", ("agnostic", "agnostic_mask", "person"), _outside),
    Check("agnostic-inside", f"grey {GREY} inside the mask", ("agnostic", "agnostic_mask"), _grey),
    Check("dense-parts", f"0..{NUM_PARTS}", ("dense",), _dense, compares=False),
    Check("dense-on-mask", "dense parts lie on the person mask", ("dense", "person_mask"), _dense_on_person),
    Check("flow-finite", "defined where the garment is seen", ("true_flow", "true_mask"), _flow_finite),
    Check("flow-lands", "ends on the garment", ("true_flow", "true_mask", "garment_mask"), _flow_lands),
    Check("masks-nested", "the seen garment lies in the whole one", ("true_mask", "true_amodal_mask"), _amodal),
)  # fmt: skip
READS: tuple[str, ...] = tuple(
    dict.fromkeys(["id", *ON_PERSON, *ON_GARMENT, *JSON_FIELDS, *HEX_FIELDS, *(n for c in CHECKS for n in c.reads)])
)
assert all(name in FIELDS and FIELDS[name].kind is not Kind.FILE for name in READS)
