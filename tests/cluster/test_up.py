"""The files for `ray up` are ones that this version of Ray takes."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import ray
import yaml
from ray.autoscaler._private.util import fillout_defaults, validate_config

FILES = sorted((Path(__file__).resolve().parents[2] / "cluster" / "up").glob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_ray_takes_it(path: Path) -> None:
    told = yaml.safe_load(path.read_text())
    schema = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())
    jsonschema.validate(told, schema)
    assert told["provider"]["type"] == path.stem
    validate_config(fillout_defaults(told))
    assert told["head_node_type"] in told["available_node_types"]
    assert {"head", "cpu", "gpu"} == set(told["available_node_types"])
