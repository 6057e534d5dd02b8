"""Weights trained elsewhere, read safely and loaded strictly."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from tryon.errors import BundleError
from tryon.models.weights import local_file

WRAPPERS = ("state_dict", "params_ema", "params", "model")  # keys under which published checkpoints hold the weights
PREFIX = "module."  # of networks saved inside DataParallel


def read_state(checkpoint: str | Path | Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of a checkpoint by name, floats as float32, on the CPU; wrappers and ``module.`` taken off.

    Nothing in the file is executed: only tensors and plain containers are unpickled.

    Args:
        checkpoint: URI of a ``.pth``/``.pt`` (either of torch's formats) or ``.safetensors`` file; or what it holds.

    Raises:
        BundleError: no checkpoint, damaged, or one that holds code.
        StorageError: nothing there, or it cannot be read.
    """
    name = "the state dict" if isinstance(checkpoint, Mapping) else str(checkpoint)
    held = checkpoint if isinstance(checkpoint, Mapping) else _read(local_file(str(checkpoint)), name)
    for wrapper in WRAPPERS:
        if isinstance(held, Mapping) and isinstance(held.get(wrapper), Mapping):
            held = held[wrapper]
            break
    if not isinstance(held, Mapping) or not held or not all(isinstance(value, Tensor) for value in held.values()):
        text = f"{name} holds no weights: a mapping of names to tensors is needed, at the top or under {WRAPPERS[0]!r}"
        raise BundleError(text, code="weights-corrupt", field="weights")
    return {str(key).removeprefix(PREFIX): _as_float32(value) for key, value in held.items()}


def load_strictly(network: nn.Module, state: Mapping[str, Tensor], name: str, what: str) -> None:
    """Loads a state dict that must have the network's names and shapes exactly; takes the tensors, not copies.

    Args:
        network: may be on the meta device.
        state: names to tensors.
        name: of the checkpoint, for the message.
        what: of the network, for the message.

    Raises:
        BundleError: names the first key that is missing, of another shape, or too many.
    """
    wanted = network.state_dict()
    fault = next(filter(None, (_fault(key, value, state, what) for key, value in wanted.items())), None)
    surplus = next((key for key in state if key not in wanted), None)
    if fault is None and surplus is not None:
        fault = f"it holds {surplus!r}, which {what} does not have"
    if fault is not None:
        raise BundleError(f"{name} is no checkpoint of {what}: {fault}", code="weights-mismatch", field="weights")
    network.load_state_dict(dict(state), strict=True, assign=True)


def _fault(key: str, value: Tensor, state: Mapping[str, Tensor], what: str) -> str | None:
    if key not in state:
        return f"{key!r} is missing among its {len(state)} tensors"
    if state[key].shape != value.shape:
        return f"{key!r} is {_size(state[key])}, {what} has {_size(value)}"
    return None


def _size(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a single number"


def _as_float32(value: Tensor) -> Tensor:
    value = value.detach().cpu()
    return value.float().contiguous() if value.is_floating_point() else value


def _read(path: Path, name: str) -> Any:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        text = f"{name} is damaged, no checkpoint, or holds more than tensors, which is not unpickled: it could be code"
        raise BundleError(text, code="weights-corrupt", field="weights") from error
    except (SafetensorError, RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise BundleError(
            f"{name} is damaged or no checkpoint: {reason}", code="weights-corrupt", field="weights"
        ) from error
