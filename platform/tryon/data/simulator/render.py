"""Rendering: figure, garment and scene to one sample with all its truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from tryon.data.simulator.drape import Drape, Panel
from tryon.data.simulator.figure import FigureSpec
from tryon.data.simulator.garment import GarmentSpec, Pattern
from tryon.data.simulator.geometry import Float, Grid, UInt8, Window, blur, coverage, f32
from tryon.data.simulator.head import face_layer, hair_back_layer, hair_front_layers, head_shadow
from tryon.data.simulator.layers import Layer, Light, over
from tryon.data.simulator.photo import FlatPhoto, take_photo, to_uint8
from tryon.data.simulator.scene import SceneSpec, paint_background
from tryon.data.simulator.skin import Arm, arm, lower_layers, trunk_layer
from tryon.errors import ConfigError
from tryon.sample import NUM_JOINTS, Label, Row

MIN_HEIGHT, MIN_WIDTH, MAX_SIDE = 64, 48, 4096


@dataclass(frozen=True)
class _Body:
    """The undressed figure's layers, back to front."""

    behind: list[Layer]
    trunk: Layer
    lower: list[Layer]
    arms: list[Arm]
    head: list[Layer]

    def cover(self, shape: tuple[int, int]) -> Float:
        """Coverage of trunk, arms and legs, (H, W)."""
        out = np.zeros(shape, np.float32)
        for window, alpha in (
            *((layer.window, layer.alpha) for layer in (self.trunk, *self.lower)),
            *((a.window, a.cover) for a in self.arms),
        ):
            out[window] = np.maximum(out[window], alpha)
        return out


def check_size(height: int, width: int) -> None:
    """Refuses sizes that cannot be drawn.

    Raises:
        ConfigError: outside 64..4096 by 48..4096 px.
    """
    for name, value, low in (("height", height, MIN_HEIGHT), ("width", width, MIN_WIDTH)):
        if not isinstance(value, (int, np.integer)) or not low <= value <= MAX_SIDE:
            text = f"simulator: {name} = {value!r} is not allowed: a whole number of px from {low} to {MAX_SIDE}"
            raise ConfigError(text, code="size-invalid", field=name)


def render(figure: FigureSpec, garment: GarmentSpec, scene: SceneSpec, height: int, width: int) -> Row:
    """Draws a figure in a garment.

    Args:
        figure: the person.
        garment: what they wear.
        scene: camera, light, background.
        height: of all images, px, 64..4096.
        width: px, 48..4096; other shapes than 3:4 show more background.

    Returns:
        Every field that `simulate` returns, but for the id.

    Raises:
        ConfigError: the size is out of bounds.
    """
    check_size(height, width)
    grid, light, pattern = scene.grid(height, width), scene.light, Pattern(garment)
    photo = take_photo(pattern, height, width)
    drape = Drape(figure, pattern)
    body = _draw_body(figure, grid, light, drape)
    shadow = _shadow(figure, grid, light, body.arms)
    bare = _paint_bare(paint_background(scene, height, width), body, shadow)
    panels = drape.panels(grid, light)
    visible = _visible(panels, body, _tuck(figure, garment, grid, body))
    dressed = _dress(bare, panels, visible, photo, shadow, body.cover((height, width)), grid.px)
    flow, amodal = _flow(panels, photo, (height, width))
    seen = np.minimum(sum(visible, np.zeros((height, width), np.float32)), 1.0)
    true_mask = ((seen > 0.5) & (amodal == 1)).astype(np.uint8)
    parse = _parse(body, true_mask)
    camera = _Camera(scene, (height, width))
    return {
        "category": "upper",
        "person": camera.expose(dressed),
        "garment": photo.image,
        "garment_mask": photo.mask,
        "pose": _keypoints(figure, grid),
        "person_mask": (parse > 0).astype(np.uint8),
        "parse": parse,
        "true_flow": flow,
        "true_garment": warp_by_flow(photo.image, flow, true_mask),
        "true_mask": true_mask,
        "true_amodal_mask": amodal,
        "unoccluded_person": camera.expose(bare),
    }


def _draw_body(figure: FigureSpec, grid: Grid, light: Light, drape: Drape) -> _Body:
    hair = hair_back_layer(figure, grid, light)
    order = (-1, 1) if figure.left_arm.in_front else (1, -1)
    trunk = trunk_layer(figure, grid, light)
    return _Body(
        behind=[hair] if hair else [],
        trunk=trunk,
        lower=lower_layers(figure, grid, light),
        arms=[arm(figure, grid, light, side, (drape.tip, drape.under), trunk) for side in order],
        head=[face_layer(figure, grid, light), *hair_front_layers(figure, grid, light)],
    )


def _shadow(figure: FigureSpec, grid: Grid, light: Light, arms: Sequence[Arm]) -> Float:
    """Factor by which arms and head darken the trunk behind them, (H, W)."""
    thrown = np.zeros(grid.shape, np.float32)
    for one in arms:
        thrown[one.window] = np.maximum(thrown[one.window], one.hard)
    reach = 0.10 / grid.px
    dx, dy, _ = light.direction
    soft = _shifted(blur(thrown, 0.055 / grid.px), -dx * reach, -dy * reach)
    head = _shifted(blur(head_shadow(figure, grid), 0.09 / grid.px), -dx * 2.6 * reach, max(-dy, 0.3) * 5.0 * reach)
    return f32((1.0 - 0.38 * soft) * (1.0 - 0.34 * head))


def _shifted(image: Float, dx_px: float, dy_px: float) -> Float:
    matrix = np.array([[1, 0, dx_px], [0, 1, dy_px]], np.float32)
    return f32(cv2.warpAffine(image, matrix, (image.shape[1], image.shape[0]), flags=cv2.INTER_LINEAR))


def _paint_bare(canvas: Float, body: _Body, shadow: Float) -> Float:
    """Background and undressed figure, (H, W, 3)."""
    canvas = canvas.copy()
    for layer in body.behind:
        over(canvas, layer)
    for layer in (body.trunk, *body.lower):
        shaded = Layer(layer.window, layer.alpha, f32(layer.rgb * shadow[layer.window][..., None]), layer.label)
        over(canvas, shaded)
    for layer in (*(a.layer for a in body.arms), *body.head):
        over(canvas, layer)
    return canvas


def _tuck(figure: FigureSpec, garment: GarmentSpec, grid: Grid, body: _Body) -> Float:
    """Coverage of what hides the lower end of a tucked garment, (H, W)."""
    hidden = np.zeros(grid.shape, np.float32)
    if garment.tucked:
        hidden[body.lower[-1].window] = body.lower[-1].alpha
        # Nor may it show beside the hips or between the legs.
        hidden = np.maximum(hidden, coverage(grid.y - np.float32(figure.waist_y + 0.02), grid.px))
    return hidden


def _visible(panels: Sequence[Panel], body: _Body, tuck: Float) -> list[Float]:
    """Visible share of each panel, (H, W) each, in the panels' order."""
    shown: dict[int, Float] = {}

    def cover(window: Window, alpha: Float) -> None:
        for field in shown.values():
            field[window] *= 1.0 - alpha

    def lay(panel: Panel) -> None:
        cover(panel.window, panel.alpha)
        shown[panel.side] = np.zeros(tuck.shape, np.float32)
        shown[panel.side][panel.window] = panel.alpha

    by_side = {panel.side: panel for panel in panels}
    lay(by_side[0])
    shown[0] *= 1.0 - tuck
    for one in body.arms:
        cover(one.window, one.hard)
        side = 1 if one.layer.label == Label.LEFT_ARM else -1
        if side in by_side:
            lay(by_side[side])
    for layer in body.head:
        cover(layer.window, layer.alpha)
    return [shown[panel.side] for panel in panels]


def _dress(
    bare: Float,
    panels: Sequence[Panel],
    visible: Sequence[Float],
    photo: FlatPhoto,
    shadow: Float,
    cover: Float,
    px: float,
) -> Float:
    """The figure with the garment on, (H, W, 3)."""
    seen = np.minimum(sum(visible, np.zeros(bare.shape[:2], np.float32)), 1.0)
    contact = 1.0 - 0.36 * blur(f32(seen), 0.035 / px) * cover
    out = f32(bare * contact[..., None])
    for panel, alpha in zip(panels, visible, strict=True):
        map_x, map_y = photo.to_px(panel.x, panel.y)
        colour = cv2.remap(photo.cloth, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        light = panel.brightness * (shadow[panel.window] if panel.side == 0 else 1.0)
        part = out[panel.window]
        part += (np.clip(colour * light[..., None], 0, 1) - part) * alpha[panel.window][..., None]
    return f32(out)


def _flow(panels: Sequence[Panel], photo: FlatPhoto, shape: tuple[int, int]) -> tuple[Float, UInt8]:
    """True flow (H, W, 2) px, NaN off the garment, and the amodal mask; sleeves lie over the trunk."""
    flow = np.full((*shape, 2), np.nan, np.float32)
    for panel in panels:
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
    return np.asarray(warped * mask[..., None], dtype=np.uint8)


def _parse(body: _Body, true_mask: UInt8) -> UInt8:
    parse = np.zeros(true_mask.shape, np.uint8)
    for layer in (*body.behind, body.trunk, *body.lower):
        parse[layer.window][layer.alpha > 0.5] = layer.label
    for one in body.arms:
        parse[one.window][one.cover > 0.5] = one.layer.label
    for layer in body.head:
        parse[layer.window][layer.alpha > 0.5] = layer.label
    parse[true_mask == 1] = Label.UPPER_CLOTHES
    return parse


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
        self.grain = rng.standard_normal((*shape, 1), dtype=np.float32) * np.float32(scene.noise)
        self.sigma_px = scene.blur * shape[0]

    def expose(self, image: Float) -> UInt8:
        """0..1 to 0..255."""
        return to_uint8(blur(image, self.sigma_px) + self.grain)
