"""An evaluation is what its own tables add up to, and what the stages give directly."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import torchmetrics
from torchmetrics.functional.image import structural_similarity_index_measure

from tryon import __version__
from tryon.data.job import run_job
from tryon.data.shards import read_shard
from tryon.data.simulator.config import SimulatorConfig
from tryon.data.sources.folder import FolderSource
from tryon.data.sources.open import open_source
from tryon.data.synth import SynthConfig, synth_job
from tryon.engines.in_process import build_pipeline
from tryon.errors import BundleError, DataError
from tryon.evaluation.figures import UNPAIRED_FIGURES
from tryon.evaluation.run import PICTURES, EvaluateConfig, Evaluation, evaluate
from tryon.models.bundle import tryon_stages
from tryon.models.metrics import paired_metrics
from tryon.models.tensors import CONDITION_READS


@pytest.fixture(scope="module")
def done(small_data: str, small_bundle: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Evaluation, Path]:
    out = tmp_path_factory.mktemp("evaluation")
    config = EvaluateConfig(num_pictures=3)
    return evaluate(open_source(small_data), small_data, small_bundle, str(out), config, num_actors=0), out


def table(out: Path) -> dict[str, list[Any]]:
    """The per-sample figures of all shards."""
    columns: dict[str, list[Any]] = {}
    for path in sorted((out / "samples").glob("*.parquet")):
        for name, values in pq.read_table(path).to_pydict().items():
            columns.setdefault(name, []).extend(values)
    return columns


def test_figures_are_the_means_of_the_tables(done: tuple[Evaluation, Path]) -> None:
    result, out = done
    columns = table(out)
    assert len(set(columns["id"])) == result.samples == 40
    assert set(result.means) == {"bundle", "agnostic", "affine_paste"}
    for method, figures in result.means.items():
        extra = {"print"} if method == "bundle" else set()
        assert set(figures) == {"ssim", "psnr", "vif", "garment_ssim", "garment_psnr"} | extra
        for metric, mean in figures.items():
            told = [value for value in columns[f"{method}/{metric}"] if value is not None]
            assert mean == pytest.approx(np.mean(told), rel=1e-9)


def test_where_there_are_several_categories_each_has_its_own_row(small_bundle: str, tmp_path: Path) -> None:
    mixed = SimulatorConfig(categories=("upper", "dress"), upper_share=0.5)
    data, out = str(tmp_path / "data"), tmp_path / "out"
    run_job(synth_job(SynthConfig(num=12, size=(128, 96), seed=3, simulator=mixed)), data, num_actors=0)
    result = evaluate(open_source(data), data, small_bundle, str(out), EvaluateConfig(num_pictures=0), num_actors=0)
    columns = table(out)
    drawn = read_shard(f"{data}/shard-00000.parquet", ("id", "category"))
    categories = dict(zip(drawn["id"], drawn["category"], strict=True))
    for category in ("upper", "dress"):
        values = zip(columns["id"], columns["bundle/ssim"], strict=True)
        mean = np.mean([value for id_, value in values if categories[id_] == category])
        assert result.means[f"bundle:{category}"]["ssim"] == pytest.approx(mean)
    assert "bundle:lower" not in result.means
    assert "- of dress" in (out / "report.html").read_text()


def test_metrics_file_says_what_was_measured(done: tuple[Evaluation, Path], small_data: str, small_bundle: str) -> None:
    result, out = done
    written = json.loads((out / "metrics.json").read_text())
    assert written["means"] == result.means
    assert (written["sets"], result.sets) == ({}, {}), "without the weights for them there are none"
    assert (written["samples"], written["quarantined"]) == (40, 0)
    protocol = written["protocol"]
    assert (protocol["data"], protocol["bundle"], protocol["pairing"]) == (small_data, small_bundle, "paired")
    assert protocol["network_sizes"] == {role: [128, 96] for role in ("warp", "synthesis", "refinement")}
    assert (protocol["height_px"], protocol["width_px"]) == ([128, 128], [96, 96])
    assert protocol["outside_mask"] == "the photo's own pixels"
    assert protocol["weights"] == {}
    versions = {"tryon": __version__, "torch": torch.__version__, "torchmetrics": torchmetrics.__version__}
    assert protocol["versions"] == versions
    assert "area when shrinking" in protocol["resize"]["networks"]
    lines = "".join(f"{row_id}\n" for row_id in table(out)["id"])
    assert protocol["pairs_sha256"] == hashlib.sha256(lines.encode()).hexdigest()
    assert protocol == result.protocol


def test_report_holds_pictures_and_numbers(done: tuple[Evaluation, Path]) -> None:
    result, out = done
    html = (out / "report.html").read_text()
    assert html.count("data:image/jpeg;base64,") == len(list((out / "pictures").iterdir())) == 3 * (len(PICTURES) + 1)
    for figures in result.means.values():
        assert f"{figures['ssim']:.4f}" in html
        assert f"{figures['psnr']:.2f}" in html
        assert f"{figures['vif']:.4f}" in html
    assert result.protocol["pairs_sha256"] in html
    assert "<dt>versions.torch</dt>" in html
    assert "<dt>height_px</dt><dd>128 to 128</dd>" in html
    assert "http://" not in html.replace("http://www.w3.org", "")


def test_the_report_shows_the_worst_samples_worst_first(done: tuple[Evaluation, Path]) -> None:
    columns = table(done[1])
    order = sorted(zip(columns["bundle/garment_ssim"], columns["id"], strict=True))
    html = (done[1] / "report.html").read_text()
    places = [html.index(f"<p>{row_id} ") for _, row_id in order[:3]]
    assert places == sorted(places)
    assert f"<p>{order[3][1]} " not in html
    assert f"SSIM, garment {order[0][0]:.4f}" in html


def test_without_a_truth_the_garment_is_compared_with_its_photo(
    small_data: str, small_bundle: str, tmp_path: Path
) -> None:
    config = EvaluateConfig(num_pictures=2, pairing="unpaired")
    result = evaluate(open_source(small_data), small_data, small_bundle, str(tmp_path), config, num_actors=0)
    ours, grey = result.means["bundle"], result.means["agnostic"]
    assert set(ours) == set(UNPAIRED_FIGURES)
    assert (ours["outside"], ours["head"]) == (0, 0)
    assert ours["colour"] < grey["colour"]
    columns = table(tmp_path)
    worst = max(zip(columns["bundle/colour"], columns["id"], strict=True))[1]
    html = (tmp_path / "report.html").read_text()
    assert html.index(f"<p>{worst} ") == html.index("<p>")
    assert html.count("data:image/jpeg;base64,") == 2 * len(PICTURES)


def test_agnostic_baseline_is_ssim_of_the_agnostic_image(done: tuple[Evaluation, Path], small_data: str) -> None:
    columns = table(done[1])
    batch = read_shard(f"{small_data}/shard-00001.parquet", ("id", "person", "agnostic"))
    for i in range(3):
        a, b = (
            torch.from_numpy(batch[name][i]).permute(2, 0, 1)[None].float() / 255 for name in ("agnostic", "person")
        )
        direct = float(structural_similarity_index_measure(a, b, data_range=1.0))
        assert columns["agnostic/ssim"][columns["id"].index(batch["id"][i])] == pytest.approx(direct, abs=1e-6)


def test_the_bundles_figures_are_those_of_all_its_stages(
    done: tuple[Evaluation, Path], small_data: str, small_bundle: str
) -> None:
    columns = table(done[1])
    names = (*CONDITION_READS, "id", "person")
    batch = {k: v[:2] for k, v in read_shard(f"{small_data}/shard-00001.parquet", names).items()}
    specs = tryon_stages(small_bundle)
    assert [spec.name for spec in specs] == ["warp", "synthesize", "refine", "preserve"]
    refined = build_pipeline(specs, names)(batch)["tryon"]
    direct = paired_metrics(refined, batch["person"])["psnr"]
    measured = [columns["bundle/psnr"][columns["id"].index(row_id)] for row_id in batch["id"]]
    assert measured == pytest.approx(direct, abs=0.01)
    unrefined = paired_metrics(build_pipeline(specs[:2], names)(batch)["tryon"], batch["person"])["psnr"]
    assert measured != pytest.approx(unrefined, abs=0.01)


def test_a_missing_bundle_and_a_source_of_nothing_are_named(
    small_data: str, small_bundle: str, photo_files: tuple[Path, Path], tmp_path: Path
) -> None:
    with pytest.raises(BundleError, match="nowhere"):
        evaluate(open_source(small_data), small_data, str(tmp_path / "nowhere"), str(tmp_path / "out"), num_actors=0)
    broken = tmp_path / "photos" / "broken.jpg"
    broken.parent.mkdir()
    broken.write_bytes(photo_files[0].read_bytes()[:100])
    source = FolderSource(str(broken.parent), "person")
    with pytest.raises(DataError, match=r"no sample could be measured \(1 could not be used\)"):
        evaluate(source, "photos", small_bundle, str(tmp_path / "out"), num_actors=0)
