"""What all networks have in common."""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from tryon.config import Config


class Network(nn.Module):
    """Base of the networks of the registry: it shows the config it was built with, its attribute `config`.

    Attributes:
        config_class: of `config`.
        checked_masks: inputs that must be neither empty nor 1 everywhere (`tryon.models.checks.MASKS`).
    """

    config_class: ClassVar[type[Config]]
    checked_masks: ClassVar[tuple[str, ...]] = ()

    def extra_repr(self) -> str:
        """The fields of its `config`, in front of the layers."""
        config = vars(self)["config"]
        assert isinstance(config, Config)
        return ", ".join(f"{name}={value!r}" for name, value in config)
