"""Appearance flow: shapes, gradients, the anchor it starts from, occlusion, sizes, and what it turns away."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from tests.models.checks import bad_condition, not_finite, second_empty
from tests.models.inputs import random_condition
from tryon.errors import BundleError
from tryon.models.export import export_onnx
from tryon.models.flow import (
    GARMENT_CLASS,
    LARGE,
    MIN_COVER,
    PARSE_CLASSES,
    Flow,
    FlowConfig,
    visible_share,
)
from tryon.models.flow_layers import FusionStep, Pyramid, enlarge_grid
from tryon.models.gmm import Gmm, GmmConfig, anchor_sources, apply_grid
from tryon.models.layers import identity_grid
from tryon.models.mirror import mirrored
from tryon.models.registry import num_parameters
from tryon.models.state_dict import load_strictly
from tryon.models.tps import tps_grid

TINY = FlowConfig(width=4, levels=3, fused=8, stem=2)


def tiny() -> Flow:
    torch.manual_seed(0)
    return Flow(TINY).eval()


@pytest.mark.parametrize("size", [(64, 48), (128, 96), (96, 80), (32, 32)])
@pytest.mark.parametrize("config", [TINY, FlowConfig(width=4, levels=5, fused=8, stem=1), FlowConfig(width=4)])
def test_shapes_and_ranges(size: tuple[int, int], config: FlowConfig) -> None:
    network, condition = Flow(config).eval(), random_condition(2, size)
    h, w = size[0] // config.stem, size[1] // config.stem
    with torch.inference_mode():
        prediction = network(condition)
        warped, mask, grid = network.warp(condition)
    assert len(prediction.grids) == config.levels + 2, "the placement first, and one at the size of the stem"
    assert prediction.grids[-1].shape == (2, 2, h, w)
    assert prediction.parse.shape == (2, len(PARSE_CLASSES), h, w)
    assert (warped.shape, mask.shape, grid.shape) == ((2, 3, *size), (2, 1, *size), (2, *size, 2))
    assert 0 <= float(mask.min()) < float(mask.max()) <= 1


def test_presets_have_the_stated_sizes() -> None:
    with torch.device("meta"):
        small, large = num_parameters(Flow(FlowConfig())), num_parameters(Flow(LARGE))
    assert small == pytest.approx(1.265e6, rel=0.01)
    assert large == pytest.approx(47.4e6, rel=0.03), "the published condition generator"


def test_gradients_reach_every_parameter() -> None:
    network = tiny()
    prediction = network(random_condition(2, (64, 48)))
    loss = prediction.parse.square().mean() + torch.stack([g.square().mean() for g in prediction.grids]).sum()
    loss.backward()
    dead = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not dead


def test_the_warped_picture_alone_teaches_the_flow() -> None:
    network = tiny()
    warped, _, _ = network.warp(random_condition(2, (64, 48)))
    warped.square().mean().backward()  # type: ignore[no-untyped-call]
    for step in network.steps:
        assert isinstance(step, FusionStep)
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in step.flow.parameters())


def test_an_untrained_network_is_close_to_the_anchor_at_every_level() -> None:
    condition = random_condition(2, (64, 48))
    with torch.inference_mode():
        grids = Flow(FlowConfig()).eval()(condition).grids
    for grid in grids:
        anchor = tps_grid(anchor_sources(condition, 3), *grid.shape[-2:])
        assert float((grid.permute(0, 2, 3, 1) - anchor).abs().max()) < 0.1


def test_no_garment_is_predicted_where_none_was_warped_to() -> None:
    network, condition = tiny(), random_condition(1, (64, 48))
    last = network.head
    assert isinstance(last, torch.nn.Conv2d)
    with torch.inference_mode():
        last.weight.zero_()
        last.bias.zero_()  # type: ignore[union-attr]
        prediction = network(condition)
        grid = enlarge_grid(prediction.grids[-1], (32, 24))
        small = avg_pool2d(condition["garment_mask"], 2)
        _, cover, _ = apply_grid(small, small, grid)
    odds = prediction.parse.exp()[:, GARMENT_CLASS : GARMENT_CLASS + 1]
    assert float(odds[cover == 0].max()) == pytest.approx(MIN_COVER, rel=1e-3)
    assert float(odds[cover == 1].median()) == pytest.approx(1.0, rel=1e-3)


def test_the_warped_mask_is_cut_where_the_parse_sees_an_occluder() -> None:
    network, condition = tiny(), random_condition(1, (64, 48))
    last = network.head
    assert isinstance(last, torch.nn.Conv2d)
    masks = {}
    with torch.inference_mode():
        for name in PARSE_CLASSES:
            last.weight.zero_()
            last.bias.copy_(torch.tensor([30.0 * (name == other) for other in PARSE_CLASSES]))  # type: ignore[union-attr]
            masks[name] = network.warp(condition)[1]
    assert float(masks["arms"].max()) < 1e-6
    assert float(masks["other"].max()) < 1e-6
    assert torch.equal(masks["garment"], masks["background"])
    assert float(masks["garment"].max()) > 0.99


def test_visible_share_is_what_background_and_garment_have_together() -> None:
    logits = torch.log(torch.tensor([0.1, 0.6, 0.25, 0.05])).view(1, 4, 1, 1)
    assert float(visible_share(logits)) == pytest.approx(0.7)


def test_the_field_at_the_network_size_is_the_warp() -> None:
    network, condition = tiny(), random_condition(2, (64, 48))
    with torch.inference_mode():
        _, _, grid = network.warp(condition)
        at_grid, visible = network.at(network.field(condition), (64, 48))
        large_grid, large_visible = network.at(network.field(condition)[:1], (130, 97))
    assert torch.equal(at_grid, grid)
    assert visible is not None
    assert large_visible is not None
    assert visible.shape == (2, 1, 64, 48)
    assert (large_grid.shape, large_visible.shape) == ((1, 130, 97, 2), (1, 1, 130, 97))


def test_named_tensors_in_and_out_are_the_warp_and_meta_tensors_are_taken() -> None:
    network = tiny()
    inputs = network.example_inputs(2, 64, 48)
    with torch.inference_mode():
        out, warp = network.infer(inputs), network.warp(inputs)
    assert list(out) == ["warped_garment", "warped_mask", "grid"]
    assert all(torch.equal(a, b) for a, b in zip(out.values(), warp, strict=True))
    on_meta = network.to("meta").infer({name: value.to("meta") for name, value in inputs.items()})
    assert {name: value.shape for name, value in on_meta.items()} == {name: value.shape for name, value in out.items()}


@pytest.mark.parametrize("mirror", [False, True])
def test_as_onnx_it_agrees_at_any_batch(tmp_path: Path, mirror: bool) -> None:
    pytest.importorskip("onnx", reason="needs tryon[onnx]")
    pytest.importorskip("onnxruntime", reason="needs tryon[onnx]")
    torch.manual_seed(0)
    network = Flow(TINY.model_copy(update={"mirror": mirror})).eval()
    exported = export_onnx(network, str(tmp_path / "flow.onnx"), (64, 48))
    assert exported.outputs == ("warped_garment", "warped_mask", "grid")
    assert exported.difference is not None
    assert exported.difference < 1e-3


@pytest.mark.parametrize("size", [(128, 96), (131, 77), (8, 6)])
def test_an_affine_flow_is_enlarged_exactly_up_to_the_edges(size: tuple[int, int]) -> None:
    turn, shift = torch.tensor([[0.8, -0.3], [0.2, 1.1]]), torch.tensor([0.1, -0.2])
    small = (identity_grid(8, 6) @ turn.T + shift).permute(2, 0, 1)[None]
    assert torch.allclose(enlarge_grid(small, size)[0], identity_grid(*size) @ turn.T + shift, atol=1e-5)


def test_pyramids_go_from_coarse_to_fine_and_round_up() -> None:
    levels = Pyramid(3, (4, 8, 8), 8)(torch.rand(2, 3, 20, 14))
    assert [tuple(level.shape) for level in levels] == [(2, 8, 3, 2), (2, 8, 5, 4), (2, 8, 10, 7)]


def test_channels_last_and_bf16_agree() -> None:
    network, condition = tiny(), random_condition(2, (64, 48))
    with torch.inference_mode():
        warped, mask, grid = network.warp(condition)
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        last = network.warp(condition)
        with torch.autocast("cpu", torch.bfloat16):
            half = network.warp(condition)
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(last, (warped, mask, grid), strict=True))
    assert half[2].dtype == torch.float32, "positions are not rounded to bf16"
    px = ((half[2] - grid) * torch.tensor([24.0, 32.0])).norm(dim=-1)
    assert float(px.max()) < 1.0
    assert float(px.mean()) < 0.3
    assert float((half[1] - mask).abs().mean()) < 0.02


def test_weights_of_another_network_are_named() -> None:
    with pytest.raises(BundleError, match=r"gmm\.safetensors is no checkpoint of flow: 'garment_pyramid.*is missing"):
        load_strictly(tiny(), Gmm(GmmConfig(width=4)).state_dict(), "gmm.safetensors", "flow")


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        (random_condition(1, (66, 48)), "inputs are 66x48.*multiples of 16"),
        (random_condition(1, (64, 16)), "inputs are 64x16.*from 32 on"),
        (bad_condition(limbs=torch.zeros(2, 5, 64, 48)), "limbs is 2x5x64x48: the network takes 2x10x64x48"),
        (bad_condition(agnostic_mask=torch.zeros(2, 1, 32, 48)), "agnostic_mask is 2x1x32x48"),
        (bad_condition(garment=not_finite(3)), "garment holds values that are not finite"),
        (bad_condition(garment_mask=second_empty()), "garment_mask of row 1 is empty"),
        (bad_condition(garment_mask=torch.ones(2, 1, 64, 48)), "garment_mask of row 0 is 1 everywhere"),
    ],
)
def test_bad_input_is_named(condition: dict[str, Tensor], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        tiny()(condition)


def test_a_mirrored_warp_is_the_mirrors_own_and_needs_no_other_weights() -> None:
    network = tiny()
    for weight in network.parameters():  # so that the warp is far from the anchor, which is symmetric
        weight.data += 0.05 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(weight.numel()))
    both = Flow(TINY.model_copy(update={"mirror": True})).eval()
    both.load_state_dict(network.state_dict())
    condition = random_condition(2, (64, 48))
    gaps = []
    with torch.inference_mode():
        for one in (network, both):
            field, other = one.field(condition), one.field(mirrored(condition)).flip(-1)
            gaps.append(float((field - torch.cat([-other[:, :1], other[:, 1:]], dim=1)).abs().max()))
        single = network.field(condition)
        assert not torch.allclose(single, both.field(condition), atol=1e-3)
    assert gaps[0] > 1e-2
    assert gaps[1] < 1e-4
