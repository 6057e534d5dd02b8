"""The PatchGAN: its paper's size and field of view, gradients, that it learns to tell, and what it turns away."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.models.checks import dead_parameters, seeded
from tryon.errors import BundleError
from tryon.models.export import TOLERANCE, export_onnx
from tryon.models.losses import discriminator_loss, generator_loss
from tryon.models.patch_gan import LARGE, PatchGan, PatchGanConfig
from tryon.models.registry import build_network, num_parameters
from tryon.models.state_dict import load_strictly

SIZE = (64, 48)
TINY = {"width": 4, "condition_channels": 4}


def tiny(seed: int = 0) -> PatchGan:
    network = seeded("patch_gan", TINY, seed)
    assert isinstance(network, PatchGan)
    return network


def pair(b: int = 2, size: tuple[int, int] = SIZE) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return tuple(torch.rand(b, c, *size, generator=generator) * 2 - 1 for c in (4, 3))  # type: ignore[return-value]


def test_presets_have_the_stated_sizes() -> None:
    with torch.device("meta"):
        sizes = [num_parameters(PatchGan(config)) for config in (PatchGanConfig(), LARGE)]
    assert sizes == [pytest.approx(0.176e6, rel=0.01), pytest.approx(2.77e6, rel=0.01)]


def test_the_papers_network_gives_30_by_30_scores_of_70_px_patches() -> None:
    condition, image = torch.zeros(1, 3, 256, 256), torch.zeros(1, 3, 256, 256, requires_grad=True)
    network = PatchGan(PatchGanConfig(width=4))
    # Normalised by image, all pixels decide about each score; the convolutions alone have a field of view.
    network.layers = torch.nn.Sequential(*(x for x in network.layers if not isinstance(x, torch.nn.InstanceNorm2d)))
    scores = network(condition, image)
    assert scores.shape == (1, 1, 30, 30)
    scores[0, 0, 15, 15].backward()  # type: ignore[no-untyped-call]
    assert image.grad is not None
    seen = image.grad.abs().sum(dim=(0, 1)) > 0
    assert (int(seen.any(1).sum()), int(seen.any(0).sum())) == (70, 70)


@pytest.mark.parametrize("size", [(64, 48), (33, 47), (32, 32)])
def test_any_size_from_32_px_on(size: tuple[int, int]) -> None:
    scores = tiny()(*pair(2, size))
    assert scores.shape == (2, 1, size[0] // 8 - 2, size[1] // 8 - 2) or min(size) % 8
    assert torch.isfinite(scores).all()


def test_gradients_reach_every_parameter_and_the_image() -> None:
    network, (condition, image) = tiny(), pair()
    image.requires_grad_()
    assert not dead_parameters(network, generator_loss(network(condition, image), "lsgan"))
    assert image.grad is not None
    assert image.grad.abs().sum() > 0


def test_it_learns_to_tell_photos_of_their_condition_from_those_of_another() -> None:
    torch.manual_seed(0)
    network = PatchGan(PatchGanConfig(width=8, condition_channels=3))
    optimizer = torch.optim.AdamW(network.parameters(), 2e-3)
    real = torch.nn.functional.interpolate(torch.rand(4, 3, 8, 6) * 2 - 1, size=SIZE, mode="bilinear")
    for _ in range(60):
        loss = discriminator_loss(network(real, real), network(real, real.roll(1, 0)), "hinge")
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert float(loss.detach()) < 0.5, "2 for one that cannot tell"


def test_onnx_agrees(tmp_path: object) -> None:
    pytest.importorskip("onnx", reason="ONNX export needs onnx")
    pytest.importorskip("onnxruntime", reason="the check needs onnxruntime")
    written = export_onnx(tiny(), f"{tmp_path}/gan.onnx", SIZE)
    assert written.difference is not None
    assert written.difference <= TOLERANCE


@pytest.mark.parametrize(
    ("condition", "image", "said"),
    [
        (torch.zeros(1, 3, 64, 48), torch.zeros(1, 3, 64, 48), "condition is 1x3x64x48: the network takes .*4, height"),
        (torch.zeros(1, 4, 64, 48), torch.zeros(1, 1, 64, 48), "image is 1x1x64x48: the network takes .*3, height"),
        (torch.zeros(1, 4, 64, 48), torch.zeros(1, 3, 64, 64), "they must have one size"),
        (torch.zeros(1, 4, 31, 48), torch.zeros(1, 3, 31, 48), "31x48: height and width must be 32 px or more"),
        (torch.zeros(1, 4, 64, 48), torch.full((1, 3, 64, 48), torch.nan), "image holds values that are not finite"),
        (torch.full((1, 4, 64, 48), torch.inf), torch.zeros(1, 3, 64, 48), "condition holds values that are not"),
    ],
)
def test_bad_input_is_named(condition: Tensor, image: Tensor, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        tiny()(condition, image)


def test_weights_of_another_network_are_named() -> None:
    other = build_network("nafnet", {"width": 4}).state_dict()
    with pytest.raises(BundleError, match=r"weights\.pth is no checkpoint of patch_gan"):
        load_strictly(tiny(), other, "weights.pth", "patch_gan")
