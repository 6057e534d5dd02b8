"""Triplets: every row is garment, person and a faulty try-on that differs only where it may, and SCM trains on them."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tryon.config import parse_config
from tryon.data.derived import base_id
from tryon.data.job import run_job
from tryon.data.shards import Manifest, read_manifest, read_shard, shard_uris
from tryon.data.simulator import warp_by_flow
from tryon.data.triplets.faults import FAULTS, FaultConfig, make_fault, shift, shift_field
from tryon.data.triplets.job import NEEDED, TripletsConfig, TripletSource, faulty, triplets_job
from tryon.data.triplets.worn import WORN, worn_region
from tryon.errors import BundleError, ConfigError, DataError, SampleError
from tryon.models.bundle import copy_bundle, load_bundle
from tryon.models.bundle import read_manifest as read_bundle
from tryon.models.tensors import GARMENT_LABELS, images_to_tensor
from tryon.sample import Batch, Row
from tryon.training.recipes.scm import ScmRecipe
from tryon.training.run import check_run
from tryon.training.run import run as run_training

SIZE = (128, 96)


def run(data: str, out: Path, **values: Any) -> tuple[Manifest, Batch]:
    """All rows of a run in this process."""
    manifest = run_job(triplets_job(data, TripletsConfig.model_validate(values)), str(out), num_actors=0)
    batches = [read_shard(uri) for uri in shard_uris(str(out), manifest)]
    return manifest, {name: [value for batch in batches for value in batch[name]] for name in manifest.fields}


def rows_of(batch: Batch) -> list[Row]:
    return [dict(zip(batch, values, strict=True)) for values in zip(*batch.values(), strict=True)]


@pytest.fixture(scope="module")
def parent(small_data: str) -> dict[str, Row]:
    """Annotated rows by id."""
    uris = shard_uris(small_data, read_manifest(small_data))
    return {row["id"]: row for uri in uris for row in rows_of(read_shard(uri))}


@pytest.fixture(scope="module")
def faults(small_data: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Manifest, Batch]:
    """Two triplets of each sample, without a bundle."""
    return run(small_data, tmp_path_factory.mktemp("faults"), per_sample=2)


@pytest.fixture(scope="module")
def rendered(small_data: str, small_bundle: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Manifest, Batch]:
    """One triplet of each sample, with a bundle."""
    return run(small_data, tmp_path_factory.mktemp("rendered"), bundle=small_bundle)


# Rows


def test_each_triplet_differs_from_the_person_inside_the_agnostic_mask_alone(
    faults: tuple[Manifest, Batch], rendered: tuple[Manifest, Batch], parent: dict[str, Row]
) -> None:
    for _, batch in (faults, rendered):
        for row in rows_of(batch):
            outside = row["agnostic_mask"] == 0
            assert np.array_equal(row["generated"][outside], row["person"][outside])
            assert not np.array_equal(row["generated"], row["person"])
            original = parent[base_id(row["id"])]
            for name in set(NEEDED) - {"id"}:
                assert np.array_equal(row[name], original[name]), name


def test_a_run_without_a_bundle_mixes_the_four_faults(faults: tuple[Manifest, Batch], parent: dict[str, Row]) -> None:
    manifest, batch = faults
    assert (manifest.rows, manifest.quarantined) == (80, 0)
    assert batch["id"][:3] == ["sim-7-00000000#g1", "sim-7-00000000#g2", "sim-7-00000001#g1"]
    made_by = Counter(batch["generated_by"])
    assert set(made_by) == set(FAULTS)
    assert min(made_by.values()) >= 8
    assert batch["person_id"][:2] == [parent["sim-7-00000000"].get("person_digest") or "sim-7-00000000"] * 2
    assert manifest.parents[0].sha256
    assert "true_flow" not in manifest.fields


def test_the_warped_garment_is_the_true_warp_a_little_astray(
    faults: tuple[Manifest, Batch], parent: dict[str, Row]
) -> None:
    offs = []
    for row in rows_of(faults[1]):
        original = parent[base_id(row["id"])]
        true = warp_by_flow(original["garment"], original["true_flow"], original["true_amodal_mask"])
        offs.append(np.abs(row["warped_garment"].astype(int) - true).mean())
        both = ((row["warped_mask"] > 127) & (original["true_amodal_mask"] == 1)).sum()
        assert both / original["true_amodal_mask"].sum() > 0.9
    assert 0 < np.mean(offs) < 6


def test_a_run_with_a_bundle_renders_in_batches_and_says_by_what(
    rendered: tuple[Manifest, Batch], small_bundle: str
) -> None:
    manifest, batch = rendered
    networks = read_bundle(small_bundle).networks
    name = f"warp-{networks['warp'].sha256[:12]}+synthesis-{networks['synthesis'].sha256[:12]}"
    made_by = Counter(batch["generated_by"])
    assert made_by[f"bundle:{name}"] > 8
    assert set(made_by) <= {f"bundle:{name}", f"reconstruction:{name}", *FAULTS}
    assert [parent.uri for parent in manifest.parents][1] == small_bundle
    assert (manifest.rows, manifest.licence) == (40, "Apache-2.0")


def test_the_bundles_images_are_those_of_its_stages(
    rendered: tuple[Manifest, Batch], small_bundle: str, parent: dict[str, Row]
) -> None:
    from tryon.engines.in_process import build_pipeline
    from tryon.models.bundle import tryon_stages

    row = next(row for row in rows_of(rendered[1]) if row["generated_by"].startswith("bundle:"))
    original = parent[base_id(row["id"])]
    specs = [spec for spec in tryon_stages(small_bundle) if spec.name not in ("refine", "preserve")]
    made = build_pipeline(specs, tuple(original)).run_row(original)
    # A batch of another size may round otherwise in the last bit.
    assert np.abs(made["tryon"].astype(int) - row["generated"]).max() <= 2
    assert np.abs(made["warped_garment"].astype(int) - row["warped_garment"]).max() <= 2


def test_a_reconstruction_shows_nothing_of_the_warp_itself(small_data: str, small_bundle: str, tmp_path: Path) -> None:
    only = {"bundle": small_bundle}
    _, pasted = run(small_data, tmp_path / "a", **only, weights={"bundle": 1})
    _, drawn = run(small_data, tmp_path / "b", **only, weights={"reconstruction": 1})
    for a, b in zip(rows_of(pasted), rows_of(drawn), strict=True):
        worn = (a["warped_mask"] == 255) & (a["agnostic_mask"] == 1)
        near = [np.abs(row["generated"].astype(int) - row["warped_garment"])[worn].mean() for row in (a, b)]
        assert near[0] < near[1], "the composed try-on is nearer to the warp than the rendering"


def with_reconstruction(small_bundle: str, small_data: str, out: Path, recipe: str, **options: Any) -> str:
    """The bundle with a reconstruction network, trained for two steps."""
    copy_bundle(small_bundle, str(out))
    network = {"width": 4, "levels": 2, "latent_channels": 2}
    values = {"size": (64, 48), "steps": 2, "batch_size": 4, "num_workers": 0, "network": network, "options": options}
    run_training(check_run(recipe, small_data, str(out), values), lambda _: None)
    return str(out)


def test_a_vae_of_the_bundle_reconstructs_by_each_triplets_seed(
    small_data: str, small_bundle: str, parent: dict[str, Row], tmp_path: Path
) -> None:
    bundle = with_reconstruction(small_bundle, small_data, tmp_path / "bundle", "vae")
    only = {"bundle": bundle, "weights": {"reconstruction": 1}, "per_sample": 2}
    manifest, batch = run(small_data, tmp_path / "a", **only)
    digest = read_bundle(bundle).networks["reconstruction"].sha256
    assert set(batch["generated_by"]) == {f"reconstruction:vae-{digest[:12]}"}
    without = triplets_job(small_data, TripletsConfig(bundle=small_bundle))
    assert manifest.parents[1].sha256 != without.parents[1].sha256
    rows = rows_of(batch)
    for first, second in zip(rows[::2], rows[1::2], strict=True):
        assert not np.array_equal(first["generated"], second["generated"]), "another seed, another image"
        outside = first["agnostic_mask"] == 0
        assert np.array_equal(first["generated"][outside], first["person"][outside])
    again = triplets_job(small_data, TripletsConfig.model_validate(only)).source
    assert isinstance(again, TripletSource)
    alone = again.derive(parent[base_id(rows[0]["id"])])
    assert [row["id"] for row in alone] == [row["id"] for row in rows[:2]]
    for a, b in zip(alone, rows[:2], strict=True):
        # A batch of another size may round otherwise in the last bit.
        assert np.abs(a["generated"].astype(int) - b["generated"]).max() <= 2


def test_an_autoencoder_of_garments_is_shown_the_worn_garment_and_changes_nothing_else(
    small_data: str, small_bundle: str, tmp_path: Path
) -> None:
    bundle = with_reconstruction(small_bundle, small_data, tmp_path / "bundle", "autoencoder", field="garment")
    _, batch = run(small_data, tmp_path / "out", bundle=bundle, weights={"reconstruction": 1}, per_sample=2)
    assert all(by.startswith("reconstruction:autoencoder-") for by in batch["generated_by"])
    rows = rows_of(batch)
    for row, twin in zip(rows[::2], rows[1::2], strict=True):
        elsewhere = ~np.isin(row["parse"], WORN[row["category"]])
        assert np.array_equal(row["generated"][elsewhere], row["person"][elsewhere])
        assert not np.array_equal(row["generated"], row["person"])
        assert np.array_equal(row["generated"], twin["generated"])


def test_the_errors_of_a_reconstruction_are_those_of_the_network(
    small_data: str, small_bundle: str, parent: dict[str, Row], tmp_path: Path
) -> None:
    bundle = with_reconstruction(small_bundle, small_data, tmp_path / "bundle", "autoencoder")
    _, batch = run(small_data, tmp_path / "out", bundle=bundle, weights={"reconstruction": 1})
    network, size = load_bundle(bundle).network("reconstruction")
    row = rows_of(batch)[0]
    with torch.inference_mode():
        made = network(images_to_tensor([row["person"]], size)).clamp(-1, 1)
        full = F.interpolate(made, size=SIZE, mode="bilinear", align_corners=False)
    inside = row["agnostic_mask"] == 1
    want = ((full[0].permute(1, 2, 0).numpy() + 1) * 127.5)[inside]
    assert np.abs(row["generated"][inside] - want).mean() < 1.5  # in bfloat16 where the hardware computes it fast


def test_rows_that_cannot_be_used_are_set_aside(small_data: str, tmp_path: Path) -> None:
    from tests.data.test_downsample import data_set

    row = next(iter(rows_of(read_shard(f"{small_data}/shard-00000.parquet"))))
    broken = [
        {**row, "id": "no parse", "parse": None},
        {**row, "id": "what", "category": "hat"},
        {**row, "id": "small", "agnostic": row["agnostic"][1:]},
        {**row, "id": "bare", "true_mask": None, "true_flow": None, "parse": row["parse"] * 0},
        {**row, "id": "flat", "true_flow": None},
        row,
    ]
    (tmp_path / "in").mkdir()
    data = data_set(tmp_path / "in", [broken], (*NEEDED, "true_flow", "true_mask"))
    manifest, batch = run(data, tmp_path / "out")
    assert (manifest.rows_in, manifest.rows) == (6, 1)
    assert manifest.reasons == {"category-unknown": 1, "garment-unseen": 1, "layer-missing": 2, "layers-differ": 1}
    assert batch["id"] == [f"{row['id']}#g1"]


def test_real_data_has_its_faults_in_the_worn_garment_and_no_context(small_data: str, tmp_path: Path) -> None:
    from tests.data.test_downsample import data_set

    rows = rows_of(read_shard(f"{small_data}/shard-00000.parquet"))[:6]
    (tmp_path / "in").mkdir()
    manifest, batch = run(data_set(tmp_path / "in", [rows], NEEDED), tmp_path / "out")
    assert "warped_garment" not in manifest.fields
    for row in rows_of(batch):
        elsewhere = ~np.isin(row["parse"], WORN[row["category"]])
        assert np.array_equal(row["generated"][elsewhere], row["person"][elsewhere])
        assert not np.array_equal(row["generated"], row["person"])


def test_the_worn_garment_is_what_training_takes_for_it() -> None:
    assert dict(WORN) == dict(GARMENT_LABELS)


# Jobs


def test_a_killed_run_goes_on_with_the_same_bytes(small_data: str, small_bundle: str, tmp_path: Path) -> None:
    manifest, _ = run(small_data, tmp_path, bundle=small_bundle)
    before = {path.name: path.read_bytes() for path in tmp_path.glob("*.parquet")}
    (tmp_path / "shard-00000.parquet").unlink()
    assert run(small_data, tmp_path, bundle=small_bundle)[0] == manifest
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.parquet")} == before
    assert run(small_data, tmp_path, bundle=small_bundle, seed=1)[0].sha256 != manifest.sha256


@pytest.mark.ray
@pytest.mark.usefixtures("ray_local")
def test_the_number_of_workers_does_not_show(small_data: str, tmp_path: Path) -> None:
    for name, actors in (("one", 0), ("two", 2)):
        run_job(triplets_job(small_data, TripletsConfig()), str(tmp_path / name), num_actors=actors)
    files = [{p.name: p.read_bytes() for p in sorted((tmp_path / name).glob("*"))} for name in ("one", "two")]
    assert files[0] == files[1]


def test_licences_add_up_and_what_cannot_be_had_is_refused(small_data: str, small_bundle: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"weights ask for reconstruction.*give --bundle"):
        triplets_job(small_data, TripletsConfig(weights={"reconstruction": 1, "blur": 1}))
    with pytest.raises(ConfigError, match="at least one"):
        triplets_job(small_data, TripletsConfig(weights={"blur": 0}))
    with pytest.raises(BundleError, match="nowhere"):
        triplets_job(small_data, TripletsConfig(bundle=str(tmp_path / "nowhere")))
    told = json.loads(Path(small_bundle, "bundle.json").read_text())
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "bundle.json").write_text(json.dumps({**told, "data_licence": "CC BY-NC 4.0"}))
    licence = triplets_job(small_data, TripletsConfig(bundle=str(tmp_path / "other"))).source.licence
    assert licence == "Apache-2.0; images by a bundle trained on data under: CC BY-NC 4.0"
    del told["networks"]["synthesis"]
    (tmp_path / "bundle.json").write_text(json.dumps(told))
    with pytest.raises(BundleError, match="no synthesis network"):
        triplets_job(small_data, TripletsConfig(bundle=str(tmp_path)))
    (tmp_path / "_manifest.json").write_text(
        read_manifest(small_data).model_copy(update={"fields": ("id", "person")}).model_dump_json()
    )
    with pytest.raises(DataError, match=r"lacks category, garment.*tryon data annotate"):
        triplets_job(str(tmp_path), TripletsConfig())


@pytest.mark.parametrize(
    "values",
    [{"per_sample": 0}, {"weights": {"melt": 1}}, {"weights": {"blur": -1}}, {"faults": {"blur": (0.1, 0.01)}},
     {"faults": {"jpeg": (1, 101)}}, {"context_shift": 1}],
)  # fmt: skip
def test_bounds_of_the_config(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="triplets"):
        parse_config(TripletsConfig, values, "triplets")


# Faults


@pytest.mark.parametrize("name", FAULTS)
def test_faults_grow_with_their_bounds_and_depend_on_the_stream_alone(name: str) -> None:
    image = np.random.default_rng(0).integers(0, 255, (8, 6, 3)).astype(np.uint8).repeat(12, 0).repeat(12, 1)
    weak = {"noise": (2, 2), "blur": (0.001, 0.001), "jpeg": (95, 95), "elastic": (0.002, 0.002)}[name]
    strong = {"noise": (60, 60), "blur": (0.03, 0.03), "jpeg": (2, 2), "elastic": (0.05, 0.05)}[name]
    off = []
    for bounds in (weak, strong):
        made = [
            make_fault(name, image, FaultConfig.model_validate({name: bounds}), np.random.default_rng(1))
            for _ in range(2)
        ]
        assert np.array_equal(*made)
        off.append(np.abs(made[0].astype(int) - image).mean())
    assert off[1] > 2 * off[0]
    assert off[1] > 3


def test_an_elastic_shift_is_smooth_and_bounded() -> None:
    field = shift_field((64, 48), 5.0, np.random.default_rng(0))
    length = np.hypot(field[..., 0], field[..., 1])
    assert length.max() == pytest.approx(5.0, abs=1e-3)
    assert np.abs(np.diff(field, axis=0)).max() < 1.5
    ramp = np.tile(np.arange(48, dtype=np.uint8) * 5, (64, 1))
    moved = shift(ramp, np.dstack([np.full((64, 48), 2.0), np.zeros((64, 48))]).astype(np.float32))
    assert np.array_equal(moved[:, :45], ramp[:, 2:47])


def test_with_a_true_flow_the_garment_is_laid_flat_before_the_fault(parent: dict[str, Row]) -> None:
    row = next(iter(parent.values()))
    none = FaultConfig(noise=(0, 0))
    laid = faulty(row, "noise", none, np.random.default_rng(0))
    worn = worn_region(row) > 0
    # A shard holds flow in steps of 1/64 px.
    assert np.abs(laid[worn].astype(int) - row["true_garment"][worn]).mean() < 2
    assert np.abs(row["person"][worn].astype(int) - row["true_garment"][worn]).mean() > 5
    assert np.array_equal(laid[~worn], row["person"][~worn])
    with pytest.raises(SampleError, match="no worn garment"):
        worn_region({**row, "true_mask": row["true_mask"] * 0})


# Training


def test_scm_takes_the_images_the_data_brings(
    faults: tuple[Manifest, Batch], parent: dict[str, Row], small_bundle: str
) -> None:
    recipe = ScmRecipe({"width": 8}, SIZE, load_bundle(small_bundle))
    batch = {name: values[:2] for name, values in faults[1].items()}
    given = recipe.prepare(batch)
    image, context = recipe._pair(given, "warped")
    assert np.allclose(image[0].numpy(), batch["generated"][0].transpose(2, 0, 1) / 127.5 - 1, atol=1e-6)
    alpha = batch["warped_mask"][0] / 255
    assert np.allclose(context[0, 0].numpy(), (batch["warped_garment"][0][..., 0] / 127.5 - 1) * alpha, atol=1e-5)
    own = recipe._pair(recipe.prepare({name: batch[name] for name in ScmRecipe.reads}), "warped")
    assert not np.allclose(own[0].numpy(), image.numpy())
    mixed = recipe._pair(recipe.prepare({name: v for name, v in batch.items() if name != "warped_garment"}), "warped")
    assert np.array_equal(mixed[0].numpy(), image.numpy())
    assert np.array_equal(mixed[1].numpy(), own[1].numpy())


def test_scm_trains_on_triplets(small_data: str, small_bundle: str, tmp_path: Path) -> None:
    out, bundle = str(tmp_path / "triplets"), str(tmp_path / "bundle")
    run_job(triplets_job(small_data, TripletsConfig()), out, num_actors=0)
    options = {"size": SIZE, "steps": 2, "batch_size": 4, "num_workers": 0, "network": {"width": 8}}
    spec = check_run("scm", out, bundle, options, small_bundle)
    assert {"generated", "warped_garment", "warped_mask"} <= set(spec.columns)
    entry = run_training(spec, lambda _: None)
    assert np.isfinite(entry.metrics["val_psnr"])
    assert entry.metrics["val_psnr_before"] > 15
