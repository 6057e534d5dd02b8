"""What networks turn away, in one place: shapes, sizes, numbers and masks that they cannot work on.

Values are not looked at on meta tensors, nor while a network is exported or compiled: it then has none to look at.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

# Why a mask that is empty, or 1 everywhere, leaves nothing to do. A network lists the names of those it needs in the
# class attribute `checked_masks`, so that a stage can take such a row out before it spoils the batch.
MASKS: Mapping[str, tuple[str, str]] = {
    "garment_mask": ("there is no garment", "the garment's outline is not known"),
    "agnostic_mask": ("there is nothing to generate", "nothing of the person is left"),
    "worn_mask": ("no garment is seen that could be extracted", "the garment's outline is not known"),
}


def has_values(x: Tensor) -> bool:
    """False where values cannot be looked at."""
    return not (x.is_meta or torch.compiler.is_compiling() or torch.onnx.is_in_onnx_export())


def check_input(x: Tensor, channels: int, what: str) -> None:
    """Makes sure that an image, or a stack of them, is one.

    Raises:
        ValueError: not (b, channels, h, w), no pixels, or NaN or infinity; the message begins with `what`.
    """
    if x.ndim != 4 or x.shape[1] != channels:
        raise ValueError(f"{what} is {_shape(x)}: the network takes (batch, {channels}, height, width)")
    if not has_values(x):
        return
    if x.numel() == 0:
        raise ValueError(f"{what} is empty: {_shape(x)}")
    check_finite({what: x})


def check_size(height: int, width: int, multiple: int, least: int, what: str = "inputs") -> None:
    """Makes sure that a network can halve its input as often as it does.

    Raises:
        ValueError: a side is under `least` or no multiple of `multiple`.
    """
    if height % multiple or width % multiple or min(height, width) < least:
        allowed = f"multiples of {multiple}, from {least} on" if multiple > 1 else f"{least} px or more"
        raise ValueError(f"{what} are {height}x{width}: height and width must be {allowed}")


def check_condition(
    condition: Mapping[str, Tensor],
    maps: Mapping[str, int],
    *,
    vectors: Mapping[str, tuple[int, ...]] | None = None,
    multiple: int = 1,
    least: int = 1,
    masks: Iterable[str] = (),
) -> None:
    """Makes sure that a network can be conditioned on what it is given.

    Args:
        condition: named tensors; what is not named below is not looked at.
        maps: channels of those that are (b, channels, h, w), all at the size of the first.
        vectors: shapes of a row of those that are not.
        multiple: of height and width.
        least: height and width.
        masks: those of `MASKS` that must be neither empty nor 1 everywhere.

    Raises:
        ValueError: the message names the input, what it is and what it has to be, and the row where it is one.
    """
    first = condition[next(iter(maps))]
    if not has_values(first):
        return
    if first.ndim != 4:
        raise ValueError(f"{next(iter(maps))} is {_shape(first)}: the network takes (batch, channels, height, width)")
    b, size = first.shape[0], first.shape[-2:]
    check_size(size[0], size[1], multiple, least)
    wanted = {name: (b, channels, *size) for name, channels in maps.items()}
    wanted |= {name: (b, *shape) for name, shape in (vectors or {}).items()}
    for name, shape in wanted.items():
        if condition[name].shape != shape:
            text = "x".join(map(str, shape))
            raise ValueError(f"{name} is {_shape(condition[name])}: the network takes {text} here")
    check_finite({name: condition[name] for name in wanted})
    check_masks({name: condition[name] for name in masks})


def check_finite(tensors: Mapping[str, Tensor]) -> None:
    """Makes sure that nothing is NaN or infinite; one look for all, since each would make a GPU wait.

    Raises:
        ValueError: names the first that is.
    """
    if torch.isfinite(torch.stack([x.sum() for x in tensors.values()])).all():  # a sum is a tenth of the work
        return
    finite = torch.stack([torch.isfinite(x).all() for x in tensors.values()]).tolist()
    bad = next((name for name, good in zip(tensors, finite, strict=True) if not good), None)
    if bad is not None:
        raise ValueError(f"{bad} holds values that are not finite (NaN or infinity)")


def check_masks(masks: Mapping[str, Tensor]) -> None:
    """Makes sure that masks leave something to do.

    Args:
        masks: (b, 1, h, w) by a name of `MASKS`.

    Raises:
        ValueError: names mask and row.
    """
    for name, mask in masks.items():
        for row, fault in mask_faults(name, mask).items():
            raise ValueError(f"{name} of row {row} is {fault}")


def mask_faults(name: str, mask_b1hw: Tensor) -> dict[int, str]:
    """What is wrong with which rows of a mask, as the end of a sentence: "empty: there is no garment"."""
    empty, full = MASKS[name]
    rows = mask_b1hw.flatten(1)
    lows, highs = torch.stack([rows.amin(1), rows.amax(1)]).tolist()
    faults = {i: f"1 everywhere: {full}" for i, low in enumerate(lows) if low >= 0.5}
    return faults | {i: f"empty: {empty}" for i, high in enumerate(highs) if high <= 0.5}


def _shape(x: Tensor) -> str:
    return "x".join(map(str, x.shape)) or "a single number"
