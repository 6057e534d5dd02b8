"""Bundles: what is written is what is loaded, and what was changed since is refused."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch

from tryon.errors import BundleError, ConfigError
from tryon.models.bundle import (
    BundleManifest,
    Role,
    copy_bundle,
    default_bundle,
    load_bundle,
    read_manifest,
    tryon_stages,
    write_network,
)
from tryon.models.nafnet import NafNet, NafNetConfig
from tryon.models.registry import NETWORKS, build_network, num_parameters


def write(
    uri: Path, role: Role = "refinement", seed: int = 0, licence: str = "Apache-2.0"
) -> tuple[torch.nn.Module, BundleManifest]:
    torch.manual_seed(seed)
    config = NafNetConfig(width=4)
    network = NafNet(config)
    manifest = write_network(
        str(uri), role, "nafnet", network, config=config, size=(64, 48), training={"seed": seed},
        metrics={"val_psnr": 1.5}, data_licence=licence,
    )  # fmt: skip
    return network, manifest


def edit(uri: Path, **changes: object) -> None:
    path = uri / "bundle.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_round_trip(tmp_path: Path) -> None:
    network, manifest = write(tmp_path)
    assert read_manifest(str(tmp_path)).model_dump_json() == manifest.model_dump_json()
    entry = manifest.networks["refinement"]
    assert (entry.network, entry.size, entry.num_parameters) == ("nafnet", (64, 48), num_parameters(network))
    assert (entry.training, entry.metrics) == ({"seed": 0}, {"val_psnr": 1.5})
    loaded, size = load_bundle(str(tmp_path)).network("refinement")
    assert size == (64, 48)
    assert not loaded.training
    assert not any(p.requires_grad for p in loaded.parameters())
    for key, value in network.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value), key
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["bundle.json", entry.file])


def test_licences_of_the_data_of_all_networks_add_up(tmp_path: Path) -> None:
    def told(role: Role, licence: str) -> tuple[str, str]:
        _, manifest = write(tmp_path, role, licence=licence)
        return manifest.data_licence, manifest.weights_licence

    assert told("warp", "CC BY-NC 4.0") == ("CC BY-NC 4.0", "as the data's")
    assert told("warp", "Apache-2.0") == ("Apache-2.0", "Apache-2.0"), "it replaced the only network"
    assert told("reconstruction", "CC BY-NC 4.0") == ("Apache-2.0; CC BY-NC 4.0", "as the data's")
    assert told("synthesis", "Apache-2.0; CC BY-NC 4.0") == ("Apache-2.0; CC BY-NC 4.0", "as the data's")


def test_writing_a_role_keeps_the_others_and_removes_the_file_it_replaces(tmp_path: Path) -> None:
    _, first = write(tmp_path, "refinement", seed=0)
    write(tmp_path, "synthesis", seed=1)
    _, last = write(tmp_path, "refinement", seed=2)
    assert set(last.networks) == {"refinement", "synthesis"}
    assert not (tmp_path / first.networks["refinement"].file).exists()
    assert sorted(p.name for p in tmp_path.glob("*.safetensors")) == sorted(e.file for e in last.networks.values())
    assert load_bundle(str(tmp_path)).network("synthesis")[0] is not None
    _, same = write(tmp_path, "refinement", seed=2)
    assert same == last
    assert (tmp_path / last.networks["refinement"].file).exists()


def test_a_file_that_is_not_the_one_named_is_refused(tmp_path: Path) -> None:
    _, manifest = write(tmp_path)
    file = tmp_path / manifest.networks["refinement"].file
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(bytes(data))
    with pytest.raises(BundleError, match=f"{file.name} is not the file bundle.json names") as caught:
        load_bundle(str(tmp_path)).network("refinement")
    assert caught.value.code == "bundle-corrupt"
    file.unlink()
    with pytest.raises(BundleError, match=f"lacks {file.name}") as caught:
        load_bundle(str(tmp_path)).network("refinement")
    assert caught.value.code == "bundle-incomplete"


def test_weights_that_do_not_fit_the_config_are_refused(tmp_path: Path) -> None:
    _, manifest = write(tmp_path)
    entry = manifest.networks["refinement"].model_dump(mode="json")
    edit(tmp_path, networks={"refinement": {**entry, "config": {"width": 8}}})
    with pytest.raises(BundleError, match="does not fit"):
        load_bundle(str(tmp_path)).network("refinement")
    edit(tmp_path, networks={"refinement": {**entry, "network": "resnet"}})
    with pytest.raises(BundleError, match="unknown network 'resnet'"):
        load_bundle(str(tmp_path)).network("refinement")


def test_a_role_it_does_not_have(tmp_path: Path) -> None:
    write(tmp_path)
    with pytest.raises(BundleError, match=r"has no warp network \(it has: refinement\)") as caught:
        load_bundle(str(tmp_path)).network("warp")
    assert caught.value.code == "bundle-incomplete"


def test_what_is_no_bundle_is_named(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="nowhere' does not exist") as caught:
        read_manifest(str(tmp_path / "nowhere"))
    assert caught.value.code == "bundle-missing"
    (tmp_path / "x").touch()
    with pytest.raises(BundleError, match=r"has no bundle\.json"):
        read_manifest(str(tmp_path))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "no JSON"),
        ("[]", "bundle.json"),
        ('{"format": 2, "tryon_version": "9"}', "format = 2"),
        ("{}", "is missing"),
    ],
)
def test_manifests_with_a_fault_are_named(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "bundle.json").write_text(content)
    with pytest.raises(BundleError, match=said) as caught:
        read_manifest(str(tmp_path))
    assert caught.value.code == "bundle-corrupt"


def test_a_copy_is_a_bundle_of_its_own(tmp_path: Path) -> None:
    _, manifest = write(tmp_path / "a")
    copy_bundle(str(tmp_path / "a"), str(tmp_path / "b"))
    assert read_manifest(str(tmp_path / "b")).model_dump_json() == manifest.model_dump_json()
    write(tmp_path / "a", seed=5)
    assert load_bundle(str(tmp_path / "b")).network("refinement")[0] is not None
    with pytest.raises(BundleError):
        copy_bundle(str(tmp_path / "nowhere"), str(tmp_path / "c"))


def test_stages_follow_the_roles_in_order(small_bundle: str, tmp_path: Path) -> None:
    assert [spec.name for spec in tryon_stages(small_bundle)] == ["warp", "synthesize", "refine", "preserve"]
    write(tmp_path, "refinement")
    assert [spec.name for spec in tryon_stages(str(tmp_path))] == ["refine"]


def test_the_default_bundle_is_the_packages_unless_the_environment_names_one(monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = read_manifest(default_bundle())
    assert {"warp", "synthesis"} <= set(manifest.networks)
    assert manifest.weights_licence == "Apache-2.0"
    folder = Path(default_bundle())
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 30 * 2**20
    for role, entry in manifest.networks.items():
        assert hashlib.sha256((folder / entry.file).read_bytes()).hexdigest() == entry.sha256, role
    monkeypatch.setenv("TRYON_BUNDLE", "s3://b/bundle")
    assert default_bundle() == "s3://b/bundle"


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_are_built_by_name_and_their_config_is_checked(name: str) -> None:
    assert num_parameters(build_network(name, {})) > 0
    with pytest.raises(ConfigError, match=f"network '{name}': unknown key 'hats'"):
        build_network(name, {"hats": 3})
    with pytest.raises(ConfigError, match="unknown network"):
        build_network(f"{name}x", {})
