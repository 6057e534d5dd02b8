"""The label sets of published parsers as the 18 ATR classes of the `parse` field."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from tryon.errors import ConfigError
from tryon.sample import NUM_LABELS, Label

UInt8 = npt.NDArray[np.uint8]
LabelSet = Literal["atr", "lip", "cihp"]

CIHP_NAMES = (
    "background", "hat", "hair", "glove", "sunglasses", "upper-clothes", "dress", "coat", "socks", "pants",
    "torso-skin", "scarf", "skirt", "face", "left-arm", "right-arm", "left-leg", "right-leg", "left-shoe", "right-shoe",
)  # fmt: skip
# CIHP's 20 classes, in order. Neck and chest count as face: skin that stays. Gloves and socks have no class in ATR.
CIHP_TO_ATR: UInt8 = np.array(
    [
        Label.BACKGROUND, Label.HAT, Label.HAIR, Label.BACKGROUND, Label.SUNGLASSES, Label.UPPER_CLOTHES, Label.DRESS,
        Label.UPPER_CLOTHES, Label.BACKGROUND, Label.PANTS, Label.FACE, Label.SCARF, Label.SKIRT, Label.FACE,
        Label.LEFT_ARM, Label.RIGHT_ARM, Label.LEFT_LEG, Label.RIGHT_LEG, Label.LEFT_SHOE, Label.RIGHT_SHOE,
    ],
    dtype=np.uint8,
)  # fmt: skip
# LIP differs from CIHP in one class: its number 10 is a jumpsuit, a garment in one piece.
JUMPSUITS = 10
LIP_TO_ATR: UInt8 = np.where(np.arange(len(CIHP_TO_ATR)) == JUMPSUITS, Label.DRESS, CIHP_TO_ATR).astype(np.uint8)
LABEL_SETS: Mapping[LabelSet, UInt8] = {
    "atr": np.arange(NUM_LABELS, dtype=np.uint8),
    "lip": LIP_TO_ATR,
    "cihp": CIHP_TO_ATR,
}

# Other words for a class that can mean nothing else. "arms" or "skin" could mean two, so they are not among them.
SYNONYMS: Mapping[Label, str] = {
    Label.BACKGROUND: "bg glove gloves sock socks",
    Label.HAT: "hats cap headwear",
    Label.SUNGLASSES: "glasses eyeglasses",
    Label.UPPER_CLOTHES: "upper uppercloth upperbody top tops shirt tshirt blouse sweater coat jacket cardigan",
    Label.SKIRT: "skirts",
    Label.PANTS: "pant trousers jeans shorts",
    Label.DRESS: "dresses jumpsuit jumpsuits",
    Label.BELT: "belts",
    Label.FACE: "torsoskin neck",
    Label.BAG: "bags handbag",
    Label.SCARF: "scarves",
}
BY_NAME: Mapping[str, Label] = {
    **{label.name.lower().replace("_", ""): label for label in Label},
    **{word: label for label, words in SYNONYMS.items() for word in words.split()},
}
ATR_NAMES = tuple(label.name.lower().replace("_", "-") for label in Label)
MOST_SHOWN = 8


def atr_label(name: str) -> Label | None:
    """The class that a name means, whatever its case, spaces, hyphens and underscores; None if it could be another."""
    return BY_NAME.get(_plain(name))


def label_table(names: Sequence[str], given: Mapping[str, str], where: str) -> UInt8:
    """For each label of a parser its ATR class.

    Args:
        names: the parser's labels, in order.
        given: label to ATR class, by name; what is not in it is matched by name.
        where: what to call the parser in messages.

    Raises:
        ConfigError: a label cannot be matched, or `given` names a label or a class that there is not.
    """
    chosen = {_plain(name): _chosen_class(name, given[name]) for name in given}
    unknown = [name for name in given if _plain(name) not in {_plain(n) for n in names}]
    if unknown:
        text = f"labels: {where} has no label {unknown[0]!r}; it has {_listed(names)}"
        raise ConfigError(text, code="labels-unknown", field="labels")
    found = [chosen.get(_plain(name), atr_label(name)) for name in names]
    lost = [name for name, label in zip(names, found, strict=True) if label is None]
    if lost:
        example = ", ".join(f"{name!r}: 'background'" for name in lost[:2])
        text = (
            f"{where}: it cannot be told which ATR class is meant by {_listed(lost)}; "
            f"say so with the option labels={{{example}{', ...' if len(lost) > 2 else ''}}} "
            f"(classes: {', '.join(ATR_NAMES)})"
        )
        raise ConfigError(text, code="labels-unmapped", field="labels")
    return np.array(found, dtype=np.uint8)


def _chosen_class(name: str, atr: str) -> Label:
    by_name = {_plain(n): label for n, label in zip(ATR_NAMES, Label, strict=True)}
    if _plain(atr) not in by_name:
        text = f"labels: {name!r}: {atr!r} is no ATR class (classes: {', '.join(ATR_NAMES)})"
        raise ConfigError(text, code="labels-unknown", field="labels")
    return by_name[_plain(atr)]


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", str(name).lower())


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:MOST_SHOWN])
    return shown if len(names) <= MOST_SHOWN else f"{shown} and {len(names) - MOST_SHOWN} more"
