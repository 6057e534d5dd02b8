"""The SCHP parser: photos reach the network as published, labels come back where they belong."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tryon.config import StageSpec
from tryon.errors import BundleError, ConfigError
from tryon.models.schp import Schp, SchpConfig
from tryon.sample import Label
from tryon.stages import parse_schp
from tryon.stages._parse_network import enlarge_labels
from tryon.stages.labels import CIHP_TO_ATR, LIP_TO_ATR
from tryon.stages.parse_schp import MEAN_BGR, STD_BGR, SchpParse, placement, prepare
from tryon.stages.registry import build_stage

UInt8 = np.ndarray[Any, np.dtype[np.uint8]]
PAINTED = (Label.UPPER_CLOTHES, Label.PANTS, Label.FACE)
SIZES = [(1024, 768), (300, 500), (257, 191), (512, 512), (90, 400)]


class ColourNetwork(nn.Module):
    """Stands in for SCHP: finds a class where its colour is more than half. Linear, so edges stay where they are."""

    def __init__(self) -> None:
        super().__init__()
        self.config = SchpConfig(num_classes=18)
        self.batches: list[int] = []

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        self.batches.append(len(x))
        bgr = x * torch.from_numpy(STD_BGR).view(3, 1, 1) + torch.from_numpy(MEAN_BGR).view(3, 1, 1)
        size = tuple((n + 3) // 4 for n in x.shape[-2:])
        logits = torch.full((len(x), 18, *size), -1.0)
        logits[:, Label.BACKGROUND] = 0.5
        logits[:, PAINTED] = F.interpolate(bgr, size=size, mode="bilinear", align_corners=True).flip(1)
        return {"fusion": logits, "parsing": -logits, "edge": logits[:, :2]}


class ConstantNetwork(nn.Module):
    """Finds one class everywhere."""

    def __init__(self, num_classes: int, found: int = 0) -> None:
        super().__init__()
        self.config = SchpConfig(num_classes=num_classes)
        self.found = found

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        logits = torch.zeros(len(x), self.config.num_classes, 119, 119)
        logits[:, self.found] = 1
        return {"fusion": logits}


def stage_of(network: nn.Module, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, **options: Any) -> SchpParse:
    monkeypatch.setattr(parse_schp, "load_schp", lambda _: network)
    (tmp_path / "w.pth").write_bytes(b"")
    return SchpParse(str(tmp_path / "w.pth"), **options)


def painted(height: int, width: int) -> tuple[UInt8, UInt8]:
    """Labels in large blocks on background, and a photo that has them in red, green and blue on black."""
    labels = np.zeros((height, width), dtype=np.uint8)
    photo = np.zeros((height, width, 3), dtype=np.uint8)
    h, w = height // 6, width // 6
    for i, label in enumerate(PAINTED):
        top, left = h + (i // 2) * 2 * h, w + (i % 2) * 2 * w
        labels[top : top + 2 * h, left : left + 2 * w] = label
        photo[top : top + 2 * h, left : left + 2 * w, i] = 255
    return labels, photo


@pytest.mark.parametrize("size", SIZES)
def test_labels_lie_where_their_colours_are(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    labels, photo = painted(*size)
    parse = stage_of(ColourNetwork(), monkeypatch, tmp_path)({"person": [photo]})["parse"][0]
    assert parse.shape == size
    assert parse.dtype == np.uint8
    cell = max(size) / 128  # photo pixels a logit stands for; edges may be off by half of it
    for label in np.unique(labels):
        here = np.argwhere(labels == label)
        there = np.argwhere(parse == label)
        assert np.abs(there.mean(axis=0) - here.mean(axis=0)).max() < 0.3 * cell, Label(label)
        assert np.abs(there.min(axis=0) - here.min(axis=0)).max() <= math.ceil(cell / 2), Label(label)
        assert np.abs(there.max(axis=0) - here.max(axis=0)).max() <= math.ceil(cell / 2), Label(label)


def test_a_mirrored_photo_has_the_mirrored_parse(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _, photo = painted(400, 301)
    stage = stage_of(ColourNetwork(), monkeypatch, tmp_path)
    first, second = stage({"person": [photo, np.ascontiguousarray(photo[:, ::-1])]})["parse"]
    assert (first[:, ::-1] != second).mean() < 0.02


@pytest.mark.parametrize("size", SIZES)
def test_the_photo_is_placed_as_published(size: tuple[int, int]) -> None:
    """The published code's affine map goes by three points: the centre, one above it, and one beside them."""
    height, width = size
    centre, longest = ((width - 1) / 2, (height - 1) / 2), max(height, width) - 1
    source = np.float32(
        [centre, (centre[0], centre[1] - longest / 2), (centre[0] - longest / 2, centre[1] - longest / 2)]
    )
    target = np.float32([(256, 256), (256, 0), (0, 0)])
    scale, left, top = placement(size, 512)
    want = cv2.getAffineTransform(source, target)
    assert np.allclose(want, [[scale, 0, left], [0, scale, top]], atol=1e-3)
    photo = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    bgr = cv2.warpAffine(photo[..., ::-1].copy(), want, (512, 512), flags=cv2.INTER_LINEAR, borderValue=(0, 0, 0))
    published = (bgr / 255 - (0.406, 0.456, 0.485)) / (0.225, 0.224, 0.229)
    assert np.abs(prepare(photo, 512).transpose(1, 2, 0) - published).max() < 0.05


def test_channels_are_blue_green_red_and_the_rest_is_black() -> None:
    photo = np.zeros((100, 50, 3), dtype=np.uint8)
    photo[..., 0] = 255  # red
    made = prepare(photo, 512)
    assert made.shape == (3, 512, 512)
    assert made.dtype == np.float32
    assert np.allclose(made[:, 256, 256], [-0.406 / 0.225, -0.456 / 0.224, (1 - 0.485) / 0.229], atol=1e-5)
    assert np.allclose(made[:, 256, 20], [-0.406 / 0.225, -0.456 / 0.224, -0.485 / 0.229], atol=1e-5)


def test_a_large_photo_is_averaged_not_sampled() -> None:
    """A fine chequerboard turns grey; bilinear sampling alone would keep its black and white."""
    photo = np.indices((4096, 3072)).sum(axis=0)[..., None].repeat(3, axis=2) % 2 * np.uint8(255)
    small = prepare(photo.astype(np.uint8), 512)[:, 100:-100, 150:-150]
    grey = (127.5 / 255 - MEAN_BGR) / STD_BGR
    assert np.abs(small - grey[:, None, None]).max() < 0.05  # sampled, it would be 2


def test_a_large_photo_lies_where_a_small_one_does(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    labels, photo = painted(2500, 1900)
    parse = stage_of(ColourNetwork(), monkeypatch, tmp_path)({"person": [photo]})["parse"][0]
    for label in np.unique(labels):
        inside = np.argwhere(labels == label).mean(axis=0)
        assert np.abs(np.argwhere(parse == label).mean(axis=0) - inside).max() < 3, Label(label)


def test_labels_are_those_of_the_published_two_steps() -> None:
    """Published: logits to the input's size with aligned corners, then the inverse affine map, then the highest."""
    size, input_px, small = (360, 270), 256, 64
    noise = torch.randn(1, 18, 12, 12, generator=torch.Generator().manual_seed(4))
    logits = F.interpolate(noise, size=(small, small), mode="bicubic")
    scale, left, top = placement(size, input_px)
    full = F.interpolate(logits, size=(input_px, input_px), mode="bilinear", align_corners=True)[0].numpy()
    matrix = np.array([[scale, 0, left], [0, scale, top]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    want = np.stack([cv2.warpAffine(k, matrix, size[::-1], flags=flags) for k in full]).argmax(axis=0)
    cell = (small - 1) / (input_px - 1)
    rows, columns = (torch.arange(size[0]) * scale + top) * cell, (torch.arange(size[1]) * scale + left) * cell
    got = enlarge_labels(logits[0], rows, columns)
    assert (got != want).mean() < 0.005


def test_bands_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, rows, columns = torch.randn(5, 9, 9), torch.linspace(-1, 9, 77), torch.linspace(0, 8, 50)
    whole = enlarge_labels(logits, rows, columns)
    monkeypatch.setattr("tryon.stages._parse_network.BAND_PX", 130)
    assert np.array_equal(enlarge_labels(logits, rows, columns), whole)
    assert np.array_equal(whole[0], whole[7]), "beyond the border the border's logits count"


@pytest.mark.parametrize(
    ("classes", "want"), [(None, LIP_TO_ATR), ("lip", LIP_TO_ATR), ("cihp", CIHP_TO_ATR)], ids=["none", "lip", "cihp"]
)
def test_20_classes_become_18(classes: Any, want: UInt8, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    network = ConstantNetwork(20)
    stage = stage_of(network, monkeypatch, tmp_path, classes=classes)
    for network.found in range(20):
        parse = stage({"person": [np.zeros((64, 48, 3), dtype=np.uint8)]})["parse"][0]
        assert np.unique(parse).tolist() == [want[network.found]]
    assert (want[10] == Label.FACE) == (classes == "cihp")


def test_lip_is_fed_at_its_own_size(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shapes: list[tuple[int, ...]] = []
    network = ConstantNetwork(20)
    network.register_forward_pre_hook(lambda _, args: shapes.append(tuple(args[0].shape)))
    stage_of(network, monkeypatch, tmp_path)({"person": [np.zeros((64, 48, 3), dtype=np.uint8)]})
    assert shapes == [(1, 3, 473, 473)]


def test_batches_hold_what_was_asked_for_and_change_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    photos = [painted(*size)[1] for size in (SIZES[0], SIZES[1], SIZES[2])]
    network = ColourNetwork()
    ones = stage_of(network, monkeypatch, tmp_path, device="cpu")({"person": photos})["parse"]
    assert network.batches == [1, 1, 1]
    twos = stage_of(network, monkeypatch, tmp_path, device="cpu", batch_size=2)({"person": photos})["parse"]
    assert network.batches[3:] == [2, 1]
    assert all(np.array_equal(a, b) for a, b in zip(ones, twos, strict=True))


def test_rows_in_error_and_rows_with_a_parse_are_passed_by(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    labels, photo = painted(96, 96)
    network = ColourNetwork()
    batch = {
        "person": [None, photo, photo, None],
        "parse": [None, None, labels, None],
        "error_code": ["no-person", None, None, None],
        "error": ["nobody", None, None, None],
        "error_stage": ["pose", None, None, None],
    }
    out = stage_of(network, monkeypatch, tmp_path)(batch, fill_missing=True)
    assert network.batches == [1]
    assert out["parse"][0] is None
    assert out["parse"][2] is labels
    assert out["parse"][3] is None
    assert out["error_code"] == ["no-person", None, None, None]


def test_threads_are_as_before_afterwards(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[int] = []
    network = ConstantNetwork(20)
    network.register_forward_pre_hook(lambda *_: seen.append(torch.get_num_threads()))
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        for options in ({}, {"threads": 3}, {"threads": None}):
            stage_of(network, monkeypatch, tmp_path, **options)({"person": [np.zeros((32, 32, 3), dtype=np.uint8)]})
        assert seen == [1, 3, 2]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_options_that_do_not_fit_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def make(num_classes: int = 18, **options: Any) -> SchpParse:
        return stage_of(ConstantNetwork(num_classes), monkeypatch, tmp_path, **options)

    with pytest.raises(ConfigError, match="batch_size = 0 is not allowed"):
        make(batch_size=0)
    with pytest.raises(ConfigError, match="parse_schp: unknown key 'bathc_size'"):
        make(bathc_size=2)
    with pytest.raises(ConfigError, match="device = 'gpu' is no device"):
        make(device="gpu")
    with pytest.raises(ConfigError, match=r"classes = 'lip' has 20 labels, .* has 18"):
        make(classes="lip")
    with pytest.raises(ConfigError, match="classes = 'LIP' is not allowed: atr, lip, cihp"):
        make(20, classes="LIP")
    with pytest.raises(BundleError, match="has 7 classes; the SCHP checkpoints that are known have 18"):
        make(7)
    with pytest.raises(BundleError, match="is not the checkpoint that this run began with"):
        make(sha256="0" * 64)


def test_bfloat16_that_is_not_fast_here_is_ignored_with_a_word(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tryon.models.device.cpu_has_amx_bf16", lambda: False)
    with pytest.warns(UserWarning, match="bf16 is ignored: this cpu has no fast bfloat16"):
        stage_of(ConstantNetwork(20), monkeypatch, tmp_path, device="cpu", bf16=True)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, UInt8, UInt8]:
    """A LIP checkpoint of random weights, in halves to keep it small, a photo, and its parse step by step at 97 px."""
    torch.manual_seed(0)
    network = Schp(SchpConfig(num_classes=20)).eval()
    photo = np.random.default_rng(1).integers(0, 256, (8, 6, 3), dtype=np.uint8).repeat(30, axis=0).repeat(30, axis=1)
    x = torch.from_numpy(prepare(photo, 97))[None]
    with torch.inference_mode():
        network.fushion[3].bias -= network(x)["fusion"].mean(dim=(0, 2, 3))  # else one class wins everywhere
        network.half().float()
        full = F.interpolate(network(x)["fusion"], size=(97, 97), mode="bilinear", align_corners=True)[0]
    scale, left, top = placement((240, 180), 97)
    matrix, flags = np.array([[scale, 0, left], [0, scale, top]]), cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    want = np.stack([cv2.warpAffine(k, matrix, (180, 240), flags=flags) for k in full.numpy()]).argmax(axis=0)
    assert len(np.unique(want)) > 5
    file = tmp_path_factory.mktemp("schp") / "lip.pth"
    torch.save({"state_dict": {f"module.{k}": v.half() for k, v in network.state_dict().items()}}, file)
    return str(file), photo, LIP_TO_ATR[want]


def test_a_checkpoint_parses_a_photo(checkpoint: tuple[str, UInt8, UInt8], monkeypatch: pytest.MonkeyPatch) -> None:
    file, photo, want = checkpoint
    monkeypatch.setitem(parse_schp.INPUT_PX, "lip", 97)
    stage = build_stage(StageSpec(name="parse_schp", options={"weights": file, "device": "cpu"}))
    assert (stage({"person": [photo]})["parse"][0] == want).mean() > 0.985  # two interpolations by hand, one here


def test_bfloat16_changes_few_pixels(checkpoint: tuple[str, UInt8, UInt8], monkeypatch: pytest.MonkeyPatch) -> None:
    file, photo, _ = checkpoint
    monkeypatch.setitem(parse_schp.INPUT_PX, "lip", 97)
    monkeypatch.setattr("tryon.models.device.cpu_has_amx_bf16", lambda: True)
    exact, fast = (SchpParse(file, device="cpu", bf16=bf16)({"person": [photo]})["parse"][0] for bf16 in (False, True))
    assert 0 < (exact != fast).mean() < 0.1
