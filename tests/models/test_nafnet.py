"""NAFNet: the published layouts load strictly and compute the published function; learning, and what it turns away."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.models.checks import dead_parameters, learn, simulated
from tryon.errors import BundleError
from tryon.models.nafnet import GOPRO, LARGE, NafNet, NafNetConfig
from tryon.models.registry import build_network, num_parameters
from tryon.models.state_dict import load_strictly
from tryon.models.tensors import images_to_tensor, masks_to_tensor

CONFIGS = {"nafnet_gopro_width32": GOPRO, "autodir_scm_width64": LARGE}
SMALL = NafNetConfig(width=8, encoder_blocks=(1, 1), decoder_blocks=(1, 1))


def read_layout(file: Path) -> dict[str, tuple[int, ...]]:
    lines = [line.split() for line in file.read_text().splitlines() if line and not line.startswith("#")]
    return {key: tuple(int(n) for n in shape.split("x")) for key, shape in lines}


def made_weights(layout: dict[str, tuple[int, ...]], seed: int) -> dict[str, torch.Tensor]:
    """Weights by the rule that the golden outputs were computed with."""
    weights = {}
    for i, (key, shape) in enumerate(layout.items()):
        r = torch.randn(shape, generator=torch.Generator().manual_seed(seed * 100_003 + i))
        if key.endswith(".bias"):
            weights[key] = 0.1 * r
        elif r.ndim <= 1:
            weights[key] = 1 + 0.6 * r
        elif key.endswith((".beta", ".gamma")):
            weights[key] = 0.5 * r
        else:
            weights[key] = r / r[0].numel() ** 0.5
    return weights


@pytest.mark.parametrize("name", CONFIGS)
def test_published_layouts_give_the_published_output(name: str, shared: Path) -> None:
    layout = read_layout(shared / "layouts" / f"{name}.tsv")
    golden = np.load(shared / "layouts" / f"{name}_golden.npz")
    with torch.device("meta"):
        network = NafNet(CONFIGS[name])
    assert {key: tuple(value.shape) for key, value in network.state_dict().items()} == layout
    network.load_state_dict(made_weights(layout, int(golden["seed"])), strict=True, assign=True)
    with torch.inference_mode():
        out = network.eval()(torch.from_numpy(golden["input"])).numpy()
    assert np.abs(out - golden["output"]).max() <= 1e-3 * np.abs(golden["output"]).mean()


def awake(config: NafNetConfig) -> NafNet:
    """A network that does something: an untrained one is its shortcuts alone."""
    torch.manual_seed(0)
    network = NafNet(config)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return network


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (16, 24), (33, 17)])
def test_any_size_keeps_its_size(size: tuple[int, int]) -> None:
    network = NafNet(NafNetConfig(width=4)).eval()
    with torch.inference_mode():
        assert network(torch.rand(2, 6, *size)).shape == (2, 3, *size)


def test_padding_does_not_depend_on_what_was_cut_off() -> None:
    network = awake(NafNetConfig(width=4)).eval()
    x = torch.rand(1, 6, 13, 11)
    padded = torch.nn.functional.pad(x, (0, 5, 0, 3))
    with torch.inference_mode():
        assert torch.allclose(network(x), network(padded)[..., :13, :11], atol=1e-6)
        assert not torch.allclose(network(x), x[:, 3:], atol=1e-2)


def test_untrained_it_is_the_image_which_is_the_last_three_channels() -> None:
    network = NafNet(NafNetConfig(width=4)).eval()
    x = torch.rand(1, 6, 9, 9)
    with torch.inference_mode():
        assert torch.equal(network(x), x[:, 3:])


def test_gradients_reach_every_parameter() -> None:
    network = awake(SMALL)
    assert not dead_parameters(network, network(torch.rand(2, 6, 32, 24)).square().mean())


def test_presets_have_the_stated_sizes() -> None:
    with torch.device("meta"):
        sizes = [num_parameters(NafNet(config)) for config in (NafNetConfig(), GOPRO, LARGE)]
    assert sizes[0] < 1e6
    assert sizes[1:] == [pytest.approx(17.11e6, rel=0.001), pytest.approx(115.98e6, rel=0.001)]


def test_four_simulator_samples_are_restored_by_heart() -> None:
    size, rows = (64, 48), simulated(4, (64, 48))
    person = images_to_tensor(rows["person"], size)
    faulty = F.avg_pool2d(F.pad(person, (2, 2, 2, 2), mode="replicate"), 5, stride=1)
    garment = images_to_tensor(rows["true_garment"], size) * masks_to_tensor(rows["true_mask"], size)
    torch.manual_seed(0)
    network = NafNet(SMALL)
    losses = learn(network, lambda: F.l1_loss(network(torch.cat([garment, faulty], 1)), person), 150, 5e-3)
    assert losses[-1] < 0.7 * float(F.l1_loss(faulty, person)), "more than the blur is left"
    assert losses[-1] < 0.045


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (torch.rand(1, 3, 8, 8), "image is 1x3x8x8: the network takes .batch, 6, height, width"),
        (torch.rand(6, 8, 8), "image is 6x8x8"),
        (torch.rand(1, 6, 0, 8), "image is empty"),
        (torch.full((1, 6, 8, 8), torch.nan), "image holds values that are not finite"),
    ],
)
def test_bad_input_is_named(value: torch.Tensor, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        NafNet(NafNetConfig(width=4))(value)


def test_weights_of_another_network_are_named() -> None:
    gopro = NafNet(NafNetConfig(in_channels=3, width=4)).state_dict()
    with pytest.raises(BundleError, match=r"gopro\.pth is no checkpoint of nafnet: 'intro\.weight' is 4x3x3x3"):
        load_strictly(NafNet(NafNetConfig(width=4)), gopro, "gopro.pth", "nafnet")


def test_encoder_and_decoder_must_have_one_length() -> None:
    with pytest.raises(ValueError, match="differ in length"):
        build_network("nafnet", {"encoder_blocks": (1, 1), "decoder_blocks": (1,)})
