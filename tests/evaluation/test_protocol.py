"""What the samples say about the protocol: sizes, pairs, and whether anything outside the mask was repainted."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from tryon.evaluation.config import EvaluateConfig
from tryon.evaluation.protocol import UNCHANGED, changed_outside, extent_of, findings, hash_ids, merge_extents

PHOTO = np.zeros((10, 8, 3), np.uint8)


def test_only_what_lies_outside_the_mask_counts_as_repainted() -> None:
    mask = np.zeros((10, 8), np.uint8)
    mask[:5] = 1
    inside, both = PHOTO.copy(), PHOTO.copy()
    inside[:5] = 9
    both[4:6, :, 1] = 9  # a row inside, and one of the five outside
    assert changed_outside(inside, PHOTO, mask) == 0
    assert changed_outside(both, PHOTO, mask) == pytest.approx(0.2)
    assert changed_outside(both, PHOTO, np.ones((10, 8), np.uint8)) == 0


def test_extents_of_shards_are_merged() -> None:
    one = extent_of([PHOTO, PHOTO[:7]], [0.0, 0.25])
    other = extent_of([np.zeros((20, 6, 3), np.uint8)], [0.1])
    assert one == {"min_height": 7, "max_height": 10, "min_width": 8, "max_width": 8, "changed_outside": 0.25}
    merged = merge_extents([one, extent_of([], []), other])
    assert merged == {"min_height": 7, "max_height": 20, "min_width": 6, "max_width": 8, "changed_outside": 0.25}


def test_findings_say_whether_it_was_repainted_and_how_kid_was_drawn() -> None:
    extent = extent_of([PHOTO], [0.25])
    told = findings(["a", "b+c"], 2, extent, EvaluateConfig())
    assert told == {
        "height_px": [10, 10],
        "width_px": [8, 8],
        "outside_mask": "repainted: up to 25.00% of an image's pixels there are changed",
        "pairs_sha256": hashlib.sha256(b"a\nb+c\n").hexdigest(),
    }
    told = findings(["a"] * 1200, 1200, {**extent, "changed_outside": 0.0}, EvaluateConfig(fid_weights="x"))
    assert told["outside_mask"] == UNCHANGED
    assert told["kid"] == {"subsets": 100, "subset_size": 1000, "drawn_from": 1200, "seed": 0}
    assert told["is"] == {"splits": 10}


def test_the_hash_of_pairs_knows_their_order() -> None:
    assert hash_ids(["a", "b"]) != hash_ids(["b", "a"])
    assert hash_ids(["ab"]) != hash_ids(["a", "b"])
    assert hash_ids(iter(["a", "b"])) == hash_ids(["a", "b"])
