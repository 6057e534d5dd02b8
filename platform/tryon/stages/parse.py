"""Parse stage without weights: human parsing from keypoints, the person mask and the photo's own colours.

Five *materials* (background, skin, hair, upper garment, lower garment) get a colour model each, learnt on this
very photo from places where the keypoints leave no doubt, and a location prior. Their costs are smoothed along
the photo's edges, the cheapest wins, the colour models are learnt again from the outcome; then skin is shared
out to face, arms and legs, and what lies below the waist is called pants, skirt or, with the top, a dress.
K = material, H = height, W = width in array names.
"""

from __future__ import annotations

from typing import ClassVar

import cv2
import numpy as np
import numpy.typing as npt

from tryon.images import resize
from tryon.sample import Label, Row
from tryon.stages._colour import bins_of, density, local_deviation, smooth_costs, to_lab
from tryon.stages._garments import Reach, is_skirt, reach_of
from tryon.stages._materials import (
    HAIR,
    LOWER,
    NUM_MATERIALS,
    SKIN,
    SKIN_LIKE,
    UPPER,
    find_cuts,
    log_priors,
    seeds,
    without_skin,
    without_top,
)
from tryon.stages._priors import BodyMaps, body_maps
from tryon.stages.base import RowStage
from tryon.stages.skeleton import Body, at_work_size, body_of

UInt8 = npt.NDArray[np.uint8]
Bool = npt.NDArray[np.bool_]
Float32 = npt.NDArray[np.float32]

WORK_PX = 384
MARGIN_PX = 10  # of background around the person, at the working size
FLOOR = (0.05, 0.02, 0.1, 0.3, 0.3)  # a material: density of colours its model has not seen, x uniform
SPREAD_L = (1.0, 1.6, 1.3, 1.0, 1.0)  # bins; skin and hair change in light more than cloth does

SKIN_SPREAD = (2.5, 1.2)  # bins of L and ab: how far a body's skin may differ from its face

NEUTRAL_TEXTURE = 3.0  # Lab units: tells neither hair nor skin


class GeometricParse(RowStage):
    """Labels the 18 ATR classes from geometry and colour.

    Args:
        rounds: how often the colour models are learnt again, at least 1.

    Reads ``person``, ``pose`` and ``person_mask``; adds ``parse``.
    """

    name: ClassVar[str] = "parse"
    version: ClassVar[int] = 2
    reads = ("person", "pose", "person_mask")
    adds = ("parse",)

    def __init__(self, rounds: int = 1) -> None:
        if rounds < 1:
            raise ValueError(f"rounds = {rounds} is not allowed: at least 1")
        self._rounds = rounds

    def process(self, row: Row) -> Row:
        """Adds the label map, uint8 (H, W), values of `Label`.

        Raises:
            SampleError: the pose is empty.
        """
        person: UInt8 = row["person"]
        height, width = person.shape[:2]
        shape, pose = at_work_size(row["pose"], height, width, WORK_PX)
        image = resize(person, *shape)
        mask = resize(row["person_mask"].astype(np.float32), *shape)
        window = _window(mask)
        top, left = window[0].start, window[1].start
        pose[:, :2] -= np.array([left, top], dtype=np.float32) * (np.abs(pose[:, :2]).sum(axis=1) > 0)[:, None]
        labels = np.zeros(shape, dtype=np.uint8)
        labels[window] = self._parse(image[window], mask[window], pose)
        return {"parse": enlarge(labels, height, width)}

    def _parse(self, image: UInt8, mask: Float32, pose: Float32) -> UInt8:
        body = body_of(pose)
        maps = body_maps(body, (mask.shape[0], mask.shape[1]))
        costs, reach = self._materials(image, mask, maps)
        return _labels(costs, image, body, maps, reach)

    def _materials(self, image: UInt8, mask: Float32, maps: BodyMaps) -> tuple[Float32, Reach]:
        """Costs (K, H, W) of the materials. Learning looks at every second pixel only."""
        lab = to_lab(image)
        bins, texture = bins_of(lab), local_deviation(lab[..., 0], radius=3)
        rim = cv2.erode((mask > 0.5).astype(np.uint8), np.ones((7, 7), np.uint8)) == 0
        texture[rim] = NEUTRAL_TEXTURE  # the silhouette's own edge is no texture
        small_texture = texture[::2, ::2]
        small_bins, small_mask, small_maps = bins[::2, ::2], mask[::2, ::2], maps.halved()
        small_guide = image[::2, ::2].astype(np.float32) / 255
        face = seeds(small_mask, small_maps)[SKIN]
        skin = density(small_bins, face, *SKIN_SPREAD)[small_bins]
        cloth = (small_mask > 0.5) & (small_maps.off_arms > 0) & (skin <= SKIN_LIKE)
        reach = reach_of(small_bins, np.ascontiguousarray(lab[::2, ::2, 0]), cloth, small_maps)
        weights = without_skin(seeds(small_mask, small_maps, reach=reach), skin)
        top = density(small_bins, weights[UPPER])[small_bins]
        weights = without_top(weights, top)
        for _ in range(self._rounds):
            tables = _log_tables(small_bins, weights)
            colour = tables[:, small_bins]
            cuts = find_cuts(colour, small_mask, small_maps, reach)
            costs = -(colour + log_priors(small_mask, small_texture, small_maps, cuts))
            costs = smooth_costs(costs, small_guide, radius=2, eps=1e-3)
            sure = without_skin(seeds(small_mask, small_maps, cuts, reach), skin)
            weights = without_top(_relearn(costs, sure, skin), top)
        tables = _log_tables(small_bins, weights)
        cuts = find_cuts(tables[:, small_bins], small_mask, small_maps, reach)
        costs = -(tables[:, bins] + log_priors(mask, texture, maps, cuts))
        return smooth_costs(costs, image.astype(np.float32) / 255, radius=4, eps=1e-3), reach


def _window(mask: Float32) -> tuple[slice, slice]:
    """The person's bounding box with a margin to learn the background from."""
    ys, xs = np.nonzero(mask.max(axis=1) > 0)[0], np.nonzero(mask.max(axis=0) > 0)[0]
    if len(ys) == 0:
        return slice(0, mask.shape[0]), slice(0, mask.shape[1])
    rows = slice(max(0, int(ys[0]) - MARGIN_PX), int(ys[-1]) + 1 + MARGIN_PX)
    return rows, slice(max(0, int(xs[0]) - MARGIN_PX), int(xs[-1]) + 1 + MARGIN_PX)


def _log_tables(bins: npt.NDArray[np.int32], weights_khw: Float32) -> Float32:
    """Log of each material's share in the density of each colour bin, float32 (K, NUM_BINS), at most 0."""
    densities = np.stack([density(bins, w, SPREAD_L[k]) * (1 - FLOOR[k]) + FLOOR[k] for k, w in enumerate(weights_khw)])
    return np.asarray(np.maximum(np.log(densities / densities.sum(axis=0)), -5.0), dtype=np.float32)


def _relearn(costs_khw: Float32, seeds_khw: Float32, skin_density: Float32) -> Float32:
    """Pixels to learn each material from: its seeds, and wherever it won clearly."""
    ordered = np.partition(costs_khw, 1, axis=0)
    margin = np.clip(ordered[1] - ordered[0], 0, 2) / 2
    winner = costs_khw.argmin(axis=0)
    won = np.stack([(winner == k) * margin for k in range(NUM_MATERIALS)]).astype(np.float32)
    won = without_skin(won, skin_density)
    totals = seeds_khw.sum(axis=(1, 2), keepdims=True) + 1e-3
    won_totals = won.sum(axis=(1, 2), keepdims=True) + 1e-3
    mixed = 0.5 * seeds_khw / totals + 0.5 * won / won_totals
    return np.asarray(mixed * skin_density.size, dtype=np.float32)


def _labels(costs: Float32, image: UInt8, body: Body, maps: BodyMaps, reach: Reach) -> UInt8:
    """ATR labels from material costs."""
    material = costs.argmin(axis=0)
    material = _tidy(material, maps)
    labels = np.zeros(material.shape, dtype=np.uint8)
    labels[material == HAIR] = Label.HAIR
    labels[material == UPPER] = Label.UPPER_CLOTHES
    skin = material == SKIN
    head = np.maximum(maps.head - 1.1, 0) * body.face_radius / body.unit
    parts = np.stack(
        [
            np.minimum(np.minimum(head, maps.neck), maps.torso + 0.05),  # LIP's torso skin counts as face
            maps.arm_distance["left"] + 0.03,
            maps.arm_distance["right"] + 0.03,
            maps.legs["left"] + np.where(maps.trunk < 0.9, 0.5, 0.05),
            maps.legs["right"] + np.where(maps.trunk < 0.9, 0.5, 0.05),
        ]
    ).argmin(axis=0)
    names = (Label.FACE, Label.LEFT_ARM, Label.RIGHT_ARM, Label.LEFT_LEG, Label.RIGHT_LEG)
    for i, name in enumerate(names):
        labels[skin & (parts == i)] = name
    lower = material == LOWER
    goes_on = reach.one and reach.seam is None
    undivided = is_skirt(lower, labels, image, body, goes_on=goes_on)
    labels[lower] = Label.SKIRT if undivided else Label.PANTS
    if undivided and goes_on:
        labels[lower | (material == UPPER)] = Label.DRESS
    return labels


def _tidy(material: npt.NDArray[np.intp], maps: BodyMaps) -> npt.NDArray[np.intp]:
    """Gives specks to their surroundings, and hair that does not reach the head to the garment."""
    out = material.copy()
    small = max(6, round(2.5e-4 * material.size))
    for k in range(NUM_MATERIALS):
        count, labels, stats, _ = cv2.connectedComponentsWithStats((out == k).astype(np.uint8), connectivity=4)
        for i in range(1, count):
            x, y, w, h, area = stats[i]
            here = labels[y : y + h, x : x + w] == i
            lost = k == HAIR and maps.head[y : y + h, x : x + w][here].min() > 1.9
            if area >= small and not lost:
                continue
            top, left = max(y - 1, 0), max(x - 1, 0)
            window = out[top : y + h + 1, left : x + w + 1]
            inner = (labels[top : y + h + 1, left : x + w + 1] == i).astype(np.uint8)
            rim = (cv2.dilate(inner, np.ones((3, 3), np.uint8)) > 0) & (inner == 0)
            if rim.any():
                window[inner > 0] = np.bincount(window[rim], minlength=NUM_MATERIALS).argmax()
    return out


def enlarge(labels: UInt8, height: int, width: int) -> UInt8:
    """Brings labels to (height, width) with smooth outlines: each label's soft share is scaled, the largest wins."""
    if height <= labels.shape[0]:
        return resize(labels, height, width, nearest=True)
    best = np.zeros((height, width), dtype=np.uint8)
    out = np.zeros((height, width), dtype=np.uint8)
    for name in np.unique(labels):
        share = cv2.GaussianBlur((labels == name).astype(np.uint8) * np.uint8(255), (0, 0), 0.8)
        full = cv2.resize(share, (width, height), interpolation=cv2.INTER_LINEAR)
        better = cv2.compare(full, best, cv2.CMP_GT)
        np.maximum(best, full, out=best)
        out[better > 0] = name
    return out
