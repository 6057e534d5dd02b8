"""Checks that hold for every network, on its `example_inputs` and `infer`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from tests.models.inputs import random_condition
from tryon.data.simulator import simulate
from tryon.models.bundle import place
from tryon.models.contract import Runnable, load_saved_state, saved_state
from tryon.models.registry import build_network
from tryon.sample import Batch
from tryon.stages.agnostic import Agnostic

Tensors = dict[str, Tensor]


def seeded(name: str, config: Mapping[str, object], seed: int = 0) -> nn.Module:
    """A network of the registry in eval mode, none of whose branches is switched off by its initialisation."""
    torch.manual_seed(seed)
    network = build_network(name, config)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return network.eval()


def infer(network: nn.Module, inputs: Tensors) -> Tensors:
    """What the network gives, without gradients."""
    assert isinstance(network, Runnable)
    with torch.inference_mode():
        return network.infer(inputs)


def dead_parameters(network: nn.Module, loss: Tensor) -> list[str]:
    """Names of parameters that a loss has no gradient for."""
    network.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    return [
        name
        for name, p in network.named_parameters()
        if p.requires_grad and (p.grad is None or not p.grad.abs().sum() > 0)
    ]


def check_rows(network: nn.Module, size: tuple[int, int], tolerance: float = 1e-4) -> None:
    """The same call gives the same to the bit, and a row does not depend on its neighbours."""
    assert isinstance(network, Runnable)
    inputs = network.example_inputs(3, *size)
    together, again = infer(network, inputs), infer(network, inputs)
    alone = infer(network, {name: value[1:2] for name, value in inputs.items()})
    for name, value in together.items():
        assert torch.isfinite(value).all(), name
        assert torch.equal(value, again[name]), name
        assert not torch.equal(value[0], value[1]), f"{name} does not depend on the input"
        difference = float((value[1:2] - alone[name]).abs().max())
        assert difference <= tolerance * spread(value), f"{name} of a row alone differs by {difference:.2g}"


def check_saved_and_loaded(network: nn.Module, other: nn.Module, size: tuple[int, int]) -> None:
    """What is saved of a network makes another one of its config the same, to the bit.

    Args:
        network: whose state is saved, through the bytes of a safetensors file.
        other: of the same config, with other weights.
        size: (height, width) px to compare at.
    """
    from safetensors.torch import load, save

    assert isinstance(network, Runnable)
    inputs = network.example_inputs(2, *size)
    wanted, before = infer(network, inputs), infer(other, inputs)
    assert any(not torch.equal(wanted[name], before[name]) for name in wanted), "they are one already"
    load_saved_state(other, load(save({name: value.contiguous() for name, value in saved_state(network).items()})))
    got = infer(other, inputs)
    assert all(torch.equal(value, got[name]) for name, value in wanted.items())


def check_number_formats(
    network: nn.Module, size: tuple[int, int], *, bf16: float = 0.03, channels_last: float = 1e-3
) -> None:
    """`channels_last` and bf16 autocast give what the plain network gives.

    Args:
        network: on the CPU.
        size: (height, width) px.
        bf16: mean difference that is allowed, as a share of the output's range.
        channels_last: largest difference that is allowed, as a share of the output's range.
    """
    assert isinstance(network, Runnable)
    inputs = network.example_inputs(2, *size)
    plain = infer(network, inputs)
    with torch.autocast("cpu", torch.bfloat16):
        coarse = infer(network, inputs)
    place(network, torch.device("cpu"))
    images = {n: v.to(memory_format=torch.channels_last) if v.ndim == 4 else v for n, v in inputs.items()}
    last = infer(network, images)
    for name, value in plain.items():
        error = float((coarse[name].float() - value).abs().mean()) / spread(value)
        assert error <= bf16, f"{name} in bf16 differs by {error:.3f} of its range on average"
        error = float((last[name] - value).abs().max()) / spread(value)
        assert error <= channels_last, f"{name} in channels_last differs by {error:.2g} of its range"


def spread(value: Tensor) -> float:
    """From the least to the largest value."""
    return float(value.max() - value.min()) or 1.0


def learn(network: nn.Module, loss: Callable[[], Tensor], steps: int, learning_rate: float) -> Sequence[float]:
    """Losses of a network that is trained on one batch."""
    network.train()
    optimizer = torch.optim.AdamW(network.parameters(), learning_rate)
    losses = []
    for step in range(steps):
        for group in optimizer.param_groups:  # down to nothing, so that the last losses are settled ones
            group["lr"] = learning_rate * min(1.0, 2 * (1 - step / steps))
        now = loss()
        optimizer.zero_grad()
        now.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        losses.append(float(now.detach()))
    network.eval()
    return losses


def simulated(num: int, size: tuple[int, int], seed: int = 3) -> Batch:
    """Samples of the simulator with their own truth for annotation, at a size, agnostic image included."""
    rows = [simulate(seed, i, *size) for i in range(num)]
    batch: Batch = {name: [row.get(name) for row in rows] for name in rows[0]}
    batch = Agnostic()(batch)
    assert batch["error"] == [None] * num
    return batch


def bad_condition(size: tuple[int, int] = (64, 48), **changes: Tensor) -> Tensors:
    """A condition of two rows with some of its tensors exchanged."""
    made = random_condition(2, size)
    return {**made, "warped": made["garment"], "warped_mask": made["garment_mask"], **changes}


def not_finite(channels: int, size: tuple[int, int] = (64, 48)) -> Tensor:
    """Zeros with one NaN in the second row."""
    value = torch.zeros(2, channels, *size)
    value[1, -1, 3, 4] = torch.nan
    return value


def second_empty(size: tuple[int, int] = (64, 48)) -> Tensor:
    """Masks of which the second is empty."""
    mask = torch.ones(2, 1, *size)
    mask[:, :, 0], mask[1] = 0, 0
    return mask
