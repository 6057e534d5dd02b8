"""Both reconstruction networks: shapes, gradients, learning, and what they turn away."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.models.checks import dead_parameters, learn
from tryon.data.simulator import simulate
from tryon.errors import BundleError
from tryon.models.autoencoder import LARGE, Autoencoder, AutoencoderConfig
from tryon.models.autoencoder_layers import ImageDecoder, pad_to
from tryon.models.registry import build_network, num_parameters
from tryon.models.state_dict import load_strictly
from tryon.models.tensors import images_to_tensor
from tryon.models.vae import LARGE as VAE_LARGE
from tryon.models.vae import Vae, VaeConfig

TINY = {"width": 8, "levels": 2, "latent_channels": 4}
SIZE = (64, 48)
BOTH = ("autoencoder", "vae")


def network(name: str, seed: int = 0, **changes: Any) -> nn.Module:
    torch.manual_seed(seed)
    return build_network(name, {**TINY, **changes}).eval()


def image(b: int = 2, size: tuple[int, int] = SIZE) -> Tensor:
    return torch.rand(b, 3, *size, generator=torch.Generator().manual_seed(1)) * 2 - 1


def reconstruction(of: nn.Module, x: Tensor) -> Tensor:
    out = of(x)
    return out if isinstance(out, Tensor) else out.reconstruction  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("size", [(64, 48), (65, 47), (33, 17), (1, 1)])
@pytest.mark.parametrize("changes", [{}, {"levels": 5}, {"num_blocks": 2, "latent_channels": 3}])
def test_any_size_comes_back_as_itself(name: str, size: tuple[int, int], changes: dict[str, int]) -> None:
    with torch.inference_mode():
        out = reconstruction(network(name, **changes), image(2, size))
    assert out.shape == (2, 3, *size)
    assert torch.isfinite(out).all()


@pytest.mark.parametrize(("levels", "factor"), [(1, 2), (3, 8), (6, 64)])
def test_the_latent_is_smaller_by_the_factor(levels: int, factor: int) -> None:
    config = AutoencoderConfig(width=4, levels=levels, latent_channels=5)
    assert config.factor == factor
    with torch.inference_mode():
        latent = Autoencoder(config).encode(image(1, (130, 100)))
    assert latent.shape == (1, 5, -(-130 // factor), -(-100 // factor))


def test_all_of_the_image_comes_through_the_latent() -> None:
    net, x = network("autoencoder"), image()
    assert isinstance(net, Autoencoder)
    with torch.inference_mode():
        latent = net.encode(x)
        assert torch.equal(net(x), net.decode(latent))
        assert net.decode(latent, (63, 45)).shape == (2, 3, 63, 45)
        assert not torch.allclose(net.decode(latent), net.decode(latent.flip(0)), atol=1e-3)


def test_what_is_padded_repeats_the_edge_and_what_fits_is_left_alone() -> None:
    x = image(1, (5, 6))
    padded = pad_to(x, 4)
    assert padded.shape == (1, 3, 8, 8)
    assert torch.equal(padded[..., :5, :6], x)
    assert torch.equal(padded[..., 5:, :6], x[..., 4:, :].expand(-1, -1, 3, -1))
    assert pad_to(padded, 4) is padded


def test_presets_have_the_stated_sizes() -> None:
    with torch.device("meta"):
        plain = [num_parameters(Autoencoder(config)) for config in (AutoencoderConfig(), LARGE)]
        variational = [num_parameters(Vae(config)) for config in (VaeConfig(), VAE_LARGE)]
    assert plain == [pytest.approx(1.0e6, rel=0.01), pytest.approx(28.3e6, rel=0.01)]
    assert variational == [pytest.approx(1.01e6, rel=0.01), pytest.approx(28.4e6, rel=0.01)]


@pytest.mark.parametrize("name", BOTH)
def test_gradients_reach_every_parameter(name: str) -> None:
    net = network(name).train()
    assert not dead_parameters(net, F.l1_loss(reconstruction(net, image()), image()))


@pytest.mark.parametrize("name", BOTH)
def test_four_simulator_samples_are_learnt_by_heart(name: str) -> None:
    photos = images_to_tensor([simulate(3, i, *SIZE)["person"] for i in range(4)], SIZE)
    net = network(name, latent_channels=8)
    losses = learn(net, lambda: F.l1_loss(reconstruction(net, photos), photos), 100, 5e-3)
    with torch.inference_mode():
        last = float(F.l1_loss(reconstruction(net, photos), photos))
    assert losses[0] > 0.4
    assert last < 0.065


@pytest.mark.parametrize("name", BOTH)
def test_infer_is_within_the_range_of_images(name: str) -> None:
    net: Any = network(name)
    nn.init.constant_(net.decoder.head.bias, 5.0)
    with torch.inference_mode():
        out = net.infer(net.example_inputs(2, *SIZE))["reconstruction"]
    assert out.max() == 1.0


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize(
    ("value", "said"),
    [
        (torch.zeros(1, 4, 64, 48), "image is 1x4x64x48: the network takes .*3, height"),
        (torch.zeros(3, 64, 48), "image is 3x64x48"),
        (torch.zeros(1, 3, 0, 48), "image is empty"),
        (torch.full((1, 3, 64, 48), torch.nan), "image holds values that are not finite"),
    ],
)
def test_bad_input_is_named(name: str, value: Tensor, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        network(name)(value)


def test_latents_that_do_not_fit_are_named() -> None:
    decoder = ImageDecoder(AutoencoderConfig(**TINY))
    with pytest.raises(ValueError, match=r"latent is 1x5x8x6: the network takes \(batch, 4"):
        decoder(torch.zeros(1, 5, 8, 6))
    with pytest.raises(ValueError, match="latent holds values that are not finite"):
        decoder(torch.full((1, 4, 8, 6), torch.inf))
    with pytest.raises(ValueError, match="an image of 33x20 px has no latent of 8x6: the factor is 4"):
        decoder(torch.zeros(1, 4, 8, 6), (33, 20))


@pytest.mark.parametrize("name", BOTH)
def test_weights_of_another_network_are_named(name: str) -> None:
    other = network("vae" if name == "autoencoder" else "autoencoder").state_dict()
    with pytest.raises(BundleError, match=rf"weights\.pth is no checkpoint of {name}: 'encoder\.head\.weight' is"):
        load_strictly(network(name), other, "weights.pth", name)
