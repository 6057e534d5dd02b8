"""Figures of a whole set, FID, KID and IS, from features that were written shard by shard.

Each shard's features lie in a file of their own, so shards are measured in any order, on any machine, and a shard that
is measured again replaces itself. The figures are then computed in one pass over the files, in order: sums for FID and
IS, and for KID rows that are drawn beforehand. What is held does not grow with the number of samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from safetensors.torch import load as safetensors_load
from safetensors.torch import save as safetensors_save
from torch import Tensor

from tryon import storage
from tryon.evaluation.config import EvaluateConfig
from tryon.evaluation.judges import Images, Judges
from tryon.models.distribution_metrics import Gaussian, InceptionScore, Moments, frechet_distance, kernel_distance

FOLDER = "features"
TRUTH = "truth"
KID_ROWS = 10_000  # rows of each set that KID's subsets are drawn from: 80 MB of Inception's features


def write_features(out: str, shard: int, judges: Judges, truths: Images, results: Mapping[str, Images]) -> None:
    """Writes a shard's features and logits: of the person photos, and of each method's results."""
    tensors: dict[str, Tensor] = {}
    for name, images in {TRUTH: truths, **results}.items():
        found = judges.features(images)
        tensors |= {f"{name}/features": found.features, f"{name}/logits": found.logits}
    storage.write_bytes(_uri(out, shard), safetensors_save(tensors))


def set_figures(
    out: str, rows: Mapping[int, int], methods: Sequence[str], config: EvaluateConfig
) -> dict[str, dict[str, float]]:
    """FID and KID of each method's results against the person photos, and their IS.

    Args:
        out: where `write_features` wrote.
        rows: shard number to its number of rows.
        methods: names of the sets beside the person photos.
        config: subsets and splits.

    Returns:
        Method to ``fid``, ``kid`` and ``kid_std``, ``is`` and ``is_std``; of a single sample IS alone.
    """
    total = sum(rows.values())
    drawn = _drawn(total, config.seed)
    sets = {name: _Set(config) for name in (TRUTH, *methods)}
    start = 0
    for shard in sorted(shard for shard, num in rows.items() if num):
        tensors = safetensors_load(storage.read_bytes(_uri(out, shard)))
        wanted = drawn[(drawn >= start) & (drawn < start + rows[shard])] - start
        for name, one in sets.items():
            one.update(tensors[f"{name}/features"], tensors[f"{name}/logits"], wanted)
        start += rows[shard]
    truth = sets.pop(TRUTH)
    against = truth.gaussian() if total > 1 else None
    return {name: one.figures(truth, against) for name, one in sets.items()}


def kid_subset_size(config: EvaluateConfig, num: int) -> int:
    """Samples a subset of KID: as asked for, or all."""
    return min(config.kid_subset_size, num)


class _Set:
    """What is held of one set of images."""

    def __init__(self, config: EvaluateConfig) -> None:
        self._config = config
        self._moments: Moments | None = None
        self._score: InceptionScore | None = None
        self._rows: list[Tensor] = []

    def update(self, features: Tensor, logits: Tensor, drawn: Tensor) -> None:
        self._moments = self._moments or Moments(features.shape[1])
        self._score = self._score or InceptionScore(logits.shape[1], self._config.is_splits)
        self._moments.update(features)
        self._score.update(logits)
        self._rows.append(features[drawn].clone())

    def gaussian(self) -> Gaussian:
        assert self._moments is not None
        return self._moments.gaussian()

    def figures(self, truth: _Set, against: Gaussian | None) -> dict[str, float]:
        assert self._score is not None
        score = self._score.compute()
        found = {"is": score.mean, "is_std": score.std}
        if against is None:
            return found
        own, other = torch.cat(self._rows), torch.cat(truth._rows)
        size = kid_subset_size(self._config, len(own))
        kid = kernel_distance(other, own, subsets=self._config.kid_subsets, subset_size=size, seed=self._config.seed)
        fid = frechet_distance(against, self.gaussian())
        return {"fid": fid, "kid": kid.mean, "kid_std": kid.std, **found}


def _drawn(total: int, seed: int) -> Tensor:
    """Numbers of the rows that KID draws from: all, or as many as are held, in order."""
    if total <= KID_ROWS:
        return torch.arange(total)
    return torch.from_numpy(np.sort(np.random.default_rng(seed).choice(total, KID_ROWS, replace=False)))


def _uri(out: str, shard: int) -> str:
    return storage.join(out, FOLDER, f"shard-{shard:05d}.safetensors")
