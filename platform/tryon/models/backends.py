"""What runs a bundle's network at inference: PyTorch as it is, compiled by it, or ONNX Runtime; one call for all.

A backend other than PyTorch as it is is held against it once, when it is loaded. ONNX files lie in the bundle, beside
the weights (`tryon models optimize`), with their sha256 in the manifest.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tryon.config import Backend, parse_choice
from tryon.errors import BundleError, ConfigError, TryonError
from tryon.models.bundle import (
    BackendName,
    Bundle,
    NetworkEntry,
    Role,
    add_backend,
    copy_bundle,
    load_bundle,
    read_file,
)
from tryon.models.contract import SYNTHESIS_CONDITION, WARP_CONDITION, Runnable, SampledSynthesis
from tryon.models.device import autocast, cpu_has_amx_bf16, cpu_has_vnni
from tryon.models.export import TOLERANCE, Run, check_has_onnx, difference, trace_onnx
from tryon.models.versions import check_writable

REPEATS = 5  # of a timing
AUTOCAST_TOLERANCE = 0.05  # of what PyTorch itself rounds
SLACK = 1.5  # on a known difference: another CPU adds up in another order


@dataclass(frozen=True)
class Step:
    """What a stage runs of its network.

    Attributes:
        reads: names of its inputs.
        run: network and inputs to outputs, named tensors, batch first.
    """

    reads: tuple[str, ...]
    run: Callable[[Any, dict[str, Tensor]], dict[str, Tensor]]


STEPS: Mapping[Role, Step] = {
    "warp": Step(WARP_CONDITION, lambda network, inputs: {"field": network.field(inputs)}),
    "synthesis": Step(
        SYNTHESIS_CONDITION,
        lambda network, inputs: network.synthesize(inputs, inputs["warped"], inputs["warped_mask"]),
    ),
    "refinement": Step(("image",), lambda network, inputs: {"restored": network(inputs["image"])}),
}


@dataclass(frozen=True)
class Optimized:
    """A network's ONNX file.

    Attributes:
        role: of the network.
        num_bytes: of the file.
        difference: largest absolute difference to PyTorch.
        eager_s: of PyTorch as it is for one sample, median, seconds.
        onnx_s: of ONNX Runtime, likewise.
        fault: why there is no file, and the figures are 0; empty: there is one.
    """

    role: Role
    num_bytes: int = 0
    difference: float = 0.0
    eager_s: float = 0.0
    onnx_s: float = 0.0
    fault: str = ""


def runner(bundle: Bundle, role: Role, network: nn.Module, device: torch.device, backend: Backend = "auto") -> Run:
    """A network's step on a backend.

    Args:
        bundle: that the network is of.
        role: one of `STEPS`.
        network: on the device, in eval mode.
        device: that it runs on.
        backend: auto: ONNX Runtime on a CPU without matrix units where the bundle has a file and the package is
            there, in whole numbers where the CPU multiplies those at once; else PyTorch as it is.

    Raises:
        ConfigError: an unknown backend, or one that this network, device or installation has not.
        BundleError: the bundle has no file for it, or what it computes is not what PyTorch does.
    """
    step = STEPS[role]
    parse_choice(backend, Backend, "backend")
    entry = bundle.entry(role)
    eager = partial(_eager, step, network, device)
    chosen = _best(entry, device) if backend == "auto" else backend
    if chosen == "eager":
        return eager
    if not can_step(role, network):
        text = f"backend {chosen!r}: {_unsupported(entry)}"
        raise ConfigError(text, code="backend-unsupported", field="backend")
    if chosen == "compile":
        return _checked(partial(_compiled(step, network), device), eager, network, entry, device)
    if device.type != "cpu":
        text = f"backend {chosen!r} runs on the CPU, this machine computes on {device.type}: take 'eager' or 'compile'"
        raise ConfigError(text, code="backend-unsupported", field="backend")
    run = _opened(bundle, role, chosen, torch.get_num_threads())
    return _checked(run, eager, network, entry, device, SLACK * entry.backends[chosen].difference)


def _best(entry: NetworkEntry, device: torch.device) -> Literal["eager", "onnx", "int8"]:
    if device.type != "cpu" or cpu_has_amx_bf16() or find_spec("onnxruntime") is None:
        return "eager"
    if "int8" in entry.backends and cpu_has_vnni():
        return "int8"
    return "onnx" if "onnx" in entry.backends else "eager"


def can_step(role: Role, network: nn.Module) -> bool:
    """Whether a network's step is one pass, with inputs that are known."""
    return role in STEPS and isinstance(network, Runnable) and not isinstance(network, SampledSynthesis)


def optimize_bundle(source: str, target: str) -> list[Optimized]:
    """Copies a bundle with an ONNX file beside the weights of each network that can have one, and times both.

    Args:
        source: URI of a bundle.
        target: URI of the folder to write.

    Raises:
        TryonError: onnx or onnxruntime is not installed, or a file does not agree with PyTorch.
        BundleError: no bundle, or `target` is a registry's version.
    """
    check_has_onnx()
    check_writable(target)
    bundle = load_bundle(source)
    copy_bundle(source, target)
    return [_optimized(bundle, role, target) for role in STEPS if role in bundle.manifest.networks]


def _optimized(bundle: Bundle, role: Role, target: str) -> Optimized:
    network, size = bundle.network(role)
    if not can_step(role, network):
        return Optimized(role, fault=_unsupported(bundle.entry(role)))
    assert isinstance(network, Runnable)
    run = partial(STEPS[role].run, network)
    try:
        data = trace_onnx(network, run, size)
    except TryonError as error:
        if error.code != "export-unsupported":
            raise
        return Optimized(role, fault=error.message)
    found = difference(network, run, data, size)
    add_backend(target, role, "onnx", data, difference=found)
    onnx, examples = Session(data, torch.get_num_threads()), network.example_inputs(1, *size)
    return Optimized(role, len(data), found, median_s(run, examples), median_s(onnx, examples))


def _unsupported(entry: NetworkEntry) -> str:
    return f"{entry.network} makes its result in a loop, or shows no example inputs: it runs on 'eager' alone"


def _eager(step: Step, network: nn.Module, device: torch.device, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    with autocast(device):
        return step.run(network, inputs)


def _compiled(step: Step, network: nn.Module) -> Callable[[torch.device, dict[str, Tensor]], dict[str, Tensor]]:
    compiled: Any = torch.compile(partial(step.run, network))

    def run(device: torch.device, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        with autocast(device):
            return dict(compiled({name: inputs[name] for name in step.reads}))

    return run


class Session:
    """A network by ONNX Runtime.

    Attributes:
        inputs: names of what it reads.
        outputs: names of what it gives.
    """

    def __init__(self, data: bytes, threads: int) -> None:
        """Opens a file.

        Args:
            data: its bytes.
            threads: that it computes with.
        """
        runtime = import_module("onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # other replicas want the cores
        self._session = runtime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        self.inputs = [one.name for one in self._session.get_inputs()]
        self.outputs = [one.name for one in self._session.get_outputs()]

    def __call__(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """What the network gives, float32, on the CPU."""
        given = {name: inputs[name].float().numpy(force=True) for name in self.inputs}
        made = self._session.run(self.outputs, given)
        return {name: torch.from_numpy(value) for name, value in zip(self.outputs, made, strict=True)}


def _opened(bundle: Bundle, role: Role, backend: BackendName, threads: int) -> Run:
    entry = bundle.entry(role)
    if backend not in entry.backends:
        text = f"bundle {bundle.uri} has no {backend} file of its {role} network: `tryon models optimize` writes them"
        raise BundleError(text, code="backend-missing", field="backend")
    if find_spec("onnxruntime") is None:
        text = f"backend {backend!r} needs the package onnxruntime: pip install 'tryon[onnx]'"
        raise ConfigError(text, code="onnx-missing", field="backend")
    file = entry.backends[backend]
    return _open(bundle.uri, file.file, file.sha256, threads)


@lru_cache(maxsize=8)
def _open(uri: str, file: str, sha256: str, threads: int) -> Session:
    return Session(read_file(uri, file, sha256), threads)


def _checked(
    run: Run, eager: Run, network: nn.Module, entry: NetworkEntry, device: torch.device, known: float = 0.0
) -> Run:
    """The backend, if it computes what PyTorch does, but for a difference that is known of it."""
    assert isinstance(network, Runnable)
    examples = {name: value.to(device) for name, value in network.example_inputs(1, *entry.size).items()}
    try:
        with torch.inference_mode():
            wanted, got = eager(examples), run(examples)
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        text = f"the backend of {entry.network} does not run here: {reason}; take 'eager'"
        raise ConfigError(text, code="backend-failed", field="backend") from error
    rounds = device.type != "cpu" or cpu_has_amx_bf16()
    allowed = max(TOLERANCE if not rounds else AUTOCAST_TOLERANCE, known)
    for name, value in wanted.items():
        found = float((value.float() - got[name].float()).abs().max().nan_to_num(float("inf")))
        if not found <= allowed:
            text = f"the backend of {entry.network} gives another {name} than PyTorch: they differ by {found:.2g}"
            raise BundleError(f"{text}, more than {allowed:g}", code="backend-differs", field="backend")
    return run


def median_s(run: Run, examples: dict[str, Tensor]) -> float:
    """Seconds that a network takes."""
    times = []
    with torch.inference_mode():
        run(examples)
        for _ in range(REPEATS):
            start = time.perf_counter()
            run(examples)
            times.append(time.perf_counter() - start)
    return statistics.median(times)
