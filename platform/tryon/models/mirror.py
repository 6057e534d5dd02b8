"""Left and right swapped: what a warp is conditioned on, seen in a mirror.

Shape legend: b batch, h, w network size in px.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from tryon.models.tensors import LIMBS
from tryon.sample import Joint


def _other(joint: Joint) -> Joint:
    """The joint on the other side; the middle ones are their own."""
    side, _, rest = joint.name.partition("_")
    return Joint[f"{ {'LEFT': 'RIGHT', 'RIGHT': 'LEFT'}[side] }_{rest}"] if side in ("LEFT", "RIGHT") else joint


JOINTS = [_other(joint) for joint in Joint]
_PAIRS = [frozenset(limb) for limb in LIMBS]
CHANNELS = [_PAIRS.index(frozenset(_other(joint) for joint in limb)) for limb in LIMBS]


def mirrored(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Pixels, keypoints, limbs, and the true warp of the mirrored garment photo.

    Args:
        tensors: of `tryon.models.tensors.condition` with a warp's targets; what has four axes is an image.
    """
    out = {name: value.flip(-1) if value.ndim == 4 else value for name, value in tensors.items()}
    if "limbs" in out:
        out["limbs"] = out["limbs"][:, CHANNELS]
    pose = tensors["pose"][:, JOINTS].clone()
    pose[..., 0] = tensors["limbs" if "limbs" in tensors else "person"].shape[-1] - pose[..., 0]
    out["pose"] = pose
    if "true_grid" in out:
        out["true_grid"] = mirrored_field(tensors["true_grid"])
    return out


def mirrored_field(field_bchw: Tensor) -> Tensor:
    """A warp's field as the mirrored person's: pixels swapped, and sampling positions x, its first channel, negated."""
    flipped = field_bchw.flip(-1)
    return torch.cat([-flipped[:, :1], flipped[:, 1:]], dim=1)
