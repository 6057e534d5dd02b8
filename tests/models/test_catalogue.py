"""The registry: versions never change, of two promotions at once one wins, and what is damaged is told."""

from __future__ import annotations

import json
import multiprocessing
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.pool import Pool
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from tests.s3 import Fault, denying_bucket, faulty_bucket, s3_bucket
from tests.test_cli import run_main
from tryon import storage
from tryon.errors import BundleError, PromotionError, StorageError
from tryon.models.bundle import Role, load_bundle, read_manifest, tryon_stages, write_network
from tryon.models.catalogue import list_models, locate, promote, pull, push, verify
from tryon.models.nafnet import NafNet, NafNetConfig
from tryon.models.registry import build_network
from tryon.models.versions import Alias, Version, find_version, move_alias, pinned, read_aliases, versions
from tryon.serving.config import DEFAULT_GROUPS, ServeConfig
from tryon.serving.graph import plan_groups
from tryon.training.run import check_run
from tryon.write_once import write_once

Capture = pytest.CaptureFixture[str]
ROUNDS, WRITERS = 20, 4


def make_bundle(uri: Path, seed: int = 0) -> str:
    torch.manual_seed(seed)
    config = NafNetConfig(width=4)
    training = {"config": {"recipe": "scm", "steps": 7}, "data_sha256": "0123456789abcdef"}
    write_network(
        str(uri), "refinement", "nafnet", NafNet(config), config=config, size=(64, 48), training=training,
        metrics={"val_psnr": 20.5}, data_licence="CC BY-NC 4.0",
    )  # fmt: skip
    return str(uri)


def write_tiny(uri: Path, role: Role, name: str, told: dict[str, Any]) -> None:
    network = build_network(name, told)
    config: Any = network.config
    write_network(str(uri), role, name, network, config=config, size=(64, 48), training={}, metrics={})


def three_versions(base: Path | str, folder: Path) -> str:
    """URI of a model of three versions."""
    model = storage.join(str(base), "registry", "shirt")
    for seed in range(3):
        push(make_bundle(folder / f"bundle{seed}", seed), model)
    return model


@pytest.fixture
def model(tmp_path: Path) -> str:
    return three_versions(tmp_path, tmp_path)


@pytest.fixture
def bucket() -> Iterator[str]:
    with s3_bucket("models") as uri:
        yield uri


def weights_of(uri: str) -> Path:
    return Path(locate(uri)) / next(iter(read_manifest(locate(uri)).networks.values())).file


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))


def files(folder: Path | str) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(Path(folder).rglob("*")) if p.is_file()}


def test_a_push_makes_the_next_version_and_the_same_bundle_keeps_its_own(model: str, tmp_path: Path) -> None:
    assert [v.number for v in versions(model)] == [1, 2, 3]
    before = files(model)
    again = push(str(tmp_path / "bundle1"), model)
    assert (again.version.number, again.new) == (2, False)
    assert files(model) == before
    assert files(find_version(model, "2").uri) == files(tmp_path / "bundle1")
    pushed = push(make_bundle(tmp_path / "bundle3", 3), model)
    assert (pushed.version.number, pushed.new) == (4, True)
    assert pushed.manifest.data_licence == "CC BY-NC 4.0"


def test_a_version_is_not_written_to(model: str, tmp_path: Path) -> None:
    before = files(model)
    for uri in (find_version(model, "2").uri, f"{model}@2", f"{model}@production"):
        with pytest.raises(BundleError, match="those never change") as caught:
            make_bundle(Path(uri), 9)
        assert caught.value.code == "version-immutable"
    assert files(model) == before
    assert make_bundle(tmp_path / "run@home", 1)
    assert load_bundle(str(tmp_path / "run@home")).network("refinement")


def test_a_push_that_was_cut_off_is_no_version_and_the_same_push_finishes_it(model: str, tmp_path: Path) -> None:
    cut = Path(find_version(model, "3").uri)
    (cut / "bundle.json").unlink()
    assert [v.number for v in versions(model)] == [1, 2]
    with pytest.raises(BundleError, match=r"no version '3' \(it has: 1, 2\)"):
        promote(model, "3", "production")
    assert push(make_bundle(tmp_path / "other", 8), model).version.number == 4
    assert push(str(tmp_path / "bundle2"), model).version.uri == str(cut)
    assert [v.number for v in versions(model)] == [1, 2, 3, 4]
    assert not verify(f"{model}@3").problems


def test_a_damaged_bundle_takes_no_number(model: str, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bad", 5)
    flip(weights_of(bundle))
    before = files(model)
    with pytest.raises(BundleError, match="sha256 differs"):
        push(bundle, model)
    assert files(model) == before


def writers(num: int) -> Pool:
    """Processes that import once what they need, and none of which comes from one with Ray's threads."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context.Pool(num)


def _push(bundle: str, model: str) -> int:
    return push(bundle, model).version.number


def test_pushes_at_once_never_share_a_number(tmp_path: Path) -> None:
    bundles = [make_bundle(tmp_path / str(seed), seed) for seed in range(WRITERS)]
    model = str(tmp_path / "registry" / "shirt")
    with writers(WRITERS) as pool:
        numbers = pool.starmap(_push, [(bundle, model) for bundle in [*bundles, bundles[0]]])
    assert sorted(numbers[:WRITERS]) == list(range(1, WRITERS + 1))
    assert numbers[WRITERS] == numbers[0], "the same bundle at the same time is the same version"
    for bundle, number in zip(bundles, numbers, strict=False):
        assert files(find_version(model, str(number)).uri) == files(bundle)
    assert not [name for name in files(model) if name.endswith(".tmp")]


def test_promotion_moves_an_alias_and_back(model: str) -> None:
    assert promote(model, "2", "production").before is None
    done = promote(model, "latest", "production", expect="2")
    assert (done.version.number, done.before) == (3, 2)
    assert promote(model, "3", "production").before == 3, "it is there already"
    assert promote(model, "2", "production", expect="0003").version.number == 2
    assert promote(model, "production", "staging").version.number == 2
    assert read_aliases(model) == {"production": Alias(3, 2), "staging": Alias(1, 2)}
    assert pinned(f"{model}@production") == find_version(model, "2").uri


@pytest.mark.parametrize(("expect", "stands"), [("1", "version 2, not for 1"), ("none", "version 2, not for none")])
def test_another_version_than_expected_is_named(model: str, expect: str, stands: str) -> None:
    promote(model, "2", "production")
    with pytest.raises(PromotionError, match=f"production of {model} stands for {stands}: it was not moved") as caught:
        promote(model, "3", "production", expect=expect)
    assert caught.value.code == "promotion-unexpected"
    assert read_aliases(model)["production"].version == 2
    with pytest.raises(PromotionError, match=r"staging of .* stands for nothing yet, not for 2"):
        promote(model, "3", "staging", expect="2")


def _promote(model: str, number: int) -> str:
    try:
        promote(model, str(number), "production", expect="none")
    except PromotionError as error:
        return error.message
    return "won"


def test_of_promotions_by_several_processes_one_wins(model: str) -> None:
    with writers(3) as pool:
        ends = pool.starmap(_promote, [(model, number) for number in (1, 2, 3)])
    assert ends.count("won") == 1
    winner = read_aliases(model)["production"].version
    assert ends[(winner or 0) - 1] == "won"
    assert all(f"version {winner}" in end for end in ends if end != "won")


def test_of_promotions_at_the_same_moment_one_wins(model: str) -> None:
    there = [find_version(model, number) for number in ("1", "2", "3")]
    seen = Alias()
    for generation in range(1, ROUNDS + 1):
        ready = threading.Barrier(len(there))

        def move(version: Version, seen: Alias = seen, ready: threading.Barrier = ready) -> str:
            ready.wait()
            try:
                move_alias(version, "production", seen)
            except PromotionError as error:
                return f"{error.code}: {error.message}"
            return "won"

        with ThreadPoolExecutor(len(there)) as pool:
            ends = list(pool.map(move, there))
        seen = read_aliases(model)["production"]
        assert (ends.count("won"), seen.generation) == (1, generation)
        assert ends[(seen.version or 0) - 1] == "won"
        lost = [end for end in ends if end != "won"]
        told = f"promotion-lost: production of {model} was moved at the same time, to version {seen.version}: "
        assert all(end.startswith(told) for end in lost), lost


def test_a_damaged_version_is_not_promoted_pulled_or_loaded(model: str, tmp_path: Path) -> None:
    promote(model, "2", "production")
    flip(weights_of(f"{model}@3"))
    with pytest.raises(BundleError, match="sha256 differs"):
        promote(model, "3", "production")
    assert read_aliases(model)["production"].version == 2
    with pytest.raises(BundleError, match="sha256 differs"):
        pull(f"{model}@3", str(tmp_path / "out"))
    assert not (tmp_path / "out" / "bundle.json").exists()
    with pytest.raises(BundleError, match="sha256 differs"):
        load_bundle(f"{model}@3").network("refinement")
    assert load_bundle(f"{model}@production").uri == find_version(model, "2").uri


def test_verify_names_every_file_that_is_wrong(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    write_tiny(tmp_path / "bundle", "synthesis", "tom", {"width": 16})
    whole = verify(bundle)
    assert (whole.num_files, list(whole.problems)) == (3, [])
    entries = read_manifest(bundle).networks
    flip(tmp_path / "bundle" / entries["refinement"].file)
    (tmp_path / "bundle" / entries["synthesis"].file).unlink()
    problems = verify(bundle).problems
    assert len(problems) == 2
    assert f"{entries['refinement'].file} is not the file bundle.json names" in problems[0]
    assert f"lacks {entries['synthesis'].file}" in problems[1]


def test_a_versions_manifest_that_was_changed_is_refused(model: str) -> None:
    manifest = Path(find_version(model, "2").uri) / "bundle.json"
    manifest.write_text(manifest.read_text().replace("CC BY-NC 4.0", "CC0-1.0"))
    for act in (verify, load_bundle):
        with pytest.raises(BundleError, match="changed since it was pushed") as caught:
            act(f"{model}@2")
        assert caught.value.code == "bundle-corrupt"


def test_a_file_outside_the_bundle_is_refused(tmp_path: Path) -> None:
    manifest = Path(make_bundle(tmp_path / "bundle")) / "bundle.json"
    told = json.loads(manifest.read_text())
    told["networks"]["refinement"]["file"] = "../../outside.safetensors"
    manifest.write_text(json.dumps(told))
    with pytest.raises(BundleError, match=r"networks\.refinement\.file"):
        pull(str(tmp_path / "bundle"), str(tmp_path / "out"))


def test_pull_gives_the_same_bytes_and_keeps_another_bundle(model: str, tmp_path: Path) -> None:
    promote(model, "1", "production")
    out = tmp_path / "out"
    for uri, seed in ((f"{model}@production", 0), (f"{model}@2", 1), (model, 2)):
        pull(uri, str(out / str(seed)))
        assert files(out / str(seed)) == files(tmp_path / f"bundle{seed}")
    (out / "0" / weights_of(str(out / "0")).name).unlink()
    pull(f"{model}@1", str(out / "0"))
    assert not verify(str(out / "0")).problems, "the same pull again mends what is missing"
    with pytest.raises(BundleError, match="holds another bundle already"):
        pull(f"{model}@2", str(out / "0"))
    assert files(out / "0") == files(tmp_path / "bundle0")


def test_stages_stay_with_the_version_that_the_alias_stood_for(model: str) -> None:
    promote(model, "1", "production")
    (spec,) = tryon_stages(f"{model}@production")
    promote(model, "3", "production")
    assert spec.options["bundle"] == find_version(model, "1").uri
    assert tryon_stages(f"{model}@production")[0].options["bundle"] == find_version(model, "3").uri


def test_the_service_and_training_stay_with_it_too(tmp_path: Path, small_data: str) -> None:
    model = str(tmp_path / "registry" / "whole")
    for width in (8, 16):
        pairs: tuple[tuple[Role, str], ...] = (("warp", "gmm"), ("synthesis", "tom"))
        for role, name in pairs:
            write_tiny(tmp_path / f"whole{width}", role, name, {"width": width})
        push(str(tmp_path / f"whole{width}"), model)
    promote(model, "1", "production")
    first = find_version(model, "1").uri
    plans = plan_groups(ServeConfig(bundle=f"{model}@production", groups=DEFAULT_GROUPS))
    assert {s.options["bundle"] for plan in plans for s in plan.specs if "bundle" in s.options} == {first}
    options = {"size": (128, 96), "steps": 1, "network": {"width": 16}}
    spec = check_run("tom", small_data, str(tmp_path / "out"), options, start=f"{model}@production")
    assert spec.start == first
    for out in (first, f"{model}@production"):
        with pytest.raises(BundleError, match="those never change"):
            check_run("tom", small_data, out, options, start=f"{model}@production")


def test_what_is_not_there_is_named_with_what_is(model: str, tmp_path: Path) -> None:
    promote(model, "2", "production")
    with pytest.raises(BundleError, match=r"no version 'staging' \(it has: 1, 2, 3, production\)"):
        load_bundle(f"{model}@staging")
    with pytest.raises(BundleError, match=r"no model .*trousers': nothing was pushed there"):
        load_bundle(str(tmp_path / "registry" / "trousers@production"))
    with pytest.raises(BundleError, match=r"no model in .*nowhere"):
        list_models(str(tmp_path / "nowhere"))
    with pytest.raises(BundleError, match="cannot be a model"):
        push(str(tmp_path / "bundle0"), str(tmp_path / "bundle1"))
    with pytest.raises(BundleError, match="cannot be a model"):
        push(str(tmp_path / "bundle0"), f"{model}@2")
    for alias in ("latest", "none", "Production", "../x", "7"):
        with pytest.raises(BundleError, match=f"alias '{alias}' is not allowed"):
            promote(model, "2", alias)
    (Path(model) / "aliases/production/000001.json").write_text("{")
    with pytest.raises(BundleError, match=r"000001\.json is damaged"):
        load_bundle(f"{model}@production")


def test_a_list_of_a_registry_and_of_a_model(model: str, tmp_path: Path) -> None:
    push(str(tmp_path / "bundle0"), str(tmp_path / "registry" / "team" / "dress"))
    promote(model, "2", "production")
    rows = list_models(str(tmp_path / "registry"))
    assert [(row.version.model.rsplit("registry/")[1], row.version.number, row.count) for row in rows] == [
        ("shirt", 3, 3), ("team/dress", 1, 1)
    ]  # fmt: skip
    assert rows[0].aliases == {"production": 2}
    assert [row.version.number for row in list_models(model)] == [1, 2, 3]


def test_the_whole_way_on_s3(bucket: str, tmp_path: Path) -> None:
    model = three_versions(bucket, tmp_path)
    assert [v.uri.startswith("s3://models/registry/shirt/versions/000") for v in versions(model)] == [True] * 3
    assert not push(str(tmp_path / "bundle1"), model).new
    assert promote(model, "2", "production", expect="none").before is None
    seen = read_aliases(model)["production"]
    move_alias(find_version(model, "3"), "production", seen)
    with pytest.raises(PromotionError, match="moved at the same time, to version 3: it was not moved to 1"):
        move_alias(find_version(model, "1"), "production", seen)
    assert load_bundle(f"{model}@production").uri == find_version(model, "3").uri
    pull(f"{model}@production", str(tmp_path / "out"))
    assert files(tmp_path / "out") == files(tmp_path / "bundle2")
    assert list_models(storage.join(bucket, "registry"))[0].aliases == {"production": 3}
    assert not verify(f"{model}@1").problems
    entry = read_manifest(f"{model}@1").networks["refinement"]
    storage.delete(storage.join(find_version(model, "1").uri, entry.file))
    assert verify(f"{model}@1").problems


@pytest.mark.parametrize("fault", ["error", "half"])
def test_a_writer_whose_answer_is_lost_knows_its_own(fault: Fault) -> None:
    left = [fault]

    def on_request(method: str, path: str) -> Fault | None:
        return left.pop() if method == "PUT" and left else None

    with faulty_bucket("models", on_request) as bucket:
        uri = storage.join(bucket, "000001.json")
        assert write_once(uri, b"one")
        assert not left
        assert storage.read_bytes(uri) == b"one"


def test_a_file_is_written_once(bucket: str, tmp_path: Path) -> None:
    for base in (bucket, str(tmp_path)):
        uri = storage.join(base, "deep", "a.json")
        assert [write_once(uri, data) for data in (b"one", b"two", b"one")] == [True, False, True]
        assert storage.read_bytes(uri) == b"one"


def test_a_server_that_overwrites_all_the_same_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        with pytest.raises(StorageError, match="does not honour If-None-Match"):
            write_once("s3://models/a.json", b"one")
        server.shutdown()


def test_a_place_that_cannot_be_written_is_named(model: str, tmp_path: Path) -> None:
    with denying_bucket("models") as bucket, pytest.raises(StorageError, match="AccessDenied"):
        write_once(storage.join(bucket, "a.json"), b"one")
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="cannot be written"):
        push(str(tmp_path / "bundle0"), str(tmp_path / "file" / "shirt"))


def test_the_verbs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    bundle, model = make_bundle(tmp_path / "bundle"), str(tmp_path / "registry" / "shirt")
    monkeypatch.setattr("tryon.show_registry.console", Console(width=200))

    def tryon(*arguments: str, code: int = 0) -> str:
        assert run_main(monkeypatch, "models", *arguments) == code
        shown = capsys.readouterr()
        return shown.out if code != 2 else shown.err

    assert f"{bundle} is version 1 of {model}" in tryon("push", bundle, model)
    assert "was pushed before: it is version 1" in tryon("push", bundle, model)
    assert "weights: as the data's; data: CC BY-NC 4.0" in tryon("push", bundle, model)
    assert "is version 1 now, was nothing" in tryon("promote", model, "1", "--to", "production", "--expect", "none")
    assert "is version 1 already" in tryon("promote", model, "1", "--to", "production")
    told = tryon("promote", model, "1", "--to", "production", "--expect", "7", code=2)
    assert told == f"tryon: production of {model} stands for version 1, not for 7: it was not moved\n"
    (row,) = json.loads(tryon("list", str(tmp_path / "registry"), "--json"))
    assert (row["version"], row["aliases"], row["data_licence"]) == (1, {"production": 1}, "CC BY-NC 4.0")
    assert "production" in tryon("list", model)
    shown = tryon("show", f"{model}@production")
    for part in ("nafnet", "val_psnr 20.500", "recipe scm, steps 7, data 0123456789ab", "data: CC BY-NC 4.0"):
        assert part in shown
    assert json.loads(tryon("show", model, "--json"))["uri"] == locate(model)
    assert "every file checked" in tryon("pull", f"{model}@production", str(tmp_path / "out"))
    assert "2 files, 0 wrong" in tryon("verify", f"{model}@production")
    flip(weights_of(model))
    assert "sha256 differs" in tryon("verify", model, code=1)
    assert len(json.loads(tryon("verify", model, "--json", code=1))["problems"]) == 1
    assert "no version '9' (it has: 1, production)" in tryon("show", f"{model}@9", code=2)
