"""Metrics of a set of images against another, from features that come a piece at a time: FID, KID and IS.

Sums are float64 and grow with the number of features, not with the number of images.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

DEGREE = 3  # of KID's kernel (x.y / d + 1)^3


class Moments:
    """Mean and covariance of features, summed up as they come.

    Attributes:
        num: rows so far.
        total: their sum, float64 (d,).
        outer: sum of their outer products, float64 (d, d).
    """

    def __init__(self, num_features: int) -> None:
        self.num = 0
        self.total = torch.zeros(num_features, dtype=torch.float64)
        self.outer = torch.zeros(num_features, num_features, dtype=torch.float64)

    def update(self, features: Tensor) -> None:
        """Adds rows (n, d).

        Raises:
            ValueError: not (n, d).
        """
        if features.ndim != 2 or features.shape[1] != len(self.total):
            raise ValueError(f"features are {tuple(features.shape)}: (rows, {len(self.total)}) is needed")
        rows = features.detach().cpu().double()
        self.num += len(rows)
        self.total += rows.sum(0)
        self.outer += rows.T @ rows

    def gaussian(self) -> Gaussian:
        """Mean and unbiased covariance of the rows so far.

        Raises:
            ValueError: fewer than two rows.
        """
        if self.num < 2:
            raise ValueError(f"a covariance needs 2 rows or more, there are {self.num}")
        mean = self.total / self.num
        covariance = (self.outer - self.num * torch.outer(mean, mean)) / (self.num - 1)
        return Gaussian(mean, covariance)


@dataclass(frozen=True)
class Gaussian:
    """A normal distribution.

    Attributes:
        mean: float64 (d,).
        covariance: float64 (d, d).
    """

    mean: Tensor
    covariance: Tensor

    @cached_property
    def root(self) -> Tensor:
        """The covariance's symmetric square root (d, d)."""
        values, vectors = torch.linalg.eigh(self.covariance)
        root: Tensor = (vectors * values.clamp_min(0).sqrt()) @ vectors.T
        return root


def frechet_distance(a: Gaussian, b: Gaussian) -> float:
    """Fréchet distance of two Gaussians; of Inception's features it is FID (Heusel et al. 2017, arXiv 1706.08500).

    Against one `a`, whose root is computed once, several `b` are quicker.

    Returns:
        0 for equal ones, lower is better. FID falls with the number of images: compare figures of sets of one size.

    Raises:
        ValueError: features of different lengths.
    """
    if len(a.mean) != len(b.mean):
        raise ValueError(f"features of length {len(a.mean)} and {len(b.mean)} cannot be compared")
    # tr sqrt(A B) by way of the symmetric sqrt(A) B sqrt(A), which has the same eigenvalues, none of them negative.
    shared = torch.linalg.eigvalsh(a.root @ b.covariance @ a.root).clamp_min(0).sqrt().sum()
    gap = (a.mean - b.mean).square().sum()
    return float((gap + a.covariance.trace() + b.covariance.trace() - 2 * shared).clamp_min(0))


@dataclass(frozen=True)
class Estimate:
    """A figure with its spread over subsets or splits.

    Attributes:
        mean: the figure.
        std: standard deviation.
    """

    mean: float
    std: float


def kernel_distance(a: Tensor, b: Tensor, *, subsets: int = 100, subset_size: int = 1000, seed: int = 0) -> Estimate:
    """KID (Bińkowski et al. 2018, arXiv 1801.01401): unbiased squared MMD with a cubic kernel, over random subsets.

    Args:
        a: features (n, d).
        b: features (m, d).
        subsets: how many.
        subset_size: rows of each set in a subset, drawn without replacement; at most n and m.
        seed: of the draw.

    Returns:
        About 0 for sets of one distribution, negative by chance; lower is better.

    Raises:
        ValueError: fewer than 2 rows in a subset, more than there are, or features of different lengths.
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise ValueError(f"features are {tuple(a.shape)} and {tuple(b.shape)}: (rows, length) of one length is needed")
    if not 2 <= subset_size <= min(len(a), len(b)):
        raise ValueError(f"subsets of {subset_size} rows cannot be drawn from {len(a)} and {len(b)}: at least 2")
    generator = torch.Generator().manual_seed(seed)
    values = []
    for _ in range(subsets):
        x = a[torch.randperm(len(a), generator=generator)[:subset_size]]
        y = b[torch.randperm(len(b), generator=generator)[:subset_size]]
        values.append(_squared_mmd(x.double(), y.double()))
    found = torch.stack(values)
    return Estimate(float(found.mean()), float(found.std(unbiased=False)))


class InceptionScore:
    """IS (Salimans et al. 2016, arXiv 1606.03498), summed up as logits come: exp of the mean KL(p(y|x) || p(y)).

    Row i goes to split i modulo the number of splits; the figure is the mean over the splits.

    Args:
        num_classes: of the logits.
        splits: how many.
    """

    def __init__(self, num_classes: int, splits: int = 10) -> None:
        self.num = 0
        self._counts = torch.zeros(splits, dtype=torch.float64)
        self._entropies = torch.zeros(splits, dtype=torch.float64)
        self._totals = torch.zeros(splits, num_classes, dtype=torch.float64)

    def update(self, logits: Tensor) -> None:
        """Adds rows (n, num_classes)."""
        log_p = logits.detach().cpu().double().log_softmax(1)
        p = log_p.exp()
        split = torch.arange(self.num, self.num + len(p)) % len(self._counts)
        self.num += len(p)
        self._counts.index_add_(0, split, torch.ones(len(p), dtype=torch.float64))
        self._entropies.index_add_(0, split, (p * log_p).sum(1))
        self._totals.index_add_(0, split, p)

    def compute(self) -> Estimate:
        """1 or more, higher is better; of the splits that have rows.

        Raises:
            ValueError: no rows yet.
        """
        if self.num == 0:
            raise ValueError("an inception score needs at least one row")
        there = self._counts > 0
        counts = self._counts[there]
        marginal = self._totals[there] / counts[:, None]
        divergence = self._entropies[there] / counts - torch.special.xlogy(marginal, marginal).sum(1)
        scores = divergence.exp()
        return Estimate(float(scores.mean()), float(scores.std(unbiased=False)))


def _squared_mmd(x: Tensor, y: Tensor) -> Tensor:
    n = len(x)
    xx, yy, xy = _kernel(x, x), _kernel(y, y), _kernel(x, y)
    within = (xx.sum() - xx.trace() + yy.sum() - yy.trace()) / (n * (n - 1))
    return within - 2 * xy.mean()


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    kernel: Tensor = (x @ y.T / x.shape[1] + 1) ** DEGREE
    return kernel
