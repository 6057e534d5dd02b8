"""Dressing: the figure's body, its outfit and the garment to try on, as one stack from back to front."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tryon.data.simulator.accessories import bag_layers, belt_layer, hat_layer, scarf_layers, sunglasses_layer
from tryon.data.simulator.anatomy import ARMPIT_Y
from tryon.data.simulator.dense import Piece
from tryon.data.simulator.drape import Drape, Panel
from tryon.data.simulator.figure import FigureSpec
from tryon.data.simulator.geometry import Grid, coverage, f32, rgb3
from tryon.data.simulator.head import face_layer, hair_back_layer, hair_front_layers, head_piece
from tryon.data.simulator.layers import Layer, Light
from tryon.data.simulator.legs import leg_layers
from tryon.data.simulator.lower_drape import LowerDrape
from tryon.data.simulator.lowers import LowerPattern
from tryon.data.simulator.skin import Arm, arm, trunk_layer
from tryon.data.simulator.stack import Item
from tryon.data.simulator.top_cloth import TopPattern
from tryon.sample import Label


@dataclass(frozen=True)
class Dressing:
    """A dressed figure.

    Attributes:
        items: everything drawn, back to front.
        arms: both arms.
        pieces: the parts of the dense map, back to front.
    """

    items: Sequence[Item]
    arms: Sequence[Arm]
    pieces: Sequence[Piece]


@dataclass(frozen=True)
class _Worn:
    """A worn garment: its trunk or lower part, and its sleeves by side."""

    trunk: Item
    sleeves: dict[int, Item]
    drape: Drape | LowerDrape


class _Wearer:
    """Drapes garments on one figure; the one to try on stays as panels, others become layers."""

    def __init__(self, figure: FigureSpec, target: TopPattern | LowerPattern, grid: Grid, light: Light) -> None:
        self.figure, self.target, self.grid, self.light = figure, target, grid, light

    def wear(self, pattern: TopPattern | LowerPattern, over: Drape | LowerDrape | None = None) -> _Worn:
        """Drapes a garment, a jacket over what is worn below it."""
        drape: Drape | LowerDrape
        if isinstance(pattern, LowerPattern):
            drape = LowerDrape(self.figure, pattern)
        else:
            drape = Drape(self.figure, pattern, over if isinstance(over, Drape) else None)
        panels = drape.panels(self.grid, self.light)
        if isinstance(pattern, TopPattern) and pattern.garment.tucked:
            trunk = panels[0]
            rows = self.grid.y[trunk.window[0]]
            panels[0] = replace(trunk, seen=trunk.alpha * coverage(self.figure.waist_y + 0.02 - rows, self.grid.px))
        items = {panel.side: self._item(panel, pattern) for panel in panels}
        return _Worn(items.pop(0), items, drape)

    def inside_jacket(self, item: Item) -> Item:
        """A top's trunk without the shoulders' tips, which would peep out at the jacket's armholes."""
        rows, cols = item.window
        x, y = self.grid.x[:, cols] - np.float32(self.figure.centre(1.6)), self.grid.y[rows]
        tip = np.abs(x) - np.float32(0.70 * self.figure.shoulder) - 2.0 * np.maximum(y - np.float32(ARMPIT_Y), 0.0)
        kept = 1.0 - coverage(f32(tip), self.grid.px)
        if isinstance(item, Panel):
            return replace(item, seen=(item.alpha if item.seen is None else item.seen) * kept)
        return replace(item, alpha=item.alpha * kept)

    def _item(self, panel: Panel, pattern: TopPattern | LowerPattern) -> Item:
        if pattern is self.target:
            return panel
        scale = self.grid.px if isinstance(pattern, LowerPattern) else self.grid.px * 0.9
        rgb = pattern.worn(panel.x, panel.y, scale, panel.side)
        rgb *= rgb3(panel.brightness)
        label = pattern.garment.label if isinstance(pattern, LowerPattern) else Label.UPPER_CLOTHES
        alpha = panel.alpha if panel.seen is None else panel.seen
        return Layer(panel.window, alpha, np.minimum(rgb, 1.0, out=rgb), label, shaded=panel.side == 0, cloth=True)


def dress_up(figure: FigureSpec, target: TopPattern | LowerPattern, grid: Grid, light: Light) -> Dressing:
    """Puts the garment to try on in its like's place in the outfit and stacks everything.

    A dress takes the places of top and lower garment; an open jacket that is tried on that of the outfit's jacket.

    Args:
        figure: who.
        target: what is tried on.
        grid: the canvas.
        light: the light.
    """
    wearer, outfit = _Wearer(figure, target, grid, light), figure.outfit
    jacket_pattern = TopPattern(outfit.jacket) if outfit.jacket else None
    if isinstance(target, TopPattern) and target.garment.opening > 0:
        jacket_pattern = target
    dress = isinstance(target, TopPattern) and target.category == "dress"
    is_top = isinstance(target, TopPattern) and target is not jacket_pattern
    top_pattern = target if isinstance(target, TopPattern) and is_top else TopPattern(outfit.top)
    top = wearer.wear(top_pattern)
    jacket = None
    if jacket_pattern:
        jacket = wearer.wear(jacket_pattern, top.drape)
        top = replace(top, trunk=wearer.inside_jacket(top.trunk))
    lower_pattern = target if isinstance(target, LowerPattern) else LowerPattern(outfit.lower)
    lower = None if dress else wearer.wear(lower_pattern)
    return _stack(wearer, top, top_pattern, lower, jacket)


def _stack(wearer: _Wearer, top: _Worn, top_pattern: TopPattern, lower: _Worn | None, jacket: _Worn | None) -> Dressing:
    figure, grid, light = wearer.figure, wearer.grid, wearer.light
    trunk, trunk_piece = trunk_layer(figure, grid, light)
    legs, leg_pieces = leg_layers(figure, grid, light)
    outer = jacket or top
    assert isinstance(outer.drape, Drape)
    armhole = (outer.drape.tip, outer.drape.under)
    order = (-1, 1) if figure.left_arm.in_front else (1, -1)
    arms = {side: arm(figure, grid, light, side, armhole, trunk) for side in order}
    behind = [side for side in order if figure.arm_pose(side).behind]
    front = [side for side in order if side not in behind]
    hair = hair_back_layer(figure, grid, light)
    items: list[Item] = [hair] if hair else []
    for side in behind:
        items += [arms[side].layer, *_sleeved(arms[side], side, top, jacket)]
    items += [*legs, trunk, *(arms[side].layer for side in front)]
    items += _clothes(wearer, top, top_pattern, lower)
    if jacket:
        items.append(jacket.trunk)
    if jacket is None:
        items += scarf_layers(figure, grid, light)
    items += bag_layers(figure, grid, light)
    for side in front:
        items += _sleeved(arms[side], side, top, jacket)
    items += _head(figure, grid, light)
    pieces = [arms[side].piece for side in behind] + [*leg_pieces, trunk_piece]
    pieces += [arms[side].piece for side in front] + [head_piece(figure, grid)]
    return Dressing(items, list(arms.values()), pieces)


def _clothes(wearer: _Wearer, top: _Worn, top_pattern: TopPattern, lower: _Worn | None) -> list[Item]:
    """Top and lower garment in the order in which they lie, with a belt where one would show."""
    figure, tucked = wearer.figure, top_pattern.garment.tucked
    if lower is None:
        return [top.trunk]
    belt = belt_layer(figure, wearer.grid, wearer.light, figure.waist_y) if tucked else None
    below: list[Item] = [lower.trunk, *([belt] if belt else [])]
    return [top.trunk, *below] if tucked else [*below, top.trunk]


def _sleeved(one: Arm, side: int, top: _Worn, jacket: _Worn | None) -> list[Item]:
    """An arm over clothes, then its sleeves."""
    over = replace(one.layer, alpha=one.hard, hides=one.hard, extent=one.hard, upon_cloth=True)
    if jacket is None:
        return [over, *([top.sleeves[side]] if side in top.sleeves else [])]
    inner = top.sleeves.get(side)  # wholly inside the jacket's: of use only as what lies there unseen
    unseen = [replace(inner, seen=np.zeros_like(inner.alpha))] if isinstance(inner, Panel) else []
    return [*unseen, over, jacket.sleeves[side]]


def _head(figure: FigureSpec, grid: Grid, light: Light) -> list[Item]:
    glasses, hat = sunglasses_layer(figure, grid, light), hat_layer(figure, grid, light)
    hair = hair_front_layers(figure, grid, light)
    cap, locks = hair[:1], hair[1:]
    items: list[Layer | None] = [face_layer(figure, grid, light), glasses, *cap, hat, *locks]
    return [item for item in items if item is not None]
