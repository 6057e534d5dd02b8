"""NAFNet: the published layouts load strictly and compute the published function."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tryon.models.nafnet import NafNet, NafNetConfig
from tryon.models.registry import build_network

CONFIGS = {
    "nafnet_gopro_width32": NafNetConfig(
        in_channels=3, width=32, encoder_blocks=(1, 1, 1, 28), middle_blocks=1, decoder_blocks=(1, 1, 1, 1)
    ),
    "autodir_scm_width64": NafNetConfig(
        in_channels=6, width=64, encoder_blocks=(2, 2, 4, 8), middle_blocks=12, decoder_blocks=(2, 2, 2, 2)
    ),
}


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


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (16, 24), (33, 17)])
def test_any_size_keeps_its_size(size: tuple[int, int]) -> None:
    network = NafNet(NafNetConfig(width=4)).eval()
    with torch.inference_mode():
        assert network(torch.rand(2, 6, *size)).shape == (2, 3, *size)


def test_padding_does_not_depend_on_what_was_cut_off() -> None:
    torch.manual_seed(0)
    network = NafNet(NafNetConfig(width=4)).eval()
    x = torch.rand(1, 6, 13, 11)
    padded = torch.nn.functional.pad(x, (0, 5, 0, 3))
    with torch.inference_mode():
        assert torch.allclose(network(x), network(padded)[..., :13, :11], atol=1e-6)


def test_the_image_is_the_last_three_channels() -> None:
    network = NafNet(NafNetConfig(width=4)).eval()
    torch.nn.init.zeros_(network.ending.weight)
    torch.nn.init.zeros_(network.ending.bias)
    x = torch.rand(1, 6, 9, 9)
    with torch.inference_mode():
        assert torch.equal(network(x), x[:, 3:])


def test_wrong_channels_are_named() -> None:
    with pytest.raises(ValueError, match="takes 6 channels, the input has 3"):
        NafNet(NafNetConfig(width=4))(torch.rand(1, 3, 8, 8))


def test_encoder_and_decoder_must_have_one_length() -> None:
    with pytest.raises(ValueError, match="differ in length"):
        build_network("nafnet", {"encoder_blocks": (1, 1), "decoder_blocks": (1,)})
