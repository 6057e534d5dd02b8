"""Fields to tensors and back, and what the networks are conditioned on."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tryon.data.shards import read_shard
from tryon.models.tensors import (
    CONDITION_READS,
    LIMBS,
    NEUTRAL_SKIN,
    REGIONS,
    categories_to_tensor,
    condition,
    images_to_tensor,
    labels_to_mask,
    limb_frames,
    limb_map,
    masks_to_tensor,
    poses_to_tensor,
    skin_tone,
    tensor_to_alpha,
    tensor_to_images,
)
from tryon.sample import Batch, Joint, Label


@pytest.fixture(scope="module")
def batch(small_data: str) -> Batch:
    columns = read_shard(f"{small_data}/shard-00001.parquet", CONDITION_READS)
    return {name: values[:3] for name, values in columns.items()}


def test_every_level_survives_the_way_there_and_back() -> None:
    image = np.arange(256, dtype=np.uint8).reshape(16, 16)
    rgb = np.dstack([image, image[::-1], image.T])
    tensor = images_to_tensor([rgb], (16, 16))
    assert tensor.shape == (1, 3, 16, 16)
    assert (float(tensor.min()), float(tensor.max())) == (-1, 1)
    assert np.array_equal(tensor_to_images(tensor)[0], rgb)
    assert np.array_equal(tensor_to_alpha(masks_to_tensor([image], (16, 16), top=255.0))[0], image)


def test_out_of_range_values_are_clipped() -> None:
    assert tensor_to_images(torch.tensor([-3.0, 0.0, 3.0]).view(1, 3, 1, 1)).tolist() == [[[[0, 128, 255]]]]
    assert tensor_to_alpha(torch.tensor([-1.0, 0.5, 2.0]).view(1, 1, 1, 3)).tolist() == [[[0, 128, 255]]]


def test_images_of_different_sizes_share_a_batch() -> None:
    images = [np.full((9, 7, 3), 10, np.uint8), np.full((40, 50, 3), 200, np.uint8)]
    tensor = images_to_tensor(images, (16, 12))
    assert tensor.shape == (2, 3, 16, 12)
    assert tensor_to_images(tensor)[:, 0, 0, 0].tolist() == [10, 200]


def test_labels_are_picked() -> None:
    parse = np.array([[0, 4], [11, 4]], dtype=np.uint8)
    assert labels_to_mask([parse], (Label.UPPER_CLOTHES,), (2, 2))[0, 0].tolist() == [[0, 1], [0, 1]]
    assert labels_to_mask([parse], (Label.FACE, Label.BACKGROUND), (2, 2))[0, 0].tolist() == [[1, 0], [1, 0]]


def test_poses_are_scaled_to_the_network() -> None:
    pose = np.tile(np.float32([30, 40, 0.7]), (25, 1))
    out = poses_to_tensor({"pose": [pose], "agnostic_mask": [np.zeros((80, 60), np.uint8)]}, (160, 30))
    assert out[0, 3].tolist() == pytest.approx([15, 80, 0.7])


def test_limbs_are_lines_between_seen_joints() -> None:
    pose = torch.zeros(1, 25, 3)
    pose[0, Joint.RIGHT_SHOULDER] = torch.tensor([40.0, 40, 1])
    pose[0, Joint.RIGHT_ELBOW] = torch.tensor([120.0, 40, 1])
    pose[0, Joint.RIGHT_WRIST] = torch.tensor([120.0, 160, 0])  # not seen
    limbs = limb_map(pose, (256, 192))
    assert limbs.shape == (1, len(LIMBS), 256, 192)
    assert limbs[0, 0, 40, 40:121].min() > 0.9
    assert limbs[0, 0, 160, 80] == 0
    assert not limbs[0, 1:].any()


def test_limb_frames_say_how_far_along_and_to_which_side() -> None:
    pose = torch.zeros(1, 25, 3)
    pose[0, Joint.RIGHT_SHOULDER] = torch.tensor([40.0, 40, 1])
    pose[0, Joint.RIGHT_ELBOW] = torch.tensor([120.0, 40, 1])
    frames = limb_frames(pose, (256, 192), 4)
    assert frames.shape == (1, 2 * len(LIMBS), 64, 48)
    along, across = frames[0, 0], frames[0, len(LIMBS)]
    assert float(along[5, 15]) == pytest.approx((62 - 40) / 80)
    assert float(across[5, 15]) == pytest.approx((22 - 40) / 32)
    assert float(across[14, 15]) == pytest.approx((58 - 40) / 32)
    assert not frames[0, 1 : len(LIMBS)].any(), "no other limb was seen"


def test_a_category_is_one_hot() -> None:
    assert categories_to_tensor(["dress", "upper"]).tolist() == [[0, 0, 1], [1, 0, 0]]
    with pytest.raises(ValueError, match="hat"):
        categories_to_tensor(["hat"])


def test_skin_is_the_median_of_the_face() -> None:
    image = np.full((10, 10, 3), 128, np.uint8)
    parse = np.zeros((10, 10), np.uint8)
    image[:5, :6] = (200, 150, 100)
    parse[:5] = Label.FACE  # the right part is painted grey and does not count
    assert skin_tone([image], [parse])[0].tolist() == pytest.approx(list(np.array([200, 150, 100]) / 127.5 - 1))
    assert skin_tone([image], [np.zeros_like(parse)])[0].tolist() == pytest.approx(list(NEUTRAL_SKIN))


@pytest.mark.parametrize("size", [(128, 96), (64, 48)])
def test_condition_has_the_shapes_it_promises(batch: Batch, size: tuple[int, int]) -> None:
    shapes = {name: tuple(value.shape) for name, value in condition(batch, size).items()}
    assert shapes == {
        "garment": (3, 3, *size), "garment_mask": (3, 1, *size), "agnostic": (3, 3, *size),
        "agnostic_mask": (3, 1, *size), "limbs": (3, len(LIMBS), *size), "regions": (3, len(REGIONS), *size),
        "skin": (3, 3), "pose": (3, 25, 3), "category": (3, 3),
    }  # fmt: skip


def test_what_is_painted_out_does_not_leak(batch: Batch) -> None:
    before = condition(batch, (128, 96))
    changed = dict(batch)
    changed["parse"] = [
        np.where(mask == 1, np.uint8(Label.PANTS), parse)
        for parse, mask in zip(batch["parse"], batch["agnostic_mask"], strict=True)
    ]
    after = condition(changed, (128, 96))
    assert all(torch.equal(before[name], after[name]) for name in before)
