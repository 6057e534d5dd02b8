"""Data sets made from others: on any storage, and known by where their rows come from."""

from __future__ import annotations

import numpy as np
import pytest

from tests.s3 import s3_bucket
from tryon.data.augment import AugmentConfig, augment_job
from tryon.data.derived import base_id, row_rng, with_kin
from tryon.data.downsample import DownsampleConfig, downsample_job
from tryon.data.job import run_job
from tryon.data.shards import read_manifest, read_shard, shard_uris
from tryon.data.synth import SynthConfig, synth_job
from tryon.errors import DataError


@pytest.mark.parametrize("row_id", ["x", "x#1", "x#b2", "#a", "größe #4"])
def test_an_id_of_its_own_is_its_base(row_id: str) -> None:
    assert base_id(row_id) == row_id
    assert base_id(f"{row_id}#a3") == base_id(f"{row_id}#a3#g12") == row_id


def test_a_stream_depends_on_all_its_words() -> None:
    def first(*words: str | int) -> float:
        return float(row_rng(3, "id", *words).random())

    assert first("a", 1) == first("a", 1)
    assert (
        len({first("a", 1), first("a", 2), first("b", 1), first("a1"), float(row_rng(4, "id", "a", 1).random())}) == 5
    )


def test_kin_are_named_by_what_is_known() -> None:
    assert with_kin({"id": "r"}) == {"id": "r", "person_id": "r", "garment_id": "r"}
    told = {"id": "r", "person_id": "p", "person_digest": "d", "garment_id": None, "garment_digest": "e"}
    assert with_kin(told) == {**told, "garment_id": "e"}


def test_data_sets_on_s3_are_read_and_written_there() -> None:
    with s3_bucket("derived") as bucket:
        run_job(synth_job(SynthConfig(num=40, size=(64, 48), seed=1)), f"{bucket}/drawn", num_actors=0)
        run_job(downsample_job(f"{bucket}/drawn", DownsampleConfig(num=3)), f"{bucket}/few", num_actors=0)
        run_job(augment_job(f"{bucket}/few", AugmentConfig(variants=2)), f"{bucket}/more", num_actors=0)
        manifest = read_manifest(f"{bucket}/more")
        assert (manifest.rows, manifest.parents[0].uri) == (9, f"{bucket}/few")
        rows = read_shard(shard_uris(f"{bucket}/more", manifest)[0], ["id", "person"])
        assert len(set(rows["id"])) == 9
        assert not np.array_equal(rows["person"][0], rows["person"][1])
        with pytest.raises(DataError, match="does not exist"):
            augment_job(f"{bucket}/nowhere", AugmentConfig())
