"""What of a large pretrained network is trained, and kept: low-rank adapters, attention, or all of it.

LoRA (Hu et al. 2022, arXiv 2106.09685) by peft: a product of two thin matrices is added to each chosen linear layer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from tryon.config import Config
from tryon.errors import ConfigError
from tryon.models.network import Network

Mode = Literal["lora", "attention", "full"]


class Lora(Config):
    """Low-rank adapters."""

    rank: int = Field(8, ge=1, le=1024, description="of each adapter")
    alpha: float | None = Field(None, gt=0, description="its output is scaled by alpha / rank; None: by 1")
    targets: tuple[str, ...] = Field(
        ("to_q", "to_k", "to_v", "to_out.0"), min_length=1, description="layers of the U-Net, by the end of their names"
    )


def tune(network: nn.Module, mode: Mode, *, lora: Lora, targets: Sequence[str], attention: Sequence[str]) -> None:
    """Decides what of a network is trained; the rest is frozen.

    Args:
        network: changed in place: under ``lora`` its target layers are wrapped.
        mode: adapters, the attention layers, or everything.
        lora: size of the adapters.
        targets: layers that get one, by the end of their names.
        attention: parts of names that mark attention layers.

    Raises:
        ConfigError: no layer has such a name.
    """
    network.requires_grad_(mode == "full")
    if mode == "lora":
        _add_adapters(network, lora, targets)
    for name, parameter in network.named_parameters():
        if mode == "attention" and any(part in name.split(".") for part in attention):
            parameter.requires_grad_(True)
        if mode == "lora":
            parameter.requires_grad_("lora_" in name)


def _add_adapters(network: nn.Module, lora: Lora, targets: Sequence[str]) -> None:
    from peft import LoraConfig, inject_adapter_in_model

    config = LoraConfig(r=lora.rank, lora_alpha=lora.alpha or lora.rank, target_modules=list(targets))
    try:
        inject_adapter_in_model(config, network)
    except ValueError as error:  # a name that none or the wrong kind of layer has
        reason = str(error).splitlines()[0]
        text = f"lora.targets = {list(targets)} cannot be adapted: {reason}"
        raise ConfigError(text, code="config-invalid", field="network") from error


class Tuned(Network):
    """A network that saves only its own part: what is trained (`tryon.models.contract.SavesPart`).

    Call `settle` once it is decided what is trained.
    """

    _own: tuple[str, ...] = ()

    def settle(self, *, all_of_it: bool = False) -> None:
        """Remembers which tensors are its own: those trained now, or everything where nothing lies elsewhere."""
        trained = [name for name, parameter in self.named_parameters() if parameter.requires_grad]
        self._own = tuple(self.state_dict()) if all_of_it else tuple(trained)

    def saved_state(self) -> dict[str, Tensor]:
        """Its own tensors by name."""
        state = self.state_dict()
        return {name: state[name] for name in self._own}

    def load_saved_state(self, state: Mapping[str, Tensor]) -> None:
        """Takes over what `saved_state` gave.

        Raises:
            RuntimeError: names or shapes differ; it says which.
        """
        own = self.saved_state()
        fault = next((f"{name!r} is missing" for name in own if name not in state), None)
        fault = fault or next((f"{name!r} is not of this network" for name in state if name not in own), None)
        for name in () if fault else own:
            if own[name].shape != state[name].shape:
                fault = f"{name!r} is {tuple(state[name].shape)}, this network has {tuple(own[name].shape)}"
        if fault is not None:
            raise RuntimeError(f"saved part of {type(self).__name__} does not fit: {fault}")
        self.load_state_dict(dict(state), strict=False)
