"""Inpaint and concat_inpaint on a tiny Stable Diffusion: what is trained, kept, painted, and turned away."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.models.checks import bad_condition, check_number_formats, check_rows, not_finite, second_empty
from tests.models.inputs import random_condition
from tests.models.stable_diffusion import write_stable_diffusion
from tests.s3 import s3_bucket
from tryon import storage
from tryon.data.simulator import simulate
from tryon.errors import BundleError, ConfigError
from tryon.models.bundle import _load_network, load_bundle, write_network
from tryon.models.concat_inpaint import LARGE as CONCAT_LARGE
from tryon.models.concat_inpaint import ConcatInpaint
from tryon.models.contract import SampledSynthesis
from tryon.models.export import export_onnx
from tryon.models.inpaint import LARGE as INPAINT_LARGE
from tryon.models.inpaint import Inpaint, InpaintConfig
from tryon.models.latent_inpainter import LatentInpainter
from tryon.models.registry import build_network, num_parameters
from tryon.models.sampling import Sampling, add_noise, prediction_target
from tryon.models.tensors import images_to_tensor, masks_to_tensor

SIZE = (64, 48)
FEW = {"steps": 3, "guidance_scale": 3.0}
NAMES = ("inpaint", "concat_inpaint")
Build = Callable[..., LatentInpainter]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny checkpoint; not to be written to."""
    return write_stable_diffusion(tmp_path_factory.mktemp("sd") / "sd")


@pytest.fixture(scope="module")
def build(base: Path) -> Build:
    """Builds a network on it."""

    def made(name: str, seed: int = 0, **config: Any) -> LatentInpainter:
        torch.manual_seed(seed)
        told = {"base": str(base), "sampling": FEW, **({"lora": {"rank": 2}} if name == "inpaint" else {}), **config}
        network = build_network(name, told).eval()
        assert isinstance(network, LatentInpainter)
        return network

    return made


def learnt(network: LatentInpainter, by: float = 0.3) -> LatentInpainter:
    """As after training: adapters begin at zero."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.requires_grad:
                parameter.add_(by * torch.randn(parameter.shape, generator=generator))
    return network


def synthesized(network: LatentInpainter, condition: dict[str, Tensor]) -> Tensor:
    """The rendering; also checks that no warp is shown."""
    b, _, h, w = condition["agnostic"].shape
    out = network.synthesize(condition, torch.zeros(b, 3, h, w), torch.zeros(b, 1, h, w))  # type: ignore[operator]
    assert out["composition_mask"].shape == (b, 1, h, w)
    assert not out["composition_mask"].any()
    rendering: Tensor = out["rendering"]
    return rendering


MODES = [("inpaint", "lora", False), ("inpaint", "attention", True), ("inpaint", "full", True),
         ("inpaint", "lora", True), ("concat_inpaint", "attention", False), ("concat_inpaint", "lora", False),
         ("concat_inpaint", "full", False)]  # fmt: skip


@pytest.mark.parametrize(("name", "mode", "text"), MODES)
def test_gradients_reach_all_that_is_trained_and_nothing_else(build: Build, name: str, mode: str, text: bool) -> None:
    network = build(name, mode=mode, **({"train_text_encoder": True} if text else {})).train()
    assert not network.vae.training
    before = {key: value.clone() for key, value in network.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], 0.1)
    for _ in range(2):  # an adapter's first matrix waits for its second, which begins at zero
        optimizer.zero_grad()
        network(**network.example_inputs(2, *SIZE)).square().mean().backward()  # type: ignore[operator]
        optimizer.step()
    own = set(network.saved_state())
    trained = {key for key, p in network.named_parameters() if p.requires_grad}
    dead = [key for key, p in network.named_parameters() if key in trained and (p.grad is None or not p.grad.any())]
    assert own == trained
    assert not dead
    assert all(p.grad is None for key, p in network.named_parameters() if key not in trained)
    changed = {key for key, value in network.state_dict().items() if not torch.equal(value, before[key])}
    assert changed
    assert changed <= own
    parts = {key.partition(".")[0] for key in own}
    assert parts == ({"unet", "text_encoder"} if text else {"unet"})
    if mode == "attention":
        assert all("attn" in key for key in own)


def test_cross_attention_is_gone_and_not_fed_zeros(build: Build) -> None:
    whole, bare = build("inpaint", mode="full"), build("concat_inpaint")
    names = dict(whole.unet.named_parameters())
    gone = {key for key in names if key not in dict(bare.unet.named_parameters())}
    assert gone == {key for key in names if "attn2." in key or ("norm2." in key and "transformer" in key)}
    assert all("attn1." in key for key in bare.saved_state())
    assert not any("text" in key for key, _ in bare.named_modules())


def test_sizes_are_those_of_the_paper() -> None:
    with torch.device("meta"):
        concat, words = ConcatInpaint(CONCAT_LARGE), Inpaint(INPAINT_LARGE)
    trained = sum(p.numel() for p in concat.parameters() if p.requires_grad)
    assert trained == pytest.approx(49.57e6, rel=1e-3)
    assert num_parameters(concat) == pytest.approx(899.06e6, rel=1e-3)
    less = num_parameters(words.unet) + num_parameters(words.text_encoder) - num_parameters(concat.unet)
    adapters = sum(p.numel() for p in words.parameters() if p.requires_grad)
    assert less - adapters == pytest.approx(167.02e6, rel=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_of_each_row_by_itself_and_the_same_each_time(build: Build, name: str) -> None:
    network, condition = learnt(build(name)), random_condition(3, SIZE)
    together = synthesized(network, condition)
    assert together.shape == (3, 3, *SIZE)
    assert torch.isfinite(together).all()
    assert together.abs().max() <= 1
    assert torch.equal(synthesized(learnt(build(name)), condition), together)
    alone = synthesized(network, {key: value[1:2] for key, value in condition.items()})
    assert torch.allclose(together[1:2], alone, atol=1e-4)
    other = learnt(build(name, sampling={**FEW, "seed": 1}))
    assert not torch.allclose(synthesized(other, condition), together, atol=1e-2)


def test_the_garment_is_seen_by_concat_inpaint_and_the_category_by_inpaint(build: Build) -> None:
    condition = random_condition(1, SIZE)
    for name, key in (("concat_inpaint", "garment"), ("inpaint", "category")):
        network = learnt(build(name))
        changed = {**condition, key: condition[key].flip(-1)}
        assert not torch.allclose(synthesized(network, changed), synthesized(network, condition), atol=1e-3)
        plain = learnt(build(name, sampling={**FEW, "guidance_scale": 1.0}))
        assert not torch.allclose(synthesized(plain, condition), synthesized(network, condition), atol=1e-3)


@pytest.mark.parametrize("axis", ["height", "width"])
def test_both_lie_side_by_side_and_the_persons_half_is_taken(build: Build, axis: str) -> None:
    network = build("concat_inpaint", axis=axis)
    assert isinstance(network, ConcatInpaint)
    person, garment = torch.zeros(1, 4, 8, 6), torch.ones(1, 4, 8, 6)
    both = network.joined(person, garment)
    assert both.shape == ((1, 4, 16, 6) if axis == "height" else (1, 4, 8, 12))
    assert torch.equal(network.person_half(both), person)
    assert synthesized(network, random_condition(1, SIZE)).shape == (1, 3, *SIZE)


def test_nothing_under_the_mask_reaches_the_network(build: Build) -> None:
    network = build("inpaint")
    image, mask = torch.rand(1, 3, *SIZE) * 2 - 1, torch.zeros(1, 1, *SIZE)
    mask[..., 17, 20] = 0.01
    cells, masked = network.masked_latents(image, mask)
    assert cells.sum() == 1
    assert cells[0, 0, 2, 2] == 1
    image[..., 17, 20] = 1.0
    assert torch.equal(network.masked_latents(image, mask)[1], masked)


@pytest.mark.parametrize(
    ("name", "config"),
    [("inpaint", {}), ("inpaint", {"mode": "full", "train_text_encoder": True}), ("concat_inpaint", {})],
)
def test_a_bundle_keeps_the_own_part_and_gives_it_back_to_the_bit(
    build: Build, base: Path, tmp_path: Path, name: str, config: dict[str, Any]
) -> None:
    network, uri = learnt(build(name, **config)), str(tmp_path / "bundle")
    told = network.config
    manifest = write_network(uri, "synthesis", name, network, config=told, size=SIZE, training={}, metrics={})
    entry = manifest.networks["synthesis"]
    assert (entry.config["base"], len(entry.config["sha256"])) == (str(base), 64)
    assert manifest.weights_licence == f"as that of {base}, and the data's"
    kept = (Path(uri) / entry.file).stat().st_size
    weights = sum(path.stat().st_size for path in base.rglob("*.safetensors"))
    if told.mode == "lora":
        assert kept < 0.05 * weights
    assert kept < 1.02 * sum(4 * value.numel() for value in network.saved_state().values()) + 10_000  # and the names
    opened, size = load_bundle(uri).network("synthesis")
    assert size == SIZE
    assert isinstance(opened, LatentInpainter)
    condition = random_condition(2, SIZE)
    assert torch.equal(synthesized(opened, condition), synthesized(network, condition))
    assert not torch.equal(synthesized(build(name, **config), condition), synthesized(network, condition))
    assert set(opened.saved_state()) == set(network.saved_state()), "frozen now, but still its own"


def test_a_base_that_is_gone_or_has_changed_says_which_to_give(base: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(base, tmp_path / "copy")
    network = build_network("concat_inpaint", {"base": str(copy)})
    assert isinstance(network, LatentInpainter)
    uri, told = str(tmp_path / "bundle"), network.config
    write_network(uri, "synthesis", "concat_inpaint", network, config=told, size=SIZE, training={}, metrics={})
    write_stable_diffusion(copy, seed=1)
    with pytest.raises(BundleError, match=f"'{copy}' has changed") as caught:
        load_bundle(uri).network("synthesis")
    assert caught.value.code == "base-changed"
    assert told.sha256 is not None
    assert told.sha256[:12] in caught.value.message
    shutil.rmtree(copy)
    with pytest.raises(BundleError, match=f"'{copy}' cannot be had: {copy} does not exist") as caught:
        load_bundle(uri).network("synthesis")
    assert caught.value.code == "base-missing"
    for said in (told.sha256[:12], "unet/", "bundle.json", "model_index.json"):
        assert said in caught.value.message
    shutil.copytree(base, copy)
    _load_network.cache_clear()
    assert isinstance(load_bundle(uri).network("synthesis")[0], LatentInpainter)


def test_a_base_on_s3_is_the_folders(build: Build, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRYON_CACHE", str(tmp_path / "cache"))
    with s3_bucket("weights") as bucket:
        for path in base.rglob("*"):
            if path.is_file():
                storage.write_bytes(f"{bucket}/sd/{path.relative_to(base)}", path.read_bytes())
        network = build("concat_inpaint", base=f"{bucket}/sd")
        assert network.config.base == f"{bucket}/sd"
        assert network.config.sha256 == build("concat_inpaint").config.sha256
    condition = random_condition(1, SIZE)
    assert torch.equal(synthesized(network, condition), synthesized(build("concat_inpaint"), condition))


def test_pickled_weights_a_tokenizer_of_two_files_and_v_prediction_will_do(build: Build, tmp_path: Path) -> None:
    folder = write_stable_diffusion(tmp_path / "old", prediction="v_prediction", safe=False)
    (folder / "tokenizer" / "tokenizer.json").unlink()
    network = build("inpaint", base=str(folder))
    assert isinstance(network, Inpaint)
    assert network.prediction == "v_prediction"
    plain = build("inpaint")
    assert isinstance(plain, Inpaint)
    assert torch.equal(network.tokens(["t-shirt", ""]), plain.tokens(["t-shirt", ""]))
    assert torch.equal(network.unet.conv_in.weight, plain.unet.conv_in.weight)
    condition = random_condition(1, SIZE)
    assert not torch.allclose(synthesized(network, condition), synthesized(plain, condition), atol=1e-3)


def broken(base: Path, folder: Path, fault: str) -> Path:
    """The checkpoint with one thing wrong."""
    copy = Path(shutil.copytree(base, folder))
    weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
    if fault == "damaged":
        weights.write_bytes(weights.read_bytes()[:1000])
    elif fault == "no weights":
        weights.unlink()
    elif fault == "no text":
        shutil.rmtree(copy / "text_encoder")
    elif fault == "no index":
        (copy / "model_index.json").unlink()
    elif fault == "four channels":
        write_stable_diffusion(copy, in_channels=4)
    elif fault == "other text":
        write_stable_diffusion(copy, cross_attention_dim=48)
    return copy


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("damaged", "unet/ does not load"),
        ("no weights", "unet/ does not load"),
        ("no text", r"text_encoder/ does not load \(it has no such folder\)"),
        ("no index", r"it has no model_index\.json"),
        ("four channels", "no Stable Diffusion inpainting checkpoint: its U-Net takes 4 channels and gives 4"),
        ("other text", "its text encoder gives 32 channels, its U-Net takes 48"),
    ],
)
def test_a_base_of_another_kind_is_named(build: Build, base: Path, tmp_path: Path, fault: str, said: str) -> None:
    folder = broken(base, tmp_path / "sd", fault)
    with pytest.raises(BundleError, match=said) as caught:
        build("inpaint", base=str(folder))
    assert str(folder) in caught.value.message


def test_layers_that_are_not_there_cannot_be_adapted(build: Build) -> None:
    with pytest.raises(ConfigError, match=r"lora\.targets = \['to_x'\] cannot be adapted"):
        build("inpaint", lora={"targets": ["to_x"]})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s.popitem(), "is missing"),
        (lambda s: s.update(x=torch.zeros(1)), "'x' is not of this network"),
        (lambda s: s.update({key: value[:1] for key, value in s.items()}), r"is \(1,\), this network has \(64,\)"),
    ],
)
def test_a_saved_part_of_another_network_is_named(build: Build, change: Any, said: str) -> None:
    network = build("concat_inpaint")
    state = dict(network.saved_state())
    change(state)
    with pytest.raises(RuntimeError, match=f"saved part of ConcatInpaint does not fit: .*{said}"):
        network.load_saved_state(state)
    with pytest.raises(RuntimeError, match="saved part of Inpaint does not fit"):
        build("inpaint").load_saved_state(network.saved_state())


@pytest.mark.parametrize("name", NAMES)
def test_one_step_is_deterministic_and_agrees_in_other_number_formats(build: Build, name: str) -> None:
    network = learnt(build(name), by=0.05)
    check_rows(network, SIZE)
    check_number_formats(network, SIZE)
    assert f"base={network.config.base!r}" in repr(network).splitlines()[1]


@pytest.mark.parametrize("name", NAMES)
def test_one_step_is_exported(build: Build, tmp_path: Path, name: str) -> None:
    pytest.importorskip("onnxruntime", reason="the check needs onnxruntime")
    written = export_onnx(learnt(build(name), by=0.05), str(tmp_path / "step.onnx"), SIZE)
    assert written.outputs == ("prediction",)
    assert written.difference is not None
    assert written.difference < 1e-3


@pytest.mark.parametrize("name", NAMES)
def test_a_caller_says_how_to_sample(build: Build, name: str) -> None:
    network, condition = learnt(build(name)), random_condition(1, SIZE)
    assert isinstance(network, SampledSynthesis)
    empty = torch.zeros(1, 3, *SIZE), torch.zeros(1, 1, *SIZE)
    made = [
        network.synthesize(condition, *empty, Sampling.model_validate({**FEW, **told}))["rendering"]
        for told in ({}, {"seed": 1}, {"steps": 2}, {"solver": "ddim"}, {"guidance_scale": 1})
    ]
    assert torch.equal(made[0], synthesized(network, condition))
    assert all(not torch.allclose(made[0], other, atol=1e-3) for other in made[1:])
    own = network.config_class(sampling={"steps": 5})
    assert own.sampling.guidance_scale == {"inpaint": 7.5, "concat_inpaint": 2.5}[name]


CASES: list[tuple[dict[str, Tensor], str]] = [
    ({"agnostic": torch.zeros(2, 4, *SIZE)}, "agnostic is 2x4x64x48: the network takes 2x3x64x48"),
    ({"agnostic": torch.zeros(2, 3, 32, 48)}, "agnostic is 2x3x32x48: the network takes 2x3x64x48"),
    ({"agnostic": not_finite(3)}, "agnostic holds values that are not finite"),
    ({"agnostic_mask": second_empty()}, "agnostic_mask of row 1 is empty: there is nothing to generate"),
    ({"agnostic_mask": torch.ones(2, 1, *SIZE)}, "agnostic_mask of row 0 is 1 everywhere"),
    ({"agnostic": torch.zeros(2, 3, 65, 48), "agnostic_mask": torch.zeros(2, 1, 65, 48)}, "65x48.*multiples of 8"),
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("changes", "said"), CASES)
def test_bad_input_is_named(build: Build, name: str, changes: dict[str, Tensor], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        synthesized(build(name), bad_condition(**changes))


def test_a_garment_that_cannot_be_used_is_named(build: Build) -> None:
    with pytest.raises(ValueError, match="garment holds values that are not finite"):
        synthesized(build("concat_inpaint"), bad_condition(garment=not_finite(3)))


def test_without_a_base_there_are_no_words(build: Build) -> None:
    network = build_network("inpaint", {})
    assert isinstance(network, Inpaint)
    assert set(network.saved_state()) == set(network.state_dict()), "random parts lie nowhere else"
    with pytest.raises(ConfigError, match="knows no words"):
        network.tokens(["t-shirt"])


def test_the_prompt_has_the_words_of_the_category() -> None:
    config = InpaintConfig(garment_words={"upper": "a t-shirt"})
    assert [config.words(category) for category in ("upper", "lower", "dress")] == ["a t-shirt", "trousers", "a dress"]


def examples(network: nn.Module) -> tuple[Tensor, dict[str, Tensor]]:
    """Four simulator samples as latents, and what the network is told of them."""
    rows = [simulate(3, i, *SIZE) for i in range(4)]
    person = images_to_tensor([row["person"] for row in rows], SIZE)
    shown = masks_to_tensor([(row["parse"] == 4).astype("uint8") for row in rows], SIZE)
    assert isinstance(network, Inpaint | ConcatInpaint)
    mask, masked = network.masked_latents(person, shown)
    clean = network.encode(person)
    if isinstance(network, Inpaint):
        return clean, {"mask": mask, "masked": masked, "tokens": network.tokens([f"top {i}" for i in range(4)])}
    garment = network.encode(images_to_tensor([row["garment"] for row in rows], SIZE))
    told = {"mask": network.joined(mask, torch.zeros_like(mask)), "masked": network.joined(masked, garment)}
    return network.joined(clean, garment), told


@pytest.mark.parametrize("name", NAMES)
def test_four_simulator_samples_are_learnt_by_heart(build: Build, name: str) -> None:
    network = build(name, mode="full").train()
    clean, told = examples(network)
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    times = torch.tensor([100, 300, 600, 900])
    alphas = network.alphas[times]
    target = prediction_target(clean, noise, alphas, network.prediction)
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], 2e-3)
    losses = []
    for _ in range(40):
        loss = (network(noisy=add_noise(clean, noise, alphas), times=times, **told) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[0] > 0.9
    assert losses[-1] < 0.15
