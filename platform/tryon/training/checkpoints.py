"""Checkpoints of a run on any storage: whole or not there, the last and the best, and none lost to a storage fault.

    <uri>/step-00000100-<digest>.pt      the state; its name has the start of its sha256, so a part of one is known
    <uri>/step-00000100-<digest>.json    its figures, written after it

A file that cannot be written is tried again; then it is kept in a local folder and the run goes on.
"""

from __future__ import annotations

import json
import re
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tryon import storage
from tryon.errors import StorageError
from tryon.models.weights import cache_folder

T = TypeVar("T")
NAME = re.compile(r"step-(\d{8,})-([0-9a-f]{12})\.(pt|json)")
PAUSES_S = (0.5, 2.0, 5.0)  # before the second, third and fourth try


@dataclass(frozen=True)
class Checkpoint:
    """One that was found.

    Attributes:
        uri: of its state.
        step: at which it was saved.
        digest: the first 12 hex digits of its sha256.
    """

    uri: str
    step: int
    digest: str

    @property
    def figures(self) -> str:
        """URI of the file with its figures."""
        return self.uri.removesuffix(".pt") + ".json"

    def remove(self) -> None:
        """Deletes both files."""
        storage.delete(self.uri)
        storage.delete(self.figures)


def retried(act: Callable[[], T], sleep: Callable[[float], None] = time.sleep) -> T:
    """Does something with a storage that may fail now and then.

    Raises:
        StorageError: it failed each time.
    """
    for pause in PAUSES_S:
        try:
            return act()
        except StorageError:
            sleep(pause)
    return act()


class CheckpointStore:
    """The checkpoints of one run.

    Args:
        uri: of the folder.
        keep_best: how many are kept beside the last.
        metric: a figure, with ``-`` in front where less is better; empty keeps the last ones.
        local: where they are kept when the storage fails; None: in the user's cache.
        sleep: for the pauses between tries.
    """

    def __init__(
        self,
        uri: str,
        keep_best: int = 1,
        metric: str = "",
        local: Path | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.uri = storage.absolute(uri)
        self._keep_best = keep_best
        self._metric = metric
        self._local = str(local or cache_folder() / "checkpoints" / storage.sha256(self.uri.encode())[:16])
        self._sleep = sleep

    def save(self, data: bytes, step: int, figures: Mapping[str, float]) -> bool:
        """Writes a checkpoint and removes those that are no longer among the last and the best.

        Returns:
            False where only the local folder could take it; a warning says so.
        """
        name = f"step-{step:08d}-{storage.sha256(data)[:12]}"
        told = json.dumps(dict(figures)).encode()
        error = self._write(self.uri, name, data, told)
        if error is None:
            self._prune(self.uri)
            return True
        text = f"checkpoint of step {step} could not be written to {self.uri} ({error}); it is kept in {self._local}"
        warnings.warn(f"{text}, and the run goes on", stacklevel=2)
        last = self._write(self._local, name, data, told)
        if last is not None:
            warnings.warn(f"nor could it be written there ({last}): the run goes on without it", stacklevel=2)
            return False
        self._prune(self._local)
        return False

    def latest(self, until: int | None = None) -> bytes | None:
        """The state of the last checkpoint that is whole, on the storage or in the local folder; None: there is none.

        Args:
            until: step that it is not to be beyond.

        Raises:
            StorageError: the storage cannot be read, after several tries: going on would lose what is there.
        """
        found = [checkpoint for checkpoint in self._all() if until is None or checkpoint.step <= until]
        for checkpoint in sorted(found, key=lambda c: c.step, reverse=True):
            data = self._retry(lambda uri=checkpoint.uri: storage.read_bytes(uri))  # type: ignore[misc]
            if storage.sha256(data).startswith(checkpoint.digest):
                return data
            warnings.warn(f"checkpoint {checkpoint.uri} is damaged (its sha256 differs): passed by", stacklevel=2)
        return None

    def adopt(self, data: bytes, step: int) -> None:
        """Takes another run's checkpoint for its own: those that are here, of any step, give way to it."""
        before = self._list(self.uri) + self._list(self._local)
        self.save(data, step, {})
        for checkpoint in before:
            if not storage.sha256(data).startswith(checkpoint.digest):
                checkpoint.remove()

    def clear_local(self) -> None:
        """Forgets what is kept locally: the run has ended and its network is where it belongs."""
        storage.delete(self._local)

    def last_step(self) -> int:
        """Of the newest checkpoint, whole or not; 0: there is none.

        Raises:
            StorageError: the storage cannot be read, after several tries.
        """
        return max((checkpoint.step for checkpoint in self._all()), default=0)

    def _write(self, folder: str, name: str, data: bytes, figures: bytes) -> StorageError | None:
        def write() -> None:
            storage.write_bytes(storage.join(folder, f"{name}.pt"), data)
            storage.write_bytes(storage.join(folder, f"{name}.json"), figures)

        try:
            self._retry(write)
        except StorageError as error:
            return error
        return None

    def _retry(self, act: Callable[[], T]) -> T:
        return retried(act, self._sleep)

    def _all(self) -> list[Checkpoint]:
        return self._retry(lambda: self._list(self.uri)) + self._list(self._local)

    def _list(self, folder: str) -> list[Checkpoint]:
        if not storage.exists(folder):
            return []
        matches = [(uri, NAME.fullmatch(uri.rsplit("/", 1)[-1])) for uri in storage.list_files(folder, (".pt",))]
        return [Checkpoint(uri, int(m.group(1)), m.group(2)) for uri, m in matches if m is not None]

    def _prune(self, folder: str) -> None:
        """What cannot be removed now is removed after a later one."""
        try:
            found = sorted(self._list(folder), key=lambda c: c.step)
            best = sorted(found[:-1], key=self._score, reverse=True)[: self._keep_best]
            for checkpoint in found[:-1]:
                if checkpoint not in best:
                    checkpoint.remove()
        except (StorageError, OSError) as error:
            warnings.warn(f"old checkpoints in {folder} could not be removed: {error}", stacklevel=3)

    def _score(self, checkpoint: Checkpoint) -> float:
        """Higher is better; without a figure the later is."""
        name = self._metric.removeprefix("-")
        if not name:
            return float(checkpoint.step)
        try:
            figures = json.loads(storage.read_bytes(checkpoint.figures))
        except (StorageError, ValueError):
            return float("-inf")
        value = figures.get(name)
        return float("-inf") if value is None else (-1 if self._metric.startswith("-") else 1) * float(value)
