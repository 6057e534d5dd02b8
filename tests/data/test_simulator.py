from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
from torchmetrics.functional.image import structural_similarity_index_measure as ssim

from tryon.codec import decode_value, encode_value
from tryon.data.simulator import SimulatorConfig, render, sample_specs, simulate, warp_by_flow
from tryon.data.simulator.garment import TEXTURES
from tryon.data.simulator.photo import take_photo
from tryon.data.simulator.top_cloth import TopPattern
from tryon.data.simulator.tops import NECKLINES, SLEEVES
from tryon.errors import ConfigError
from tryon.sample import CATEGORIES, FIELDS, Joint, Kind, Label

H, W = 256, 192
TOPS = SimulatorConfig(categories=("upper",))
LABELS = {"upper": {Label.UPPER_CLOTHES}, "lower": {Label.PANTS, Label.SKIRT}, "dress": {Label.DRESS}}
IMAGES = ("person", "garment", "true_garment", "unoccluded_person")
MASKS = ("garment_mask", "person_mask", "true_mask", "true_amodal_mask")
SUMMARY = """
import hashlib, sys
import numpy as np
from tryon.data.simulator import simulate
digest = hashlib.sha256()
for row in (simulate(3, i, 128, 96) for i in range(8)):
    for name in sorted(row):
        value = row[name]
        digest.update(name.encode() + (value.tobytes() if isinstance(value, np.ndarray) else value.encode()))
print(digest.hexdigest())
"""


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    return [simulate(11, i, H, W) for i in range(12)]


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return a.keys() == b.keys() and all(
        a[k].tobytes() == b[k].tobytes() if isinstance(a[k], np.ndarray) else a[k] == b[k] for k in a
    )


def test_rows_follow_the_schema(rows: list[dict[str, Any]]) -> None:
    for i, row in enumerate(rows):
        assert row["id"] == f"sim-11-{i:08d}"
        assert row["category"] in CATEGORIES
        assert set(row) == {"id", "category", *IMAGES, *MASKS, "pose", "parse", "dense", "true_flow"} <= set(FIELDS)
        for name in IMAGES:
            assert (row[name].dtype, row[name].shape) == (np.uint8, (H, W, 3)), name
        for name in MASKS:
            assert (row[name].dtype, row[name].shape) == (np.uint8, (H, W)), name
            assert set(np.unique(row[name])) == {0, 1}, name
        assert (row["parse"].dtype, row["parse"].shape) == (np.uint8, (H, W))
        assert row["parse"].max() < len(Label)
        assert (row["true_flow"].dtype, row["true_flow"].shape) == (np.float32, (H, W, 2))
        assert (row["pose"].dtype, row["pose"].shape) == (np.float32, (25, 3))
        assert row["person"].std() > 15


def test_same_arguments_give_the_same_bytes_in_any_order(rows: list[dict[str, Any]]) -> None:
    for i in (7, 2):
        assert same(simulate(11, i, H, W), rows[i])
    assert not same(simulate(11, 2, H, W), simulate(12, 2, H, W) | {"id": rows[2]["id"]})


def test_same_bytes_in_another_process_with_another_thread_count() -> None:
    root = Path(__file__).parents[2]
    outs = [
        subprocess.run(
            [sys.executable, "-c", f"import cv2; cv2.setNumThreads({threads})\n{SUMMARY}"],
            cwd=root, env={"PYTHONPATH": str(root / "platform"), "PYTHONHASHSEED": str(threads)},
            check=True, capture_output=True, text=True,
        ).stdout
        for threads in (1, 4)
    ]  # fmt: skip
    assert len(outs[0].strip()) == 64
    assert outs[0] == outs[1]


def test_flow_reproduces_the_true_garment_exactly(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        flow, mask = row["true_flow"], row["true_mask"]
        assert mask.mean() > 0.03
        assert np.isfinite(flow[mask == 1]).all()
        grid = np.stack(np.meshgrid(np.arange(W), np.arange(H)), axis=-1).astype(np.float32)
        at = grid + np.nan_to_num(flow)
        warped = cv2.remap(row["garment"], at[..., 0], at[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        np.testing.assert_array_equal(warped * mask[..., None], row["true_garment"])
        shifted = warp_by_flow(row["garment"], flow + np.float32(2.0), mask)
        assert (shifted != row["true_garment"]).any()


def test_flow_is_defined_exactly_on_the_amodal_mask_and_lands_on_the_garment(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        amodal = row["true_amodal_mask"] == 1
        np.testing.assert_array_equal(np.isfinite(row["true_flow"]).all(axis=-1), amodal)
        assert (row["true_mask"] <= row["true_amodal_mask"]).all()
        y, x = np.nonzero(amodal)
        u, v = np.rint(np.stack([x, y]) + row["true_flow"][y, x].T).astype(int)
        # Half a pixel of rounding at the edge may fall off the mask.
        near = cv2.dilate(row["garment_mask"], np.ones((3, 3), np.uint8))
        assert near[np.clip(v, 0, H - 1), np.clip(u, 0, W - 1)].mean() > 0.998


def test_flow_is_smooth_on_the_trunk(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        flow, mask = row["true_flow"], cv2.erode(row["true_mask"], np.ones((3, 3), np.uint8))
        step = np.abs(np.diff(flow, axis=0)).max(axis=-1)[mask[1:] & mask[:-1] == 1]
        assert np.median(step) < 1.5
        assert (step < 6).mean() > 0.985  # the rest: edges of a sleeve that lies over the trunk


def test_parse_agrees_with_the_masks(rows: list[dict[str, Any]]) -> None:
    seen: set[int] = set()
    for row in rows:
        assert set(np.unique(row["parse"][row["true_mask"] == 1])) <= LABELS[row["category"]]
        np.testing.assert_array_equal(row["parse"] > 0, row["person_mask"] == 1)
        seen |= set(np.unique(row["parse"]).tolist())
    assert {0, Label.HAIR, Label.UPPER_CLOTHES, Label.PANTS, Label.FACE, Label.LEFT_ARM, Label.RIGHT_ARM} <= seen


def test_left_arm_is_on_the_images_right(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        assert row["pose"][Joint.LEFT_SHOULDER, 0] > row["pose"][Joint.RIGHT_SHOULDER, 0] + 20
        left = np.nonzero(row["parse"] == Label.LEFT_ARM)[1].mean()
        assert left > np.nonzero(row["parse"] == Label.RIGHT_ARM)[1].mean()


def test_joints_lie_on_the_person(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        near = cv2.dilate(row["person_mask"], np.ones((3, 3), np.uint8))
        inside = [near[round(y), round(x)] for x, y, confidence in row["pose"] if confidence > 0]
        assert len(inside) >= 12
        assert all(inside)
        assert (row["pose"][row["pose"][:, 2] == 0] == 0).all()
        assert (row["pose"][Joint.LEFT_ANKLE, 2] == 0) == (row["parse"][-1] > 0).any()


def test_worn_garment_is_the_true_garment_under_soft_light(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        mask = cv2.erode(row["true_mask"], np.ones((3, 3), np.uint8)) == 1
        worn, flat = (row[name][mask].astype(float).sum(axis=-1) for name in ("person", "true_garment"))
        ratio = worn / np.maximum(flat, 40)
        assert 0.6 < np.median(ratio) < 1.25
        assert row["person"][mask].std() < 1.6 * row["true_garment"][mask].std() + 25
    for row in rows[:4]:
        mask = row["true_mask"]
        blank = np.zeros_like(row["true_garment"])
        score, none = (
            ssim(tensor(row["person"] * mask[..., None]), tensor(other), data_range=255.0)
            for other in (row["true_garment"] * mask[..., None], blank)
        )
        assert score > 0.80
        assert score > none + 0.02


def tensor(image: npt.NDArray[np.uint8]) -> torch.Tensor:
    return torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1)[None]


def test_the_undressed_person_differs_only_near_the_garment(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        # Contact shadows reach a few px beyond the garment.
        near = cv2.dilate(row["true_mask"] | row["true_amodal_mask"], np.ones((31, 31), np.uint8)) == 1
        np.testing.assert_array_equal(row["person"][~near], row["unoccluded_person"][~near])
        inside = row["true_mask"] == 1
        assert (row["person"][inside] != row["unoccluded_person"][inside]).mean() > 0.5


def test_sizes_are_samplings_of_one_scene() -> None:
    for i in (0, 3):
        quiet = SimulatorConfig(noise=0)
        small, large = simulate(4, i, H, W, quiet), simulate(4, i, 2 * H, 2 * W, quiet)
        for name in ("person", "garment", "unoccluded_person"):
            shrunk = cv2.resize(large[name], (W, H), interpolation=cv2.INTER_AREA)
            assert np.abs(shrunk.astype(int) - small[name]).mean() < 2.5, name
            assert ssim(tensor(shrunk), tensor(small[name]), data_range=255.0) > 0.93, name
        both = small["true_mask"] & (large["true_mask"][::2, ::2])
        assert both.sum() > 0.97 * small["true_mask"].sum()
        error = np.abs(large["true_flow"][::2, ::2] / 2 - small["true_flow"])[both == 1]
        assert np.median(error) < 0.5
        present = (small["pose"][:, 2] > 0) & (large["pose"][:, 2] > 0)
        np.testing.assert_allclose((large["pose"][present, :2] + 0.5) / 2, small["pose"][present, :2] + 0.5, atol=0.01)


def test_one_figure_wears_another_garment() -> None:
    figure, garment, scene = sample_specs(4, 0, TOPS)
    other = dataclasses.replace(sample_specs(4, 1, TOPS)[1], tucked=False)
    a, b = render(figure, garment, scene, 128, 96), render(figure, other, scene, 128, 96)
    np.testing.assert_array_equal(a["pose"], b["pose"])
    assert (a["garment"] != b["garment"]).any()
    # The armhole may part arm and trunk a little differently; nothing else may change.
    assert (a["unoccluded_person"] != b["unoccluded_person"]).any(axis=-1).mean() < 0.02


def test_every_kind_occurs() -> None:
    garments = [sample_specs(0, i, TOPS)[1] for i in range(200)]
    for name, kinds in (("sleeve", SLEEVES), ("neckline", NECKLINES), ("texture", TEXTURES)):
        counts = Counter(getattr(g, name) for g in garments)
        assert set(counts) == set(kinds)
        assert min(counts.values()) >= 5
    sleeves = {g.sleeve: g.sleeve_length for g in garments}
    lengths = [sleeves[name] for name in SLEEVES]
    assert lengths == sorted(set(lengths))


@pytest.mark.parametrize(
    ("height", "width", "named"), [(0, 192, "0"), (256, 40, "40"), (5000, 192, "5000"), (256, 9.5, "9.5")]
)
def test_impossible_sizes_are_refused_by_name(height: int, width: int, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        simulate(0, 0, height, width)


@pytest.mark.parametrize(("height", "width"), [(64, 48), (100, 200), (201, 97)])
def test_odd_sizes_are_drawn(height: int, width: int) -> None:
    row = simulate(1, 1, height, width)
    assert row["person"].shape == (height, width, 3)
    assert row["true_mask"].sum() > 0


def test_rows_survive_a_shard(rows: list[dict[str, Any]]) -> None:
    for name, value in rows[0].items():
        back = decode_value(name, encode_value(name, value))
        if FIELDS[name].kind is Kind.FLOW:
            np.testing.assert_allclose(back, value, atol=1 / 128 + 1e-6)
        else:
            np.testing.assert_array_equal(back, value)


@pytest.mark.parametrize("motif", range(6))
@pytest.mark.parametrize("texture", [name for name in TEXTURES if name != "plain"])
def test_textures_cover_trunk_and_sleeves(texture: Any, motif: int) -> None:
    garment = dataclasses.replace(sample_specs(4, 0, TOPS)[1], texture=texture, motif=motif, color=(0.9, 0.9, 0.9))
    garment = dataclasses.replace(garment, accent=(0.1, 0.1, 0.5), accent2=(0.5, 0.1, 0.1), word="WARP", opening=0.0)
    photo = take_photo(TopPattern(garment), 128, 96).image.astype(float)
    middle = photo[40:100, 34:62]
    assert middle.std(axis=(0, 1)).max() > 8
    if texture == "checked":
        assert middle.mean(axis=0).std() > 3
        assert middle.mean(axis=1).std() > 3
