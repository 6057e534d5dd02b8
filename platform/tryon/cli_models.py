"""The verbs of `tryon models`. Heavy imports happen inside them, so that help answers at once."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

models_app = typer.Typer(help="Registry of bundles: versions, promotion, checks.", no_args_is_help=True)

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
ModelArgument = Annotated[str, typer.Argument(metavar="REGISTRY/NAME", help="URI of a model: a path or s3://.")]
BundleArgument = Annotated[
    str, typer.Argument(metavar="URI", help="A bundle, REGISTRY/NAME@VERSION or @ALIAS, or REGISTRY/NAME: its last.")
]


@models_app.command("networks")
def networks(
    json: Annotated[bool, typer.Option("--json", help="As JSON, with each preset's config.")] = False,
) -> None:
    """List the networks that can be trained, with their presets, parameters and cost.

    Example: tryon models networks --json
    """
    from tryon.show_models import models_shown

    models_shown(json)


@models_app.command("list")
def list_(
    registry: Annotated[str, typer.Argument(metavar="REGISTRY[/NAME]", help="URI of a registry, or of a model in it.")],
    as_json: JsonOption = False,
) -> None:
    """List a registry's models, or a model's versions, with aliases and licences.

    Example: tryon models list s3://bucket/models
    """
    from tryon.show_registry import list_shown

    list_shown(registry, as_json=as_json)


@models_app.command("show")
def show(uri: BundleArgument, as_json: JsonOption = False) -> None:
    """Say what a bundle holds: networks, sizes, figures, licences, what it was trained on and how.

    Example: tryon models show s3://bucket/models/shirt@production
    """
    from tryon.show_registry import bundle_shown

    bundle_shown(uri, as_json=as_json)


@models_app.command("push")
def push(
    bundle: Annotated[str, typer.Argument(help="URI of the bundle.")], model: ModelArgument, as_json: JsonOption = False
) -> None:
    """Put a bundle into a registry as the next version, which never changes. A bundle that is there keeps its version.

    Example: tryon models push bundles/mine s3://bucket/models/shirt
    """
    from tryon.show_registry import push_shown

    push_shown(bundle, model, as_json=as_json)


@models_app.command("pull")
def pull(uri: BundleArgument, out: Annotated[str, typer.Argument(help="URI of the folder to write.")]) -> None:
    """Copy a bundle out of a registry, every file checked by its sha256.

    Example: tryon models pull s3://bucket/models/shirt@production bundles/shirt
    """
    from tryon.show_registry import pull_shown

    pull_shown(uri, out)


@models_app.command("pack")
def pack(bundle: BundleArgument, out: Annotated[str, typer.Argument(help="URI of the folder to write.")]) -> None:
    """Copy a bundle with its weights in half precision, half as large, for handing out.

    Example: tryon models pack bundles/mine bundles/mine-fp16
    """
    from tryon.show_registry import pack_shown

    pack_shown(bundle, out)


@models_app.command("optimize")
def optimize(
    bundle: BundleArgument,
    out: Annotated[str, typer.Argument(help="URI of the folder to write.")],
    int8: Annotated[
        Optional[str],  # noqa: UP045 - typer reads it at run time
        typer.Option(help="Annotated data set of persons in the garments: int8 files too, where they cost no quality."),
    ] = None,
    num: Annotated[int, typer.Option(min=2, max=100_000, help="Samples of it.")] = 64,
) -> None:
    """Copy a bundle with, beside each network's weights, an ONNX file: faster on CPUs without matrix units.

    Each file is held against PyTorch before it is written, and again where it is loaded. An int8 file is kept where the
    try-ons' SSIM falls by no more than 0.003 with it.

    Example: tryon models optimize bundles/mine bundles/mine-onnx --int8 data/test
    """
    from tryon.show_registry import optimize_shown

    optimize_shown(bundle, out, int8, num)


@models_app.command("promote")
def promote(
    model: ModelArgument,
    version: Annotated[str, typer.Argument(help="Number, another alias, or latest.")],
    to: Annotated[str, typer.Option(help="Alias that is to stand for the version, e.g. production.")],
    expect: Annotated[
        Optional[str],  # noqa: UP045 - typer reads it at run time
        typer.Option(help="Number that the alias must stand for now, or none. Default: whatever it does."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make an alias stand for a version, all at once: of two promotions at the same time one wins.

    Example: tryon models promote s3://bucket/models/shirt 3 --to production --expect 2
    """
    from tryon.show_registry import promote_shown

    promote_shown(model, version, to, expect, as_json=as_json)


@models_app.command("verify")
def verify(uri: BundleArgument, as_json: JsonOption = False) -> None:
    """Check every file of a bundle by its sha256 and load its networks. Exit code 1 if something is wrong.

    Example: tryon models verify s3://bucket/models/shirt@production
    """
    from tryon.show_registry import verify_shown

    if not verify_shown(uri, as_json=as_json):
        raise typer.Exit(1)
