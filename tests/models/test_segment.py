"""The parsing U-Net: shapes, gradients, learning, saving, number formats, and what it turns away."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from tryon.data.simulator import simulate
from tryon.errors import BundleError
from tryon.models.bundle import place
from tryon.models.metrics import parse_miou
from tryon.models.registry import build_network, num_parameters
from tryon.models.segment import LARGE, Segment, SegmentConfig
from tryon.models.state_dict import load_strictly
from tryon.models.tensors import images_to_tensor
from tryon.models.unet import ScSe, UNetDecoder
from tryon.training.recipes.segment import labels_to_tensor

TINY = SegmentConfig(width=8, levels=4)
SIZE = (64, 48)


def tiny(seed: int = 0) -> Segment:
    torch.manual_seed(seed)
    return Segment(TINY).eval()


def person(b: int = 2, size: tuple[int, int] = SIZE) -> torch.Tensor:
    return torch.rand(b, 3, *size, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.mark.parametrize("size", [(64, 48), (65, 47), (33, 17), (1, 1)])
@pytest.mark.parametrize("config", [TINY, SegmentConfig(width=4, levels=6), SegmentConfig(width=4, num_blocks=2)])
def test_any_size_gives_logits_of_its_size(size: tuple[int, int], config: SegmentConfig) -> None:
    with torch.inference_mode():
        logits = Segment(config).eval()(person(2, size))
    assert logits.shape == (2, 18, *size)
    assert torch.isfinite(logits).all()


def test_presets_have_the_stated_sizes() -> None:
    with torch.device("meta"):
        sizes = [num_parameters(Segment(config)) for config in (SegmentConfig(), LARGE)]
    assert sizes == [pytest.approx(2.84e6, rel=0.01), pytest.approx(76.8e6, rel=0.01)]


def test_gradients_reach_every_parameter() -> None:
    network = tiny().train()
    F.cross_entropy(network(person()), torch.randint(18, (2, *SIZE))).backward()  # type: ignore[no-untyped-call]
    dead = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not dead


def test_four_simulator_samples_are_learnt_by_heart() -> None:
    rows = [simulate(3, i, *SIZE) for i in range(4)]
    photos = images_to_tensor([row["person"] for row in rows], SIZE)
    labels = labels_to_tensor([row["parse"] for row in rows], SIZE)
    network = tiny().train()
    optimizer = torch.optim.AdamW(network.parameters(), 5e-3)
    for _ in range(120):
        loss = F.cross_entropy(network(photos), labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert float(loss.detach()) < 0.1
    with torch.inference_mode():
        assert float(parse_miou(network(photos).argmax(1), labels).mean()) > 0.7


def test_a_row_does_not_depend_on_its_neighbours_and_a_run_not_on_the_last() -> None:
    with torch.inference_mode():
        together, again, alone = tiny()(person(3)), tiny()(person(3)), tiny()(person(3)[1:2])
    assert torch.equal(together, again)
    assert torch.allclose(together[1:2], alone, atol=1e-5)


def test_saved_and_loaded_without_change(tmp_path: Path) -> None:
    save_file(tiny(0).state_dict(), tmp_path / "segment.safetensors")
    loaded = build_network("segment", TINY.model_dump()).eval()
    # Copied, as a bundle's are: on a file's unaligned memory convolutions round otherwise in the last digit.
    loaded.load_state_dict(load_file(tmp_path / "segment.safetensors"))
    with torch.inference_mode():
        assert torch.equal(loaded(person()), tiny(0)(person()))
        assert not torch.equal(loaded(person()), tiny(1)(person()))


def test_channels_last_and_bf16_agree() -> None:
    with torch.inference_mode():
        plain = tiny()(person())
        last = place(tiny(), torch.device("cpu"))(person().to(memory_format=torch.channels_last))
        with torch.autocast("cpu", torch.bfloat16):
            coarse = tiny()(person()).float()
    assert torch.allclose(plain, last, atol=1e-4)
    assert float((plain - coarse).abs().max()) < 0.05 * float(plain.abs().max())


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (torch.zeros(1, 4, 64, 48), "person is 1x4x64x48: the network takes .*3, height"),
        (torch.zeros(3, 64, 48), "person is 3x64x48"),
        (torch.zeros(1, 3, 0, 48), "person is empty"),
        (torch.full((1, 3, 64, 48), torch.nan), "person holds values that are not finite"),
    ],
)
def test_bad_input_is_named(value: torch.Tensor, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        tiny()(value)


def test_weights_of_another_network_are_named() -> None:
    other = build_network("nafnet", {"width": 4}).state_dict()
    with pytest.raises(BundleError, match=r"weights\.pth is no checkpoint of segment"):
        load_strictly(tiny(), other, "weights.pth", "segment")


def test_scse_is_the_sum_of_both_gates() -> None:
    block, x = ScSe(6), torch.randn(2, 6, 5, 4)
    for p in block.parameters():
        torch.nn.init.zeros_(p)
    assert torch.allclose(block(x), x), "both gates are a half"
    assert block.spatial.bias is not None
    torch.nn.init.constant_(block.spatial.bias, 30.0)
    assert torch.allclose(block(x), 1.5 * x)


def test_the_decoder_takes_features_of_any_sizes() -> None:
    features = [torch.randn(1, c, h, w) for c, h, w in ((4, 9, 7), (6, 5, 4), (8, 2, 2))]
    assert UNetDecoder((4, 6, 8))(features).shape == (1, 4, 9, 7)


def test_a_value_that_is_no_label_is_named() -> None:
    with pytest.raises(ValueError, match=r"parse holds 18: labels are 0\.\.17"):
        labels_to_tensor([np.full((4, 4), 18, dtype=np.uint8)], (4, 4))
