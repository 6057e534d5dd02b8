"""Maps of a frame: what they do to images, masks, labels, keypoints and flow, and how they are drawn by chance.

Pixel centres lie at whole numbers. A map goes from source to result; layers are sampled the other way, all at the same
places, so that what lay on a pixel together still does. Shape legend: h, w of the result.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from tryon.codec import FLOW_SCALE, FLOW_ZERO
from tryon.data.augment.config import AffineConfig, CropConfig

UInt8 = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]
Size = tuple[int, int]

MAX_FLOW_PX = (FLOW_ZERO - 1) / FLOW_SCALE  # beyond this a shard cannot hold it
# From pixel to pixel of one cloth the garment's position changes by about the same step. Several steps at once are a
# seam, where one layer lies over another: a mean of both would point at neither.
SEAM_STEPS = 2.0
ATTEMPTS = 8


@dataclass(frozen=True)
class FrameMap:
    """An affine map of a frame.

    Attributes:
        matrix: float64 (3, 3), from source px to result px, homogeneous.
        size: (h, w) of the result, px.
    """

    matrix: Float64
    size: Size

    @property
    def mirrors(self) -> bool:
        """True if left and right change places."""
        return bool(np.linalg.det(self.matrix[:2, :2]) < 0)

    @property
    def turn(self) -> Float64:
        """The rotation in it, (2, 2), without scale and mirror."""
        linear = self.matrix[:2, :2] @ np.diag([-1.0 if self.mirrors else 1.0, 1.0])
        return np.asarray(linear / np.sqrt(np.linalg.det(linear)))

    @cached_property
    def lookup(self) -> tuple[Float32, Float32]:
        """For each pixel of the result the source x and y, px, float32 (h, w) each."""
        back = np.linalg.inv(self.matrix)
        x = np.arange(self.size[1], dtype=np.float64)[None, :]
        y = np.arange(self.size[0], dtype=np.float64)[:, None]
        source_x, source_y = (back[i, 0] * x + back[i, 1] * y + back[i, 2] for i in (0, 1))
        return source_x.astype(np.float32), source_y.astype(np.float32)

    def points(self, xy: npt.NDArray[Any]) -> Float64:
        """Where points (..., 2) of the source lie in the result."""
        return np.asarray(xy @ self.matrix[:2, :2].T + self.matrix[:2, 2])

    def contains(self, xy: npt.NDArray[Any]) -> Bool:
        """Which points (..., 2) of the result lie on one of its pixels."""
        x, y = xy[..., 0], xy[..., 1]
        return np.asarray((x >= -0.5) & (y >= -0.5) & (x < self.size[1] - 0.5) & (y < self.size[0] - 0.5))

    def image(self, image: UInt8) -> UInt8:
        """A photo, (H, W, 3); beyond its edge the edge goes on."""
        return self._sample(image, cv2.INTER_LINEAR, cv2.BORDER_REPLICATE)

    def soft(self, layer: UInt8) -> UInt8:
        """A picture or alpha that is 0 outside its frame."""
        return self._sample(layer, cv2.INTER_LINEAR, cv2.BORDER_CONSTANT)

    def nearest(self, layer: UInt8) -> UInt8:
        """Masks, labels, codes: 0 outside the frame."""
        return self._sample(layer, cv2.INTER_NEAREST, cv2.BORDER_CONSTANT)

    def keypoints(self, pose: Float32) -> Float32:
        """BODY_25 keypoints (25, 3); confidence 0 outside the result. Points that are all zero were never found."""
        moved = np.column_stack([self.points(pose[:, :2]), pose[:, 2]])
        moved[~self.contains(moved[:, :2]), 2] = 0
        moved[(pose == 0).all(axis=1)] = 0
        return moved.astype(np.float32)

    def landmarks(self, world: Float32) -> Float32:
        """World landmarks (33, 4): turned with the picture. They are in metres, so neither scale nor shift counts."""
        return np.column_stack([world[:, :2] @ self.turn.T, world[:, 2:]]).astype(np.float32)

    def _sample(self, layer: UInt8, mode: int, border: int) -> UInt8:
        return np.asarray(cv2.remap(layer, *self.lookup, mode, borderMode=border), dtype=np.uint8)


def map_flow(flow_hw2: Float32, person: FrameMap, garment: FrameMap) -> Float32:
    """The flow from the mapped person to the mapped garment photo.

    With person map A and garment map B, a pixel p of the result shows the garment's ``B(q + flow(q))``, ``q = A^-1 p``.

    Args:
        flow_hw2: displacement px from person to garment pixel, NaN where there is none.
        person: map of the person's frame.
        garment: map of the garment photo's frame.

    Returns:
        float32 (h, w, 2); defined where the nearest source pixel was, unless it is more than a shard can hold.
    """
    target = flow_hw2 + _pixels(flow_hw2.shape[:2])
    valid = np.isfinite(target).all(axis=-1)
    known = np.where(valid[..., None], target, 0).astype(np.float32)
    near = _remap(target, person, cv2.INTER_NEAREST, beyond=np.nan)
    mean = _remap(known, person, cv2.INTER_LINEAR)
    whole = _remap(valid.astype(np.float32), person, cv2.INTER_LINEAR) > 1 - 1e-3
    whole &= np.abs(mean - near).max(axis=-1) < SEAM_STEPS * _step_px(target)
    mapped = garment.points(np.where(whole[..., None], mean, near)) - _pixels(person.size)
    mapped[np.abs(mapped).max(axis=-1) > MAX_FLOW_PX] = np.nan
    return np.asarray(mapped, dtype=np.float32)


def _step_px(target_hw2: Float32) -> float:
    """How far apart on the garment two neighbouring person pixels are, px: the median, at least half a pixel."""
    steps = np.abs(np.diff(target_hw2[::3], axis=1)).max(axis=-1)
    steps = steps[np.isfinite(steps)]
    return max(0.5, float(np.median(steps))) if steps.size else 0.5


def _remap(values: Float32, frame: FrameMap, mode: int, beyond: float = 0.0) -> Float32:
    border = [beyond] * 4
    sampled = cv2.remap(values, *frame.lookup, mode, borderMode=cv2.BORDER_CONSTANT, borderValue=border)
    return np.asarray(sampled, dtype=np.float32)


def _pixels(size: tuple[int, ...]) -> Float32:
    """x, y of each pixel, (h, w, 2)."""
    y, x = np.mgrid[: size[0], : size[1]]
    return np.asarray(np.stack([x, y], axis=-1), dtype=np.float32)


def identity(size: Size) -> FrameMap:
    """The map that changes nothing."""
    return FrameMap(np.eye(3), size)


def mirror(size: Size) -> FrameMap:
    """Left for right."""
    matrix = np.eye(3)
    matrix[0] = (-1, 0, size[1] - 1)
    return FrameMap(matrix, size)


def then(first: FrameMap, second: FrameMap) -> FrameMap:
    """One map after the other."""
    return FrameMap(second.matrix @ first.matrix, second.size)


def draw_affine(config: AffineConfig, size: Size, rng: np.random.Generator) -> FrameMap:
    """Scale, rotation and shift within bounds."""
    scale, angle = rng.uniform(*config.scale), np.radians(rng.uniform(-1, 1) * config.rotation_deg)
    shift = rng.uniform(-1, 1, 2) * config.shift * np.array([size[1], size[0]])
    return _about_middle(scale, angle, shift, size)


def draw_crop(config: CropConfig, size: Size, rng: np.random.Generator) -> FrameMap:
    """A window of the frame's shape inside it, brought to the frame's size."""
    side = rng.uniform(config.min_side, 1)
    middle = rng.uniform(-1, 1, 2) * (1 - side) / 2 * np.array([size[1], size[0]])
    return _about_middle(1 / side, 0.0, -middle / side, size)


def _about_middle(scale: float, angle: float, shift: Float64, size: Size) -> FrameMap:
    middle = np.array([size[1] - 1, size[0] - 1]) / 2
    matrix = np.eye(3)
    matrix[:2, :2] = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix[:2, 2] = middle + shift - matrix[:2, :2] @ middle
    return FrameMap(matrix, size)


def touched_edges(mask: UInt8 | None) -> Bool:
    """Edges of the frame that a figure is cut off by: left, top, right, bottom. All, where no mask is known."""
    if mask is None:
        return np.ones(4, dtype=bool)
    edges = (mask[:, 0], mask[0], mask[:, -1], mask[-1])
    return np.array([np.count_nonzero(edge) > 0.01 * len(edge) for edge in edges])


def hold_edges(moved: FrameMap, touched: Bool) -> FrameMap:
    """Zooms and shifts just so far that no edge which cuts off the figure comes into view.

    Beyond such an edge the photo says nothing, and a body that ends in mid-air is no photo of anybody.
    """
    height, width = moved.size
    back = np.linalg.inv(moved.matrix)
    corners = np.array([(x, y) for x in (-0.5, width - 0.5) for y in (-0.5, height - 0.5)])
    window = corners @ back[:2, :2].T + back[:2, 2]
    frame = np.array([width, height], dtype=np.float64)
    span, centre = np.ptp(window, axis=0), (window.min(axis=0) + window.max(axis=0)) / 2
    zoom = max(1.0, *np.where(touched[:2] & touched[2:], span / frame, 1.0))
    half = span / zoom / 2
    over_near = np.where(touched[:2], np.maximum(0, -0.5 - (centre - half)), 0)
    over_far = np.where(touched[2:], np.maximum(0, (centre + half) - (frame - 0.5)), 0)
    back[:2, :2] /= zoom
    back[:2, 2] = centre + over_near - over_far - back[:2, :2] @ ((frame - 1) / 2)
    return FrameMap(np.linalg.inv(back), moved.size)


def draw_until_visible(
    draw: Callable[[], FrameMap], mask: UInt8 | None, min_visible: float, otherwise: FrameMap
) -> FrameMap:
    """The first map of some that leaves enough of a mask in the frame.

    Args:
        draw: draws one.
        mask: uint8 (H, W), of what must stay; None takes the first map.
        min_visible: share of it.
        otherwise: taken if `ATTEMPTS` draws are all in vain.
    """
    points = None if mask is None else np.argwhere(mask)[::7, ::-1]
    for _ in range(ATTEMPTS):
        drawn = draw()
        if points is None or len(points) == 0 or drawn.contains(drawn.points(points)).mean() >= min_visible:
            return drawn
    return otherwise
