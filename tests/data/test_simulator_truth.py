"""What the simulator calls true is true: the flow gives back the worn garment, the dense map lies on the body."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from tryon.codec import decode_value, encode_value
from tryon.data.simulator import SimulatorConfig, draw_worn, sample_specs, simulate, warp_by_flow
from tryon.sample import Joint, Label

H, W = 256, 192
CATEGORIES = ("upper", "lower", "dress")


def ssim_where(a: npt.NDArray[np.uint8], b: npt.NDArray[np.uint8], mask: npt.NDArray[np.uint8]) -> float:
    """SSIM (Gaussian window of sigma 1.5, range 255) of two RGB images, the mean of its map over the mask.

    Both are black off the mask, so windows at its edge see the shape too.
    """
    x, y = (image.astype(np.float64) * mask[..., None] for image in (a, b))

    def mean(image: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.asarray(cv2.GaussianBlur(image, (11, 11), 1.5), dtype=np.float64)

    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    mx, my = mean(x), mean(y)
    vx, vy, vxy = mean(x * x) - mx * mx, mean(y * y) - my * my, mean(x * y) - mx * my
    score = (2 * mx * my + c1) * (2 * vxy + c2) / ((mx * mx + my * my + c1) * (vx + vy + c2))
    return float(score[mask == 1].mean())


def flow_ssim(seed: int, index: int, config: SimulatorConfig) -> list[float]:
    """SSIM of the garment photo warped by the flow, as a shard holds it, against the worn garment where it is seen.

    Returns:
        Against three pictures of the worn garment: in its flat colours as the renderer lays it on the body; the same
        drawn at twice the size and shrunk, which no resampling of a photo of this size can match in fine patterns; and
        the person photo itself with light, folds, shadows, blur, noise and what shines in at anti-aliased edges.
    """
    row = simulate(seed, index, H, W, config)
    specs = sample_specs(seed, index, config)
    stored = decode_value("true_flow", encode_value("true_flow", row["true_flow"]))
    warped = warp_by_flow(row["garment"], stored, row["true_mask"])
    worn = draw_worn(*specs, H, W)[..., :3]
    return [ssim_where(warped, other, row["true_mask"]) for other in (worn, shrunk(specs), row["person"])]


def shrunk(specs: Any) -> npt.NDArray[np.uint8]:
    """The worn garment drawn at twice the size, shrunk without its edges bleeding into black."""
    large = draw_worn(*specs, 2 * H, 2 * W).astype(np.float32)
    share = cv2.resize(large[..., 3], (W, H), interpolation=cv2.INTER_AREA)
    lit = cv2.resize(large[..., :3] * large[..., 3:], (W, H), interpolation=cv2.INTER_AREA)
    return np.clip(np.rint(lit / np.maximum(share, 1)[..., None]), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("category", CATEGORIES)
def test_warping_by_the_true_flow_gives_the_worn_garment(category: Any) -> None:
    config = SimulatorConfig(categories=(category,))
    scores = np.array([flow_ssim(21, i, config) for i in range(4)])
    flat, fine, photographed = scores.mean(axis=0)
    assert flat >= 0.985
    assert scores[:, 0].min() >= 0.97
    assert fine >= 0.96
    assert photographed >= 0.75


def test_a_shifted_flow_does_not() -> None:
    config = SimulatorConfig(categories=("upper",))
    row = simulate(21, 0, H, W, config)
    warped = [warp_by_flow(row["garment"], row["true_flow"] + np.float32(d), row["true_mask"]) for d in (0, 3)]
    assert ssim_where(*warped, row["true_mask"]) < 0.95


@pytest.fixture(scope="module")
def figures() -> list[dict[str, Any]]:
    config = SimulatorConfig(categories=("lower", "dress"), jackets=0, accessories=0)
    return [simulate(3, i, H, W, config) for i in range(8)]


def test_dense_parts_lie_at_their_joints(figures: list[dict[str, Any]]) -> None:
    ends = {
        Joint.LEFT_WRIST: {4, 19, 21}, Joint.RIGHT_WRIST: {3, 20, 22}, Joint.LEFT_KNEE: {10, 14},
        Joint.RIGHT_KNEE: {9, 13}, Joint.NOSE: {23, 24}, Joint.LEFT_ANKLE: {5, 14}, Joint.RIGHT_ANKLE: {6, 13},
    }  # fmt: skip
    found = dict.fromkeys(ends, 0)
    for row in figures:
        for joint, parts in ends.items():
            x, y, confidence = row["pose"][joint]
            if confidence > 0:
                found[joint] += row["dense"][round(y), round(x), 0] in parts
    for joint, count in found.items():
        seen = sum(row["pose"][joint, 2] > 0 for row in figures)
        assert count >= 0.6 * seen, joint  # the other arm may hide one
    assert found[Joint.LEFT_KNEE] + found[Joint.RIGHT_KNEE] > 4


def test_dense_charts_run_from_end_to_end(figures: list[dict[str, Any]]) -> None:
    for row in figures:
        part, u, v = np.moveaxis(row["dense"], -1, 0)
        assert part.max() <= 24
        assert (row["dense"][part == 0] == 0).all()
        trunk = part == 2
        assert np.corrcoef(np.nonzero(trunk)[0], u[trunk])[0, 1] > 0.9
        assert np.corrcoef(np.nonzero(trunk)[1], v[trunk])[0, 1] > 0.9
        head = np.isin(part, (23, 24))
        assert np.corrcoef(np.nonzero(head)[0], u[head])[0, 1] > 0.9
        thigh = part == 10
        if thigh.sum() > 50:
            assert np.corrcoef(np.nonzero(thigh)[0], u[thigh])[0, 1] > 0.9
            assert np.corrcoef(np.nonzero(thigh)[1], v[thigh])[0, 1] > 0.7


def test_dense_is_the_body_under_the_clothes(figures: list[dict[str, Any]]) -> None:
    for row in figures:
        body = row["dense"][..., 0] > 0
        near = cv2.dilate(row["person_mask"], np.ones((3, 3), np.uint8)) == 1
        assert near[body].mean() > 0.98
        bare = np.isin(row["parse"], (Label.LEFT_LEG, Label.RIGHT_LEG, Label.LEFT_ARM, Label.RIGHT_ARM))
        assert body[bare].mean() > 0.97


def test_lower_garments_and_dresses_are_seen_whole(figures: list[dict[str, Any]]) -> None:
    for row in figures:
        assert row["true_amodal_mask"].sum() > 0.01 * H * W
        assert row["true_mask"].sum() > 0.35 * row["true_amodal_mask"].sum()
        assert not row["true_amodal_mask"][-1].any()  # the hem is in the frame


def test_labels_of_accessories_exist() -> None:
    config = SimulatorConfig(accessories=1, jackets=0.3)
    seen: set[int] = set()
    for i in range(24):
        seen |= set(np.unique(simulate(6, i, 128, 96, config)["parse"]).tolist())
    assert seen == set(range(len(Label)))


def test_turned_trunks_and_their_arms(figures: list[dict[str, Any]]) -> None:
    yaws = np.array([sample_specs(2, i)[0].yaw for i in range(60)])
    assert 0.4 < np.abs(yaws).max() <= 0.611
    assert all(sample_specs(2, i, SimulatorConfig(turn=0))[0].yaw == 0 for i in range(5))


@pytest.mark.parametrize("category", CATEGORIES)
def test_categories_are_those_asked_for(category: Any) -> None:
    config = SimulatorConfig(categories=(category,))
    assert {simulate(1, i, 64, 48, config)["category"] for i in range(3)} == {category}


def test_default_mix() -> None:
    shares = [sum(simulate_category(i) == name for i in range(300)) / 300 for name in CATEGORIES]
    np.testing.assert_allclose(shares, (0.6, 0.2, 0.2), atol=0.07)


def simulate_category(index: int) -> str:
    garment = sample_specs(0, index)[1]
    return getattr(garment, "category", "lower")
