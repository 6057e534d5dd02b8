"""The stage protocol: a callable over a batch that says which fields it reads and which it adds.

A stage never knows which engine runs it. A row that a stage cannot use is not an exception of the
batch: the stage raises `SampleError` for that row, the row keeps its place with the reason in the
error fields, and later stages pass it by. Engines decide what becomes of it (a quarantine table, a 4xx).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from tryon.errors import SampleError
from tryon.sample import ERROR_FIELDS, Batch, Row, num_rows


class Stage(ABC):
    """A step over a batch. Subclasses set the class variables and implement `run`.

    Attributes:
        name: the stage's word in configuration, error rows and metrics.
        version: goes up when the same input gives another output; data sets record it.
        reads: fields that must be in the batch.
        optional: fields it looks at where the batch has them; None where it has not.
        adds: fields that are in the batch afterwards (a field named in both is replaced).
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    reads: ClassVar[tuple[str, ...]] = ()
    optional: ClassVar[tuple[str, ...]] = ()
    adds: ClassVar[tuple[str, ...]] = ()

    def __call__(self, batch: Batch, *, fill_missing: bool = False) -> Batch:
        """Runs the stage on the rows without an error and returns the batch with `adds` filled in.

        Args:
            batch: columns of equal length; at least `reads`.
            fill_missing: keep what is already there and run only where it helps: a row that has all of `adds`, or
                lacks some of `reads`, is left alone. For data sets that bring some of their layers themselves.
                A stage that replaces what it reads runs all the same.

        Returns:
            A new dict. Rows in error have None in `adds`. Columns the stage does not name are passed on.
        """
        total = num_rows(batch)
        errors: dict[str, list[Any]] = {name: list(batch.get(name, [None] * total)) for name in ERROR_FIELDS}
        empty = [None] * total
        old: dict[str, list[Any]] = {n: list(batch.get(n, empty)) if fill_missing else list(empty) for n in self.adds}
        todo = [i for i in range(total) if errors["error_code"][i] is None]
        if fill_missing:
            todo = [i for i in todo if self._is_wanted(batch, old, i)]
        if todo:
            columns = {name: batch[name] for name in self.reads}
            columns |= {name: batch.get(name, empty) for name in self.optional}
            made = self.run({name: [column[i] for i in todo] for name, column in columns.items()}, len(todo))
            for row, i in zip(made, todo, strict=True):
                if isinstance(row, SampleError):
                    errors["error_code"][i] = row.code
                    errors["error"][i] = row.message
                    errors["error_stage"][i] = self.name
                else:
                    for name in self.adds:
                        if name in self.reads or old[name][i] is None:
                            old[name][i] = row[name]
        return {**batch, **old, **errors}

    def _is_wanted(self, batch: Batch, old: dict[str, list[Any]], i: int) -> bool:
        lacks = any(name in self.reads or old[name][i] is None for name in self.adds)
        return lacks and all(name in batch and batch[name][i] is not None for name in self.reads)

    @abstractmethod
    def run(self, batch: Mapping[str, list[Any]], num: int) -> Sequence[Row | SampleError]:
        """Processes rows that are all in order.

        Args:
            batch: the `reads` and `optional` columns as lists of length `num`.
            num: rows in the batch, at least 1.

        Returns:
            For each row the `adds` fields, or the error that takes this row out.
        """


class RowStage(Stage):
    """A stage that works a row at a time; subclasses implement `process`."""

    def run(self, batch: Mapping[str, list[Any]], num: int) -> Sequence[Row | SampleError]:
        rows: list[Row | SampleError] = []
        for i in range(num):
            try:
                rows.append(self.process({name: column[i] for name, column in batch.items()}))
            except SampleError as error:
                rows.append(error)
        return rows

    @abstractmethod
    def process(self, row: Row) -> Row:
        """Turns one row of `reads` and `optional` into one row of `adds`.

        Raises:
            SampleError: this row cannot be used; the message is one sentence that says why.
        """
