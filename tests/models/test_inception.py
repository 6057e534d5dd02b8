"""FID's Inception: pytorch-fid's figures on the same weights, its odd pools, and which files it takes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from tests.models.published import seeded_values
from tryon.errors import BundleError
from tryon.models.inception import SIDE_PX, BlockC, Inception, load_inception

# What pytorch-fid 0.3.0 gives for `photos()` with the weights of `published()`: every 325th feature from the 100th on,
# and every 250th logit, without the bias.
FEATURES = [
    [1131.5428, 16244.7148, 32252.4375, 5817.3384, 274.9696, 36.3360],
    [1055.5259, 16866.3203, 31665.8691, 6231.8896, 280.3998, 17.4182],
]
LOGITS = [
    [-4307.6270, 42425.6758, 10709.5645, 23569.9062, -21560.3105],
    [-4034.4111, 42821.7539, 10595.1016, 23627.5742, -21582.3613],
]


@pytest.fixture(scope="module")
def published() -> dict[str, Tensor]:
    with torch.device("meta"):
        names = {name: value.shape for name, value in Inception().state_dict().items() if "tracked" not in name}
    return seeded_values(names, 0)


@pytest.fixture(scope="module")
def network(published: dict[str, Tensor]) -> Inception:
    return load_inception(published)


def photos() -> Tensor:
    return torch.rand(2, 3, 96, 72, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_the_layout_is_that_of_the_published_file(published: dict[str, Tensor]) -> None:
    assert len(published) == 472
    assert sum(value.numel() for value in published.values()) == 23_885_392
    assert published["Mixed_5b.branch1x1.conv.weight"].shape == (64, 192, 1, 1)
    assert published["Mixed_6c.branch7x7dbl_2.conv.weight"].shape == (160, 160, 7, 1)
    assert published["Mixed_7c.branch3x3dbl_3b.bn.running_var"].shape == (384,)
    assert published["fc.weight"].shape == (1008, 2048)


def test_it_gives_pytorch_fids_features_and_logits(network: Inception) -> None:
    with torch.inference_mode():
        out = network(photos())
    assert (out.features.shape, out.logits.shape) == ((2, 2048), (2, 1008))
    assert torch.allclose(out.features[:, 100::325], torch.tensor(FEATURES), rtol=1e-4, atol=0.1)
    assert torch.allclose(out.logits[:, ::250], torch.tensor(LOGITS), rtol=1e-4, atol=1)


def test_a_row_does_not_depend_on_its_neighbours_and_resizing_beforehand_changes_nothing(network: Inception) -> None:
    resized = F.interpolate(photos(), size=(SIDE_PX, SIDE_PX), mode="bilinear", align_corners=False)
    with torch.inference_mode():
        together, alone = network(photos()), network(resized[1:])
    assert torch.allclose(together.features[1:], alone.features, rtol=1e-4, atol=0.1)


def test_the_last_block_takes_the_largest_of_its_neighbours() -> None:
    torch.manual_seed(0)
    x = torch.rand(1, 16, 8, 8)
    average, largest = (BlockC(16, largest=largest).eval() for largest in (False, True))
    largest.load_state_dict(average.state_dict())
    with torch.inference_mode():
        a, b = average(x), largest(x)
    assert torch.equal(a[:, :-192], b[:, :-192])
    assert not torch.allclose(a[:, -192:], b[:, -192:])
    padded = F.avg_pool2d(x, 3, stride=1, padding=1)
    with torch.inference_mode():
        corner = average.branch_pool(x[..., :2, :2].mean(dim=(2, 3), keepdim=True))
        assert torch.allclose(a[:, -192:, :1, :1], corner, atol=1e-6), "the border is left out of the average"
        assert not torch.allclose(average.branch_pool(padded)[..., :1, :1], corner, atol=1e-4)


def test_files_with_counters_and_without_load(published: dict[str, Tensor], network: Inception, tmp_path: Path) -> None:
    counters = {name: torch.tensor(7) for name in network.state_dict() if name.endswith("num_batches_tracked")}
    assert len(counters) == 94
    torch.save({**published, **counters}, tmp_path / "inception.pth")
    save_file(published, tmp_path / "inception.safetensors")
    for name in ("inception.pth", "inception.safetensors"):
        loaded = load_inception(tmp_path / name)
        assert torch.equal(loaded.Mixed_7c.branch_pool.conv.weight, network.Mixed_7c.branch_pool.conv.weight)
        assert not loaded.training
        assert not any(p.requires_grad for p in loaded.parameters())


def test_other_files_are_named_with_the_right_one(published: dict[str, Tensor], tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"nowhere\.pth does not exist; FID, KID and IS need .*pt_inception-2015"):
        load_inception(tmp_path / "nowhere.pth")
    torchvisions = {**published, "fc.weight": torch.zeros(1000, 2048), "fc.bias": torch.zeros(1000)}
    with pytest.raises(BundleError, match=r"'fc\.weight' is 1000x2048, the Inception of FID has 1008x2048; FID"):
        load_inception(torchvisions)
    with pytest.raises(BundleError, match=r"it holds 'AuxLogits\.fc\.weight', which the Inception of FID does not"):
        load_inception({**published, "AuxLogits.fc.weight": torch.zeros(1)})
    with pytest.raises(BundleError, match=r"'Conv2d_1a_3x3\.conv\.weight' is missing"):
        load_inception({"conv.weight": torch.zeros(1)})


def test_images_that_are_none_are_named(network: Inception) -> None:
    with pytest.raises(ValueError, match=r"images are \(1, 4, 8, 8\)"):
        network(torch.zeros(1, 4, 8, 8))
