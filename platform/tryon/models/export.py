"""Networks to ONNX, checked against PyTorch.

The file holds one network at one size; the batch is free. Inputs and outputs have the names of the network's `infer`.
Needs the package ``onnx``; the check needs ``onnxruntime``.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from tryon import storage
from tryon.errors import TryonError
from tryon.models.contract import Runnable

OPSET = 17  # has layer norm as one operator
MIN_OPSET, MAX_OPSET = 16, 20
MULTIPLE = 16
TOLERANCE = 1e-3
Run = Callable[[dict[str, Tensor]], dict[str, Tensor]]
CHECKED_BATCHES = (1, 3)  # neither is the batch of the trace


@dataclass(frozen=True)
class Export:
    """What was written.

    Attributes:
        inputs: names of the file's inputs, in order.
        outputs: names of its outputs, in order.
        num_bytes: of the file.
        difference: largest absolute difference to PyTorch over all outputs; None where it was not checked.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    num_bytes: int
    difference: float | None


def export_onnx(network: nn.Module, out: str, size: tuple[int, int], *, opset: int = OPSET) -> Export:
    """Writes a network as an ONNX file and compares it with PyTorch where onnxruntime is installed.

    Args:
        network: a `tryon.models.contract.Runnable`, on the CPU; left in the mode it is in.
        out: URI of the file.
        size: (height, width) px, multiples of 16; fixed in the file.
        opset: version of the operator set, 16 to 20.

    Raises:
        TryonError: a size or opset out of bounds, onnx is not installed, the network cannot be exported (it says what
            it is and why), or the file does not agree with PyTorch to 1e-3; nothing is written then.
    """
    name = type(network).__name__
    if min(size) < 2 * MULTIPLE or size[0] % MULTIPLE or size[1] % MULTIPLE:
        text = f"size {size[0]}x{size[1]}: height and width must be multiples of {MULTIPLE}, from {2 * MULTIPLE} on"
        raise TryonError(text, code="export-size", field="size")
    if not MIN_OPSET <= opset <= MAX_OPSET:
        text = f"opset {opset}: it must be from {MIN_OPSET} (grid sampling) to {MAX_OPSET} (what torch writes)"
        raise TryonError(text, code="export-opset", field="opset")
    if not isinstance(network, Runnable):
        text = f"{name} cannot be exported: it has no `example_inputs` and `infer` (tryon.models.contract)"
        raise TryonError(text, code="export-unsupported")
    check_has_onnx(runtime=False)
    training = network.training
    network.eval()
    try:
        data, inputs, outputs = _traced(network, network.infer, size, opset)
        found = difference(network, network.infer, data, size) if find_spec("onnxruntime") else None
    finally:
        network.train(training)
    storage.write_bytes(out, data)
    return Export(inputs, outputs, len(data), found)


def trace_onnx(network: Runnable, run: Run, size: tuple[int, int], *, opset: int = OPSET) -> bytes:
    """A part of a network's work as an ONNX file.

    Args:
        network: on the CPU, in eval mode.
        run: of the network: named tensors, some of `example_inputs`, to named tensors, batch first.
        size: (height, width) px, fixed in the file.
        opset: version of the operator set.

    Raises:
        TryonError: it cannot be exported; it says why.
    """
    return _traced(network, run, size, opset)[0]


def check_has_onnx(*, runtime: bool = True) -> None:
    """Makes sure that networks can be exported, and run.

    Raises:
        TryonError: a package is not installed.
    """
    missing = [name for name in ("onnx", *(("onnxruntime",) if runtime else ())) if find_spec(name) is None]
    if missing:
        text = f"ONNX export needs the package {' and '.join(missing)}: pip install onnx onnxruntime"
        raise TryonError(text, code="onnx-missing")


class _Flat(nn.Module):
    """A network with tensors in and out in the order of names, as the tracer needs it."""

    def __init__(self, network: Runnable, run: Run, names: tuple[str, ...]) -> None:
        super().__init__()
        self.network = network
        self.run = run
        self.names = names

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.run(dict(zip(self.names, tensors, strict=True))).values())


def _traced(
    network: Runnable, run: Run, size: tuple[int, int], opset: int
) -> tuple[bytes, tuple[str, ...], tuple[str, ...]]:
    examples = network.example_inputs(2, *size)
    with torch.no_grad():
        outputs = tuple(run(examples))  # also makes what is kept for a size, so that it is a constant below
    inputs = tuple(examples)
    # Also in eval mode: the exporter leaves all it was given in the wrapper's own, and batch norms would notice.
    flat = _Flat(network, run, inputs).eval()
    with TemporaryDirectory() as folder, torch.no_grad(), _quiet(), _atanh(opset):
        file = Path(folder) / "network.onnx"
        try:
            torch.onnx.export(
                flat, tuple(examples.values()), file, dynamo=False, opset_version=opset,
                input_names=list(inputs), output_names=list(outputs),
                dynamic_axes={key: {0: "batch"} for key in (*inputs, *outputs)},
            )  # fmt: skip
        except (RuntimeError, ValueError) as error:
            reason = str(error).splitlines()[0]
            text = f"{type(network).__name__} at {size[0]}x{size[1]} cannot be exported: {reason}"
            raise TryonError(text, code="export-unsupported") from error
        return file.read_bytes(), inputs, outputs


@contextmanager
def _quiet() -> Iterator[None]:
    """No warnings (sizes become constants, as they should; the tracer is called old), no graph on standard output."""
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _atanh(opset: int) -> Iterator[None]:
    """Teaches the exporter atanh, an ONNX operator since opset 9 that it does not know."""

    def symbolic(graph: Any, x: Any) -> Any:
        return graph.op("Atanh", x).setType(x.type())

    exporter: Any = torch.onnx  # whose two functions are public but not in its __all__
    exporter.register_custom_op_symbolic("aten::atanh", symbolic, opset)
    try:
        yield
    finally:
        exporter.unregister_custom_op_symbolic("aten::atanh", opset)


def difference(network: Runnable, run: Run, data: bytes, size: tuple[int, int]) -> float:
    """Largest absolute difference between onnxruntime and PyTorch on batches that were not traced.

    Args:
        network: on the CPU, in eval mode.
        run: what was traced of it.
        data: the ONNX file.
        size: that it was traced at.

    Raises:
        TryonError: it is more than 1e-3, or the shapes are others.
    """
    session = import_module("onnxruntime").InferenceSession(data, providers=["CPUExecutionProvider"])
    largest = 0.0
    for batch in CHECKED_BATCHES:
        examples = network.example_inputs(batch, *size)
        with torch.no_grad():
            wanted = run(examples)
        read = [one.name for one in session.get_inputs()]  # not all are, of a part of the network's work
        got = session.run(list(wanted), {key: examples[key].numpy() for key in read})
        for (key, a), value in zip(wanted.items(), got, strict=True):
            b = torch.from_numpy(value)
            if a.shape != b.shape:
                text = f"output {key} is {tuple(b.shape)} for a batch of {batch}, PyTorch gives {tuple(a.shape)}"
                raise TryonError(text, code="export-differs")
            largest = max(largest, float((a - b).abs().max().nan_to_num(float("inf"))))
    if not largest <= TOLERANCE:
        text = f"{type(network).__name__} as ONNX differs from PyTorch by {largest:.2g}, more than {TOLERANCE}"
        raise TryonError(text, code="export-differs")
    return largest
