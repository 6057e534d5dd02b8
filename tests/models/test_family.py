"""What every registered network must do: be deterministic, be saved, agree in other number formats, show its config."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from torch import nn

from tests.models.checks import check_number_formats, check_rows, check_saved_and_loaded, seeded
from tryon.models.registry import NETWORKS, network_class

SIZE = (64, 48)
SMALL: Mapping[str, Mapping[str, Any]] = {  # the default where there is none
    "gmm": {"width": 8},
    "flow": {"width": 8, "levels": 3, "fused": 16, "stem": 2},
    "tom": {"width": 16},
    "nafnet": {"width": 8, "encoder_blocks": (1, 2), "decoder_blocks": (1, 1)},
    "segment": {"width": 8, "levels": 4},
    "extract": {"width": 8, "fused": 16, "two_stage": True},
    "autoencoder": {"width": 8, "levels": 2},
    "vae": {"width": 8, "levels": 2},
    "latent_autoencoder": {"widths": (8, 12)},
    "latent_diffusion": {"widths": (16, 24), "num_heads": 2, "token_width": 16},
}
ON_A_BASE = {"inpaint", "concat_inpaint"}  # they need a Stable Diffusion folder; their own tests build one and do this
FAMILY = [name for name in NETWORKS if name not in ON_A_BASE]
BF16 = {"flow": 0.05}  # share of the range; 0.03 elsewhere


def small(name: str, seed: int = 0) -> nn.Module:
    return seeded(name, SMALL.get(name, {}), seed)


@pytest.mark.parametrize("name", FAMILY)
def test_a_run_does_not_depend_on_the_last_nor_a_row_on_its_neighbours(name: str) -> None:
    check_rows(small(name), SIZE)


@pytest.mark.parametrize("name", FAMILY)
def test_saved_and_loaded_without_change(name: str) -> None:
    check_saved_and_loaded(small(name), small(name, seed=1), SIZE)


@pytest.mark.parametrize("name", FAMILY)
def test_channels_last_and_bf16_agree(name: str) -> None:
    check_number_formats(small(name), SIZE, bf16=BF16.get(name, 0.03))


@pytest.mark.parametrize("name", FAMILY)
def test_a_network_shows_its_config(name: str) -> None:
    shown = repr(small(name)).splitlines()
    assert shown[0].startswith(network_class(name).__name__)
    for key, value in SMALL.get(name, {}).items():
        assert f"{key}={value!r}" in shown[1]
