"""Where the face ends, and what is near a region."""

from __future__ import annotations

import numpy as np

from tests.data.assets import clean_rows
from tryon.data.look.anatomy import face_height, grown, has_label
from tryon.data.look.overlays import draw_dense
from tryon.sample import Joint, Label


def test_face_height_is_zero_in_the_face_and_grows_downwards() -> None:
    row = clean_rows()[0]
    down = face_height(row["pose"], row["parse"].shape)
    assert down is not None
    eyes = row["pose"][[Joint.LEFT_EYE, Joint.RIGHT_EYE], :2].mean(axis=0).astype(int)
    neck = row["pose"][Joint.NECK, :2].astype(int)
    assert -0.6 < down[eyes[1], eyes[0]] < 0.2
    assert down[neck[1], neck[0]] > 1
    assert face_height(np.zeros((25, 3), np.float32), (64, 48)) is None


def test_grown_reaches_as_far_as_told() -> None:
    mask = np.zeros((21, 21), bool)
    assert not grown(mask, 5).any()
    mask[10, 10] = True
    near = grown(mask, 5)
    assert near[10, 15]
    assert not near[10, 16]
    assert not near[14, 14]


def test_labels_and_dense_colours() -> None:
    parse = np.array([[0, Label.PANTS, Label.FACE]], np.uint8)
    assert has_label(parse, (Label.PANTS,)).tolist() == [[False, True, False]]
    dense = np.zeros((1, 3, 3), np.uint8)
    dense[0, 1:, 0] = (1, 24)
    drawn = draw_dense(dense)
    assert not drawn[0, 0].any()
    assert drawn[0, 1].tolist() != drawn[0, 2].tolist()
