"""The table of networks: it follows the registry, and its figures are those of a hand count."""

from __future__ import annotations

import json
import sys
from types import MappingProxyType
from typing import get_args

import pytest
import torch
from torch import nn

from tests.models.inputs import random_condition
from tryon.cli import main
from tryon.config import Config
from tryon.models import registry
from tryon.models.bundle import Role
from tryon.models.contract import SYNTHESIS_CONDITION, WARP_CONDITION, example_condition
from tryon.models.gmm import LARGE as GMM_LARGE
from tryon.models.gmm import Gmm, GmmConfig
from tryon.models.nafnet import LARGE as NAFNET_LARGE
from tryon.models.nafnet import NafNet
from tryon.models.registry import NETWORKS, build_network, num_parameters
from tryon.models.table import NetworkRow, count_macs, network_rows, presets
from tryon.models.tom import LARGE as TOM_LARGE
from tryon.models.tom import Tom

COUNTED = ("gmm", "tom", "nafnet", "segment", "autoencoder", "vae")


class OneConvConfig(Config):
    """Nothing to choose."""


class OneConv(nn.Module):
    """One convolution without the two methods."""

    config_class = OneConvConfig

    def __init__(self, config: OneConvConfig) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)


class OneConvRunnable(OneConv):
    """The same with them."""

    def example_inputs(self, batch: int, height: int, width: int) -> dict[str, torch.Tensor]:
        return {"image": torch.zeros(batch, 3, height, width)}

    def infer(self, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {"out": self.conv(inputs["image"])}


@pytest.fixture(scope="module")
def rows() -> list[NetworkRow]:
    """The table, made once."""
    return network_rows()


def test_every_network_is_in_it_with_its_presets(rows: list[NetworkRow]) -> None:
    assert list(dict.fromkeys(row.name for row in rows)) == list(NETWORKS)
    for row in rows:
        assert row.does.endswith(".")
        assert row.num_parameters > 0
    of_gmm = {row.preset: row for row in rows if row.name == "gmm"}
    assert list(of_gmm) == ["default", "large"]
    assert (of_gmm["large"].role, of_gmm["large"].paper) == ("warp", "1807.07688")
    assert of_gmm["default"].num_parameters == num_parameters(build_network("gmm", {}))
    assert of_gmm["default"].config == GmmConfig().model_dump()


def test_macs_are_there_grow_with_the_size_and_do_not_depend_on_what_ran_before(rows: list[NetworkRow]) -> None:
    for name, row in {row.name: row for row in rows}.items():
        small, large = row.macs["256x192"], row.macs["1024x768"]
        if name in COUNTED:
            assert small is not None
            assert large is not None
            assert 15 * small <= large <= 20 * small  # 16 times the pixels; attention grows faster
    with torch.device("meta"):
        network = Gmm(GmmConfig())
    assert count_macs(network, 160, 112) == count_macs(network, 160, 112)


def test_macs_of_one_convolution_are_those_of_a_hand_count() -> None:
    network = OneConvRunnable(OneConvConfig()).to("meta")
    assert count_macs(network, 10, 6) == 10 * 6 * 8 * 3 * 9
    with pytest.raises(ValueError, match="OneConv has no `example_inputs`"):
        count_macs(OneConv(OneConvConfig()), 10, 6)


def test_a_network_without_the_methods_is_listed_without_macs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tryon.models.table.NETWORKS", {"one": f"{__name__}:OneConv"})
    monkeypatch.setattr(registry, "NETWORKS", MappingProxyType({"one": f"{__name__}:OneConv"}))
    (row,) = network_rows()
    assert row.macs == {"256x192": None, "1024x768": None}
    assert (row.role, row.paper, row.num_parameters) == (None, None, 8 * 3 * 9 + 8)


@pytest.mark.parametrize(
    ("cls", "preset", "millions", "within"),
    [(Gmm, GMM_LARGE, 15, 0.05), (Tom, TOM_LARGE, 30, 0.05), (NafNet, NAFNET_LARGE, 116, 0.01)],
)
def test_large_presets_have_the_stated_size(cls: type, preset: Config, millions: float, within: float) -> None:
    assert presets(cls)["large"] is preset
    with torch.device("meta"):
        network = cls(preset)
    assert num_parameters(network) / 1e6 == pytest.approx(millions, rel=within)


def test_the_large_tom_has_512_features_and_runs_at_1024x768() -> None:
    with torch.device("meta"):
        network = Tom(TOM_LARGE)
    assert network.middle[1].qkv.in_channels == 512
    inputs = {name: value.to("meta") for name, value in network.example_inputs(1, 1024, 768).items()}
    assert network.infer(inputs)["tryon"].shape == (1, 3, 1024, 768)


def test_small_presets_are_small(rows: list[NetworkRow]) -> None:
    assert all(row.num_parameters < 3e6 for row in rows if row.preset == "default" and row.name in COUNTED)


def test_the_table_names_the_roles(rows: list[NetworkRow]) -> None:
    roles = {row.name: row.role for row in rows}
    assert (roles["segment"], roles["autoencoder"], roles["vae"]) == ("parsing", "reconstruction", "reconstruction")
    assert {name for name, role in roles.items() if role not in get_args(Role)} == {"patch_gan"}, "a critic has none"


@pytest.mark.parametrize("name", COUNTED)
def test_example_inputs_are_the_same_at_each_call_and_rows_differ(name: str) -> None:
    network = build_network(name, {"width": 8}).eval()
    first, second = (network.example_inputs(3, 64, 48) for _ in range(2))  # type: ignore[operator]
    assert all(torch.equal(first[key], second[key]) for key in first)
    with torch.inference_mode():
        outputs = network.infer(first)  # type: ignore[operator]
    for value in outputs.values():
        assert len(value) == 3
        assert torch.isfinite(value).all()
        assert not torch.equal(value[0], value[1])


def test_the_example_condition_has_the_shapes_of_a_real_one() -> None:
    real = random_condition(2, (64, 48))
    made = example_condition([*WARP_CONDITION, *SYNTHESIS_CONDITION], 2, 64, 48)
    assert {"warped", "warped_mask"} == set(made) - set(real)
    assert all(made[name].shape == real[name].shape for name in set(made) & set(real))


def test_the_verb_prints_a_table_or_json(
    rows: list[NetworkRow], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tryon.models.table.network_rows", lambda: rows)
    monkeypatch.setenv("COLUMNS", "160")
    for arguments in ([], ["--json"]):
        monkeypatch.setattr(sys, "argv", ["tryon", "models", "networks", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code
        shown = capsys.readouterr().out
        assert all(name in shown for name in NETWORKS)
    held = json.loads(shown)
    assert {row["name"] for row in held["networks"]} == set(NETWORKS)
    assert "multiply-adds" in held["counted"]
