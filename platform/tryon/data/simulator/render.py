"""Rendering: figure, garment and scene to one sample with all its truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from tryon.data.simulator.background import paint_background
from tryon.data.simulator.dense import compose
from tryon.data.simulator.dressing import Dressing, dress_up
from tryon.data.simulator.figure import FigureSpec
from tryon.data.simulator.garment import FlatPattern
from tryon.data.simulator.geometry import Float, Grid, UInt8, blur, f32, rgb3
from tryon.data.simulator.head import head_shadow
from tryon.data.simulator.layers import Light
from tryon.data.simulator.lowers import LowerPattern, LowerSpec
from tryon.data.simulator.photo import FlatPhoto, take_photo, to_uint8
from tryon.data.simulator.scene import SceneSpec
from tryon.data.simulator.skin import Arm
from tryon.data.simulator.stack import Stacked, paint
from tryon.data.simulator.top_cloth import TopPattern
from tryon.data.simulator.wardrobe import GarmentSpec
from tryon.errors import ConfigError
from tryon.sample import NUM_JOINTS, Label, Row

MIN_HEIGHT, MIN_WIDTH, MAX_SIDE = 64, 48, 4096


def check_size(height: int, width: int) -> None:
    """Refuses sizes that cannot be drawn.

    Raises:
        ConfigError: outside 64..4096 by 48..4096 px.
    """
    for name, value, low in (("height", height, MIN_HEIGHT), ("width", width, MIN_WIDTH)):
        if not isinstance(value, (int, np.integer)) or not low <= value <= MAX_SIDE:
            text = f"simulator: {name} = {value!r} is not allowed: a whole number of px from {low} to {MAX_SIDE}"
            raise ConfigError(text, code="size-invalid", field=name)


def pattern_of(garment: GarmentSpec) -> TopPattern | LowerPattern:
    """The flat pattern of a garment."""
    return LowerPattern(garment) if isinstance(garment, LowerSpec) else TopPattern(garment)


@dataclass(frozen=True)
class _Drawn:
    """A painted scene on its way to a row."""

    grid: Grid
    photo: FlatPhoto
    dressing: Dressing
    stacked: Stacked
    shadow: Float
    flow: Float
    amodal: UInt8
    seen: Float

    @property
    def true_mask(self) -> UInt8:
        """1 where the garment is visible."""
        return np.asarray((self.seen > 0.5) & (self.amodal == 1), dtype=np.uint8)


def render(figure: FigureSpec, garment: GarmentSpec, scene: SceneSpec, height: int, width: int) -> Row:
    """Draws a figure in a garment.

    Args:
        figure: the person.
        garment: what they try on; it takes the place of its like in the figure's outfit.
        scene: camera, light, background.
        height: of all images, px, 64..4096.
        width: px, 48..4096; other shapes than 3:4 show more background.

    Returns:
        Every field that `simulate` returns, but for the id.

    Raises:
        ConfigError: the size is out of bounds.
    """
    check_size(height, width)
    pattern = pattern_of(garment)
    drawn = _draw(figure, pattern, scene, height, width)
    true_mask = drawn.true_mask
    parse = drawn.stacked.labels.copy()
    parse[true_mask == 1] = _label(pattern)
    camera = _Camera(scene, (height, width))
    dressed = _dress(drawn)
    return {
        "category": pattern.category,
        "person": camera.expose(dressed),
        "garment": drawn.photo.image,
        "garment_mask": drawn.photo.mask,
        "pose": _keypoints(figure, drawn.grid),
        "person_mask": (parse > 0).astype(np.uint8),
        "parse": parse,
        "dense": compose(drawn.dressing.pieces, (height, width)),
        "true_flow": drawn.flow,
        "true_garment": warp_by_flow(drawn.photo.image, drawn.flow, true_mask),
        "true_mask": true_mask,
        "true_amodal_mask": drawn.amodal,
        "unoccluded_person": camera.expose(drawn.stacked.bare),
    }


def draw_worn(figure: FigureSpec, garment: GarmentSpec, scene: SceneSpec, height: int, width: int) -> UInt8:
    """The worn garment alone, as far as it is seen, in its flat colours: no light, folds or camera on it.

    What warping the garment photo by the true flow is to be measured against.

    Args:
        figure: as for `render`.
        garment: as for `render`.
        scene: as for `render`.
        height: px.
        width: px.

    Returns:
        uint8 (H, W, 4): RGB, and the share of the pixel that the garment covers, 0..255.
    """
    check_size(height, width)
    drawn = _draw(figure, pattern_of(garment), scene, height, width)
    rgb = _garment_light(drawn, lit=False) / np.maximum(rgb3(drawn.seen), np.float32(1e-3))
    return np.dstack([to_uint8(np.minimum(rgb, 1.0)), to_uint8(drawn.seen)])


def _draw(figure: FigureSpec, pattern: TopPattern | LowerPattern, scene: SceneSpec, height: int, width: int) -> _Drawn:
    grid, light = scene.grid(height, width), scene.light
    photo = take_photo(pattern, height, width)
    dressing = dress_up(figure, pattern, grid, light)
    shadow = _shadow(figure, grid, light, dressing.arms)
    stacked = paint(paint_background(scene, figure, grid), dressing.items, shadow)
    flow, amodal = _flow(stacked, photo, (height, width))
    seen = np.zeros((height, width), np.float32)
    for panel, visible in zip(stacked.panels, stacked.visible, strict=True):
        seen[panel.window] += visible
    return _Drawn(grid, photo, dressing, stacked, shadow, flow, amodal, np.minimum(seen, 1.0))


def _label(pattern: FlatPattern) -> Label:
    if isinstance(pattern, LowerPattern):
        return pattern.garment.label
    return Label.DRESS if pattern.category == "dress" else Label.UPPER_CLOTHES


def _shadow(figure: FigureSpec, grid: Grid, light: Light, arms: Sequence[Arm]) -> Float:
    """Factor by which arms and head darken what lies behind them, (H, W)."""
    thrown = np.zeros(grid.shape, np.float32)
    for one in arms:
        thrown[one.window] = np.maximum(thrown[one.window], one.hard)
    reach = 0.10 / grid.px
    dx, dy, _ = light.direction
    soft = _shifted(blur(thrown, 0.055 / grid.px), -dx * reach, -dy * reach)
    cx, cy = figure.head_centre
    near = grid.crop(cx - 1.6, cy - 0.7, cx + 1.6, cy + 2.6)
    head = blur(head_shadow(figure, near), 0.09 / grid.px)
    head = _shifted(head, -dx * 2.6 * reach, max(-dy, 0.3) * 5.0 * reach)
    out = 1.0 - np.float32(0.38) * soft
    out[near.window] *= 1.0 - np.float32(0.34) * head
    return f32(out)


def _shifted(image: Float, dx_px: float, dy_px: float) -> Float:
    matrix = np.array([[1, 0, dx_px], [0, 1, dy_px]], np.float32)
    return f32(cv2.warpAffine(image, matrix, (image.shape[1], image.shape[0]), flags=cv2.INTER_LINEAR))


def _dress(drawn: _Drawn) -> Float:
    """The figure with the garment on, (H, W, 3)."""
    contact = 1.0 - np.float32(0.36) * blur(drawn.seen, 0.035 / drawn.grid.px) * drawn.stacked.body
    return f32(drawn.stacked.bare * rgb3(contact * (1.0 - drawn.seen)) + _garment_light(drawn, lit=True))


def _garment_light(drawn: _Drawn, *, lit: bool) -> Float:
    """The garment's part of the picture, (H, W, 3): each panel's colour times its visible share."""
    photo, stacked = drawn.photo, drawn.stacked
    out = np.zeros((*drawn.seen.shape, 3), np.float32)
    for panel, alpha in zip(stacked.panels, stacked.visible, strict=True):
        map_x, map_y = photo.to_px(panel.x, panel.y)
        colour = f32(cv2.remap(photo.cloth, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))
        if lit:
            light = panel.brightness * (drawn.shadow[panel.window] if panel.side == 0 else np.float32(1.0))
            colour *= rgb3(light)
        out[panel.window] += np.minimum(colour, 1.0) * rgb3(alpha)
    return out


def _flow(stacked: Stacked, photo: FlatPhoto, shape: tuple[int, int]) -> tuple[Float, UInt8]:
    """True flow (H, W, 2) px, NaN off the garment, and the amodal mask; later panels lie over earlier ones."""
    flow = np.full((*shape, 2), np.nan, np.float32)
    for panel in stacked.panels:
        on = panel.alpha > 0.5
        map_x, map_y = photo.to_px(panel.x, panel.y)
        rows, cols = panel.window
        map_x = map_x - np.arange(cols.start, cols.stop, dtype=np.float32)[None, :]
        map_y = map_y - np.arange(rows.start, rows.stop, dtype=np.float32)[:, None]
        flow[panel.window][on] = np.stack([map_x[on], map_y[on]], axis=-1)
    return flow, np.isfinite(flow[..., 0]).astype(np.uint8)


def warp_by_flow(image: UInt8, flow_hw2: Float, mask: UInt8) -> UInt8:
    """Samples an image bilinearly at each pixel displaced by the flow; black where the mask is 0.

    Args:
        image: uint8 (H, W, 3).
        flow_hw2: float32 (H, W, 2) displacement, px.
        mask: uint8 (H, W), {0, 1}.
    """
    height, width = mask.shape
    filled = np.where(np.isfinite(flow_hw2), flow_hw2, np.float32(0))
    map_x = f32(filled[..., 0] + np.arange(width, dtype=np.float32)[None, :])
    map_y = f32(filled[..., 1] + np.arange(height, dtype=np.float32)[:, None])
    warped = cv2.remap(image, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(cv2.copyTo(warped, mask), dtype=np.uint8)


def _keypoints(figure: FigureSpec, grid: Grid) -> Float:
    """BODY_25 keypoints (25, 3); joints outside the frame are all zero."""
    height, width = grid.shape
    out = np.zeros((NUM_JOINTS, 3), np.float32)
    for joint, (x, y) in figure.joints().items():
        u = (x - float(grid.x[0, 0])) / grid.px
        v = (y - float(grid.y[0, 0])) / grid.px
        if -0.5 <= u < width - 0.5 and -0.5 <= v < height - 0.5:
            out[joint] = u, v, 1.0
    return out


class _Camera:
    """Blur and noise of one exposure; both pictures of a sample share it."""

    def __init__(self, scene: SceneSpec, shape: tuple[int, int]) -> None:
        rng = np.random.Generator(np.random.PCG64(scene.detail_seed + 1))
        self.grain = rgb3(rng.standard_normal(shape, dtype=np.float32) * np.float32(scene.noise))
        self.sigma_px = scene.blur * shape[0]

    def expose(self, image: Float) -> UInt8:
        """0..1 to 0..255."""
        return to_uint8(blur(image, self.sigma_px) + self.grain)
