"""VGG features: torchvision's layout against a plain stack of layers, and what is turned away."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from tests.models.published import VGG16, VGG19, plain_vgg, state_of
from tryon.errors import BundleError, StorageError
from tryon.models.vgg import MEAN, NUM_CONVS, STD, Vgg, imagenet_norm, load_vgg, random_vgg

# What torchvision's files are known by, and where each block's second ReLU stands in its `features`.
SIXTEEN, NINETEEN = (3, 8, 13, 20, 27), (3, 8, 13, 22, 31)
LAYERS = ("relu1_2", "relu2_2", "relu3_2", "relu4_2", "relu5_2")


@pytest.fixture(scope="module")
def nineteen() -> nn.Sequential:
    torch.manual_seed(0)
    return plain_vgg(VGG19)


def photos(size: tuple[int, int] = (32, 48)) -> Tensor:
    return torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_published_file_gives_the_features_of_a_plain_stack(
    nineteen: nn.Sequential, tmp_path: Path, suffix: str
) -> None:
    state = state_of(nineteen)
    path = tmp_path / f"vgg19{suffix}"
    if suffix == ".pth":
        torch.save(state, path)
    else:
        save_file(state, path)
    network = load_vgg("vgg19", path)
    assert not network.training
    assert not any(p.requires_grad for p in network.parameters())
    x = imagenet_norm(photos())
    with torch.inference_mode():
        for place, found in zip(NINETEEN, network(x, LAYERS), strict=True):
            assert torch.allclose(found, nineteen[: place + 1](x), atol=1e-6)


def test_vgg16_is_another_stack() -> None:
    torch.manual_seed(1)
    reference = plain_vgg(VGG16)
    network = load_vgg("vgg16", state_of(reference))
    x = photos()
    with torch.inference_mode():
        for place, found in zip(
            SIXTEEN, network(x, ("relu1_2", "relu2_2", "relu3_2", "relu4_2", "relu5_2")), strict=True
        ):
            assert torch.allclose(found, reference[: place + 1](x), atol=1e-6)


def test_layers_come_in_the_order_asked_for_and_a_cut_changes_nothing() -> None:
    network, x = random_vgg(3), photos()
    first, second = network(x, ("relu3_2", "relu1_2"))
    assert (first.shape, second.shape) == ((2, 32, 8, 12), (2, 8, 32, 48))
    before = len(network.state_dict())
    network.cut(("relu1_2", "relu3_2"))
    assert len(network.state_dict()) < before
    assert torch.equal(network(x, ("relu3_2",))[0], first)
    with pytest.raises(ValueError, match=r"layer 'relu4_1' is not one of relu1_1, .*relu3_2"):
        network(x, ("relu4_1",))


def test_random_features_are_of_their_seed_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    a, b, c = random_vgg(1), random_vgg(1), random_vgg(2)
    assert torch.equal(torch.rand(3), expected), "the global random state is left alone"
    assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))
    assert not torch.equal(a.features[0].weight, c.features[0].weight)


def test_random_features_keep_images_apart_in_every_layer() -> None:
    for seed in range(3):
        x = imagenet_norm(photos((64, 64)))
        for features in random_vgg(seed)(x, LAYERS):
            assert 0.3 < float((features[0] - features[1]).abs().mean() / features.mean()) < 3
            assert 0.05 < float(features.mean()) < 2


def test_imagenet_norm() -> None:
    mean = torch.tensor(MEAN).view(1, 3, 1, 1).expand(1, 3, 2, 2)
    assert torch.allclose(imagenet_norm(mean * 2 - 1), torch.zeros(1, 3, 2, 2), atol=1e-6)
    assert torch.allclose(imagenet_norm((mean + torch.tensor(STD).view(3, 1, 1)) * 2 - 1), torch.ones(1, 3, 2, 2))


def test_other_files_are_named(nineteen: nn.Sequential, tmp_path: Path) -> None:
    with torch.device("meta"):
        sixteen = Vgg(NUM_CONVS["vgg16"])
    with pytest.raises(BundleError, match=r"no checkpoint of torchvision's VGG19: 'features\.16\.weight' is missing"):
        load_vgg("vgg19", {name: torch.zeros(value.shape) for name, value in sixteen.state_dict().items()})
    with pytest.raises(BundleError, match=r"it holds 'features\.99\.weight'"):
        load_vgg("vgg19", {**state_of(nineteen), "features.99.weight": torch.zeros(1)})
    broken = tmp_path / "broken.pth"
    broken.write_bytes(b"no weights")
    with pytest.raises(BundleError, match=r"broken\.pth is damaged"):
        load_vgg("vgg19", broken)
    with pytest.raises(StorageError, match="does not exist"):
        load_vgg("vgg19", tmp_path / "nowhere.pth")


def test_an_image_too_small_for_the_layer_is_named() -> None:
    assert random_vgg(0)(torch.zeros(1, 3, 8, 8), ("relu4_2",))[0].shape == (1, 64, 1, 1)
    with pytest.raises(ValueError, match=r"image is \(7, 9\) px: layers relu1_2, relu4_2 need 8 px a side"):
        random_vgg(0)(torch.zeros(1, 3, 7, 9), ("relu1_2", "relu4_2"))
