"""The simulator as a source: samples drawn from a seed."""

from __future__ import annotations

from collections.abc import Iterator

from tryon.data.shards import ROWS_PER_SHARD
from tryon.data.simulator import simulate
from tryon.data.simulator.config import DEFAULT, SimulatorConfig
from tryon.data.sources.base import Source
from tryon.sample import Row


class SimulatorSource(Source):
    """Sample `i` depends on the seed, the knobs and on `i` alone."""

    fields: tuple[str, ...] = (
        "id", "category", "person", "garment", "garment_mask", "pose", "person_mask", "parse", "dense", "true_flow",
        "true_garment", "true_mask", "true_amodal_mask", "unoccluded_person",
    )  # fmt: skip
    complete = fields
    licence = "Apache-2.0"

    def __init__(self, num: int, size: tuple[int, int], seed: int, config: SimulatorConfig = DEFAULT) -> None:
        """Sets how many samples, at which (height, width) px, from which seed, with which mix."""
        self._num = num
        self._size = size
        self._seed = seed
        self._config = config

    def tasks(self) -> Iterator[range]:
        yield from (range(i, min(i + ROWS_PER_SHARD, self._num)) for i in range(0, self._num, ROWS_PER_SHARD))

    def read(self, task: range) -> list[Row]:
        return [simulate(self._seed, index, *self._size, self._config) for index in task]

    def content_hash(self) -> str:
        return f"{self._seed}-{self._size}-{self._config.model_dump_json()}"
