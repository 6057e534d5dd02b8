"""The manifests are what Kubernetes and KubeRay take, and name what is there in the code."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import ray
import typer
import yaml

from tryon.cli import app
from tryon.config import parse_config
from tryon.serving.config import ServeConfig

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "cluster" / "kuberay"
KUBERNETES = "1.31"
IN_IMAGE = "/home/ray/tryon/"

TEXT, COUNT, FLAG = {"type": "string"}, {"type": "integer", "minimum": 0}, {"type": "boolean"}


def known(required: tuple[str, ...] = (), **properties: Any) -> dict[str, Any]:
    """A mapping of known keys alone."""
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


# The parts of KubeRay's v1 definitions (ray.io_rayclusters.yaml, _rayservices.yaml, _rayjobs.yaml) that are used here.
PARAMS = {"type": "object", "additionalProperties": TEXT}
TEMPLATE = known(("spec",), metadata={"type": "object"}, spec={"type": "object"})
WORKERS = known(
    ("groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"),
    groupName=TEXT, replicas=COUNT, minReplicas=COUNT, maxReplicas=COUNT, rayStartParams=PARAMS, template=TEMPLATE,
)  # fmt: skip
CLUSTER = known(
    ("rayVersion", "headGroupSpec", "workerGroupSpecs"),
    rayVersion=TEXT,
    enableInTreeAutoscaling=FLAG,
    autoscalerOptions=known(
        upscalingMode={"enum": ["Default", "Aggressive", "Conservative"]}, idleTimeoutSeconds=COUNT
    ),
    headGroupSpec=known(("rayStartParams", "template"), rayStartParams=PARAMS, template=TEMPLATE),
    workerGroupSpecs={"type": "array", "items": WORKERS, "minItems": 1},
)
SPECS = {
    "RayCluster": CLUSTER,
    "RayService": known(
        ("serveConfigV2", "rayClusterConfig"),
        serveConfigV2=TEXT, rayClusterConfig=CLUSTER, serviceUnhealthySecondThreshold=COUNT,
        deploymentUnhealthySecondThreshold=COUNT,
    ),
    "RayJob": known(
        ("entrypoint", "rayClusterSpec"),
        entrypoint=TEXT, rayClusterSpec=CLUSTER, submissionMode={"enum": ["K8sJobMode", "HTTPMode"]},
        shutdownAfterJobFinishes=FLAG, ttlSecondsAfterFinished=COUNT, backoffLimit=COUNT,
    ),
    "PodMonitor": known(
        ("selector", "podMetricsEndpoints"),
        selector={"type": "object"},
        podMetricsEndpoints={"type": "array", "items": known(("port",), port=TEXT, interval=TEXT), "minItems": 1},
    ),
}  # fmt: skip


def documents() -> Iterator[tuple[str, dict[str, Any]]]:
    for path in sorted(FOLDER.glob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text()):
            yield f"{path.name}:{document['kind']}/{document['metadata']['name']}", document


DOCUMENTS = dict(documents())


def clusters() -> dict[str, dict[str, Any]]:
    """The Ray clusters of all manifests."""
    keys = {"RayCluster": None, "RayService": "rayClusterConfig", "RayJob": "rayClusterSpec"}
    found = {}
    for name, document in DOCUMENTS.items():
        if document["kind"] in keys:
            key = keys[document["kind"]]
            found[name] = document["spec"][key] if key else document["spec"]
    return found


def pods(cluster: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Templates of the head and of each group of workers."""
    yield cluster["headGroupSpec"]["template"]
    for group in cluster["workerGroupSpecs"]:
        yield group["template"]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_each_manifest_fits_its_schema(name: str) -> None:
    document = DOCUMENTS[name]
    assert document["metadata"]["name"].startswith("tryon")
    if document["kind"] in SPECS:
        jsonschema.validate(document["spec"], SPECS[document["kind"]])
    else:
        kubernetes_validate.validate(document, KUBERNETES, strict=True)


@pytest.mark.parametrize("name", clusters())
def test_pods_are_pods_without_privileges(name: str) -> None:
    cluster = clusters()[name]
    assert cluster["rayVersion"] == ray.__version__
    for template in pods(cluster):
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "x", **template["metadata"]},
            "spec": template["spec"],
        }
        kubernetes_validate.validate(pod, KUBERNETES, strict=True)
        assert template["spec"]["securityContext"]["runAsNonRoot"] is True
        (container,) = template["spec"]["containers"]
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["resources"]["requests"] == container["resources"]["limits"], "Ray counts what is limited"
        mounted = {mount["name"] for mount in container.get("volumeMounts", ())}
        assert mounted == {volume["name"] for volume in template["spec"].get("volumes", ())}
        assert any(port["name"] == "metrics" for port in container["ports"])
    for group in cluster["workerGroupSpecs"]:
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]


def test_what_pods_mount_and_policies_choose_is_there() -> None:
    there = {(document["kind"], document["metadata"]["name"]) for document in DOCUMENTS.values()}
    labels = []
    for cluster in clusters().values():
        for template in pods(cluster):
            labels.append(template["metadata"]["labels"])
            for volume in template["spec"].get("volumes", ()):
                if "secret" in volume:
                    assert ("Secret", volume["secret"]["secretName"]) in there
                else:
                    assert ("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]) in there
            for source in template["spec"]["containers"][0]["envFrom"]:
                assert ("Secret", source["secretRef"]["name"]) in there
    for document in DOCUMENTS.values():
        selector = (
            document["spec"].get("selector") or document["spec"].get("podSelector") if "spec" in document else None
        )
        if selector is not None:
            assert any(selector["matchLabels"].items() <= one.items() for one in labels), document["metadata"]["name"]


def test_the_service_is_that_of_gpu_autoscale() -> None:
    served = yaml.safe_load(DOCUMENTS["service.yaml:RayService/tryon"]["spec"]["serveConfigV2"])
    file = yaml.safe_load((ROOT / "serve_configs" / "gpu_autoscale.yaml").read_text())
    (ours,), (theirs,) = served.pop("applications"), file.pop("applications")
    assert served.pop("http_options") == {**file.pop("http_options"), "host": "0.0.0.0"}
    assert served == file
    config = parse_config(ServeConfig, ours["args"], "service.yaml")
    assert config.keys == "/etc/tryon/keys.json"
    for name, value in theirs.pop("args").items():
        assert ours["args"][name] == value
    assert {key: value for key, value in ours.items() if key != "args"} == theirs


@pytest.mark.parametrize("name", [name for name in DOCUMENTS if ":RayJob/" in name])
def test_a_jobs_command_is_one_that_the_verbs_take(name: str) -> None:
    words = shlex.split(DOCUMENTS[name]["spec"]["entrypoint"])
    assert words[0] == "python"
    script = ROOT / words[1].removeprefix(IN_IMAGE)
    inserted = re.search(r"sys\.argv(?:\[1:1\] = |\.insert\(1, )(\[.*?\]|\".*?\")", script.read_text())
    assert inserted is not None
    verbs = re.findall(r"\"(.*?)\"", inserted.group(1))
    command: Any = typer.main.get_command(app)
    for verb in verbs:
        command = command.commands[verb]
    arguments = [word.replace(IN_IMAGE, f"{ROOT}/") for word in words[2:]]
    command.make_context("job", arguments)  # raises for an option or a file that is not there
