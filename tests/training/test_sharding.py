"""Sharded training (FSDP2) is the same training as DDP's, and its checkpoints are those of any other run."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from tryon.errors import ConfigError
from tryon.training.run import RunSpec, check_run, local_batches, run
from tryon.training.sharding import shard, whole
from tryon.training.state import load_checkpoint
from tryon.training.worker import Place, store_of, train_here

SIZE = (64, 48)
NETWORK = {"widths": (16, 24), "num_heads": 2, "token_width": 16}
OPTIONS: dict[str, Any] = {
    "size": SIZE, "steps": 4, "batch_size": 4, "report_every": 1, "checkpoint_every": 2, "val_fraction": 0.2,
    "ema": 0.9, "network": NETWORK, "options": {"val_steps": 1}, "trackers": [], "precision": "fp32",
}  # fmt: skip


def worker(rank: int, spec: RunSpec, folder: str) -> None:
    """One of two processes; what rank 0 logs goes into a file."""
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    local, lines = local_batches(spec), []

    def batches(epoch: int) -> Iterator[Mapping[str, Any]]:
        for batch in local("train", spec.config.batch_size, epoch):
            yield {name: column[rank::2] for name, column in batch.items()}

    def val_batches(_: int) -> Iterator[Mapping[str, Any]]:
        return local("val", 4, None)

    wrap = DistributedDataParallel if spec.config.strategy == "ddp" else lambda network: network
    train_here(spec, batches, val_batches, lines.append, Place(rank, 2, wrap))
    if rank == 0:
        Path(folder, "lines.json").write_text(json.dumps(lines))
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def start(small_data: str, small_bundle: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A bundle with a warp and an autoencoder of latents."""
    out = str(tmp_path_factory.mktemp("start") / "bundle")
    network = {"widths": (8, 12), "latent_channels": 3}
    options = {"size": SIZE, "steps": 2, "batch_size": 4, "num_workers": 0, "network": network, "trackers": []}
    run(check_run("latent_autoencoder", small_data, out, options, small_bundle), lambda _: None)
    return out


@pytest.mark.slow
def test_sharded_training_is_that_of_ddp_and_goes_on_in_one_worker(small_data: str, start: str, tmp_path: Path) -> None:
    saved, lines = {}, {}
    for strategy in ("ddp", "fsdp"):
        folder = tmp_path / strategy
        folder.mkdir()
        values = {**OPTIONS, "num_workers": 2, "strategy": strategy}
        spec = check_run("latent_diffusion", small_data, str(folder / "bundle"), values, start)
        mp.spawn(worker, (spec, str(folder)), nprocs=2)
        lines[strategy] = json.loads((folder / "lines.json").read_text())
        data = store_of(spec).latest()
        assert data is not None
        saved[strategy] = load_checkpoint(data)
    assert [line["step"] for line in lines["fsdp"]] == [1, 2, 3, 4]
    for ours, theirs in zip(lines["fsdp"], lines["ddp"], strict=True):
        for name in ("loss", *(name for name in theirs if name.startswith("val_"))):
            assert ours[name] == pytest.approx(theirs[name], rel=1e-3), (ours["step"], name)
    for name in ("network", "ema"):
        assert saved["fsdp"][name].keys() == saved["ddp"][name].keys()
        for key, value in saved["ddp"][name].items():
            torch.testing.assert_close(saved["fsdp"][name][key], value, rtol=1e-3, atol=1e-4)
    moments = [saved[strategy]["optimizer"]["state"] for strategy in ("fsdp", "ddp")]
    assert all(moments[0][i]["exp_avg"].shape == value["exp_avg"].shape for i, value in moments[1].items())
    # The same run, alone: it takes over what the two have reached.
    alone = replace(spec, config=spec.config.model_copy(update={"num_workers": 0}))
    with pytest.warns(UserWarning, match="goes on at step 4 with 1 workers instead of 2"):
        entry = run(alone, lambda _: None)
    assert entry.metrics["val_psnr"] == pytest.approx(lines["fsdp"][-1]["val_psnr"], rel=1e-3)


class Small(nn.Module):
    """A list of blocks, a head, and a frozen part."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Linear(4, 4) for _ in range(2))
        self.head = nn.Linear(4, 2)
        self.frozen = nn.Linear(4, 4).requires_grad_(False)


def alone(rank: int, folder: str) -> None:
    """Shards a network and looks at what became of it."""
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=1)
    network = Small()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    shard(network)
    kinds = {name: type(value.data).__name__ for name, value in network.named_parameters()}
    assert all(kind == ("Tensor" if "frozen" in name else "DTensor") for name, kind in kinds.items()), kinds
    assert all(torch.equal(whole(value), before[name]) for name, value in network.state_dict().items())
    dist.destroy_process_group()


def test_what_is_frozen_stays_whole(tmp_path: Path) -> None:
    mp.spawn(alone, (str(tmp_path),), nprocs=1)


@pytest.mark.parametrize(
    ("recipe", "changes", "said"),
    [
        ("gmm", {"network": {}, "options": {}}, "does not go with recipe 'gmm'.*latent_diffusion, inpaint and concat"),
        ("latent_diffusion", {"optimizer": "muon"}, "does not go with optimizer 'muon'.*adamw does"),
        ("latent_diffusion", {"precision": "fp16"}, "does not go with precision fp16"),
        ("latent_diffusion", {"compile": True}, "does not go with compile = true"),
        ("latent_diffusion", {"strategy": "zero"}, "strategy = 'zero' is not allowed: .*'ddp' or 'fsdp'"),
        ("latent_diffusion", {"min_workers": 3}, "min_workers 3 is more than num_workers 2"),
        ("latent_diffusion", {"num_workers": 4, "min_workers": 2}, "batch_size 4 must be a multiple.*x num_workers 3"),
    ],
)
def test_what_sharding_and_elastic_runs_do_not_go_with(
    small_data: str, start: str, tmp_path: Path, recipe: str, changes: dict[str, Any], said: str
) -> None:
    values = {**OPTIONS, "num_workers": 2, "strategy": "fsdp", **changes}
    with pytest.raises(ConfigError, match=said):
        check_run(recipe, small_data, str(tmp_path / "bundle"), values, start)
