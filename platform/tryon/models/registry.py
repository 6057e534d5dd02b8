"""Networks by name, imported only when one is built."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from torch import nn

from tryon.config import parse_config
from tryon.errors import ConfigError

NETWORKS: Mapping[str, str] = {
    "gmm": "tryon.models.gmm:Gmm",
    "flow": "tryon.models.flow:Flow",
    "tom": "tryon.models.tom:Tom",
    "nafnet": "tryon.models.nafnet:NafNet",
    "segment": "tryon.models.segment:Segment",
    "extract": "tryon.models.extract:Extract",
    "patch_gan": "tryon.models.patch_gan:PatchGan",
    "latent_autoencoder": "tryon.models.latent_autoencoder:LatentAutoencoder",
    "latent_diffusion": "tryon.models.latent_diffusion:LatentDiffusion",
    "inpaint": "tryon.models.inpaint:Inpaint",
    "concat_inpaint": "tryon.models.concat_inpaint:ConcatInpaint",
    "autoencoder": "tryon.models.autoencoder:Autoencoder",
    "vae": "tryon.models.vae:Vae",
}


def network_class(name: str) -> type[Any]:
    """The class of a network; its module is imported.

    Raises:
        ConfigError: unknown name.
    """
    if name not in NETWORKS:
        raise ConfigError(f"unknown network {name!r} (known: {', '.join(NETWORKS)})", code="network-unknown")
    module, _, attribute = NETWORKS[name].partition(":")
    cls: type[Any] = getattr(import_module(module), attribute)
    return cls


def build_network(name: str, config: Mapping[str, Any]) -> nn.Module:
    """Constructs a network with random weights.

    Args:
        name: a key of `NETWORKS`.
        config: fields of the network's config class.

    Raises:
        ConfigError: unknown name, or a config value that is unknown or out of bounds.
    """
    cls = network_class(name)
    network: nn.Module = cls(parse_config(cls.config_class, config, f"network {name!r}"))
    return network


def num_parameters(network: nn.Module) -> int:
    """Trainable and frozen parameters."""
    return sum(p.numel() for p in network.parameters())
