"""The KL autoencoder of latents: shapes, gradients, learning, its scale, published checkpoints, bad input."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from tryon.config import parse_config
from tryon.data.simulator import simulate
from tryon.errors import BundleError, ConfigError
from tryon.models.export import export_onnx
from tryon.models.latent_autoencoder import LARGE, LatentAutoencoder, LatentAutoencoderConfig, load_published
from tryon.models.registry import num_parameters
from tryon.models.tensors import images_to_tensor

TINY = LatentAutoencoderConfig(patch=2, widths=(8, 12, 16), latent_channels=3)
SIZE = (64, 48)


def tiny(seed: int = 0) -> LatentAutoencoder:
    torch.manual_seed(seed)
    return LatentAutoencoder(TINY).eval()


def photos(b: int = 2) -> torch.Tensor:
    return torch.rand(b, 3, *SIZE, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.mark.parametrize("config", [TINY, LatentAutoencoderConfig(patch=8, widths=(8,), attention=False)])
def test_the_latent_is_eight_times_smaller(config: LatentAutoencoderConfig) -> None:
    network = LatentAutoencoder(config).eval()
    with torch.inference_mode():
        latent = network.encode(photos())
        assert latent.shape == (2, config.latent_channels, 8, 6)
        assert network.decode(latent).shape == (2, 3, *SIZE)
        assert torch.equal(network.decode(latent), network(photos()).reconstruction)


def test_the_large_preset_is_stable_diffusions() -> None:
    with torch.device("meta"):
        network = LatentAutoencoder(LARGE)
    assert num_parameters(network) == 83_653_863
    assert LARGE.factor == LatentAutoencoderConfig().factor == 8


def test_gradients_reach_every_parameter() -> None:
    network = tiny().train()
    out = network(photos())
    (F.l1_loss(out.reconstruction, photos()) + out.log_variance.mean()).backward()  # type: ignore[no-untyped-call]
    dead = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not dead


def test_four_simulator_samples_are_learnt_by_heart_and_the_latent_has_mean_0_and_spread_1() -> None:
    images = images_to_tensor([simulate(3, i, *SIZE)["person"] for i in range(4)], SIZE)
    torch.manual_seed(0)
    network = LatentAutoencoder(LatentAutoencoderConfig(patch=4, widths=(16, 24))).train()
    optimizer = torch.optim.AdamW(network.parameters(), 5e-3)
    for _ in range(150):
        loss = F.l1_loss(network(images).reconstruction, images)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert float(loss.detach()) < 0.1
    with torch.inference_mode():
        latent = network.eval().encode(images)
    assert float(latent.mean()) == pytest.approx(0, abs=0.25)
    assert float(latent.std()) == pytest.approx(1, abs=0.25)


def test_the_measured_scale_is_saved_too() -> None:
    network = tiny().train()
    network(photos())
    loaded = tiny(1)
    loaded.load_state_dict(network.state_dict())
    assert loaded.num_measured == 1
    assert float(loaded.latent_std.min()) != 1
    with torch.inference_mode():
        assert torch.equal(loaded.encode(photos()), network.eval().encode(photos()))


def test_onnx_agrees(tmp_path: Path) -> None:
    export = export_onnx(tiny(), str(tmp_path / "a.onnx"), SIZE)
    assert export.outputs == ("latent", "reconstruction")
    assert export.difference is not None
    assert export.difference <= 1e-3


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (torch.zeros(1, 4, 64, 48), "image is 1x4x64x48: the network takes .*3, height"),
        (torch.zeros(1, 3, 60, 48), "image sides are 60x48: height and width must be multiples of 8"),
        (torch.full((1, 3, 64, 48), torch.nan), "image holds values that are not finite"),
    ],
)
def test_bad_input_is_named(value: torch.Tensor, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        tiny().encode(value)


@pytest.mark.parametrize(
    ("values", "said"),
    [({"patch": 3}, "patch 3 must be a power of two"), ({"widths": (8, 10), "num_groups": 4}, "multiples of num_g")],
)
def test_sizes_that_do_not_fit_are_named(values: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse_config(LatentAutoencoderConfig, values, "network")


def published(folder: Path, **changes: object) -> Path:
    """A tiny checkpoint, written by the real class."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    torch.manual_seed(0)
    model = AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * 2, up_block_types=["UpDecoderBlock2D"] * 2, norm_num_groups=4,
        block_out_channels=[8, 16], latent_channels=3, scaling_factor=0.25, shift_factor=0.5,
    )  # fmt: skip
    model.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_a_published_checkpoint_is_the_same_network(tmp_path: Path) -> None:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    network = load_published(str(published(tmp_path)))
    real = AutoencoderKL.from_pretrained(tmp_path).eval()
    with torch.inference_mode():
        latent = network.encode(photos())
        mean = real.encode(photos()).latent_dist.mode()
        assert torch.allclose(latent, (mean - 0.5) * 0.25, atol=1e-5)
        assert torch.allclose(network.decode(latent), real.decode(mean).sample, atol=1e-5)


def test_names_of_older_checkpoints_are_understood(tmp_path: Path) -> None:
    folder = published(tmp_path)
    file = folder / "diffusion_pytorch_model.safetensors"
    new = load_published(str(folder)).state_dict()
    state = {
        name.replace(".to_q.", ".query.").replace(".to_out.0.", ".proj_attn."): v for name, v in load_file(file).items()
    }
    assert any(".query." in name for name in state)
    save_file(state, file)
    again = load_published(str(folder)).state_dict()
    assert all(torch.equal(again[name], value) for name, value in new.items())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"_class_name": "VQModel"}, "is no diffusers AutoencoderKL: its config.json says 'VQModel'"),
        ({"act_fn": "relu"}, "other layers than Stable Diffusion's"),
        ({"block_out_channels": [8, 32]}, "is no checkpoint of the AutoencoderKL of its config.json"),
    ],
)
def test_checkpoints_that_do_not_fit_are_named(tmp_path: Path, changes: dict[str, object], said: str) -> None:
    with pytest.raises(BundleError, match=said):
        load_published(str(published(tmp_path, **changes)))


def test_a_checkpoint_without_weights_is_named(tmp_path: Path) -> None:
    (published(tmp_path) / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(BundleError, match=r"has no diffusion_pytorch_model\.safetensors"):
        load_published(str(tmp_path))
