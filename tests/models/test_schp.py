"""SCHP's network: the published layouts load strictly and compute the published function."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.models.test_nafnet import read_layout
from tryon.errors import BundleError
from tryon.models.resnet import ActivatedBatchNorm
from tryon.models.schp import Schp, SchpConfig, load_schp

State = dict[str, Tensor]


def made_weights(layout: dict[str, tuple[int, ...]], seed: int) -> State:
    """Weights by the rule that the golden outputs were computed with."""
    weights = {}
    for i, (key, shape) in enumerate(layout.items()):
        r = torch.randn(shape, generator=torch.Generator().manual_seed(seed * 100_003 + i))
        if key.endswith(".running_var"):
            weights[key] = 0.8 + 0.2 * r.abs()
        elif key.endswith((".running_mean", ".bias")):
            weights[key] = 0.1 * r
        else:
            weights[key] = 1 + 0.6 * r if r.ndim <= 1 else r / r[0].numel() ** 0.5
    return weights


def own_layout(num_classes: int = 18) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        network = Schp(SchpConfig(num_classes=num_classes))
    return {key: tuple(value.shape) for key, value in network.state_dict().items()}


@pytest.fixture(scope="module")
def weights() -> State:
    return made_weights(own_layout(), seed=3)


@pytest.fixture(scope="module")
def network(weights: State) -> Schp:
    return load_schp(weights)


def run(network: Schp, x: Tensor) -> State:
    with torch.inference_mode():
        return network(x)


def photo(*size: int, batch: int = 1) -> Tensor:
    return torch.randn(batch, 3, *size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("name", "num_classes"), [("schp_atr", 18), ("schp_lip", 20)])
def test_published_layouts_load_as_published(name: str, num_classes: int, shared: Path) -> None:
    layout = read_layout(shared / "layouts" / f"{name}.tsv")
    made = made_weights(layout, seed=1)
    network = load_schp({"state_dict": {f"module.{key}": value for key, value in made.items()}})
    state = network.state_dict()
    assert list(state) == list(layout), "also in this order"
    assert all(torch.equal(state[key], made[key]) for key in layout)
    assert network.config.num_classes == num_classes
    assert not network.training


def test_published_output(shared: Path) -> None:
    golden = np.load(shared / "layouts" / "schp_atr_golden.npz")
    layout = read_layout(shared / "layouts" / "schp_atr.tsv")
    out = run(load_schp(made_weights(layout, int(golden["seed"]))), torch.from_numpy(golden["input"]))
    for name in ("parsing", "fusion", "edge"):
        off = np.abs(out[name].numpy() - golden[name]).max()
        assert off <= 1e-4 * np.abs(golden[name]).mean(), name  # a tenth of what is asked for


def test_norm_is_that_of_its_definition() -> None:
    norm = ActivatedBatchNorm(3).eval()
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([-1.5, 0.0, 0.7]))
        norm.bias.copy_(torch.tensor([0.2, -0.3, 0.1]))
        norm.running_mean.copy_(torch.tensor([0.5, -0.5, 0.0]))
        norm.running_var.copy_(torch.tensor([2.0, 0.1, 0.0]))
    norm.requires_grad_(False)
    x = photo(2, 2)
    out = norm(x)
    for c in range(3):
        for value, got in zip(x[0, c].ravel().tolist(), out[0, c].ravel().tolist(), strict=True):
            scale = abs(float(norm.weight[c])) + 1e-5
            root = (float(norm.running_var[c]) + 1e-5) ** 0.5
            want = (value - float(norm.running_mean[c])) / root * scale + float(norm.bias[c])
            assert got == pytest.approx(want if want > 0 else 0.01 * want, rel=1e-4, abs=1e-5)


def test_norm_without_activation_keeps_what_is_negative() -> None:
    x = photo(8, 8)
    plain, leaky = ActivatedBatchNorm(3, activation=False).eval()(x), ActivatedBatchNorm(3).eval()(x)
    assert torch.allclose(torch.where(plain > 0, plain, 0.01 * plain), leaky)
    assert (plain < -0.5).any()


def test_norm_learns_its_statistics_in_training() -> None:
    norm, x = ActivatedBatchNorm(3, activation=False, momentum=1.0), 3 + 2 * photo(16, 16, batch=4)
    out = norm(x)
    assert torch.allclose(out.mean(dim=(0, 2, 3)), torch.zeros(3), atol=1e-4)
    assert torch.allclose(norm.running_mean, x.mean(dim=(0, 2, 3)), atol=1e-4)
    assert torch.allclose(norm.running_var, x.var(dim=(0, 2, 3)), rtol=1e-4)


def test_only_the_size_of_a_norms_weight_counts(network: Schp, weights: State) -> None:
    norms = {key for key in weights if key.replace(".weight", ".running_var") in weights and key.endswith(".weight")}
    flipped = {key: -value if key in norms else value for key, value in weights.items()}
    assert len(norms) == 119
    assert min(float(weights[key].min()) for key in norms) < 0, "the rule makes negative ones"
    x = photo(65, 49)
    assert torch.equal(run(network, x)["fusion"], run(load_schp(flipped), x)["fusion"])


@pytest.mark.parametrize("size", [(473, 473), (64, 48), (33, 65), (96, 96)])
def test_logits_have_a_quarter_of_any_size(network: Schp, size: tuple[int, int]) -> None:
    out = run(network, photo(*size))
    quarter = tuple((n + 3) // 4 for n in size)
    assert {name: tuple(value.shape) for name, value in out.items()} == {
        "fusion": (1, 18, *quarter),
        "parsing": (1, 18, *quarter),
        "edge": (1, 2, *quarter),
    }


def test_the_last_layer_is_dilated_and_keeps_its_size(network: Schp) -> None:
    with torch.inference_mode():
        layers = network.features(photo(96, 64))
    assert [tuple(layer.shape[1:]) for layer in layers] == [(256, 24, 16), (512, 12, 8), (1024, 6, 4), (2048, 6, 4)]
    assert [block.conv2.dilation for block in network.layer4] == [(2, 2)] * 3
    assert [layer[0].conv2.stride[0] for layer in (network.layer1, network.layer2, network.layer3)] == [1, 2, 2]


def test_runs_are_repeatable_and_photos_of_a_batch_are_independent(network: Schp) -> None:
    pair = photo(64, 64, batch=2)
    together = run(network, pair)["fusion"]
    assert torch.equal(together, run(network, pair)["fusion"])
    alone = torch.cat([run(network, pair[i : i + 1])["fusion"] for i in range(2)])
    assert torch.allclose(together, alone, atol=1e-4 * float(together.abs().mean()))


def test_every_weight_learns() -> None:
    torch.manual_seed(0)
    network = Schp(SchpConfig(num_classes=4)).train()
    out = network(photo(33, 33, batch=2))
    sum((value**2).mean() for value in out.values()).backward()
    still = [key for key, value in network.named_parameters() if value.grad is None or not value.grad.abs().sum() > 0]
    assert still == []


def without(state: State, key: str) -> State:
    return {k: v for k, v in state.items() if k != key}


FAULTS = {
    "'layer3.7.bn2.bias' is missing among its 602 tensors": lambda s: without(s, "layer3.7.bn2.bias"),
    "'conv2.weight' is 2x2, SCHP has 64x64x3x3": lambda s: {**s, "conv2.weight": torch.zeros(2, 2)},
    "holds 'bn1.num_batches_tracked', which SCHP does not": lambda s: {**s, "bn1.num_batches_tracked": torch.zeros(())},
    "'decoder.conv4.weight' is 18x256x1x1, SCHP has 20x256x1x1": lambda s: {
        **s,
        "fushion.3.weight": torch.zeros(20, 256, 1, 1),
    },
    "'conv1.weight' is missing among its 1 tensors": lambda s: {"intro.weight": torch.zeros(32, 3, 3, 3)},
    "'conv1.weight' is a single number, SCHP has 64x3x3x3": lambda s: {"conv1.weight": torch.zeros(())},
}


@pytest.mark.parametrize("message", FAULTS)
def test_the_first_wrong_key_is_named(message: str, weights: State) -> None:
    with pytest.raises(BundleError, match=re.escape(message)) as caught:
        load_schp(FAULTS[message](weights))
    assert caught.value.code == "weights-mismatch"


def test_a_number_of_classes_that_no_network_has_is_refused(weights: State) -> None:
    with pytest.raises(BundleError, match=r"'fushion\.3\.weight' is 1x256x1x1, SCHP has 18x"):
        load_schp({**weights, "fushion.3.weight": torch.zeros(1, 256, 1, 1)})


def test_it_prints_what_its_layers_are(network: Schp) -> None:
    assert "ActivatedBatchNorm(512, eps=1e-05, activation=leaky_relu(0.01))" in repr(network.context_encoding)
    assert "ActivatedBatchNorm(64, eps=1e-05, activation=none)" in repr(network.layer1)
