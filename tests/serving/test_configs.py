from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest
import yaml
from ray.serve.config import AutoscalingConfig

from tests.conftest import ROOT
from tryon.errors import ConfigError
from tryon.serving.app import SPIN_LESS, actor_options, build, replicas
from tryon.serving.config import GroupConfig
from tryon.serving.graph import plan_groups
from tryon.serving.run import read_serve_file
from tryon.stages.registry import stage_class

FILES = sorted((ROOT / "serve_configs").glob("*.yaml"))
IDS = [path.name for path in FILES]


def test_there_are_configs() -> None:
    assert FILES


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_ray_serve_takes_it(path: Path) -> None:
    from ray.serve.schema import ServeDeploySchema

    schema = ServeDeploySchema.model_validate(yaml.safe_load(path.read_text()))
    assert schema.applications
    for application in schema.applications:
        module, _, name = application.import_path.partition(":")
        assert callable(getattr(import_module(module), name))


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_we_take_it_and_its_stages_fit(path: Path, small_bundle: str) -> None:
    file = read_serve_file(path)
    for group in file.config.groups:
        for name in group.stages:
            assert stage_class(name).name == name
    plan_groups(file.config.model_copy(update={"bundle": small_bundle}))


def test_http_options_have_defaults(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("applications: [{import_path: x:y}]")
    file = read_serve_file(path)
    assert (file.host, file.port) == ("127.0.0.1", 8000)


def test_http_options_are_read(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("http_options: {host: 0.0.0.0, port: 9001}\napplications: [{args: {max_queued_requests: 5}}]")
    file = read_serve_file(path)
    assert (file.host, file.port, file.config.max_queued_requests) == ("0.0.0.0", 9001, 5)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml"):
        read_serve_file(Path("nowhere.yaml"))


def test_the_builder_takes_the_files_args_as_ray_serve_gives_them(small_bundle: str) -> None:
    from ray.serve._private.api import call_user_app_builder_with_args_if_necessary as call

    args = yaml.safe_load((ROOT / "serve_configs/local.yaml").read_text())["applications"][0]["args"]
    assert call(build, {**args, "bundle": small_bundle})
    with pytest.raises(ConfigError, match="unknown key 'colour'"):
        call(build, {"colour": "red"})


def test_replicas_by_number_or_by_load() -> None:
    fixed = GroupConfig(name="a", stages=("warp",), num_replicas=3)
    assert (replicas(fixed), fixed.is_always_there) == ({"num_replicas": 3}, True)
    told = {"min_replicas": 0, "max_replicas": 4, "upscale_delay_s": 0.5}
    by_load = GroupConfig.model_validate({"name": "a", "stages": ["warp"], "autoscaling": told})
    config = replicas(by_load)["autoscaling_config"]
    assert (config["min_replicas"], config["initial_replicas"], config["max_replicas"]) == (0, 0, 4)
    assert not by_load.is_always_there
    AutoscalingConfig.model_validate(config)  # of Ray Serve: it knows every key
    with pytest.raises(ValueError, match="min_replicas 5 must not be above max_replicas 4"):
        GroupConfig.model_validate({**by_load.model_dump(), "autoscaling": {**told, "min_replicas": 5}})


def test_threads_spin_where_one_process_computes_and_less_beside_others() -> None:
    group = GroupConfig(name="a", stages=("warp",), num_cpus=2)
    alone = actor_options(group, is_alone=True)
    assert alone == {"num_cpus": 2, "num_gpus": 0}
    env = {"env_vars": SPIN_LESS}
    assert actor_options(group, is_alone=False)["runtime_env"] == env
    assert actor_options(group.model_copy(update={"num_replicas": 2}), is_alone=True)["runtime_env"] == env
    assert "runtime_env" not in actor_options(group.model_copy(update={"num_threads": 1}), is_alone=False)
