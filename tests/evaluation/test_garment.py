"""Figures of the garment alone."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest

from tryon.data.simulator import simulate
from tryon.data.simulator.config import SimulatorConfig
from tryon.evaluation.garment import (
    changed_share,
    colour_distance,
    hands_region,
    head_region,
    print_correlation,
    shown_region,
    texture_distance,
    worn_region,
)
from tryon.models.metrics import paired_metrics, region_metrics
from tryon.sample import Batch, Label

SIZE = (256, 192)
ALL = np.ones(SIZE, dtype=np.uint8)


def noise(seed: int, sigma: float = 30, mean: float = 120) -> np.ndarray[Any, np.dtype[np.uint8]]:
    values = np.random.default_rng(seed).normal(mean, sigma, (*SIZE, 3))
    return values.clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def batch() -> Batch:
    row = simulate(5, 0, *SIZE)
    return {name: [value] for name, value in row.items()}


def test_of_a_region_only_what_is_in_it_counts() -> None:
    truth, result = noise(0), noise(0)
    region = np.zeros(SIZE, dtype=np.uint8)
    region[20:60, 30:90] = 1
    result[100:] = 0  # far away
    assert region_metrics([result], [truth], [region]) == {"ssim": [1.0], "ms_ssim": [None], "psnr": [100.0]}
    result[25:55, 40:80] = 128
    figures = region_metrics([result], [truth], [region])
    assert 0 < figures["ssim"][0] < 0.7  # type: ignore[operator]
    error = np.square((result[20:60, 30:90].astype(float) - truth[20:60, 30:90]) / 255).mean()
    assert figures["psnr"] == [pytest.approx(-10 * np.log10(error), abs=1e-3)]
    assert region_metrics([result], [truth], [np.zeros(SIZE, np.uint8)]) == {name: [None] for name in figures}
    with pytest.raises(ValueError, match="one size"):
        region_metrics([result], [truth], [region[1:]])


def test_of_a_region_that_is_all_they_are_those_of_the_image() -> None:
    truth, result = noise(0), noise(0) // 2 + noise(1) // 2
    whole, part = paired_metrics([result], [truth]), region_metrics([result], [truth], [ALL])
    for name in ("ssim", "ms_ssim", "psnr"):
        assert part[name][0] == pytest.approx(whole[name][0], abs=0.01)


def test_colours_are_apart_by_how_far_they_must_be_moved() -> None:
    red, blue = (np.full((*SIZE, 3), colour, dtype=np.uint8) for colour in ((200, 20, 20), (20, 20, 200)))
    assert colour_distance(red, ALL, red[:100, :90], ALL[:100, :90]) == 0
    lab = [cv2.cvtColor(image[:1, :1].astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[0, 0] for image in (red, blue)]
    assert colour_distance(red, ALL, blue, ALL) == pytest.approx(np.linalg.norm(lab[0] - lab[1]), rel=1e-4)
    half = red.copy()
    half[:128] = (20, 20, 200)
    assert 0 < colour_distance(half, ALL, blue, ALL) < colour_distance(red, ALL, blue, ALL)  # type: ignore[operator]
    assert colour_distance(red, np.zeros(SIZE, np.uint8), red, ALL) is None


def test_texture_is_apart_by_doublings_of_contrast() -> None:
    one, double, flat = noise(0, 10), noise(1, 20), noise(2, 0)
    assert texture_distance(one, ALL, noise(3, 10), ALL) < 0.1  # type: ignore[operator]
    assert texture_distance(one, ALL, double, ALL) == pytest.approx(1, abs=0.1)
    assert texture_distance(one, ALL, flat, ALL) > 2  # type: ignore[operator]
    assert texture_distance(one, ALL, cv2.GaussianBlur(one, (0, 0), 2), ALL) > 0.5  # type: ignore[operator]
    assert texture_distance(one, np.zeros(SIZE, np.uint8), one, ALL) is None


def test_the_same_cloth_at_another_scale_is_no_other_texture() -> None:
    cloth = cv2.GaussianBlur(noise(0, 60), (0, 0), 3)
    large = cv2.resize(cloth, (384, 512), interpolation=cv2.INTER_CUBIC)
    found = texture_distance(cloth, ALL, np.asarray(large, dtype=np.uint8), np.ones((512, 384), np.uint8))
    assert found is not None
    assert found < 0.1


def test_what_changed() -> None:
    photo, result = noise(0), noise(0)
    result[:10] += 1
    region = np.zeros(SIZE, dtype=np.uint8)
    region[:20] = 1
    assert changed_share(result, photo, region) == pytest.approx(0.5)
    assert changed_share(result, photo, 1 - region) == 0
    assert changed_share(result, photo, np.zeros(SIZE, np.uint8)) is None


def test_regions_of_a_drawn_person(batch: Batch) -> None:
    parse = batch["parse"][0]
    head = head_region(batch, 0) > 0
    assert head[np.isin(parse, (1, 2, 3))].all()
    assert set(parse[head]) <= {1, 2, 3, 11}
    throat = (parse == 11) & ~head
    assert throat.any()
    assert np.nonzero(throat)[0].mean() > np.nonzero(head & (parse == 11))[0].mean()
    worn = worn_region(batch, 0)
    assert 0 < worn.sum() < 0.6 * worn.size
    hands = hands_region(batch, 0) > 0
    assert hands.any()
    assert set(parse[hands]) <= {Label.LEFT_ARM, Label.RIGHT_ARM}
    assert hands.sum() < np.isin(parse, (14, 15)).sum()


def test_what_shows_the_garment_is_where_it_was_pasted() -> None:
    pasted, mask = np.zeros(SIZE, dtype=np.uint8), np.zeros(SIZE, dtype=np.uint8)
    mask[50:200, 50:150] = 1
    pasted[60:100, 60:100] = 200
    assert np.array_equal(shown_region({"composition_mask": [pasted], "agnostic_mask": [mask]}, 0), pasted > 127)
    assert np.array_equal(shown_region({"composition_mask": [pasted * 0], "agnostic_mask": [mask]}, 0), mask)


def test_a_print_is_legible_wherever_it_lies() -> None:
    row = simulate(4, 2, 512, 384, SimulatorConfig(categories=("upper",), textures=("text",)))
    truth, mask = row["true_garment"], row["true_mask"]
    full = mask * np.uint8(255)
    assert print_correlation(truth, full, truth, mask) == pytest.approx(1, abs=1e-4)
    moved, moved_mask = np.roll(truth, (5, -6), (0, 1)), np.roll(full, (5, -6), (0, 1))
    assert print_correlation(moved, moved_mask, truth, mask) == pytest.approx(1, abs=1e-3)
    blurred = print_correlation(cv2.GaussianBlur(truth, (0, 0), 8), full, truth, mask)
    mirrored = print_correlation(truth[:, ::-1].copy(), full[:, ::-1].copy(), truth, mask)
    assert blurred is not None
    assert mirrored is not None
    assert mirrored < 0.85
    assert blurred < 0.95
    assert print_correlation(truth, np.zeros_like(full), truth, mask) == 0


def test_a_plain_garment_has_no_print() -> None:
    row = simulate(4, 0, *SIZE, SimulatorConfig(categories=("upper",), textures=("plain",), open_garments=0))
    assert row["true_mask"].any()
    plain = np.full_like(row["true_garment"], 90)
    assert print_correlation(plain, row["true_mask"] * np.uint8(255), plain, row["true_mask"]) is None
