"""Published label sets end in the right ATR classes."""

from __future__ import annotations

import pytest

from tryon.errors import ConfigError
from tryon.sample import NUM_LABELS, Label
from tryon.stages.labels import ATR_NAMES, CIHP_NAMES, CIHP_TO_ATR, LABEL_SETS, LIP_TO_ATR, atr_label, label_table

# As the model card of SegFormer-clothes has them.
CLOTHES = (
    "Background", "Hat", "Hair", "Sunglasses", "Upper-clothes", "Skirt", "Pants", "Dress", "Belt", "Left-shoe",
    "Right-shoe", "Face", "Left-leg", "Right-leg", "Left-arm", "Right-arm", "Bag", "Scarf",
)  # fmt: skip


def test_the_names_of_segformer_clothes_are_the_classes() -> None:
    assert label_table(CLOTHES, {}, "w").tolist() == list(range(NUM_LABELS))
    assert label_table([name.upper().replace("-", " ") for name in CLOTHES], {}, "w").tolist() == list(
        range(NUM_LABELS)
    )


def test_tables_of_20_classes_agree_with_their_names() -> None:
    assert label_table(CIHP_NAMES, {}, "w").tolist() == CIHP_TO_ATR.tolist()
    lip = [name if name != "torso-skin" else "jumpsuits" for name in CIHP_NAMES]
    assert label_table(lip, {}, "w").tolist() == LIP_TO_ATR.tolist()
    assert {name: len(table) for name, table in LABEL_SETS.items()} == {"atr": 18, "lip": 20, "cihp": 20}


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("shirt", Label.UPPER_CLOTHES),
        ("T-shirt", Label.UPPER_CLOTHES),
        ("Coat", Label.UPPER_CLOTHES),
        ("trousers", Label.PANTS),
        ("UpperClothes", Label.UPPER_CLOTHES),
        ("left_shoe", Label.LEFT_SHOE),
        ("Right Arm", Label.RIGHT_ARM),
        ("glove", Label.BACKGROUND),
        ("arms", None),
        ("skin", None),
        ("shoes", None),
        ("LABEL_4", None),
        ("", None),
    ],
)
def test_a_word_is_matched_only_if_it_can_mean_nothing_else(name: str, label: Label | None) -> None:
    assert atr_label(name) == label


def test_what_the_user_says_wins() -> None:
    table = label_table(["background", "arms", "scarf"], {"Arms": "left arm", "scarf": "Upper-clothes"}, "w")
    assert table.tolist() == [Label.BACKGROUND, Label.LEFT_ARM, Label.UPPER_CLOTHES]


def test_labels_that_cannot_be_matched_are_listed_with_what_to_do() -> None:
    with pytest.raises(ConfigError) as caught:
        label_table(["background", "skin", "nose", "neck", "arms"], {}, "acme/faces")
    assert caught.value.code == "labels-unmapped"
    assert caught.value.message.startswith("acme/faces: it cannot be told which ATR class is meant by 'skin', 'nose', ")
    assert "labels={'skin': 'background', 'nose': 'background', ...}" in caught.value.message
    assert ", ".join(ATR_NAMES) in caught.value.message


def test_a_long_list_is_cut() -> None:
    with pytest.raises(ConfigError, match=r"'thing 7' and 142 more"):
        label_table([f"thing {i}" for i in range(150)], {}, "ade")


def test_a_map_of_what_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match="w has no label 'blazer'; it has 'hat', 'hair'"):
        label_table(["hat", "hair"], {"blazer": "upper-clothes"}, "w")
    with pytest.raises(ConfigError, match="'hat': 'helmet' is no ATR class"):
        label_table(["hat", "hair"], {"hat": "helmet"}, "w")
