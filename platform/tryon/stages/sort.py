"""Sort stage: whether a photo shows a person, a garment or neither, before it is decoded in full.

A *person photo* shows a face at the top of a figure. A *garment photo* shows one thing, solid, about as wide left as
right, apart from its background and not cut off by the frame. What is in between is decided so:

* A face printed on a garment does not make a person: cloth goes on above it.
* A garment on a wearer whose head is cut off is neither: the pose stage finds nobody there, and the outline would
  take in arms and trousers. It is told from a garment by skin, and by the frame that cuts it at two sides.
* A garment on a mannequin, seen or retouched away, is a garment; a mannequin with a face counts as a person.
* Several people are a person photo; turning them away is for the quality stage.
* Another thing alone on a plain background may pass for a garment: only its outline is looked at.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from tryon.config import ImageLimits, parse_config
from tryon.errors import SampleError
from tryon.images import DAMAGE, decode_photo
from tryon.sample import Row
from tryon.stages._colour import to_lab
from tryon.stages._faces import Face, FaceFinder
from tryon.stages._mediapipe import Solver
from tryon.stages._photo_scores import borders_touched, worn_skin
from tryon.stages.base import RowStage
from tryon.stages.garment_mask import busy_mask, fit_backdrop, plain_mask

UInt8 = npt.NDArray[np.uint8]
Bool = npt.NDArray[np.bool_]

KINDS = ("person", "garment")
BUSY_PX, BUSY_ROUNDS = 112, 2  # GrabCut on noise takes 1.3 s at 256 px and five rounds
DECODE_PX, SHAPE_PX = 512, 256  # longest sides: faces are looked for in the first, outlines in the second
# How far the figure goes on straight above a face, x the face's height: hair on 187 people 0.06 to 1.09, cloth above a
# face printed on a shirt 1.2. In between the pose decides.
MAX_HAIR, MIN_PRINT = 0.8, 2.0
MIN_VISIBLE = 0.5
SURE_FACE, WEAK_FACE = 0.7, 0.5  # weak ones count where a pose has its nose there
UPPER_PART = 0.35  # of a figure, where its face must be
MAX_SKIN = 0.03  # of an outline that the frame cuts twice
MAX_BORDERS = 2
MAX_AREA, MOSTLY = 0.92, 0.8  # of the frame; from the second on a plain background is taken to be misjudged
MIN_SIDE = 0.12  # of the frame's shorter side
MIN_PIECE = 0.55  # the largest piece, of the whole: text is in many
# Area of the frame, share of the bounding box, overlap with the mirror image. GrabCut always finds something: where
# the background is busy only a clear case counts.
PLAIN_LIMITS, BUSY_LIMITS = (0.02, 0.25, 0.55), (0.15, 0.55, 0.8)
BUSY_CONTRAST = 0.5  # least distance of the colours inside and outside


@dataclass(frozen=True)
class Verdict:
    """What a photo shows.

    Attributes:
        kind: ``"person"``, ``"garment"`` or None.
        score: 0..1; of a person its face's confidence, of a garment how good its outline is, of neither the better.
        reason: a clause that says why.
    """

    kind: str | None
    score: float
    reason: str


class Sort(RowStage):
    """Sorts photos into person photos and garment photos.

    Reads ``photo_file``; looks at ``photo_kind``, and where that is given believes it. Adds ``photo_kind`` and the
    photo itself as ``person_file`` or as ``garment_file``; the other one stays None. Rows whose photo shows neither
    end with the code ``"photo-neither"``, or with the decoder's code where it is no photo.

    Args:
        label: what messages call the photo.
        limits: bounds on the file, fields of `ImageLimits`.
    """

    name: ClassVar[str] = "sort"
    reads = ("photo_file",)
    optional = ("photo_kind",)
    adds = ("photo_kind", "person_file", "garment_file")

    def __init__(self, label: str = "photo", limits: Mapping[str, Any] | None = None) -> None:
        self._label = label
        self._limits = parse_config(ImageLimits, limits or {}, "limits")
        self._judge = Judge()

    def process(self, row: Row) -> Row:
        """Adds the kind and the photo under it.

        Raises:
            SampleError: neither a person nor a garment, an unknown kind, or a damaged file.
        """
        data, kind = row["photo_file"], row.get("photo_kind")
        if kind is None:
            verdict = self._judge(reduced(data, self._label, self._limits))
            if verdict.kind is None:
                text = f"the {self._label} shows neither a person nor a garment: {verdict.reason}"
                raise SampleError(f"{text} (score {verdict.score:.2f})", code="photo-neither", field="photo_file")
            kind = verdict.kind
        if kind not in KINDS:
            text = f"photo_kind {kind!r} is not one of {', '.join(KINDS)}"
            raise SampleError(text, code="photo-kind-unknown", field="photo_kind")
        return {
            "photo_kind": kind,
            "person_file": data if kind == "person" else None,
            "garment_file": data if kind == "garment" else None,
        }


class Judge:
    """Tells what a photo shows. Holds MediaPipe's solvers: one for each thread."""

    def __init__(self) -> None:
        self._find_faces = FaceFinder(WEAK_FACE)
        self._pose = Solver(_make_pose, _pose_found)

    def __call__(self, image: UInt8) -> Verdict:
        """Judges an RGB uint8 (H, W, 3) photo; `DECODE_PX` on its longest side is enough."""
        small = _shrunk(image, SHAPE_PX)
        outline, busy = _outline(small)
        figure = None if busy else outline
        faces = self._find_faces(image)
        if figure is not None and all(face.score < SURE_FACE for face in faces):
            faces = [*self._look_closer(image, figure), *faces]
        face = next((face for face in faces if self._is_alive(face, image, figure)), None)
        if face is not None:
            return Verdict("person", face.score, "a face at the top of a figure")
        if outline is None:
            return Verdict(None, 0.0, "no face was found, and nothing stands out from the background")
        return _garment(small, outline, busy=busy)

    def _look_closer(self, image: UInt8, figure: Bool) -> list[Face]:
        """Faces in the upper part of a figure: those of whole bodies are too small for the detectors otherwise."""
        rows, columns = np.nonzero(figure.any(axis=1))[0], np.nonzero(figure.any(axis=0))[0]
        height, width = image.shape[:2]
        per_row, per_column = height / figure.shape[0], width / figure.shape[1]
        top, left = int(rows[0] * per_row), int(columns[0] * per_column)
        tall = max(8, int((rows[-1] - rows[0]) * per_row * UPPER_PART))
        wide = max(8, int((columns[-1] - columns[0]) * per_column))
        top, left = max(0, top - tall // 8), max(0, left - wide // 8)
        crop = image[top : top + tall + tall // 4, left : left + wide + wide // 4]
        down, across = crop.shape[0] / height, crop.shape[1] / width
        return [
            Face(left / width + f.x * across, top / height + f.y * down, f.width * across, f.height * down, f.score)
            for f in self._find_faces(crop)
        ]

    def _is_alive(self, face: Face, image: UInt8, figure: Bool | None) -> bool:
        """Whether a face is a person's and no print: by what is above it, or by a body that fits it."""
        if figure is not None:
            above = _above(face, figure)
            if above > MIN_PRINT:
                return False
            if above < MAX_HAIR and face.score >= SURE_FACE:
                return True
        result = self._pose(_shrunk(image, SHAPE_PX))
        if not _pose_found(result):
            return False
        nose = result.pose_landmarks.landmark[0]
        inside = face.x <= nose.x <= face.x + face.width and face.y <= nose.y <= face.y + face.height
        return bool(inside and nose.visibility >= MIN_VISIBLE)


def _above(face: Face, figure: Bool) -> float:
    """How far the figure goes on straight above a face, x the face's height."""
    height, width = figure.shape
    left, right = (int(np.clip(x * width, 0, width - 1)) for x in (face.x, face.x + face.width))
    top = int(np.clip(face.y * height, 0, height - 1))
    column = figure[: top + 1, left : right + 1].mean(axis=1) >= 0.25
    empty = np.nonzero(~column)[0]
    end = int(empty[-1]) + 1 if len(empty) else 0
    return (top - end) / (face.height * height)


def reduced(data: bytes, name: str, limits: ImageLimits) -> UInt8:
    """Decodes a photo small: `DECODE_PX` on the longest side or a little more.

    JPEG files are scaled while they are decoded, 12 megapixels in 20 ms in place of 120. Whatever is odd about a file
    goes to `decode_photo`, so that faults have one name.

    Raises:
        ImageError: as `decode_photo`.
    """
    pixels: UInt8 | None = None
    if 0 < len(data) <= limits.max_bytes:
        try:
            pixels = _draft(data, limits)
        except DAMAGE:
            pixels = None
    if pixels is None:
        pixels = decode_photo(data, name, limits).pixels
    return _shrunk(pixels, DECODE_PX)


def _draft(data: bytes, limits: ImageLimits) -> UInt8 | None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            image = Image.open(io.BytesIO(data), formats=("JPEG",))
        except (Image.DecompressionBombWarning, Image.DecompressionBombError):
            return None
    width, height = image.size
    small = min(width, height) < limits.min_side_px
    if small or max(width, height) > limits.max_side_px or width * height > limits.max_pixels:
        return None
    image.draft("RGB", (DECODE_PX, DECODE_PX))
    if image.mode != "RGB":
        return None
    return np.asarray(ImageOps.exif_transpose(image), dtype=np.uint8)


def _outline(small: UInt8) -> tuple[Bool | None, bool]:
    """What stands out from the background, and whether that is busy."""
    lab = to_lab(small)
    backdrop = fit_backdrop(lab)
    found = plain_mask(lab, backdrop) if backdrop.plain else None
    if backdrop.plain and (found is None or found.mean() < MOSTLY):
        return found, False
    return busy_mask(small, BUSY_PX, BUSY_ROUNDS), True


def _garment(small: UInt8, outline: Bool, *, busy: bool) -> Verdict:
    """Whether an outline is that of one garment."""
    mask = outline.astype(np.uint8)
    small = np.asarray(cv2.resize(small, mask.shape[::-1], interpolation=cv2.INTER_AREA), dtype=np.uint8)
    if worn_skin(small, mask) > MAX_SKIN:
        return Verdict(None, 0.0, "what stands out is cut off by the frame and shows skin: a wearer without a face")
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    assert count > 1, "an outline has at least one piece"
    at = int(stats[1:, cv2.CC_STAT_AREA].argmax()) + 1
    x, y, width, height, area = (int(v) for v in stats[at])
    piece = labels[y : y + height, x : x + width] == at
    share, side = float(mask.mean()), min(width, height) / min(mask.shape)
    least_area, least_solid, least_symmetry = BUSY_LIMITS if busy else PLAIN_LIMITS
    checks = (
        (share, least_area, f"what stands out covers {share:.1%} of the frame"),
        (1 - share, 1 - MAX_AREA, f"what stands out covers {share:.1%} of the frame"),
        (side, MIN_SIDE, "what stands out is a mere stripe"),
        (_contrast(small, outline) if busy else 1.0, BUSY_CONTRAST, "nothing stands out from a busy background"),
        (1.0 if borders_touched(mask) <= MAX_BORDERS else 0.0, 0.5, "what stands out is cut off by the frame"),
        (area / int(mask.sum()), MIN_PIECE, "what stands out is in many pieces"),
        (area / (width * height), least_solid, "what stands out is not solid"),
        (_symmetry(piece), least_symmetry, "what stands out has no symmetry, as garments have"),
    )
    for value, least, reason in checks:
        if value < least:
            return Verdict(None, max(0.0, value), f"no face was found, and {reason}")
    score = min(1.0, *(0.5 + 0.5 * (value - least) / max(1 - least, 1e-6) for value, least, _ in checks[5:]))
    return Verdict("garment", float(score), "one solid thing apart from its background")


def _symmetry(piece: Bool) -> float:
    mirrored = piece[:, ::-1]
    return float((piece & mirrored).sum() / (piece | mirrored).sum())


def _contrast(small: UInt8, outline: Bool) -> float:
    """Hellinger distance of the colours inside and outside an outline, 0..1."""
    lab = cv2.cvtColor(small, cv2.COLOR_RGB2LAB)
    histograms = []
    for where in (outline, ~outline):
        histogram = cv2.calcHist([lab], [0, 1, 2], where.astype(np.uint8), [8, 12, 12], [0, 256, 64, 192, 64, 192])
        histograms.append(histogram / max(float(histogram.sum()), 1.0))
    return float(cv2.compareHist(histograms[0], histograms[1], cv2.HISTCMP_BHATTACHARYYA))


def _shrunk(image: UInt8, longest_px: int) -> UInt8:
    scale = longest_px / max(image.shape[:2])
    if scale >= 1:
        return image
    size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _make_pose(solutions: Any) -> Any:
    return solutions.pose.Pose(static_image_mode=True, model_complexity=1, enable_segmentation=False)


def _pose_found(result: Any) -> bool:
    return result.pose_landmarks is not None
