"""Quality stage: scores a sample and turns away what no try-on can be learnt from, with the reason and the score."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from tryon.config import Config, parse_config
from tryon.errors import SampleError
from tryon.sample import Row
from tryon.stages import _photo_scores as measure
from tryon.stages._faces import FaceFinder
from tryon.stages.base import RowStage

UInt8 = npt.NDArray[np.uint8]
Score = float | int | None
Scores = dict[str, Score]
Finder = Callable[[UInt8], Any]

SCORES = (
    "garment_borders", "garment_bright", "garment_dark", "garment_faces", "garment_light", "garment_mean",
    "garment_share", "garment_sharpness", "garment_side_px", "garment_skin", "person_bright", "person_dark",
    "person_light", "person_mean", "person_missing_joints", "person_outside", "person_people", "person_piece",
    "person_share", "person_sharpness", "person_side_px",
)  # fmt: skip


class QualityConfig(Config):
    """Thresholds; None turns a check off. The defaults keep 99 % of catalogue photos."""

    min_side_px: int | None = Field(96, ge=1, description="shortest side of either photo at its own size, px")
    min_sharpness: float | None = Field(
        0.5, ge=0, description="variance of the Laplacian over the mean squared gradient, at 512 px or less"
    )
    max_dark_share: float | None = Field(0.6, ge=0, le=1, description="of the person: clipped shadows")
    max_bright_share: float | None = Field(0.6, ge=0, le=1, description="of the person: clipped highlights")
    min_light: float | None = Field(60, ge=0, le=255, description="luma that 5 % of the person must reach")
    max_mean: float | None = Field(240, ge=0, le=255, description="mean luma of the person")
    max_garment_clipped: float | None = Field(0.98, ge=0, le=1, description="of the garment: shadows or highlights")
    min_person_share: float | None = Field(0.04, ge=0, le=1, description="of the frame that the person covers")
    min_joint_confidence: float = Field(0.05, ge=0, le=1, description="below it a joint counts as missing")
    max_missing_joints: int | None = Field(2, ge=0, le=25, description="of the joints that the category needs")
    max_people: int | None = Field(1, ge=1, description="by their faces")
    max_piece: float | None = Field(0.3, ge=0, le=1, description="second piece of the person mask over the largest")
    max_outside: float | None = Field(
        0.1, ge=0, description="how far a shoulder or hip may lie outside, as a share of the frame's side"
    )
    max_garment_faces: int | None = Field(0, ge=0, description="faces at the top of the garment photo")
    max_garment_skin: float | None = Field(
        0.03, ge=0, le=1, description="of the garment mask in skin's colours, where two borders cut it"
    )
    min_garment_share: float | None = Field(0.005, ge=0, le=1, description="of the frame that the garment covers")
    max_garment_share: float | None = Field(0.98, ge=0, le=1, description="of the frame that the garment covers")
    max_garment_borders: int | None = Field(3, ge=0, le=4, description="of the frame that the garment mask touches")


class Quality(RowStage):
    """Scores whatever photos and layers a row has.

    Args:
        config: fields of `QualityConfig`.

    Looks at ``person``, ``garment``, ``pose``, ``person_mask``, ``garment_mask``, ``category`` and, for the photos'
    own size, at ``person_photo`` and ``garment_photo``. Adds ``quality``: a JSON object with the keys `SCORES`, null
    where a score cannot be had, rounded to four digits. A row that fails a check ends with the code
    ``"quality-<check>"``.
    """

    name: ClassVar[str] = "quality"
    optional = (
        "person", "garment", "pose", "person_mask", "garment_mask", "category", "person_photo", "garment_photo",
    )  # fmt: skip
    adds = ("quality",)

    def __init__(self, config: Mapping[str, Any] | None = None) -> None:
        """Sets the thresholds.

        Raises:
            ConfigError: one is unknown or out of bounds.
        """
        self._config = parse_config(QualityConfig, config or {}, "quality")
        self._find_faces = FaceFinder()

    def process(self, row: Row) -> Row:
        """Adds the scores.

        Raises:
            SampleError: the first check that fails, with the score and the threshold.
        """
        scores = self.scores(row)
        check(scores, self._config)
        return {"quality": json.dumps(scores, sort_keys=True)}

    def scores(self, row: Row) -> Scores:
        """All scores of a row, by the names in `SCORES`."""
        found: Scores = dict.fromkeys(SCORES)
        if row["person"] is not None:
            found |= {f"person_{name}": value for name, value in self._person(row).items()}
        if row["garment"] is not None:
            found |= {f"garment_{name}": value for name, value in self._garment(row).items()}
        return {name: value if value is None else float(f"{value:.4g}") for name, value in found.items()}

    def _person(self, row: Row) -> Scores:
        person, mask, pose = row["person"], row["person_mask"], row["pose"]
        height, width = person.shape[:2]
        out = _common(person, mask, row["person_photo"])
        if self._config.max_people is not None:
            out["people"] = measure.count_people(self._find_faces(person), pose, height, width)
        if mask is not None:
            out |= {"share": float(mask.mean()), "piece": measure.second_piece(mask)}
        if pose is not None:
            least = self._config.min_joint_confidence
            out["missing_joints"] = measure.missing_joints(pose, row["category"], least)
            out["outside"] = measure.outside(pose, height, width)
        return out

    def _garment(self, row: Row) -> Scores:
        garment, mask = row["garment"], row["garment_mask"]
        out = _common(garment, mask, row["garment_photo"])
        if self._config.max_garment_faces is not None:
            out["faces"] = measure.wearer_faces(self._find_faces(garment), mask)
        if mask is not None:
            out |= {"share": float(mask.mean()), "borders": measure.borders_touched(mask)}
            out["skin"] = measure.worn_skin(garment, mask)
        return out


def _common(photo: UInt8, mask: UInt8 | None, original: UInt8 | None) -> Scores:
    """What is measured of either photo."""
    work = measure.shrink(photo, measure.WORK_PX)
    region = measure.region_of(mask, work)
    side_px = min((photo if original is None else original).shape[:2])
    return {"side_px": side_px, "sharpness": measure.sharpness(work, region), **measure.exposure(work, region)}


def check(scores: Scores, config: QualityConfig) -> None:
    """Holds scores against thresholds; a score or a threshold that is None passes.

    Raises:
        SampleError: the first that fails, code ``"quality-<check>"``; the sentence has the score and the threshold.
    """
    least = [
        ("resolution", "person_side_px", config.min_side_px, "the person photo's shortest side is {} px"),
        ("resolution", "garment_side_px", config.min_side_px, "the garment photo's shortest side is {} px"),
        ("person-size", "person_share", config.min_person_share, "the person covers {} of the photo"),
        ("garment-mask", "garment_share", config.min_garment_share, "the garment mask covers {} of the photo"),
        ("blur", "person_sharpness", config.min_sharpness, "the person photo is blurred: its sharpness is {}"),
        ("blur", "garment_sharpness", config.min_sharpness, "the garment photo is blurred: its sharpness is {}"),
        ("exposure", "person_light", config.min_light, "the person is too dark: 95 % stay below luma {}"),
    ]
    most = [
        ("exposure", "person_dark", config.max_dark_share, "{} of the person is clipped to black"),
        ("exposure", "person_bright", config.max_bright_share, "{} of the person is clipped to white"),
        ("exposure", "person_mean", config.max_mean, "the person is too bright: the mean luma is {}"),
        ("exposure", "garment_dark", config.max_garment_clipped, "{} of the garment is clipped to black"),
        ("exposure", "garment_bright", config.max_garment_clipped, "{} of the garment is clipped to white"),
        ("people", "person_people", config.max_people, "the person photo shows {} people"),
        ("people", "person_piece", config.max_piece, "the person mask has a second piece of {} of the largest"),
        ("cropped", "person_outside", config.max_outside, "a shoulder or hip lies {} of the frame outside it"),
        ("keypoints", "person_missing_joints", config.max_missing_joints, "{} joints that are needed are not seen"),
        (
            "garment-person",
            "garment_faces",
            config.max_garment_faces,
            "somebody wears the garment: faces at its top: {}",
        ),
        ("garment-person", "garment_skin", config.max_garment_skin, "somebody wears the garment: {} of it is skin"),
        ("garment-mask", "garment_share", config.max_garment_share, "the garment mask covers {} of the photo"),
        ("garment-mask", "garment_borders", config.max_garment_borders, "the garment mask touches {} borders"),
    ]
    for sign, bound, checks in ((1, "at least", least), (-1, "at most", most)):
        for name, score, limit, sentence in checks:
            value = scores[score]
            if value is not None and limit is not None and sign * value < sign * limit:
                text = f"{sentence.format(f'{value:g}')}; {bound} {limit:g} is taken"
                raise SampleError(text, code=f"quality-{name}")
