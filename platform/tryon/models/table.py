"""What each registered network is and costs: the table that `tryon models networks` prints.

One MAC is a multiplication and an addition. Counted, by `torch.utils.flop_counter`, are convolutions, matrix products
and attention of one `infer` on one sample; norms, activations, resampling and what is made once and kept (the
thin-plate basis) are not.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from tryon.config import Config
from tryon.models.contract import Runnable
from tryon.models.registry import NETWORKS, network_class, num_parameters

SIZES: tuple[tuple[int, int], ...] = ((256, 192), (1024, 768))  # (height, width) px
COUNTED = "multiply-adds of convolutions, matrix products and attention, one sample"
ARXIV = re.compile(r"arXiv:? ?(\d{4}\.\d{4,5})")


@dataclass(frozen=True)
class NetworkRow:
    """One preset of one network.

    Attributes:
        name: in the registry.
        preset: "default", or a constant of the network's module in lower case.
        role: in a bundle; None where the network does not say.
        does: one sentence.
        paper: arXiv number of the paper followed; None where there is none.
        config: the preset's fields.
        num_parameters: trainable and frozen.
        macs: by size, "256x192"; None where the network gives no example inputs.
    """

    name: str
    preset: str
    role: str | None
    does: str
    paper: str | None
    config: Mapping[str, object]
    num_parameters: int
    macs: Mapping[str, int | None]


def network_rows() -> list[NetworkRow]:
    """Every preset of every registered network; nothing is computed but shapes."""
    return [_row(name, preset, config) for name in NETWORKS for preset, config in presets(network_class(name)).items()]


def presets(cls: type[Any]) -> dict[str, Config]:
    """Named configs of a network: its defaults, then the constants of its module that are of its config class."""
    config_class: type[Config] = cls.config_class
    held = vars(sys.modules[cls.__module__])
    named = {key.lower(): value for key, value in held.items() if key.isupper() and isinstance(value, config_class)}
    return {"default": config_class(), **named}


def count_macs(network: nn.Module, height: int, width: int) -> int:
    """Multiply-adds of one `infer` on one sample.

    Args:
        network: a `Runnable`, on the meta device.
        height: px.
        width: px.

    Raises:
        ValueError: the network gives no example inputs.
    """
    if not isinstance(network, Runnable):
        raise ValueError(f"{type(network).__name__} has no `example_inputs` and `infer`, so nothing can be counted")
    inputs = {name: value.to("meta") for name, value in network.example_inputs(1, height, width).items()}
    with torch.inference_mode():
        network.infer(inputs)  # what is made once and kept is made here, uncounted
        with FlopCounterMode(display=False) as counter:
            network.infer(inputs)
    return int(counter.get_total_flops()) // 2


def _row(name: str, preset: str, config: Config) -> NetworkRow:
    cls = network_class(name)
    with torch.device("meta"):
        network: nn.Module = cls(config).eval()
    module = sys.modules[cls.__module__]
    paper = ARXIV.search(module.__doc__ or "")
    runs = isinstance(network, Runnable)
    macs = {f"{h}x{w}": count_macs(network, h, w) if runs else None for h, w in SIZES}
    return NetworkRow(
        name=name,
        preset=preset,
        role=getattr(cls, "role", None),
        does=(cls.__doc__ or "").strip().split("\n")[0],
        paper=paper.group(1) if paper else None,
        config=config.model_dump(mode="json"),
        num_parameters=num_parameters(network),
        macs=macs,
    )
