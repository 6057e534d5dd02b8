"""What the verbs of `tryon models` show of a registry, as tables or as JSON on standard output alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.table import Table

from tryon import storage
from tryon.console import console, say

if TYPE_CHECKING:
    from tryon.models.bundle import BundleManifest, NetworkEntry
    from tryon.models.catalogue import Row

PROVENANCE = ("recipe", "steps", "batch_size", "learning_rate", "seed")  # of the training config


def list_shown(registry: str, *, as_json: bool) -> None:
    """Prints the last version of each model, or all the versions of one."""
    from tryon.models.catalogue import list_models

    rows = list_models(registry)
    if as_json:
        _print_json([_row_json(row) for row in rows])
        return
    one_model = len({row.version.model for row in rows}) == 1
    table = Table(title=registry)
    for name in ("model", "version", "pushed", "networks", "aliases", "weights licence", "data licence"):
        table.add_column(name, overflow="fold", no_wrap=name in ("version", "pushed", "aliases"))
    for row in rows:
        number, manifest = row.version.number, row.manifest
        told = [(name, at) for name, at in row.aliases.items() if at == number or not one_model]
        aliases = ", ".join(name if at == number else f"{name}: {at}" for name, at in told)
        networks = ", ".join(entry.network for entry in manifest.networks.values())
        name = row.version.model.removeprefix(storage.absolute(registry)).strip("/") or registry.rsplit("/", 1)[-1]
        licences = manifest.weights_licence, manifest.data_licence
        table.add_row(name, f"{number} of {row.count}", row.pushed_at[:10], networks, aliases or "-", *licences)
    console.print(table)


def bundle_shown(uri: str, *, as_json: bool) -> None:
    """Prints a bundle's networks and where they come from."""
    from tryon.models.bundle import read_manifest
    from tryon.models.catalogue import locate, sizes_bytes

    found = locate(uri)
    manifest = read_manifest(found)
    sizes = sizes_bytes(found, manifest)
    if as_json:
        _print_json({"uri": found, "sizes_bytes": sizes, **manifest.model_dump(mode="json")})
        return
    say(f"bundle    {found}, written by tryon {manifest.tryon_version}, photos at {_size(manifest.working_size)}")
    say(_licences(manifest))
    table = Table()
    for name in ("role", "network", "size", "parameters", "file", "figures"):
        table.add_column(name, overflow="fold")
    for role, entry in manifest.networks.items():
        size = sizes.get(role)
        table.add_row(
            role, entry.network, _size(entry.size), f"{entry.num_parameters / 1e6:.2f} M",
            "missing" if size is None else f"{size / 1e6:.2f} MB", _figures(entry.metrics),
        )  # fmt: skip
    console.print(table)
    for role, entry in manifest.networks.items():
        say(f"{role:<15} {_provenance(entry)}")


def push_shown(bundle: str, model: str, *, as_json: bool) -> None:
    """Pushes and says which version it became."""
    from tryon.models.catalogue import push

    pushed = push(bundle, model)
    version = pushed.version
    if as_json:
        licences = _licences_json(pushed.manifest)
        _print_json({"version": version.number, "new": pushed.new, "uri": version.uri, **licences})
        return
    told = "is version" if pushed.new else "was pushed before: it is version"
    say(f"push      {bundle} {told} {version.number} of {version.model} -> {version.uri}")
    say(_licences(pushed.manifest))


def pull_shown(uri: str, out: str) -> None:
    """Pulls and says what came."""
    from tryon.models.catalogue import pull

    manifest = pull(uri, out)
    say(f"pull      {uri}: {', '.join(manifest.networks)}; every file checked -> {out}")
    say(_licences(manifest))


def pack_shown(bundle: str, out: str) -> None:
    """Packs and says how large it is."""
    from tryon import storage
    from tryon.models.pack import pack_bundle

    manifest = pack_bundle(bundle, out)
    size = sum(len(storage.read_bytes(storage.join(out, entry.file))) for entry in manifest.networks.values())
    say(f"pack      {bundle}: {', '.join(manifest.networks)} in float16, {size / 1e6:.1f} MB -> {out}")


def optimize_shown(bundle: str, out: str, int8: str | None, num: int) -> None:
    """Writes ONNX files and says how near they come to PyTorch, and how much faster they are; int8 files likewise.

    Args:
        bundle: URI.
        out: URI of the folder to write.
        int8: URI of an annotated data set that int8 files are made by, or None.
        num: samples of it.
    """
    from tryon.models.backends import optimize_bundle

    for one in optimize_bundle(bundle, out):
        if one.fault:
            say(f"optimize  {one.role}: as it was; {one.fault}")
            continue
        times = f"{1000 * one.eager_s:.1f} ms by PyTorch, {1000 * one.onnx_s:.1f} ms by ONNX Runtime"
        say(f"optimize  {one.role}: {one.num_bytes / 1e6:.1f} MB, at most {one.difference:.1g} from PyTorch; {times}")
    if int8 is not None:
        from tryon.evaluation.quantize import quantize_bundle

        for made in quantize_bundle(out, int8, num=num):
            ssim = f"SSIM {made.ssim[0]:.4f} -> {made.ssim[1]:.4f}, {1000 * made.seconds:.1f} ms"
            fate = f"{made.num_bytes / 1e6:.1f} MB" if made.kept else "not kept, it costs too much"
            say(f"int8      {made.role}: {ssim}; {fate}")
    say(f"optimize  {bundle} -> {out}")


def promote_shown(model: str, wanted: str, alias: str, expect: str | None, *, as_json: bool) -> None:
    """Promotes and says what the alias stood for and stands for."""
    from tryon.models.catalogue import promote

    done = promote(model, wanted, alias, expect)
    number, before = done.version.number, done.before
    if as_json:
        licences = _licences_json(done.manifest)
        _print_json({"alias": alias, "version": number, "before": before, "uri": done.version.uri, **licences})
        return
    if before == number:
        say(f"promote   {alias} of {done.version.model} is version {number} already")
    else:
        say(f"promote   {alias} of {done.version.model} is version {number} now, was {before or 'nothing'}")
    say(_licences(done.manifest))


def verify_shown(uri: str, *, as_json: bool) -> bool:
    """Verifies, says what is wrong, and whether all is well."""
    from tryon.models.catalogue import verify

    checked = verify(uri)
    if as_json:
        _print_json({"uri": checked.uri, "files": checked.num_files, "problems": list(checked.problems)})
    else:
        for problem in checked.problems:
            say(f"wrong     {problem}")
        told = "every sha256 right, every network loads" if not checked.problems else "see above"
        say(f"verify    {checked.uri}: {checked.num_files} files, {len(checked.problems)} wrong: {told}")
    return not checked.problems


def _row_json(row: Row) -> dict[str, Any]:
    manifest = row.manifest
    return {
        "model": row.version.model,
        "version": row.version.number,
        "versions": row.count,
        "uri": row.version.uri,
        "pushed_at": row.pushed_at,
        "networks": {role: entry.network for role, entry in manifest.networks.items()},
        "aliases": dict(row.aliases),
        **_licences_json(manifest),
    }


def _licences_json(manifest: BundleManifest) -> dict[str, str]:
    return {"weights_licence": manifest.weights_licence, "data_licence": manifest.data_licence}


def _licences(manifest: BundleManifest) -> str:
    return f"licences  weights: {manifest.weights_licence}; data: {manifest.data_licence}"


def _provenance(entry: NetworkEntry) -> str:
    """What the training told of itself."""
    config = entry.training.get("config")
    told = dict(config) if isinstance(config, Mapping) else {}
    parts = [f"{name} {told[name]}" for name in PROVENANCE if name in told]
    data = entry.training.get("data_sha256")
    parts += [f"data {str(data)[:12]}"] if data else []
    frozen = entry.training.get("frozen")
    parts += [f"on frozen {role} {str(digest)[:12]}" for role, digest in dict(frozen or {}).items()]
    return ", ".join([*(parts or ["not told how it was trained"]), f"weights {entry.sha256[:12]}"])


def _figures(metrics: Mapping[str, float]) -> str:
    shown = {name: value for name, value in metrics.items() if name.startswith("val_")} or dict(metrics)
    return ", ".join(f"{name} {value:.3f}" for name, value in shown.items()) or "-"


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2))  # noqa: T201
