"""Materials of human parsing: where each is learnt, where each may lie, and where sleeves and hem end."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tryon.stages._garments import Reach
from tryon.stages._priors import NEVER, BodyMaps
from tryon.stages.skeleton import SIDES

Bool = npt.NDArray[np.bool_]
Float32 = npt.NDArray[np.float32]

BACKGROUND, SKIN, HAIR, UPPER, LOWER = range(5)
NUM_MATERIALS = 5

DEFAULT_HEM = 0.95  # trunk coordinate where tops end if colour does not tell
SKIN_LIKE = 12.0  # density, x uniform, from which on a colour counts as this person's skin
TOP_LIKE = 25.0  # likewise for the top
HAIR_SKIN_LIKE = 150.0  # likewise for hair: blond is close to skin
TEXTURE_WEIGHT = 1.5
SHORT_HAIR = 4.0  # hair on neck and shoulders where none is seen beside the jaw
HAND_AT = 2.08  # arm coordinate from which on only a hand is expected


@dataclass(frozen=True)
class Cuts:
    """Where garments end.

    Attributes:
        hem: trunk coordinate of the upper garment's hem: 0 neck, 1 mid-hip.
        neckline: trunk coordinate at which the chest is covered, on the trunk's axis.
        sleeves: by side, arm coordinate of the sleeve's end: 0 shoulder, 1 elbow, 2 wrist.
        hair: share of the surroundings of the jaw that shows hair, on the side where it shows more of it.
    """

    hem: float
    neckline: float
    sleeves: dict[str, float]
    hair: float


def seeds(mask: Float32, maps: BodyMaps, cuts: Cuts | None = None, reach: Reach | None = None) -> Float32:
    """Pixels that surely show each material, float32 (K, H, W) in {0, 1}.

    Args:
        mask: person mask, 0..1.
        maps: body coordinates.
        cuts: hem and sleeves if they are known already.
        reach: how far the top's material goes down, if it is known already.
    """
    inside = mask > 0.9
    hem = cuts.hem if cuts else DEFAULT_HEM
    off_arms = maps.off_arms > 0.0
    face = inside & (maps.head < 0.75) & (maps.face_y > -0.25)
    above = (maps.face_y < -1.05) & (maps.head < 1.9) & (maps.head > 1.12)
    beside = (np.abs(maps.face_x) > 1.0) & (maps.head < 1.7) & (maps.face_y < 0.6)
    low, high = 0.25, max(0.45, hem - 0.15 if cuts else 0.62)
    core = (maps.trunk > low) & (maps.trunk < high) & (maps.torso <= 0) & (np.abs(maps.lateral) < 0.36)
    legs = np.minimum(maps.legs["left"], maps.legs["right"]) <= 0
    start = hem + 0.1
    if cuts is None:  # tops may hang below the hips: the lower half of what is seen of the legs is safer
        seen = maps.trunk[inside & legs & (maps.trunk > 1.08)]
        start = min(float(np.median(seen)), 1.22) if seen.size else 1.08
    if reach is not None and reach.long:
        start = max(start, reach.end + 0.06)
    below = (maps.trunk > start) & (maps.trunk < start + 0.7) & legs
    upper = inside & core & off_arms
    if upper.sum() < 0.25 * (inside & core).sum():
        upper = inside & core
    return np.stack([mask < 0.02, face, inside & (above | beside), upper, inside & below & off_arms]).astype(np.float32)


def without_skin(seeds_khw: Float32, skin_density: Float32) -> Float32:
    """Drops bare skin from what hair and garments are learnt from: midriffs, deep necklines, bare legs.

    A material that would lose most of its seeds keeps them: it is itself skin-coloured. Hair is dropped
    altogether instead: the head is bald.

    Args:
        seeds_khw: from `seeds`.
        skin_density: density of each pixel's colour under the skin model, x uniform, float32 (H, W).
    """
    out = seeds_khw.copy()
    for k in (HAIR, UPPER, LOWER):
        left = seeds_khw[k] * (skin_density <= (HAIR_SKIN_LIKE if k == HAIR else SKIN_LIKE))
        enough = left.sum() >= (0.15 if k == HAIR else 0.3) * seeds_khw[k].sum()
        if enough or k == HAIR:
            out[k] = left
    return out


def without_top(seeds_khw: Float32, top_density: Float32) -> Float32:
    """Drops what has the top's colours from what the lower garment is learnt from: ties and tails that hang over it.

    A lower garment that would lose most of its seeds keeps them: it is of the top's colour.

    Args:
        seeds_khw: from `seeds`.
        top_density: density of each pixel's colour under the top's model, x uniform, float32 (H, W).
    """
    left = seeds_khw[LOWER] * (top_density <= TOP_LIKE)
    if left.sum() < 0.5 * seeds_khw[LOWER].sum():
        return seeds_khw
    out = seeds_khw.copy()
    out[LOWER] = left
    return out


def find_cuts(colour: Float32, mask: Float32, maps: BodyMaps, reach: Reach) -> Cuts:
    """Reads the ends of garments off the colour evidence along trunk and arms.

    Args:
        colour: log colour shares, float32 (K, H, W).
        mask: person mask, 0..1.
        maps: body coordinates.
        reach: how far the top's material goes down.
    """
    inside = mask > 0.5
    cloth = np.maximum(colour[UPPER], colour[LOWER])
    not_lower = colour[LOWER] < np.maximum(colour[UPPER], colour[SKIN]) + 0.5  # arms hang in front of trousers
    off_arms = maps.off_arms > 0
    column = inside & (np.abs(maps.lateral) < 0.3) & (colour[SKIN] < cloth) & off_arms
    edges = np.arange(0.55, 1.85, 0.03)
    evidence = _profile(maps.trunk, colour[UPPER] - colour[LOWER], column, edges)
    expected = reach.end if reach.long else DEFAULT_HEM
    prior = -2.0 * ((edges - expected) / 0.35) ** 2
    hem = float(edges[np.argmax(_parting(evidence) + prior)])
    if reach.one and reach.seam is not None:
        hem = reach.seam
    arm_edges = np.arange(-0.1, 2.2, 0.08)
    partings = {}
    for side in SIDES:
        close = inside & not_lower & (maps.arm_distance[side] <= 0)
        difference = (np.maximum(colour[UPPER], -3.0) - colour[SKIN]) * (0.02 + maps.arm_trust[side] ** 2)
        partings[side] = _parting(_profile(maps.arms[side], difference, close, arm_edges))
    both = sum(partings.values())  # sleeves are alike: each arm heeds the other one, half as much as itself
    sleeves = {side: float(arm_edges[np.argmax(both + partings[side])]) for side in SIDES}
    middle = inside & (np.abs(maps.lateral) < 0.12)
    neck_edges = np.arange(-0.25, 0.5, 0.03)
    opening = _profile(maps.trunk, colour[SKIN] - np.maximum(colour[UPPER], -3.0), middle, neck_edges)
    return Cuts(hem, float(neck_edges[np.argmax(_parting(opening))]), sleeves, _hair_at_jaw(colour, inside, maps))


def _hair_at_jaw(colour: Float32, inside: Bool, maps: BodyMaps) -> float:
    ring = (maps.head > 1.05) & (maps.head < 1.7) & (maps.face_y > 0.1) & (maps.face_y < 0.8)
    hair = inside & (colour[HAIR] > colour[SKIN]) & (colour[HAIR] > colour[UPPER])
    sides = [ring & (maps.face_x < -0.6), ring & (maps.face_x > 0.6)]
    return max(float(hair[side].mean()) if side.any() else 0.0 for side in sides)


def _profile(position: Float32, evidence: Float32, where: Bool, edges: npt.NDArray[np.float64]) -> Float32:
    """Mean evidence in each bin that starts at an edge; 0 in empty bins; clipped so that no bin decides alone."""
    step = edges[1] - edges[0]
    index = np.floor((position[where] - edges[0]) / step).astype(np.int64)
    valid = (index >= 0) & (index < len(edges))
    counts = np.bincount(index[valid], minlength=len(edges))
    sums = np.bincount(index[valid], weights=np.clip(evidence[where][valid], -3, 3), minlength=len(edges))
    return np.asarray(sums / np.maximum(counts, 1) * np.minimum(1, counts / 6), dtype=np.float32)


def _parting(evidence: Float32) -> npt.NDArray[np.float64]:
    """For each bin, how well a cut at its start parts positive evidence before it from negative evidence after."""
    before = np.concatenate([[0.0], np.cumsum(evidence)[:-1]])
    return np.asarray(2 * before - evidence.sum(), dtype=np.float64)


def _ramp(x: Float32, start: float, stop: float) -> Float32:
    """0 up to `start`, 1 from `stop` on, linear between."""
    return np.asarray(np.clip((x - start) / (stop - start), 0, 1), dtype=np.float32)


def log_priors(mask: Float32, texture: Float32, maps: BodyMaps, cuts: Cuts) -> Float32:
    """Log-priors of the materials, float32 (K, H, W), 0 where a material is fully expected."""
    background = np.where(mask > 0.5, -7 * _ramp(mask, 0.5, 1.0), 0.0)
    person = np.where(mask < 0.5, -7 * _ramp(1 - mask, 0.5, 1.0), 0.0)
    rough = _ramp(texture, 1.5, 4.5)  # strands of hair against smooth skin, where features of the face do not confuse
    off_face = _ramp(maps.head, 0.9, 1.1) * (1 - _ramp(maps.trunk, 0.2, 0.4))
    below = _ramp(maps.face_y, 0.0, 0.5)
    skin = _skin(maps, cuts) - TEXTURE_WEIGHT * (1 + 0.3 * below) * rough * off_face
    hair = _hair(maps, cuts) - TEXTURE_WEIGHT * (1 - rough) * off_face * below
    priors = np.stack([background, skin, hair, _upper(maps, cuts), _lower(maps, cuts)])
    priors[1:] = np.maximum(priors[1:], NEVER) + person
    return np.asarray(priors, dtype=np.float32)


def _skin(maps: BodyMaps, cuts: Cuts) -> Float32:
    face = np.where(maps.face_y < 0, -5.0 * _ramp(maps.head, 1.0, 1.4), -5.0 * _ramp(maps.head, 1.0, 1.5))
    neck = -10.0 * maps.neck
    best = np.maximum(face, neck)
    for side in SIDES:
        bare = maps.arms[side] - cuts.sleeves[side]
        sleeve = -2.5 * (1 - _ramp(bare, -0.12, 0.12))
        slope = 3.0 + 9.0 * maps.arm_trust[side]  # an arm that is guessed may be anywhere near
        best = np.maximum(best, sleeve - slope * maps.arm_distance[side])
        leg = -0.5 - 3.0 * (1 - _ramp(maps.trunk, cuts.hem + 0.1, cuts.hem + 0.4)) - 10.0 * maps.legs[side]
        best = np.maximum(best, leg)
    covered = min(cuts.sleeves.values()) > 0.15
    chest = -1.0 - 2.0 * _ramp(maps.trunk - cuts.neckline, -0.03, 0.12)
    if covered:  # shoulders in cloth: skin can only show in the neckline's wedge
        chest = chest - 3.0 * _ramp(np.abs(maps.lateral), 0.2, 0.35)
    midriff = -2.0 - 3.0 * _ramp(np.abs(maps.trunk - cuts.hem), 0.15, 0.4)
    return np.asarray(np.maximum(best, np.maximum(np.where(maps.torso <= 0, chest, NEVER), midriff)))


def _hair(maps: BodyMaps, cuts: Cuts) -> Float32:
    short = 1 - float(np.clip(cuts.hair * 5 - 0.5, 0, 1))
    inside = -3.5 * (1 - _ramp(maps.head, 0.75, 1.0)) * _ramp(maps.face_y, -0.5, -0.2)
    far = -5.0 * _ramp(maps.head, 1.9, 2.8)
    hanging = -0.5 - 5.0 * _ramp(maps.trunk, 0.15, 0.85) - 5.0 * _ramp(np.abs(maps.lateral), 0.42, 0.75)
    hanging = np.where(maps.face_y > 0.2, hanging, NEVER)
    throat = -1.5 * (1 - _ramp(maps.neck, 0.0, 0.06)) * _ramp(maps.face_y, 0.8, 1.1)
    return np.asarray(np.maximum(inside + far, hanging) + throat - SHORT_HAIR * short * _ramp(maps.face_y, 0.7, 1.1))


def _upper(maps: BodyMaps, cuts: Cuts) -> Float32:
    torso = -8.0 * np.minimum(maps.torso, maps.skirt)
    for side in SIDES:
        bare = maps.arms[side] - cuts.sleeves[side]
        sleeve = -2.5 * _ramp(bare, -0.12, 0.12) - 2.0 * _ramp(maps.arms[side], HAND_AT, HAND_AT + 0.15)
        torso = np.maximum(torso, sleeve - 8.0 * maps.arm_distance[side])
    # Ties and tails hang below the hem: there colour alone may tell the top from what is below, its shoes apart.
    beyond = -2.8 * _ramp(maps.trunk, cuts.hem - 0.03, cuts.hem + 0.25)
    beyond = beyond - 3.5 * _ramp(maps.trunk, cuts.hem + 1.0, cuts.hem + 1.3)
    on_arm = maps.off_arms <= 0
    below = np.where(on_arm, 0.3 * beyond, beyond)
    head = -6.0 * (1 - _ramp(maps.head, 0.95, 1.5)) - 4.0 * (maps.face_y < 0.6)
    throat = -1.0 * (1 - _ramp(maps.neck, 0.0, 0.05))
    return np.asarray(torso + below + np.where(maps.trunk < 0.3, head + throat, 0.0))


def _lower(maps: BodyMaps, cuts: Cuts) -> Float32:
    above = -6.0 * (1 - _ramp(maps.trunk, cuts.hem - 0.35, cuts.hem + 0.03))
    return np.asarray(above - 8.0 * maps.skirt)
