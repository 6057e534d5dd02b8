"""Garment extraction: shapes, gradients, the anchor, full-size composition, learning, published encoders, bad input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.models.checks import dead_parameters, learn, not_finite, second_empty, seeded, simulated
from tryon.errors import BundleError, StorageError
from tryon.models.export import TOLERANCE, export_onnx
from tryon.models.extract import LARGE, Extract, ExtractConfig, laid_out, mean_colour
from tryon.models.extract_layers import anchor_of, joints_in_frame, places, through_anchor
from tryon.models.layers import identity_grid, sample_image
from tryon.models.registry import build_network, num_parameters
from tryon.models.resnet_encoder import ResNetEncoder, encoder_digest
from tryon.models.state_dict import load_strictly
from tryon.models.tensors import extraction_condition, images_to_tensor, masks_to_tensor

SIZE = (64, 48)
TINY: dict[str, Any] = {"width": 8, "fused": 16}


def tiny(**changes: Any) -> Extract:
    network = seeded("extract", {**TINY, **changes})
    assert isinstance(network, Extract)
    return network


def inputs(b: int = 2, size: tuple[int, int] = SIZE, **changes: Tensor) -> dict[str, Tensor]:
    return {**tiny_example(b, size), **changes}


def tiny_example(b: int, size: tuple[int, int]) -> dict[str, Tensor]:
    with torch.device("meta"):
        network = Extract(ExtractConfig(**TINY))
    return network.example_inputs(b, *size)


@pytest.mark.parametrize("size", [(64, 48), (128, 96), (96, 80), (48, 48)])
@pytest.mark.parametrize("changes", [{}, {"flow_levels": 4, "num_blocks": 2}, {"flow_levels": 1, "two_stage": True}])
def test_shapes_and_ranges(size: tuple[int, int], changes: dict[str, Any]) -> None:
    network, condition = tiny(**changes), inputs(2, size)
    with torch.inference_mode():
        plan = network(condition)
        made = network.compose(plan, condition["person"], condition["worn_mask"])
    assert len(plan.grids) == network.config.flow_levels
    assert all(grid.shape[:2] == (2, 2) for grid in plan.grids)
    assert (plan.correction is not None) == network.config.two_stage
    assert made.garment.shape == (2, 3, *size)
    assert made.garment_mask.shape == made.share.shape == (2, 1, *size)
    assert float(made.garment.abs().max()) <= 1
    assert 0 <= float(made.garment_mask.min()) < float(made.garment_mask.max()) <= 1
    assert (made.share <= made.cover).all(), "nothing is sampled that is not worn"


def test_presets_have_the_stated_sizes() -> None:
    with torch.device("meta"):
        sizes = [num_parameters(Extract(config)) for config in (ExtractConfig(), LARGE)]
    assert sizes == [pytest.approx(1.56e6, rel=0.01), pytest.approx(60.3e6, rel=0.01)]


@pytest.mark.parametrize("two_stage", [False, True])
def test_gradients_reach_every_parameter(two_stage: bool) -> None:
    network, condition = tiny(two_stage=two_stage).train(), inputs()
    made = network.extract(condition)
    assert not dead_parameters(network, made.garment.square().mean() + made.garment_mask.mean())


def test_the_sampled_picture_alone_teaches_the_flow() -> None:
    network, condition = tiny().train(), inputs()
    network.extract(condition).sampled.square().mean().backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.unwarp.parameters())


def moved(x: Tensor, scale: float, shift: tuple[float, float]) -> Tensor:
    """The picture that shows x smaller or larger, and elsewhere."""
    grid = (identity_grid(*x.shape[-2:]) - torch.tensor(shift)) / scale
    return sample_image(x, grid.expand(x.shape[0], -1, -1, -1), padding="zeros")


def test_the_anchor_undoes_scale_and_place() -> None:
    generator = torch.Generator().manual_seed(0)
    blob = F.interpolate(torch.rand(2, 1, 4, 3, generator=generator), size=(128, 96), mode="bicubic").clamp(0, 1)
    blob = blob * (identity_grid(128, 96).abs().amax(-1) < 0.5)
    person = F.interpolate(torch.rand(2, 3, 8, 6, generator=generator) * 2 - 1, size=(128, 96), mode="bilinear")
    before = laid_out(person, blob, anchor_of(blob))
    small, few = moved(person, 0.7, (0.2, -0.1)), moved(blob, 0.7, (0.2, -0.1))
    after = laid_out(small, few, anchor_of(few))
    assert float((before - after).abs().mean()) < 0.02
    assert float((before[:, 3] - blob[:, 0]).abs().mean()) > 0.05, "it moved something"
    frame = anchor_of(before[:, 3:])
    assert torch.allclose(frame, torch.tensor([1.0, 0.0, 0.0]).expand(2, 3), atol=0.02), "where garments lie in photos"


def test_joints_are_told_where_the_frame_shows_them() -> None:
    pose = torch.zeros(1, 25, 3)
    pose[0, 1] = torch.tensor([24.0, 16.0, 0.9])  # middle column, a quarter down: (0, -0.5)
    told = joints_in_frame(pose, torch.tensor([[0.5, 0.25, -0.25]]), SIZE).view(25, 3)
    assert torch.allclose(told[1], torch.tensor([-0.5, -0.5, 1.0]))
    assert not told[[0, *range(2, 25)]].any()


def test_an_untrained_network_begins_with_the_anchor_and_the_mean_colour() -> None:
    torch.manual_seed(0)
    network, condition = Extract(ExtractConfig()).eval(), inputs(2, (128, 96))
    with torch.inference_mode():
        plan = network(condition)
    for grid in plan.grids:
        assert float((grid - places(grid)).abs().max()) < 0.1
    plain = laid_out(torch.full((2, 3, 128, 96), 0.3), condition["worn_mask"], plan.anchor)
    assert torch.allclose(mean_colour(plain), torch.full((2, 3, 1, 1), 0.3), atol=1e-4)


def test_a_photo_is_composed_at_its_own_size_from_its_own_pixels() -> None:
    network, condition = tiny(), inputs(1)
    with torch.inference_mode():
        plan = network(condition)
    plan = plan._replace(
        grids=(places(plan.grids[-1]).contiguous(),), tone=torch.zeros_like(plan.tone),
        share=torch.full_like(plan.share, 30.0), mask=torch.full_like(plan.mask, 30.0),
    )  # fmt: skip
    photo = torch.rand(1, 3, 130, 97, generator=torch.Generator().manual_seed(2)) * 2 - 1
    made = network.compose(plan, photo, torch.ones(1, 1, 130, 97))
    wanted = sample_image(photo, through_anchor(identity_grid(130, 97)[None], plan.anchor))
    inside = made.cover > 0.999
    assert inside.float().mean() > 0.5
    assert torch.allclose(made.garment * inside, wanted * inside, atol=1e-4)


def test_a_row_of_a_plan_is_the_plan_of_the_row() -> None:
    network, condition = tiny(two_stage=True), inputs(3)
    with torch.inference_mode():
        row = network(condition).row(1)
        alone = network({name: value[1:2] for name, value in condition.items()})
    for a, b in zip(row, alone, strict=True):
        pairs = zip(a, b, strict=True) if isinstance(a, tuple) else [(a, b)]
        assert all(torch.allclose(x, y, atol=1e-4) for x, y in pairs)


def test_four_simulator_samples_are_learnt_by_heart() -> None:
    batch = simulated(4, SIZE)
    condition = extraction_condition(batch, SIZE)
    mask = masks_to_tensor(batch["garment_mask"], SIZE)
    truth = images_to_tensor(batch["garment"], SIZE) * mask + (1 - mask)
    torch.manual_seed(0)
    network = Extract(ExtractConfig(**TINY))

    def loss() -> Tensor:
        plan = network(condition)
        made = network.compose(plan, condition["person"], condition["worn_mask"])
        return F.l1_loss(made.garment, truth) + 0.2 * F.binary_cross_entropy_with_logits(plan.mask, mask)

    losses = learn(network, loss, 80, 1e-2)
    assert losses[0] > 0.4
    assert losses[-1] < 0.08


def test_the_second_u_net_begins_with_the_first_ones_output() -> None:
    first, condition = tiny(), inputs()
    both = Extract(ExtractConfig(**TINY, two_stage=True)).eval()
    both.load_state_dict(first.state_dict(), strict=False)
    with torch.inference_mode():
        before, after = first.extract(condition), both.extract(condition)
    assert torch.equal(before.garment, after.garment)
    assert torch.equal(before.garment_mask, after.garment_mask)


@pytest.mark.parametrize(("two_stage", "size"), [(False, (128, 96)), (True, (64, 48))])
def test_onnx_agrees(two_stage: bool, size: tuple[int, int], tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="ONNX export needs onnx")
    pytest.importorskip("onnxruntime", reason="the check needs onnxruntime")
    written = export_onnx(tiny(two_stage=two_stage), str(tmp_path / "extract.onnx"), size)
    assert written.inputs == ("person", "worn_mask", "pose", "category")
    assert written.outputs == ("garment", "garment_mask")
    assert written.difference is not None
    assert written.difference <= TOLERANCE


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"person": torch.zeros(2, 4, 64, 48)}, "person is 2x4x64x48: the network takes 2x3x64x48"),
        ({"worn_mask": torch.ones(2, 2, 64, 48)}, "worn_mask is 2x2x64x48: the network takes 2x1x64x48"),
        ({"worn_mask": torch.ones(2, 1, 64, 64)}, "worn_mask is 2x1x64x64: the network takes 2x1x64x48"),
        ({"pose": torch.zeros(2, 18, 3)}, "pose is 2x18x3: the network takes 2x25x3"),
        ({"category": torch.zeros(2, 4)}, "category is 2x4: the network takes 2x3"),
        ({"person": torch.zeros(2, 3, 65, 48)}, "65x48: height and width must be multiples of 16, from 48 on"),
        ({"person": torch.zeros(2, 3, 64, 32)}, "64x32: height and width must be multiples of 16, from 48 on"),
        ({"person": not_finite(3)}, "person holds values that are not finite"),
        ({"pose": torch.full((2, 25, 3), torch.nan)}, "pose holds values that are not finite"),
        ({"worn_mask": second_empty()}, "worn_mask of row 1 is empty: no garment is seen"),
        ({"worn_mask": torch.ones(2, 1, 64, 48)}, "worn_mask of row 0 is 1 everywhere: the garment's outline"),
    ],
)
def test_bad_input_is_named(changes: dict[str, Tensor], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        tiny()(inputs(**changes))


def test_weights_of_another_network_are_named() -> None:
    other = build_network("segment", {"width": 8}).state_dict()
    with pytest.raises(BundleError, match=r"weights\.pth is no checkpoint of extract"):
        load_strictly(tiny(), other, "weights.pth", "extract")


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier's folder as transformers saves it, small and random, without an image processor."""
    from transformers import ResNetConfig, ResNetForImageClassification

    torch.manual_seed(5)
    config = ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16, 32, 64], depths=[2, 2, 2, 2], layer_type="basic", num_labels=3
    )
    folder = tmp_path_factory.mktemp("resnet")
    ResNetForImageClassification(config).save_pretrained(folder)
    return folder


def test_a_published_encoder_gives_the_features_it_gave(published: Path) -> None:
    from transformers import ResNetBackbone

    encoder = ResNetEncoder(4, 18, 8)
    encoder.load_published(str(published), encoder_digest(str(published)))
    names = ["stem", "stage1", "stage2", "stage3", "stage4"]
    backbone = ResNetBackbone.from_pretrained(str(published), out_features=names).eval()
    rgb = torch.rand(1, 3, 64, 48, generator=torch.Generator().manual_seed(0))
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    with torch.inference_mode():
        own = encoder.eval()(torch.cat([rgb * 2 - 1, torch.rand(1, 1, 64, 48)], dim=1))
        theirs = backbone((rgb - mean) / std).feature_maps
    assert [f.shape[1] for f in own] == list(encoder.widths)
    for a, b in zip(own[1:], theirs[1:], strict=True):
        assert torch.allclose(a, b, atol=1e-4)


def test_pickled_weights_do_too(published: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    state = load_file(published / "model.safetensors")
    torch.save({key: value for key, value in state.items() if "tracked" not in key}, tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_bytes((published / "config.json").read_bytes())
    encoders = [ResNetEncoder(4, 18, 8) for _ in range(2)]
    for encoder, folder in zip(encoders, (published, tmp_path), strict=True):
        encoder.load_published(str(folder))
    for (name, a), b in zip(encoders[0].state_dict().items(), encoders[1].state_dict().values(), strict=True):
        assert torch.equal(a, b), name


@pytest.mark.parametrize(
    ("depth", "width", "said"),
    [
        (34, 8, r"depths = \[2, 2, 2, 2\], the encoder has \[3, 4, 6, 3\]"),
        (18, 16, r"hidden_sizes = \[8, 16, 32, 64\]"),
    ],
)
def test_a_published_encoder_of_another_size_is_named(published: Path, depth: Any, width: int, said: str) -> None:
    with pytest.raises(BundleError, match=said) as caught:
        ResNetEncoder(4, depth, width).load_published(str(published))
    assert caught.value.code == "weights-mismatch"


def test_other_folders_are_named(published: Path, tmp_path: Path) -> None:
    encoder = ResNetEncoder(4, 18, 8)
    with pytest.raises(StorageError, match="does not exist"):
        encoder.load_published(str(tmp_path / "nowhere"))
    with pytest.raises(BundleError, match=r"no transformers ResNet: it has no config\.json"):
        encoder.load_published(str(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(BundleError, match="model_type = 'vit'"):
        encoder.load_published(str(tmp_path))
    (tmp_path / "config.json").write_bytes((published / "config.json").read_bytes())
    with pytest.raises(BundleError, match=r"neither model\.safetensors nor pytorch_model\.bin"):
        encoder.load_published(str(tmp_path))
    with pytest.raises(BundleError, match="sha256 differs"):
        encoder.load_published(str(published), "0" * 64)
