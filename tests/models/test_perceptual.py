"""Perceptual and style losses: what they see, where gradients go, and what they ask for when weights are missing."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from safetensors.torch import save_file
from torch import Tensor

from tryon.config import parse_config
from tryon.data.simulator import simulate
from tryon.errors import BundleError, ConfigError
from tryon.models.losses import PerceptualConfig, PerceptualLoss
from tryon.models.losses.perceptual import gram
from tryon.models.tensors import images_to_tensor
from tryon.models.vgg import Vgg, imagenet_norm, random_vgg

SIZE = (64, 48)
PEOPLE = images_to_tensor([simulate(3, i, *SIZE)["person"] for i in range(2)], SIZE)


def loss(**options: Any) -> PerceptualLoss:
    return PerceptualLoss(PerceptualConfig(**options))


def blurred(px: int) -> Tensor:
    return F.avg_pool2d(PEOPLE, px, 1, px // 2, count_include_pad=False) if px > 1 else PEOPLE


def test_equal_images_cost_nothing_and_blur_costs_more_the_more_of_it() -> None:
    measure = loss(style=10.0)
    values = [measure.parts(blurred(px), PEOPLE) for px in (1, 3, 5, 9)]
    assert [float(part) for part in values[0]] == [0, 0, 0]
    for part in ("total", "content", "style"):
        assert all(float(getattr(a, part)) < float(getattr(b, part)) for a, b in pairwise(values))


def test_the_parts_are_those_of_the_papers() -> None:
    layers, weights = ("relu1_2", "relu3_2"), (2.0, 0.5)
    parts = loss(layers=layers, layer_weights=weights, style=3.0, seed=4).parts(blurred(5), PEOPLE)
    network = random_vgg(4)
    content, style = 0.0, 0.0
    for weight, name in zip(weights, layers, strict=True):
        a, b = (network(imagenet_norm(x), (name,))[0].double() for x in (blurred(5), PEOPLE))
        content += weight * float((a - b).abs().mean())
        grams = [torch.einsum("bchw,bdhw->bcd", x, x) / x[0].numel() for x in (a, b)]
        style += weight * float(torch.linalg.matrix_norm(grams[0] - grams[1]).square().mean())
    assert float(parts.content) == pytest.approx(content, rel=1e-5)
    assert float(parts.style) == pytest.approx(style, rel=1e-4)
    assert float(parts.total) == pytest.approx(content + 3 * style, rel=1e-4)


def test_style_tells_what_there_is_and_not_where() -> None:
    tile = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    texture, other = tile.tile(4, 4), tile.flip(1).tile(4, 4)
    moved, changed = (loss(style=1.0).parts(x, texture) for x in (texture.roll(8, 3), other))
    assert float(moved.style) < 0.2 * float(changed.style), "what is left is the borders'"
    assert float(moved.content) > 0.5 * float(changed.content)


def test_gradients_reach_the_result_alone() -> None:
    measure = loss(style=1.0).train()
    assert not measure.training
    assert not measure.network.training
    result, truth = blurred(5).clone().requires_grad_(), PEOPLE.clone().requires_grad_()
    measure(result, truth).backward()
    assert result.grad is not None
    assert torch.isfinite(result.grad).all()
    assert float((result.grad.abs().sum(1) > 0).float().mean()) > 0.9
    assert truth.grad is None
    assert not any(p.requires_grad for p in measure.parameters())


def test_descending_it_brings_the_image_back() -> None:
    measure = loss(layers=("relu1_2", "relu2_2"))
    result = blurred(5).clone().requires_grad_()
    optimizer = torch.optim.Adam([result], 0.01)
    before = float(measure(blurred(5), PEOPLE))
    for _ in range(40):
        optimizer.zero_grad()
        measure(result, PEOPLE).backward()
        optimizer.step()
    assert float(measure(result.detach(), PEOPLE)) < 0.35 * before
    assert float((result.detach() - PEOPLE).abs().mean()) < 0.8 * float((blurred(5) - PEOPLE).abs().mean())


def test_bf16_autocast_agrees() -> None:
    measure = loss(style=1.0)
    with torch.autocast("cpu", torch.bfloat16):
        coarse = measure.parts(blurred(5), PEOPLE)
    exact = measure.parts(blurred(5), PEOPLE)
    assert coarse.total.dtype == torch.float32
    assert float(coarse.content) == pytest.approx(float(exact.content), rel=0.03)
    assert float(coarse.style) == pytest.approx(float(exact.style), rel=0.15)


def test_gram_is_exact_under_autocast() -> None:
    x = torch.rand(1, 4, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(gram(x), gram(x.clone()))
        assert gram(x).dtype == torch.float32
    assert torch.allclose(gram(x)[0], (x[0].flatten(1) @ x[0].flatten(1).T) / x.numel())


def test_vgg19_from_a_file(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = Vgg()
    save_file(network.state_dict(), tmp_path / "vgg19.safetensors")
    measure = loss(features="vgg19", weights=str(tmp_path / "vgg19.safetensors"), layers=("relu2_2",))
    a, b = (network(imagenet_norm(x), ("relu2_2",))[0] for x in (blurred(5), PEOPLE))
    assert float(measure(blurred(5), PEOPLE)) == pytest.approx(float((a - b).abs().mean().detach()), rel=1e-5)
    assert len(measure.state_dict()) == 8, "what lies deeper than the deepest layer is dropped"


def test_vgg19_without_its_weights_says_which_file_to_give(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'vgg19' need weights: give `weights`, beside `features`.*vgg19-dcbb9e9d"):
        loss(features="vgg19")
    with pytest.raises(BundleError, match=r"nowhere\.pth does not exist; give `weights`.*vgg19-dcbb9e9d"):
        loss(features="vgg19", weights=str(tmp_path / "nowhere.pth"))
    other = tmp_path / "other.pth"
    torch.save(torch.nn.Conv2d(3, 4, 3).state_dict(), other)
    with pytest.raises(BundleError, match=r"other\.pth is no checkpoint of torchvision's VGG19: .*; give `weights`"):
        loss(features="vgg19", weights=str(other))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"layers": ("relu1_9",)}, "relu1_9"),
        ({"layers": ("relu1_2", "relu1_2")}, "different ones"),
        ({"layers": ()}, "layers"),
        ({"layer_weights": (1.0,)}, "must be 4 numbers"),
        ({"layer_weights": (1.0, 1.0, 1.0, -1.0)}, "must be 4 numbers >= 0"),
        ({"style": -1.0}, "style"),
        ({"features": "vgg16"}, "features"),
    ],
)
def test_options_out_of_bounds_are_named(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        PerceptualConfig(**options)
    with pytest.raises(ConfigError, match=said):
        parse_config(PerceptualConfig, options, "options")


@pytest.mark.parametrize(
    ("result", "truth", "said"),
    [
        (torch.zeros(1, 3, 16, 16), torch.zeros(1, 3, 16, 8), r"result is \(1, 3, 16, 16\), truth is \(1, 3, 16, 8\)"),
        (torch.zeros(1, 4, 16, 16), torch.zeros(1, 4, 16, 16), "both must be"),
        (torch.zeros(3, 16, 16), torch.zeros(3, 16, 16), "both must be"),
        (torch.zeros(1, 3, 4, 16), torch.zeros(1, 3, 4, 16), "need 8 px a side"),
    ],
)
def test_images_that_cannot_be_compared_are_named(result: Tensor, truth: Tensor, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        loss()(result, truth)
