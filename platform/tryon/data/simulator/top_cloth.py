"""What a top or dress looks like: the colours of its panels with bands, seams, fronts and collars."""

from __future__ import annotations

import numpy as np

from tryon.data.simulator.garment import stitch
from tryon.data.simulator.geometry import Color, Float, coverage, ellipse, f32, paint_into, rgb3, smoothstep, support
from tryon.data.simulator.texture import cloth, crease_shade
from tryon.data.simulator.tops import WAIST, TopFields


class TopPattern(TopFields):
    """The flat shape of a top or dress, and its colours."""

    def paint(self, x: Float, y: Float, px: float) -> tuple[Float, Float]:
        """Unlit colour (H, W, 3), continued past the edges, and distance field (H, W) at flat points."""
        torso = self.torso(x, y)
        rgb = self._trunk(x, y, px, torso)
        distance = torso
        if self.garment.sleeve != "none":
            for side in (1, -1):
                rows, cols = self._beside(x, y, side)
                sx, sy = x[:, cols], y[rows]
                t, d = self.to_sleeve(sx, sy, side)
                sleeve = self.sleeve(t, d)
                share = coverage(np.minimum(sleeve + 0.05, -torso[rows, cols]), px)
                part = rgb[rows, cols]
                paint_into(part, self._sleeve(t, d, px), share)
                joined = self.join(distance[rows, cols], sleeve, sx, sy)
                distance = distance.copy()
                distance[rows, cols] = joined
            # The armhole seam.
            inside = ((distance > 0.02) & (y - self.slope(np.abs(x)) > 0.05)).astype(np.float32)
            stitch(rgb, torso, px, inside, 0.16)
        return f32(rgb * rgb3(crease_shade(self.garment.detail_seed, x, y))), f32(distance)

    def worn(self, x: Float, y: Float, px: float, side: int) -> Float:
        """Unlit colour of one worn panel at its flat points: 0 the trunk, +1 and -1 the sleeves."""
        if side == 0:
            return self._trunk(x, y, px, self.torso(x, y))
        return self._sleeve(*self.to_sleeve(x, y, side), px)

    def inside(self, x: Float, y: Float, px: float) -> tuple[Float, Float] | None:
        """The inside of the back, seen through the neckline and an open front."""
        g = self.garment
        if not g.inside_back and g.opening <= 0:
            return None
        back = ellipse(x, np.maximum(y, 0.0), 0.0, 0.0, g.neck_width, 0.09)
        field = np.minimum(np.minimum(self.neck_hole(x, y) + 0.02, -back), y - np.float32(0.004))
        field = np.minimum(field, self.hem_y(x) - y - np.float32(0.05))
        tone = 0.62 + 0.12 * smoothstep(0.0, 0.4, y)
        colour = f32(np.broadcast_to((f32(g.color) * rgb3(tone)), (*field.shape, 3))).copy()
        paint_into(colour, f32(f32(g.trim) * 0.86), coverage(f32(0.07 + back), px))
        label = coverage(f32(np.minimum(0.055 - np.abs(x), 0.035 - np.abs(y - np.float32(0.155)))), px)
        paint_into(colour, f32((0.9, 0.9, 0.9)), label)
        return colour, coverage(f32(field), px)

    def _beside(self, x: Float, y: Float, side: int) -> tuple[slice, slice]:
        """Rows and columns of a photo's grid in which a sleeve can lie."""
        cols = np.flatnonzero(x[0] * side > 0.3)
        rows = np.flatnonzero(y[:, 0] < self.extent()[1] + 0.1)
        return slice(0, int(rows[-1]) + 1), slice(int(cols[0]), int(cols[-1]) + 1)

    def _sleeve(self, t: Float, d: Float, px: float) -> Float:
        g = self.garment
        plain = g.texture == "text" or (g.texture == "printed" and g.motif % 2 == 1)
        shape = np.broadcast_shapes(t.shape, d.shape)
        if plain:
            rgb = np.empty((*shape, 3), np.float32)
            rgb[:] = f32(g.color)
        else:
            rgb = cloth(g, d, f32(t + np.float32(0.4)), px)
        end = np.float32(g.sleeve_length)
        cuff = 0.12 if g.style == "shirt" and g.sleeve_length > 1.9 else 0.07
        if g.style != "blazer":
            band = np.float32(cuff) - np.abs(end - np.float32(cuff - 0.01) - t) + 0 * d
            paint_into(rgb, f32(g.trim), coverage(f32(band), px))
        stitch(rgb, f32(end - np.float32(2 * cuff - 0.02) - t), px, np.ones(shape, np.float32))
        return rgb

    def _trunk(self, x: Float, y: Float, px: float, torso: Float) -> Float:
        g = self.garment
        rgb = cloth(g, x, y, px)
        hole = self.neck_hole(x, y)
        on = (torso > 0.0).astype(np.float32)
        if g.style == "blazer":
            self._lapels(rgb, x, y, px, hole)
        else:
            width = {"cardigan": 0.11, "zip": 0.05, "shirt": 0.03}.get(g.style, 0.075)
            high = y < (9.0 if g.opening > 0 else 1.2)
            paint_into(rgb, f32(g.trim), coverage(f32(width + hole), px) * high)
            stitch(rgb, f32(hole + width), px, high * np.ones_like(hole), 0.22)
        if g.style == "shirt":
            self._shirt_front(rgb, x, y, px, hole)
        elif g.style in ("cardigan", "blazer", "zip"):
            self._jacket_front(rgb, x, y, px, hole)
        if g.sleeve == "none":
            stitch(rgb, f32(torso - 0.05), px, (y < 0.72) * on, 0.16)
        if g.category == "dress" and g.motif % 3 != 1:
            stitch(rgb, f32(y - np.float32(WAIST) + 0 * x), px, on, 0.22)
        stitch(rgb, f32(self.hem_y(x) - y - np.float32(0.07)), px, on)
        return rgb

    def _lapels(self, rgb: Float, x: Float, y: Float, px: float, hole: Float) -> None:
        width = 0.30 * (1.0 - smoothstep(0.35, 1.55, y)) * smoothstep(-0.05, 0.12, y)
        width = width - 0.07 * np.exp(-(((y - np.float32(0.42)) * np.float32(1 / 0.04)) ** 2))
        field = f32(hole + width)
        rows, cols = support(coverage(field, px))
        rgb[rows, cols] *= np.float32(0.93)
        rgb[rows, cols] += (rgb[rows, cols] * np.float32(0.06 / 0.93)) * (1 - rgb3(coverage(field, px)[rows, cols]))
        stitch(rgb, field, px, np.ones_like(field) * (y < 1.5), 0.30)

    def _shirt_front(self, rgb: Float, x: Float, y: Float, px: float, hole: Float) -> None:
        g = self.garment
        collar = f32(np.minimum(hole + 0.20 * smoothstep(-0.02, 0.30, y), g.neck_depth * 0.95 - y + 0.45 * np.abs(x)))
        cover = coverage(collar, px)
        rows, cols = support(cover)
        rgb[rows, cols] *= 1.0 + 0.07 * rgb3(cover[rows, cols])
        stitch(rgb, collar, px, (hole < 0).astype(np.float32), 0.42)
        below = (hole < -0.02).astype(np.float32)
        stitch(rgb, f32(np.abs(x) - np.float32(0.065) + 0 * y), px, below, 0.16)
        self._buttons(rgb, x, y, px, 0.0, g.neck_depth + 0.10, min(g.length - 0.1, 3.6))

    def _jacket_front(self, rgb: Float, x: Float, y: Float, px: float, hole: Float) -> None:
        g = self.garment
        if g.style == "zip":
            teeth = coverage(f32(0.014 - np.abs(hole + 0.02)), max(px, 0.012)) * (y > g.neck_depth * 0.6)
            paint_into(rgb, f32((0.62, 0.62, 0.60)), teeth)
        else:
            start = 1.45 if g.style == "blazer" else g.neck_depth + 0.15
            self._buttons(rgb, x, y, px, g.opening * 0.8 + 0.06, start, g.length - 0.25)
        ax = np.abs(x)
        flap = np.minimum(0.24 - np.abs(ax - np.float32(0.55)), 0.055 - np.abs(y - np.float32(g.length - 0.62)))
        stitch(rgb, f32(flap), px, np.ones_like(hole), 0.30)

    def _buttons(self, rgb: Float, x: Float, y: Float, px: float, at: float, start: float, end: float) -> None:
        """A row of buttons down one side of the front."""
        g = self.garment
        step = 0.36 if g.style != "blazer" else 0.42
        num = max(int((end - start) / step) + 1, 1)
        last = min(num, 2 if g.style == "blazer" else 9)
        k = np.clip(np.round((y - np.float32(start)) * np.float32(1 / step)), 0, last)
        r = np.hypot(x - np.float32(at), y - np.float32(start) - k * np.float32(step))
        dark: Color = (0.22, 0.18, 0.15)
        colour = dark if sum(g.color) > 1.3 else (0.80, 0.78, 0.74)
        paint_into(rgb, f32(colour), coverage(f32(0.030 - r), px))
