"""MediaPipe's legacy solutions, loaded when first used and kept from writing to the terminal."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

UInt8 = npt.NDArray[np.uint8]


class Solver:
    """A solution of MediaPipe's that is made when first asked and is not pickled.

    Args:
        make: given the `mediapipe.solutions` module, makes the solution; a module-level function or a partial of one,
            so that the solver can be sent to another process.
        found: tells from a result whether something was found; MediaPipe's C++ side logs up to its first find only.
    """

    def __init__(self, make: Callable[[Any], Any], found: Callable[[Any], bool]) -> None:
        self._make = make
        self._found = found
        self._solution: Any = None
        self._spoke = False

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_solution": None, "_spoke": False}

    def __call__(self, image: UInt8) -> Any:
        """Runs the solution on an RGB uint8 (H, W, 3) image."""
        with contextlib.nullcontext() if self._spoke else quiet_stderr():
            if self._solution is None:
                os.environ.setdefault("GLOG_minloglevel", "2")
                import mediapipe as mp

                self._solution = self._make(mp.solutions)
            result = self._solution.process(np.ascontiguousarray(image))
        self._spoke = self._spoke or self._found(result)
        return result


@contextlib.contextmanager
def quiet_stderr() -> Iterator[None]:
    """Sends file descriptor 2 to nowhere: MediaPipe's C++ side logs there before its log level is read."""
    try:
        saved = os.dup(2)
    except OSError:  # no stderr at all
        yield
        return
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(null)
