"""Synthesis without a warp: which stages a bundle runs, and what the stage must not change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.models.stable_diffusion import write_stable_diffusion
from tryon.data.annotate import ANNOTATION_STAGES
from tryon.data.shards import read_shard
from tryon.engines.in_process import build_pipeline
from tryon.errors import BundleError, PipelineError
from tryon.models.bundle import Role, tryon_stages, write_network
from tryon.models.registry import build_network
from tryon.models.tensors import CONDITION_READS
from tryon.serving.config import DEFAULT_GROUPS, ServeConfig
from tryon.serving.graph import plan_groups
from tryon.stages.synthesize import SynthesizeUnwarped

SIZE = (64, 48)
SMALL: dict[Role, tuple[str, dict[str, Any]]] = {
    "warp": ("gmm", {"width": 8}),
    "refinement": ("nafnet", {"width": 4}),
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny checkpoint."""
    return write_stable_diffusion(tmp_path_factory.mktemp("sd") / "sd")


def bundle(base: Path, folder: Path, *more: Role) -> str:
    """A bundle with concat_inpaint and networks of other roles, all untrained."""
    sampling = {"steps": 2, "guidance_scale": 2.0}
    networks = {"synthesis": ("concat_inpaint", {"base": str(base), "sampling": sampling})}
    for role, (name, told) in {**networks, **{role: SMALL[role] for role in more}}.items():
        network = build_network(name, told)
        config: Any = network.config
        write_network(str(folder), role, name, network, config=config, size=SIZE, training={}, metrics={})  # type: ignore[arg-type]
    return str(folder)


def names(uri: str) -> list[str]:
    return [spec.name for spec in tryon_stages(uri)]


def test_a_bundle_runs_what_its_networks_need(base: Path, tmp_path: Path) -> None:
    assert names(bundle(base, tmp_path / "a")) == ["synthesize_unwarped"]
    assert names(bundle(base, tmp_path / "b", "warp")) == ["synthesize_unwarped"], "a warp that nobody reads"
    whole = bundle(base, tmp_path / "c", "warp", "refinement")
    assert names(whole) == ["warp", "synthesize_unwarped", "refine"]
    lacking = bundle(base, tmp_path / "d", "refinement")
    with pytest.raises(PipelineError, match=r"stage 'refine' reads 'warped_garment'.*put 'warp' before it"):
        build_pipeline(tryon_stages(lacking), CONDITION_READS)


def test_the_service_runs_the_same_stages(base: Path, tmp_path: Path) -> None:
    plans = plan_groups(ServeConfig(bundle=bundle(base, tmp_path / "a"), groups=DEFAULT_GROUPS))
    flat = [spec for plan in plans for spec in plan.specs]
    assert [spec.name for spec in flat] == [*ANNOTATION_STAGES, "synthesize_unwarped", "paste", "encode"]
    assert flat[-3].options["bundle"] == str(tmp_path / "a")
    assert [plan.group.name for plan in plans] == ["annotation", "synthesis", "refinement"]


def test_a_network_that_needs_a_warp_is_not_run_without(tmp_path: Path) -> None:
    network = build_network("tom", {"width": 8})
    config: Any = network.config
    write_network(str(tmp_path), "synthesis", "tom", network, config=config, size=SIZE, training={}, metrics={})
    with pytest.raises(BundleError, match="needs a warp: run the stage 'synthesize'"):
        SynthesizeUnwarped(str(tmp_path))


def test_the_stage_is_told_how_to_sample(small_data: str, base: Path, tmp_path: Path) -> None:
    uri = bundle(base, tmp_path / "a")
    columns = read_shard(f"{small_data}/shard-00000.parquet", ("id", *CONDITION_READS))
    batch = {name: list(column[:1]) for name, column in columns.items()}
    plain, other = (SynthesizeUnwarped(uri, **told)(batch)["tryon"][0] for told in ({}, {"seed": 3, "steps": 1}))
    assert not np.array_equal(plain, other)


@pytest.mark.parametrize("rows", [1, 3])
def test_outside_the_agnostic_mask_nothing_changes(small_data: str, base: Path, tmp_path: Path, rows: int) -> None:
    stage = SynthesizeUnwarped(bundle(base, tmp_path / "a"))
    columns = read_shard(f"{small_data}/shard-00000.parquet", ("id", *CONDITION_READS))
    made = stage({name: list(column[:rows]) for name, column in columns.items()})
    assert made["error"] == [None] * rows
    for i in range(rows):
        tryon, agnostic, mask = made["tryon"][i], made["agnostic"][i], made["agnostic_mask"][i]
        assert tryon.shape == agnostic.shape
        assert tryon.dtype == np.uint8
        assert np.array_equal(tryon[mask == 0], agnostic[mask == 0])
        assert not np.array_equal(tryon[mask == 1], agnostic[mask == 1])
        assert not made["composition_mask"][i].any()
