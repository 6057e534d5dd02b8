"""Augmentation: variants of samples in which all layers still agree with each other."""

from __future__ import annotations

from collections.abc import Sequence

from tryon.data.augment.config import AugmentConfig
from tryon.data.augment.variant import SIDES, Side, augment_row
from tryon.data.derived import KIN_FIELDS, DerivedSource, with_kin, without_files
from tryon.data.job import Job
from tryon.sample import Row

__all__ = ["SIDES", "AugmentConfig", "AugmentSource", "Side", "augment_job", "augment_row"]

HELD_OUT = ("val", "test")


class AugmentSource(DerivedSource):
    """Each sample of a data set and its variants, one after the other."""

    def __init__(self, uri: str, config: AugmentConfig) -> None:
        """Reads the manifest.

        Raises:
            DataError: no data set, or another schema version.
        """
        super().__init__(uri, config.variants + config.keep_original)
        self._config = config
        self.fields = tuple(dict.fromkeys((*self.fields, *KIN_FIELDS)))

    def derive(self, row: Row) -> Sequence[Row]:
        """The sample and its variants; samples that are held out pass as they are."""
        row = with_kin(row)
        if row.get("split") in HELD_OUT and not self._config.held_out:
            return [row]
        bare = without_files(row)
        made = [augment_row(bare, self._config, k) for k in range(1, self._config.variants + 1)]
        return [row, *made] if self._config.keep_original else made


def augment_job(uri: str, config: AugmentConfig) -> Job:
    """A job that writes variants of a data set's samples.

    Args:
        uri: of the data set.
        config: what may happen to a sample.

    Raises:
        DataError: no data set, or another schema version.
    """
    source = AugmentSource(uri, config)
    fields = tuple(dict.fromkeys((*source.parent_fields, *KIN_FIELDS)))
    return Job(source, [], fields, {"augment": config.model_dump(mode="json")}, (source.parent,))
