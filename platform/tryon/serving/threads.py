"""Which thread computes. OpenMP has threads of its own for each that does, and when a process has more of them than the
machine has cores they sleep at every barrier instead of waiting awake: a convolution then takes half as long again. So
one thread of a process computes with several, and whatever else does, with one.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def computing_thread(num_threads: int) -> ThreadPoolExecutor:
    """An executor of one thread, which computes with so many."""
    return ThreadPoolExecutor(1, thread_name_prefix="stages", initializer=use_threads, initargs=(num_threads,))


def beside_computing(work: Callable[..., T], *arguments: object) -> T:
    """Does something in this thread while another one computes; that one is to call `use_threads` again afterwards."""
    import torch

    torch.set_num_threads(1)  # of this thread; but of MKL in all of the process
    return work(*arguments)


def use_threads(num: int) -> None:
    """Sets how many threads this thread computes with, and OpenCV in all of the process."""
    import cv2
    import torch

    torch.set_num_threads(num)
    cv2.setNumThreads(num)
