"""FID, KID and IS, summed up piece by piece, against torchmetrics' own on the same features."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.inception import InceptionScore as TheirScore
from torchmetrics.image.kid import KernelInceptionDistance

from tryon.models.distribution_metrics import Gaussian, InceptionScore, Moments, frechet_distance, kernel_distance

WIDTH = 24
PIECES = (1, 30, 7, 62)


class Given(nn.Module):
    """Features that are the images themselves, for torchmetrics."""

    num_features = WIDTH

    def forward(self, features: Tensor) -> Tensor:
        return features


def features(seed: int, shift: float = 0.0) -> Tensor:
    """(100, 24), >= 0 and correlated, as Inception's are."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(WIDTH, WIDTH, generator=torch.Generator().manual_seed(0)) / 5
    return (torch.randn(sum(PIECES), WIDTH, generator=generator) @ mix + shift).relu()


def moments(rows: Tensor) -> Moments:
    summed = Moments(WIDTH)
    for piece in rows.split(PIECES):
        summed.update(piece)
    return summed


def test_fid_is_torchmetrics() -> None:
    a, b = features(1), features(2, shift=0.3)
    theirs = FrechetInceptionDistance(feature=Given(), normalize=True).set_dtype(torch.float64)
    theirs.update(a.double(), real=True)
    theirs.update(b.double(), real=False)
    ours = frechet_distance(moments(a).gaussian(), moments(b).gaussian())
    assert ours == pytest.approx(float(theirs.compute()), rel=1e-3)
    assert ours == pytest.approx(frechet_distance(moments(b).gaussian(), moments(a).gaussian()), rel=1e-6)


def test_fid_by_hand() -> None:
    a = Gaussian(torch.zeros(2).double(), torch.diag(torch.tensor([4.0, 9.0]).double()))
    b = Gaussian(torch.tensor([3.0, 4.0]).double(), torch.diag(torch.tensor([1.0, 1.0]).double()))
    assert frechet_distance(a, b) == pytest.approx(25 + (2 - 1) ** 2 + (3 - 1) ** 2)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)


def test_fid_of_fewer_rows_than_features() -> None:
    a, b = features(1)[:10], features(2, shift=0.3)[:10]
    sums = [Moments(WIDTH), Moments(WIDTH)]
    for one, rows in zip(sums, (a, b), strict=True):
        one.update(rows)
    theirs = FrechetInceptionDistance(feature=Given(), normalize=True).set_dtype(torch.float64)
    theirs.update(a.double(), real=True)
    theirs.update(b.double(), real=False)
    ours = frechet_distance(sums[0].gaussian(), sums[1].gaussian())
    assert ours == pytest.approx(float(theirs.compute()), rel=1e-3)


def test_moments_do_not_depend_on_the_pieces() -> None:
    rows = features(1)
    whole = Moments(WIDTH)
    whole.update(rows)
    pieces = moments(rows).gaussian()
    assert torch.allclose(whole.gaussian().covariance, pieces.covariance)
    assert torch.allclose(pieces.covariance, torch.cov(rows.double().T))
    assert torch.allclose(pieces.mean, rows.double().mean(0))


@pytest.mark.filterwarnings("ignore:Metric `Kernel")
def test_kid_of_whole_sets_is_torchmetrics() -> None:
    a, b = features(1), features(2, shift=0.3)
    theirs = KernelInceptionDistance(feature=Given(), subsets=1, subset_size=len(a))
    theirs.update(a.double(), real=True)
    theirs.update(b.double(), real=False)
    ours = kernel_distance(a, b, subsets=1, subset_size=len(a))
    assert ours.mean == pytest.approx(float(theirs.compute()[0]), rel=1e-3)


@pytest.mark.filterwarnings("ignore:Metric `Kernel")
def test_kid_over_subsets_is_torchmetrics_but_for_the_draw() -> None:
    a, b = features(1), features(2, shift=0.3)
    theirs = KernelInceptionDistance(feature=Given(), subsets=200, subset_size=40)
    theirs.update(a, real=True)
    theirs.update(b, real=False)
    torch.manual_seed(0)
    mean, std = theirs.compute()
    ours = kernel_distance(a, b, subsets=200, subset_size=40, seed=1)
    assert ours == kernel_distance(a, b, subsets=200, subset_size=40, seed=1)
    assert ours != kernel_distance(a, b, subsets=200, subset_size=40, seed=2)
    assert ours.mean == pytest.approx(float(mean), abs=4 * float(std) / math.sqrt(200))
    assert ours.std == pytest.approx(float(std), rel=0.25)


def test_kid_of_one_distribution_is_about_0() -> None:
    same = kernel_distance(features(1), features(2), subsets=50, subset_size=50)
    other = kernel_distance(features(1), features(2, shift=0.3), subsets=50, subset_size=50)
    assert abs(same.mean) < 0.05 * other.mean


@pytest.mark.filterwarnings("ignore:Metric `Inception")
def test_is_is_torchmetrics() -> None:
    logits = 3 * features(1)
    theirs = TheirScore(feature=Given(), splits=1)
    theirs.update(logits.double())
    ours = InceptionScore(WIDTH, splits=1)
    for piece in logits.split(PIECES):
        ours.update(piece)
    score = ours.compute()
    assert score.mean == pytest.approx(float(theirs.compute()[0]), rel=1e-3)
    assert score.std == 0


def test_is_over_splits_is_the_mean_of_their_scores() -> None:
    logits = 3 * features(1)
    ours = InceptionScore(WIDTH, splits=4)
    for piece in logits.split(PIECES):
        ours.update(piece)
    scores = []
    for split in range(4):
        one = InceptionScore(WIDTH, splits=1)
        one.update(logits[split::4])
        scores.append(one.compute().mean)
    assert ours.compute().mean == pytest.approx(sum(scores) / 4)
    assert ours.compute().std == pytest.approx(float(torch.tensor(scores).std(unbiased=False)), rel=1e-3)


def test_is_by_hand() -> None:
    score = InceptionScore(5, splits=3)
    score.update(torch.eye(5)[[0, 1]] * 1000)
    assert score.compute().mean == pytest.approx(1), "a split with one row, and one with none, which is left out"
    all_differ = InceptionScore(5, splits=1)
    all_differ.update(torch.eye(5) * 1000)
    assert all_differ.compute().mean == pytest.approx(5)


def test_what_cannot_be_measured_is_named() -> None:
    with pytest.raises(ValueError, match=r"features are \(3, 5\): \(rows, 24\)"):
        Moments(WIDTH).update(torch.zeros(3, 5))
    with pytest.raises(ValueError, match="needs 2 rows or more, there are 0"):
        Moments(WIDTH).gaussian()
    with pytest.raises(ValueError, match="length 2 and 3"):
        frechet_distance(*(Gaussian(torch.zeros(n).double(), torch.eye(n).double()) for n in (2, 3)))
    with pytest.raises(ValueError, match="subsets of 11 rows cannot be drawn from 10 and 100"):
        kernel_distance(features(1)[:10], features(2), subset_size=11)
    with pytest.raises(ValueError, match="of one length"):
        kernel_distance(features(1), features(2)[:, :3], subset_size=4)
    with pytest.raises(ValueError, match="at least one row"):
        InceptionScore(5).compute()
