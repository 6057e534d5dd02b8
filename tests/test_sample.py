"""The sample's tables agree with each other and with Arrow."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from tryon.sample import (
    CATEGORIES,
    ERROR_FIELDS,
    FIELDS,
    NUM_JOINTS,
    NUM_LABELS,
    PALETTE,
    SCHEMA_VERSION,
    Joint,
    Kind,
    Label,
    arrow_schema,
    arrow_type,
    num_rows,
)


def test_every_field_is_listed_under_its_own_name_with_a_meaning() -> None:
    for name, field in FIELDS.items():
        assert field.name == name
        assert field.meaning
    assert set(ERROR_FIELDS) <= set(FIELDS)
    assert {field.kind for field in FIELDS.values()} >= set(Kind) - {Kind.NUMBER}


def test_labels_are_the_atr_classes_without_gaps() -> None:
    assert [int(label) for label in Label] == list(range(18)) == list(range(NUM_LABELS))
    assert (Label.UPPER_CLOTHES, Label.FACE, Label.RIGHT_ARM) == (4, 11, 15)


def test_palette_has_one_colour_a_label() -> None:
    assert PALETTE.shape == (NUM_LABELS, 3)
    assert PALETTE.dtype == np.uint8
    assert len(np.unique(PALETTE, axis=0)) == NUM_LABELS


def test_joints_are_body_25_and_come_in_pairs() -> None:
    assert [int(joint) for joint in Joint] == list(range(25)) == list(range(NUM_JOINTS))
    left = {joint.name.removeprefix("LEFT_") for joint in Joint if joint.name.startswith("LEFT_")}
    right = {joint.name.removeprefix("RIGHT_") for joint in Joint if joint.name.startswith("RIGHT_")}
    assert left == right


def test_categories() -> None:
    assert CATEGORIES == ("upper", "lower", "dress")


@pytest.mark.parametrize("kind", Kind)
def test_every_kind_has_an_arrow_type(kind: Kind) -> None:
    expected = {
        Kind.TEXT: pa.string(),
        Kind.NUMBER: pa.float64(),
        Kind.KEYPOINTS: pa.list_(pa.float32()),
        Kind.LANDMARKS: pa.list_(pa.float32()),
        Kind.VECTOR: pa.list_(pa.float32()),
    }
    assert arrow_type(kind) == expected.get(kind, pa.binary())


def test_schema_keeps_the_order_and_says_its_version() -> None:
    schema = arrow_schema(("pose", "id", "person"))
    assert schema.names == ["pose", "id", "person"]
    assert schema.metadata == {b"tryon_schema_version": str(SCHEMA_VERSION).encode()}


def test_schema_of_an_unknown_field() -> None:
    with pytest.raises(KeyError, match="hat_size"):
        arrow_schema(("id", "hat_size"))


def test_rows_are_counted_by_the_first_column() -> None:
    assert num_rows({"id": ["a", "b"], "person": [None, None]}) == 2
    assert num_rows({"id": []}) == 0
    assert num_rows({}) == 0
