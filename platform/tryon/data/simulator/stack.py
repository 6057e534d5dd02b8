"""The stack: everything that is drawn, back to front, and what follows from the order.

The garment to try on lies in the stack as panels; all else is painted layers. Painting only the layers gives the
unoccluded person. A panel's visible share is what later items leave of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from tryon.data.simulator.drape import Panel
from tryon.data.simulator.geometry import Float, UInt8, rgb3
from tryon.data.simulator.layers import Layer, overlap

Item: TypeAlias = Layer | Panel


@dataclass(frozen=True)
class Stacked:
    """A stack, painted.

    Attributes:
        bare: (H, W, 3) background and all layers: the figure without the garment to try on.
        panels: the garment's panels, back to front.
        visible: (h, w) in each panel's window: its visible share.
        body: (H, W) coverage of all layers that shadows fall on.
        labels: uint8 (H, W), the parse of the layers alone.
    """

    bare: Float
    panels: Sequence[Panel]
    visible: Sequence[Float]
    body: Float
    labels: UInt8


def paint(canvas: Float, items: Sequence[Item], shadow: Float) -> Stacked:
    """Paints a stack.

    Args:
        canvas: (H, W, 3) background, painted over in place.
        items: back to front.
        shadow: (H, W) factor on layers that are `shaded`.
    """
    shape = canvas.shape[:2]
    clothed, body = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    labels = np.zeros(shape, np.uint8)
    panels: list[Panel] = []
    visible: list[Float] = []
    for item in items:
        hides = item.alpha if isinstance(item, Panel) or item.hides is None else item.hides
        for panel, left in zip(panels, visible, strict=True):
            if (meet := overlap(panel.window, item.window)) is not None:
                left[meet[0]] *= 1.0 - hides[meet[1]]
        if isinstance(item, Panel):
            panels.append(item)
            visible.append((item.alpha if item.seen is None else item.seen).copy())
            continue
        _paint_layer(canvas, item, clothed, shadow)
        extent = item.alpha if item.extent is None else item.extent
        labels[item.window][extent > 0.5] = item.label
        if item.shaded or item.extent is not None:
            body[item.window] = np.maximum(body[item.window], extent)
        if item.cloth:
            clothed[item.window] = np.maximum(clothed[item.window], item.alpha)
    return Stacked(canvas, panels, visible, body, labels)


def _paint_layer(canvas: Float, layer: Layer, clothed: Float, shadow: Float) -> None:
    alpha = layer.alpha
    if layer.upon_cloth:
        alpha = alpha * clothed[layer.window]
    rgb = layer.rgb * rgb3(shadow[layer.window]) if layer.shaded else layer.rgb
    part = canvas[layer.window]
    part += (rgb - part) * rgb3(alpha)
