"""The sample: its fields, dtypes, label map, keypoints and Arrow schema.

A *batch* is Ray Data's own numpy batch: ``dict[str, np.ndarray | list]``, one entry a row in each
column. Columns whose rows differ in shape are lists (or object arrays); networks stack them.

Field kinds, and how a row of each looks in memory and on disk:

| kind      | in memory                            | in a shard (Arrow)                              |
|-----------|--------------------------------------|-------------------------------------------------|
| text      | ``str``                              | string                                          |
| number    | ``float``                            | double                                          |
| file      | ``bytes``, an encoded image          | binary, as it came                              |
| image     | uint8 (H, W, 3) RGB                  | binary, PNG; a photo at its own size: its JPEG  |
| mask      | uint8 (H, W), values {0, 1}          | binary, 8-bit PNG with 0 and 255                |
| alpha     | uint8 (H, W), 0..255 = 0..1          | binary, 8-bit PNG                               |
| labels    | uint8 (H, W), values 0..17           | binary, palette PNG                             |
| iuv       | uint8 (H, W, 3): part 0..24, U, V    | binary, PNG                                     |
| keypoints | float32 (25, 3): x px, y px, conf.   | list<float> of 75                               |
| landmarks | float32 (33, 4): x, y, z m, visib.   | list<float> of 132                              |
| flow      | float32 (H, W, 2): dx px, dy px      | binary, 16-bit PNG in KITTI's flow encoding     |
| vector    | float32 (N,)                         | list<float>                                     |
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa

Batch: TypeAlias = dict[str, Any]
Row: TypeAlias = dict[str, Any]

SCHEMA_VERSION = 2
GREY = 128  # the value the agnostic image is painted with


class Kind(Enum):
    """What a field holds; decides its dtype in memory and its encoding in a shard."""

    TEXT = "text"
    NUMBER = "number"
    FILE = "file"
    IMAGE = "image"
    MASK = "mask"
    ALPHA = "alpha"
    LABELS = "labels"
    IUV = "iuv"
    KEYPOINTS = "keypoints"
    LANDMARKS = "landmarks"
    FLOW = "flow"
    VECTOR = "vector"


@dataclass(frozen=True)
class Field:
    """One column of a sample: its name, kind and meaning."""

    name: str
    kind: Kind
    meaning: str


def _table(*fields: Field) -> Mapping[str, Field]:
    return {field.name: field for field in fields}


FIELDS: Mapping[str, Field] = _table(
    Field("id", Kind.TEXT, "unique within the data set"),
    Field("category", Kind.TEXT, "garment category: upper, lower or dress"),
    Field("split", Kind.TEXT, "null, or train, val or test where the source or `tryon data split` says so"),
    Field("person_id", Kind.TEXT, "null, or who is in the person photo, as the source names them"),
    Field("garment_id", Kind.TEXT, "null, or which product the garment is, as the source names it"),
    Field("person_uri", Kind.TEXT, "null, or where the person photo was read"),
    Field("garment_uri", Kind.TEXT, "null, or where the garment photo was read"),
    Field("metadata", Kind.TEXT, "null, or a JSON object of what else the source told"),
    Field("sampling_seed", Kind.NUMBER, "null, or the seed of the noise that this try-on is sampled from"),
    Field("sampling_steps", Kind.NUMBER, "null, or how many steps of the solver this try-on is sampled in"),
    Field("output_format", Kind.TEXT, "null, or what file `result_file` is to be: jpeg or png"),
    Field("output_quality", Kind.NUMBER, "null, or the JPEG quality of `result_file`, 0 to 100"),
    Field("photo_file", Kind.FILE, "photo of which nobody has said whether it shows a person or a garment"),
    Field("photo_kind", Kind.TEXT, "null, or what sorting found `photo_file` to be: person or garment"),
    Field("person_file", Kind.FILE, "person photo as it was given"),
    Field("garment_file", Kind.FILE, "garment photo as it was given"),
    Field("person_photo", Kind.IMAGE, "decoded person photo at its own size"),
    Field("garment_photo", Kind.IMAGE, "decoded garment photo at its own size"),
    Field("person_notices", Kind.TEXT, "what was converted on decoding the person photo, a line each"),
    Field("garment_notices", Kind.TEXT, "what was converted on decoding the garment photo, a line each"),
    Field("person", Kind.IMAGE, "person photo at the working size"),
    Field("garment", Kind.IMAGE, "garment photo at the working size"),
    Field("person_placement", Kind.VECTOR, "x, y, width, height px of the photo inside `person`"),
    Field("pose", Kind.KEYPOINTS, "BODY_25 keypoints of the person"),
    Field("pose_world", Kind.LANDMARKS, "MediaPipe's 33 world landmarks: metres from the middle of the hips"),
    Field("person_mask", Kind.MASK, "1 on the person"),
    Field("parse", Kind.LABELS, "human parsing, 18 ATR classes"),
    Field("lip_parse", Kind.LABELS, "null, or the parse as imported, in LIP's 20 classes"),
    Field("garment_mask", Kind.MASK, "1 where the garment photo shows the garment"),
    Field("dense", Kind.IUV, "DensePose-style map: body part 0..24, U and V 0..255 in the part's own chart"),
    Field("densepose_image", Kind.IMAGE, "null, or VITON-HD's drawing of a DensePose result, as imported"),
    Field("agnostic", Kind.IMAGE, "person with the garment and the arms painted grey 128"),
    Field("agnostic_mask", Kind.MASK, "1 where something must be generated"),
    Field("quality", Kind.TEXT, "JSON object: each check's score"),
    Field("person_hash", Kind.TEXT, "perceptual hash of the person photo, 96 hex digits"),
    Field("garment_hash", Kind.TEXT, "perceptual hash of the garment photo, 96 hex digits"),
    Field("person_digest", Kind.TEXT, "sha256 of the person photo's pixels, its first 16 hex digits"),
    Field("garment_digest", Kind.TEXT, "sha256 of the garment photo's pixels, its first 16 hex digits"),
    Field("warped_garment", Kind.IMAGE, "garment brought onto the body"),
    Field("warped_mask", Kind.ALPHA, "where the warped garment lies"),
    Field("tryon", Kind.IMAGE, "try-on image at the working size, refined if the bundle refines"),
    Field("composition_mask", Kind.ALPHA, "255 where `tryon` shows the warped garment itself"),
    Field("result", Kind.IMAGE, "try-on at the person photo's own size"),
    Field("result_mask", Kind.MASK, "agnostic mask at the person photo's own size"),
    Field("result_file", Kind.FILE, "`result` as an image file"),
    Field("true_flow", Kind.FLOW, "displacement from a person pixel to its garment pixel"),
    Field("true_garment", Kind.IMAGE, "unshaded garment warped by the true flow, black elsewhere"),
    Field("true_mask", Kind.MASK, "1 where the worn garment is visible"),
    Field("true_amodal_mask", Kind.MASK, "1 where the worn garment lies, seen or occluded"),
    Field("unoccluded_person", Kind.IMAGE, "same figure without the garment: skin and base layer"),
    Field("generated", Kind.IMAGE, "try-on image with faults, for SCM to correct towards `person`"),
    Field("generated_by", Kind.TEXT, "where `generated` comes from: a bundle, or the fault made on purpose"),
    Field("error_code", Kind.TEXT, "null, or why the sample cannot be used, as a short code"),
    Field("error", Kind.TEXT, "null, or why the sample cannot be used, in a sentence"),
    Field("error_stage", Kind.TEXT, "null, or the stage that found the error"),
)

ERROR_FIELDS = ("error_code", "error", "error_stage")


class Label(IntEnum):
    """The 18 ATR classes of the `parse` field (shared by SCHP and SegFormer-clothes)."""

    BACKGROUND = 0
    HAT = 1
    HAIR = 2
    SUNGLASSES = 3
    UPPER_CLOTHES = 4
    SKIRT = 5
    PANTS = 6
    DRESS = 7
    BELT = 8
    LEFT_SHOE = 9
    RIGHT_SHOE = 10
    FACE = 11
    LEFT_LEG = 12
    RIGHT_LEG = 13
    LEFT_ARM = 14
    RIGHT_ARM = 15
    BAG = 16
    SCARF = 17


NUM_LABELS = len(Label)

# One colour a class, RGB. Spread in hue so that neighbours on the body differ; left/right pairs are kin.
PALETTE = np.array(
    [
        (0, 0, 0), (120, 60, 20), (90, 40, 120), (40, 40, 40), (230, 90, 30), (220, 60, 140),
        (30, 110, 200), (200, 40, 60), (120, 120, 60), (60, 160, 90), (30, 110, 60), (250, 200, 150),
        (120, 200, 230), (70, 150, 190), (250, 170, 60), (200, 130, 30), (150, 80, 60), (160, 220, 80),
    ],
    dtype=np.uint8,
)  # fmt: skip


class Joint(IntEnum):
    """OpenPose BODY_25 keypoints. Left and right are the person's own."""

    NOSE = 0
    NECK = 1
    RIGHT_SHOULDER = 2
    RIGHT_ELBOW = 3
    RIGHT_WRIST = 4
    LEFT_SHOULDER = 5
    LEFT_ELBOW = 6
    LEFT_WRIST = 7
    MID_HIP = 8
    RIGHT_HIP = 9
    RIGHT_KNEE = 10
    RIGHT_ANKLE = 11
    LEFT_HIP = 12
    LEFT_KNEE = 13
    LEFT_ANKLE = 14
    RIGHT_EYE = 15
    LEFT_EYE = 16
    RIGHT_EAR = 17
    LEFT_EAR = 18
    LEFT_BIG_TOE = 19
    LEFT_SMALL_TOE = 20
    LEFT_HEEL = 21
    RIGHT_BIG_TOE = 22
    RIGHT_SMALL_TOE = 23
    RIGHT_HEEL = 24


NUM_JOINTS = len(Joint)
NUM_LANDMARKS = 33
CATEGORIES = ("upper", "lower", "dress")


def arrow_type(kind: Kind) -> pa.DataType:
    """Arrow type that a field of this kind has in a shard."""
    import pyarrow as pa

    if kind is Kind.TEXT:
        return pa.string()
    if kind is Kind.NUMBER:
        return pa.float64()
    if kind in (Kind.KEYPOINTS, Kind.LANDMARKS, Kind.VECTOR):
        return pa.list_(pa.float32())
    return pa.binary()


def arrow_schema(names: tuple[str, ...]) -> pa.Schema:
    """Arrow schema of a shard that holds these fields, in this order.

    Raises:
        KeyError: a name is not in `FIELDS`.
    """
    import pyarrow as pa

    return pa.schema(
        [pa.field(name, arrow_type(FIELDS[name].kind)) for name in names],
        metadata={"tryon_schema_version": str(SCHEMA_VERSION)},
    )


def num_rows(batch: Mapping[str, Any]) -> int:
    """Rows in a batch; 0 for a batch without columns."""
    return len(next(iter(batch.values()))) if batch else 0
