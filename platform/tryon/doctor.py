"""`tryon doctor`: what this machine has, what is missing, and how to get it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum

from rich.markup import escape
from rich.table import Table


class State(Enum):
    """What a finding means for the user."""

    OK = "[green]ok[/green]"
    OPTIONAL = "[yellow]optional[/yellow]"
    MISSING = "[red]missing[/red]"


@dataclass(frozen=True)
class Finding:
    """One line of the report: what was looked at, its state, what was seen, and what to do."""

    what: str
    state: State
    seen: str
    cure: str = ""


PACKAGES = ("ray", "torch", "mediapipe", "numpy", "pyarrow", "opencv-contrib-python", "torchmetrics", "pydantic")
EXTRAS = {
    "torchvision": "GPU extra: pip install 'tryon[gpu]'",
    "bitsandbytes": "8-bit Adam (optimizer=adamw8bit): pip install bitsandbytes",
    "moto": "tests of s3://: pip install 'tryon[dev]'",
}
MIN_MEMORY_BYTES = 8 * 2**30
MIN_DISK_BYTES = 5 * 2**30


def run_doctor() -> bool:
    """Prints the report.

    Returns:
        True if nothing that is needed is missing.
    """
    from tryon.console import console

    findings = list(_findings())
    table = Table(title="tryon doctor")
    for column in ("what", "state", "seen", "what to do"):
        table.add_column(column, overflow="fold")
    for finding in findings:
        table.add_row(finding.what, finding.state.value, escape(finding.seen), escape(finding.cure))
    console.print(table)
    missing = [finding.what for finding in findings if finding.state is State.MISSING]
    console.print("everything that is needed is here" if not missing else f"missing: {', '.join(missing)}")
    return not missing


def _findings() -> Iterator[Finding]:
    version = sys.version_info
    good = (3, 11) <= version[:2] < (3, 13)
    yield Finding(
        "Python", State.OK if good else State.MISSING, platform.python_version(), "" if good else "use 3.11 or 3.12"
    )
    yield from _machine()
    for name in PACKAGES:
        yield _package(name, State.MISSING, "run `make install`")
    for name, cure in EXTRAS.items():
        yield _package(name, State.OPTIONAL, cure)
    yield _works("image library", _import_cv2, "apt-get install libgl1 libglib2.0-0")
    yield _works("pose models", _import_pose, "reinstall mediapipe==0.10.21: its models come in the wheel")
    yield _bundle()


def _machine() -> Iterator[Finding]:
    from tryon.models.device import autocast_dtype, cpu_has_amx_bf16, pick_device

    cores = len(os.sched_getaffinity(0))
    fast = "AMX bf16: fast" if cpu_has_amx_bf16() else "no AMX: float32"
    yield Finding("CPU", State.OK if cores >= 2 else State.OPTIONAL, f"{cores} cores, {fast}")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    enough = memory >= MIN_MEMORY_BYTES
    cure = "" if enough else "8 GiB are needed for the demo"
    yield Finding("memory", State.OK if enough else State.MISSING, f"{memory / 2**30:.0f} GiB", cure)
    free = shutil.disk_usage(".").free
    enough = free >= MIN_DISK_BYTES
    cure = "" if enough else "5 GiB are needed for packages and the demo"
    yield Finding("disk", State.OK if enough else State.MISSING, f"{free / 2**30:.0f} GiB free here", cure)
    device = pick_device()
    if device.type == "cuda":
        import torch

        yield Finding("GPU", State.OK, f"{torch.cuda.get_device_name()}, autocast {autocast_dtype(device)}")
    else:
        yield Finding("GPU", State.OPTIONAL, "none that torch sees", "everything runs without; training is slower")


def _package(name: str, otherwise: State, cure: str) -> Finding:
    try:
        return Finding(name, State.OK, importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, otherwise, "not installed", cure)


def _works(what: str, check: Callable[[], str], cure: str) -> Finding:
    try:
        return Finding(what, State.OK, check())
    except (ImportError, OSError, RuntimeError) as error:
        return Finding(what, State.MISSING, str(error).splitlines()[0], cure)


def _import_cv2() -> str:
    import cv2

    return f"cv2 {cv2.__version__} loads"


def _import_pose() -> str:
    from pathlib import Path

    import mediapipe

    models = list(Path(mediapipe.__file__).parent.glob("modules/pose_*/*.tflite"))
    if not models:
        raise RuntimeError("mediapipe is installed without its models")
    return f"{len(models)} files in the wheel"


def _bundle() -> Finding:
    from tryon.errors import BundleError
    from tryon.models.bundle import default_bundle, read_manifest

    try:
        uri = default_bundle()
        return Finding("default bundle", State.OK, f"{uri} ({', '.join(read_manifest(uri).networks)})")
    except BundleError as error:
        return Finding(
            "default bundle",
            State.OPTIONAL,
            error.message,
            "unset TRYON_BUNDLE: one comes with tryon",
        )
