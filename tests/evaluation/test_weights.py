"""Evaluation with the weights of LPIPS and FID: what they add, unpaired samples, and what is refused beforehand."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.data.assets import RowsSource
from tests.models.published import plain_alexnet, seeded_values, state_of
from tests.test_cli import run_main
from tryon.codec import encode_jpeg
from tryon.data.shards import read_shard
from tryon.data.simulator import simulate
from tryon.engines.in_process import build_pipeline
from tryon.errors import BundleError, ConfigError
from tryon.evaluation.run import EvaluateConfig, Evaluation, evaluate
from tryon.models.bundle import tryon_stages
from tryon.models.inception import Inception, load_inception
from tryon.models.lpips import load_lpips
from tryon.models.tensors import CONDITION_READS, images_to_tensor
from tryon.sample import Batch

NUM = 3
SIZE = (128, 96)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Files in the layouts of published ones, with random values."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    torch.save(state_of(plain_alexnet()), folder / "alexnet.pth")
    with torch.device("meta"):
        names = {name: value.shape for name, value in Inception().state_dict().items() if "tracked" not in name}
    save_file(seeded_values(names, 0), folder / "inception.safetensors")
    return {"lpips_weights": str(folder / "alexnet.pth"), "fid_weights": str(folder / "inception.safetensors")}


@pytest.fixture(scope="module")
def samples(small_data: str) -> Batch:
    columns = read_shard(f"{small_data}/shard-00000.parquet", ("id", "person", *CONDITION_READS))
    return {name: values[:NUM] for name, values in columns.items()}


@pytest.fixture(scope="module")
def done(
    samples: Batch, small_bundle: str, weights: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Evaluation, Path]:
    out = tmp_path_factory.mktemp("evaluation")
    rows = [dict(zip(samples, values, strict=True)) for values in zip(*samples.values(), strict=True)]
    config = EvaluateConfig(num_pictures=1, baselines=(), kid_subsets=2, **weights)  # type: ignore[arg-type]
    return evaluate(RowsSource(rows, 2), "rows", small_bundle, str(out), config, num_actors=0), out


def results(samples: Batch, bundle: str) -> list[Any]:
    images: list[Any] = list(build_pipeline(tryon_stages(bundle), tuple(samples))(dict(samples))["tryon"])
    return images


def test_lpips_is_that_of_each_result(
    done: tuple[Evaluation, Path], samples: Batch, small_bundle: str, weights: dict[str, str]
) -> None:
    result, out = done
    lpips = load_lpips(weights["lpips_weights"])
    pair = [images_to_tensor(images, SIZE) for images in (results(samples, small_bundle), samples["person"])]
    with torch.inference_mode():
        direct = lpips(*pair).tolist()
    tables = [pq.read_table(path)["bundle/lpips"].to_pylist() for path in sorted((out / "samples").iterdir())]
    assert [value for table in tables for value in table] == pytest.approx(direct, rel=1e-3)
    assert result.means["bundle"]["lpips"] == pytest.approx(sum(direct) / NUM, rel=1e-3)


def test_features_of_results_and_photos_lie_beside_each_shard(
    done: tuple[Evaluation, Path], samples: Batch, small_bundle: str, weights: dict[str, str]
) -> None:
    files = [load_file(path) for path in sorted((done[1] / "features").iterdir())]
    assert [len(file["truth/features"]) for file in files] == [2, 1]
    network = load_inception(weights["fid_weights"])
    for name, images in (("truth", samples["person"]), ("bundle", results(samples, small_bundle))):
        with torch.inference_mode():
            direct = network(images_to_tensor(images[:2], SIZE))
        assert torch.allclose(files[0][f"{name}/features"], direct.features, rtol=1e-2, atol=1)
        assert torch.allclose(files[0][f"{name}/logits"], direct.logits, rtol=1e-2, atol=10)


def test_figures_of_the_set_and_the_protocol_are_written(
    done: tuple[Evaluation, Path], weights: dict[str, str]
) -> None:
    result, out = done
    written = json.loads((out / "metrics.json").read_text())
    assert written["sets"] == result.sets
    figures = result.sets["bundle"]
    assert set(figures) == {"fid", "kid", "kid_std", "is", "is_std"}
    assert figures["fid"] > 0
    assert 1 <= figures["is"] <= NUM
    protocol = written["protocol"]
    told = {name: hashlib.sha256(Path(path).read_bytes()).hexdigest() for name, path in weights.items()}
    assert protocol["weights"]["lpips"]["sha256"] == told["lpips_weights"]
    assert protocol["weights"]["lpips"]["network"] == "alex"
    assert protocol["weights"]["fid"]["sha256"] == told["fid_weights"]
    assert protocol["resize"]["fid"] == "bilinear without antialiasing, to 299x299"
    assert protocol["kid"] == {"subsets": 2, "subset_size": NUM, "drawn_from": NUM, "seed": 0}
    html = (out / "report.html").read_text()
    assert all(word in html for word in ("LPIPS ↓", "FID ↓", "KID ↓", "IS ↑", told["fid_weights"]))
    assert f"{figures['fid']:.3f}" in html


def test_an_unpaired_sample_has_figures_of_the_set_and_none_against_a_truth(
    small_bundle: str, weights: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "test"
    for i, name in enumerate(("a.jpg", "b.jpg")):
        row = simulate(5, i, 512, 384)
        for layer, image in (("image", row["person"]), ("cloth", row["garment"])):
            (folder / layer).mkdir(parents=True, exist_ok=True)
            (folder / layer / name).write_bytes(encode_jpeg(image, 95))
    (tmp_path / "test_unpaired.txt").write_text("a.jpg b.jpg\n")
    options = ("--bundle", small_bundle, "--pairing", "unpaired", "--fid-weights", weights["fid_weights"])
    arguments = ("evaluate", "--data", str(tmp_path), "--out", str(tmp_path / "out"), "--actors", "0", *options)
    assert run_main(monkeypatch, *arguments) == 0
    written = json.loads((tmp_path / "out/metrics.json").read_text())
    assert written["samples"] == 1
    assert set(written["means"]["bundle"]) == {"colour", "texture", "outside", "head", "hands"}
    assert set(written["sets"]) == {"bundle", "agnostic", "affine_paste"}
    assert set(written["sets"]["bundle"]) == {"is", "is_std"}, "one sample has no covariance"
    assert written["protocol"]["pairing"] == "unpaired"
    assert written["protocol"]["pairs_sha256"] == hashlib.sha256(b"a+b\n").hexdigest()
    assert not list((tmp_path / "out/pictures").glob("*-truth.jpg"))
    html = (tmp_path / "out/report.html").read_text()
    assert "SSIM" not in html
    assert "IS ↑" in html


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"lpips_weights": "nowhere.pth"}, "--lpips-weights: .*nowhere.pth does not exist; LPIPS needs torchvision's"),
        ({"fid_weights": "nowhere.pth"}, "--fid-weights: .*nowhere.pth does not exist; FID, KID and IS need"),
        ({"pairing": "unpaired", "fid_weights": "x", "lpips_weights": "y"}, "leave out --lpips-weights"),
        ({"lpips_heads": "x"}, "the network of --lpips-weights, which was not given"),
        ({"baselines": ("agnostic", "magic")}, "'magic' is not one of agnostic, affine_paste"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_the_first_sample(
    options: dict[str, Any], said: str, samples: Batch, small_bundle: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with pytest.raises((BundleError, ConfigError), match=said):
        evaluate(RowsSource([{"id": "a"}], 1), "rows", small_bundle, str(out), EvaluateConfig(**options), num_actors=0)
    assert not out.exists()


def test_weights_of_another_network_are_refused(weights: dict[str, str], small_bundle: str, tmp_path: Path) -> None:
    swapped = EvaluateConfig(lpips_weights=weights["fid_weights"])
    with pytest.raises(BundleError, match=r"--lpips-weights: .*inception\.safetensors is neither: it has no"):
        evaluate(RowsSource([{"id": "a"}], 1), "rows", small_bundle, str(tmp_path), swapped, num_actors=0)
