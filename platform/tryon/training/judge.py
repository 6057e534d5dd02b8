"""LPIPS and FID of held-out pictures while a run goes on, where weights for them were given."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tryon import storage
from tryon.models.distribution_metrics import Moments, frechet_distance
from tryon.models.inception import NUM_FEATURES
from tryon.models.tensors import tensor_to_images
from tryon.training.config import TrainConfig
from tryon.training.info import Metrics
from tryon.training.recipes.base import Tensors

if TYPE_CHECKING:
    from tryon.evaluation.judges import Judges

FILES = ("lpips_weights", "lpips_heads", "fid_weights")
TRUTH = "truth"
LEAST_FOR_FID = 2


class PictureJudges:
    """Judges the pictures that a recipe's `evaluate` gives, a batch after the other.

    FID falls with the number of pictures: compare it inside a run, or with runs that hold out the same samples.
    """

    def __init__(self, judges: Judges) -> None:
        self._judges = judges
        self._clear()

    def add(self, pictures: Tensors) -> None:
        """Takes a batch: what was made and what is true, (b, 3, h, w) in [-1, 1]."""
        made = list(tensor_to_images(next(value for name, value in pictures.items() if name != TRUTH)))
        true = list(tensor_to_images(pictures[TRUTH]))
        if self._judges.judges_pairs:
            self._distances += [value for value in self._judges.distances(made, true) if value is not None]
        if self._judges.judges_sets:
            self._made.update(self._judges.features(made).features)
            self._true.update(self._judges.features(true).features)

    def figures(self) -> Metrics:
        """``val_lpips`` and ``val_fid`` of what was taken since the last call; each only where it can be computed."""
        found: Metrics = {}
        if self._distances:
            found["val_lpips"] = sum(self._distances) / len(self._distances)
        if self._made.num >= LEAST_FOR_FID:
            found["val_fid"] = frechet_distance(self._true.gaussian(), self._made.gaussian())
        self._clear()
        return found

    def _clear(self) -> None:
        self._distances: list[float] = []
        self._made, self._true = Moments(NUM_FEATURES), Moments(NUM_FEATURES)


def with_files(config: TrainConfig) -> TrainConfig:
    """The config with absolute URIs of the weights, which every worker reads alike."""
    given = {name: getattr(config, name) for name in FILES}
    return config.model_copy(update={name: storage.absolute(uri) for name, uri in given.items() if uri is not None})


def judges_of(config: TrainConfig) -> PictureJudges | None:
    """Judges with the weights that a config names, loaded; None where it names none.

    Raises:
        BundleError: a file is missing, damaged or of another network; the message says which key, which file.
    """
    from tryon.evaluation.config import EvaluateConfig
    from tryon.evaluation.judges import Judges

    given = {name: getattr(config, name) for name in FILES}
    if not any(given.values()):
        return None
    return PictureJudges(Judges(EvaluateConfig(**given), name=lambda key: key.replace("-", "_")))
