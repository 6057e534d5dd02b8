"""Image metrics: the ends of their scales, and an order that noise sets."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from torchmetrics.functional.image import visual_information_fidelity

from tryon.data.simulator import simulate
from tryon.models.metrics import MS_SSIM_MIN_SIDE, flow_end_point_error, paired_metrics, parse_miou
from tryon.models.vif import MIN_SIDE_PX, vif

PERSON = simulate(0, 0, 192, 176)["person"]


def noisy(levels: float) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    noise = np.random.default_rng(0).normal(0, levels, PERSON.shape)
    return np.clip(PERSON + noise, 0, 255).astype(np.uint8)


def test_equal_images() -> None:
    figures = paired_metrics([PERSON], [PERSON])
    assert figures["ssim"] == [pytest.approx(1, abs=1e-6)]
    assert figures["ms_ssim"] == [pytest.approx(1, abs=1e-6)]
    assert figures["vif"] == [pytest.approx(1, abs=1e-6)]
    psnr = figures["psnr"][0]
    assert psnr is not None
    assert psnr > 60


def test_more_noise_is_worse_in_every_metric() -> None:
    images = [noisy(levels) for levels in (2, 8, 30, 90)]
    figures = paired_metrics(images, [PERSON] * 4)
    assert set(figures) == {"ssim", "ms_ssim", "psnr", "vif"}
    for values in figures.values():
        assert all(a > b for a, b in pairwise(value for value in values if value is not None))
        assert None not in values


def test_psnr_of_a_constant_difference() -> None:
    image = np.full((32, 32, 3), 100, np.uint8)
    assert paired_metrics([image + np.uint8(10)], [image])["psnr"][0] == pytest.approx(20 * np.log10(25.5), abs=1e-3)


def test_what_cannot_be_computed_is_none_and_keeps_its_place() -> None:
    small, tiny = PERSON[: MS_SSIM_MIN_SIDE - 1], PERSON[: MIN_SIDE_PX - 1]
    figures = paired_metrics([PERSON, small, tiny], [PERSON, small, tiny])
    assert [value is None for value in figures["ms_ssim"]] == [False, True, True]
    assert [value is None for value in figures["vif"]] == [False, False, True]
    assert None not in figures["ssim"]
    grey = np.full((64, 64, 3), 100, np.uint8)
    assert paired_metrics([grey], [grey])["vif"] == [None], "a truth of one colour holds no information"


def test_a_figure_does_not_depend_on_its_neighbours() -> None:
    alone = paired_metrics([noisy(8)], [PERSON])["ssim"][0]
    assert paired_metrics([PERSON, noisy(8)], [PERSON, PERSON])["ssim"][1] == pytest.approx(alone, abs=1e-7)


def test_sizes_must_agree() -> None:
    with pytest.raises(ValueError, match="must have one size"):
        paired_metrics([PERSON], [PERSON[:-1]])
    with pytest.raises(ValueError, match=r"shorter|longer"):
        paired_metrics([PERSON], [])


def test_end_point_error_over_valid_pixels() -> None:
    truth, valid = torch.zeros(2, 4, 4, 2), torch.zeros(2, 4, 4, dtype=torch.bool)
    truth[0, 2:] = float("nan")
    valid[0, :2] = True
    error = flow_end_point_error(torch.tensor([3.0, 4.0]).expand(2, 4, 4, 2), truth, valid)
    assert float(error[0]) == pytest.approx(5)
    assert bool(error[1].isnan())


@pytest.mark.parametrize("size", [(MIN_SIDE_PX, 53), (96, 75)])
@pytest.mark.parametrize("levels", [3, 40])
def test_vif_is_torchmetrics(size: tuple[int, int], levels: float) -> None:
    result, truth = noisy(levels)[: size[0], : size[1]], PERSON[: size[0], : size[1]]
    a, b = (torch.from_numpy(x).permute(2, 0, 1)[None].double() for x in (result, truth))
    assert vif(result, truth) == pytest.approx(float(visual_information_fidelity(a, b)), rel=1e-9)


def test_vif_names_what_it_cannot_compare() -> None:
    with pytest.raises(ValueError, match="must have one size"):
        vif(PERSON, PERSON[:-1])
    with pytest.raises(ValueError, match="VIF needs 41 px a side"):
        vif(PERSON[:40], PERSON[:40])


def test_parse_miou() -> None:
    predicted, truth = torch.tensor([[[4, 4, 0, 0]]]), torch.tensor([[[4, 0, 0, 0]]])
    assert float(parse_miou(predicted, truth)[0]) == pytest.approx((1 / 2 + 2 / 3) / 2)


def test_parse_miou_counts_the_classes_that_are_shown() -> None:
    truth, predicted = torch.zeros(3, 2, 2, dtype=torch.long), torch.zeros(3, 2, 2, dtype=torch.long)
    truth[1, 0] = 4
    predicted[1, 0, 0] = 4  # class 4: 1 of 2; background: 2 of 3
    predicted[2] = 17
    assert parse_miou(predicted, truth).tolist() == pytest.approx([1.0, (1 / 2 + 2 / 3) / 2, 0.0])
    assert parse_miou(predicted, truth, classes=(4,)).tolist() == pytest.approx([1.0, 0.5, 1.0])
