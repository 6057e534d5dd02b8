"""LPIPS against torchmetrics' own, which is given the same trunk; what it measures, and what it turns away."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn
from torchmetrics.functional.image import lpips as reference

from tests.models.published import VGG16, VGG19, plain_alexnet, plain_vgg, state_of
from tryon.data.simulator import simulate
from tryon.errors import BundleError, StorageError
from tryon.models.lpips import CHANNELS, TAPS, LpipsKind, load_lpips
from tryon.models.tensors import images_to_tensor
from tryon.models.vgg import imagenet_norm

SIZE = (96, 64)
PEOPLE = images_to_tensor([simulate(3, i, *SIZE)["person"] for i in range(2)], SIZE)
BLURRED = F.avg_pool2d(PEOPLE, 5, 1, 2, count_include_pad=False)


def features_of(kind: LpipsKind) -> nn.Sequential:
    torch.manual_seed(0)
    return plain_alexnet() if kind == "alex" else plain_vgg(VGG16)


@pytest.mark.parametrize(("kind", "net"), [("alex", "alex"), ("vgg16", "vgg")])
def test_it_is_torchmetrics_on_the_same_trunk(
    kind: LpipsKind, net: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = features_of(kind)
    save_file(state_of(features), tmp_path / "trunk.safetensors")
    # Torchmetrics takes its trunk from torchvision, which is not here; its heads and its arithmetic are its own.
    monkeypatch.setattr(reference, "_get_tv_model_features", lambda net, pretrained: features)
    theirs = reference._LPIPS(net=net)
    ours = load_lpips(tmp_path / "trunk.safetensors")
    assert ours.kind == kind
    with torch.inference_mode():
        expected = theirs(BLURRED, PEOPLE).flatten()
        assert torch.allclose(ours(BLURRED, PEOPLE), expected, rtol=1e-4, atol=1e-7)
    assert float(expected.min()) > 1e-4


@pytest.mark.parametrize("kind", ["alex", "vgg16"])
def test_the_trunk_is_a_plain_stack(kind: LpipsKind) -> None:
    features = features_of(kind)
    lpips = load_lpips(state_of(features))
    x = imagenet_norm(PEOPLE)
    places = (1, 4, 7, 9, 11) if kind == "alex" else (3, 8, 15, 22, 29)
    with torch.inference_mode():
        for place, found in zip(places, lpips.trunk(x, TAPS[kind]), strict=True):
            assert torch.allclose(found, features[: place + 1](x), atol=1e-6)


def test_equal_images_are_0_apart_and_more_blur_is_further_away() -> None:
    lpips = load_lpips(state_of(features_of("alex")))
    blurs = [F.avg_pool2d(PEOPLE, px, 1, px // 2, count_include_pad=False) for px in (1, 3, 7, 15)]
    values = [float(lpips(blur, PEOPLE).mean()) for blur in blurs]
    assert values[0] == 0
    assert all(a < b for a, b in pairwise(values))


def test_a_pair_does_not_depend_on_its_neighbours_nor_on_its_order() -> None:
    lpips = load_lpips(state_of(features_of("alex")))
    together, alone = lpips(BLURRED, PEOPLE), lpips(BLURRED[1:], PEOPLE[1:])
    assert together.shape == (2,)
    assert torch.allclose(together[1:], alone, rtol=1e-5)
    assert torch.allclose(together, lpips(PEOPLE, BLURRED))


def test_heads_come_from_a_file_too(tmp_path: Path) -> None:
    trunk = state_of(features_of("alex"))
    heads = {f"lin{i}.model.1.weight": torch.full((1, c, 1, 1), 2.0) for i, c in enumerate(CHANNELS["alex"])}
    torch.save(heads, tmp_path / "heads.pth")
    twice = load_lpips(trunk, tmp_path / "heads.pth")
    once = load_lpips(trunk, {name: value / 2 for name, value in heads.items()})
    assert torch.allclose(twice(BLURRED, PEOPLE), 2 * once(BLURRED, PEOPLE))
    with pytest.raises(BundleError, match=r"LPIPS's linear heads for alex: 'lin4\.model\.1\.weight' is missing"):
        load_lpips(trunk, {name: value for name, value in heads.items() if "lin4" not in name})
    assert not any(p.requires_grad for p in twice.parameters())
    assert not twice.training


def test_weights_of_another_network_are_named(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"neither: it has no 'features\.0\.weight'; LPIPS needs torchvision's"):
        load_lpips({"conv.weight": torch.zeros(1)})
    with pytest.raises(BundleError, match=r"neither: 'features\.0\.weight' is 64x3x7x7"):
        load_lpips({"features.0.weight": torch.zeros(64, 3, 7, 7)})
    nineteen: dict[str, Tensor] = state_of(plain_vgg(VGG19))
    with pytest.raises(BundleError, match=r"no checkpoint of torchvision's VGG16: 'features\.17\.weight' is missing"):
        load_lpips(nineteen)
    with pytest.raises(StorageError, match="does not exist"):
        load_lpips(tmp_path / "nowhere.pth")


def test_images_that_cannot_be_compared_are_named() -> None:
    lpips = load_lpips(state_of(features_of("alex")))
    assert torch.isfinite(lpips(PEOPLE[..., :31, :31], BLURRED[..., :31, :31])).all()
    with pytest.raises(ValueError, match="need 31 px a side"):
        lpips(PEOPLE[..., :30], PEOPLE[..., :30])
    with pytest.raises(ValueError, match="both must be"):
        lpips(PEOPLE, PEOPLE[:, :1])
    with pytest.raises(ValueError, match="both must be"):
        lpips(PEOPLE, PEOPLE[:1])
