"""The verbs of `tryon keys`: who may use the service. Heavy imports happen inside, so that help answers at once."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

keys_app = typer.Typer(help="API keys of the service: made, listed, revoked.", no_args_is_help=True)

FileArgument = Annotated[str, typer.Argument(metavar="URI", help="The file of keys: a path or s3://bucket/keys.json.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]


@keys_app.command("create")
def create(
    uri: FileArgument,
    name: Annotated[str, typer.Option(help="Who gets it.")],
    scope: Annotated[
        list[str], typer.Option(help="tryon, extract, annotate, batch, models, or admin for all; may be repeated.")
    ],
    days: Annotated[Optional[float], typer.Option(help="Until it expires. Default: never.")] = None,  # noqa: UP045
    rate: Annotated[Optional[float], typer.Option(help="Requests a minute. Default: no limit.")] = None,  # noqa: UP045
    burst: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="Requests at once after a pause. Default: those of 10 s."),
    ] = None,
    concurrency: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="Requests in flight. Default: no limit."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key and print it, once: only its hash is kept.

    Example: tryon keys create keys.json --name shop --scope tryon --scope batch --days 90 --rate 60 --concurrency 4
    """
    from tryon.config import parse_config
    from tryon.serving.limits import Rule
    from tryon.show_keys import created_shown

    rule = parse_config(Rule, {"rate_per_min": rate, "burst": burst, "concurrency": concurrency}, "the key")
    created_shown(uri, name, scope, days=days, rule=rule, as_json=as_json)


@keys_app.command("list")
def list_(uri: FileArgument, as_json: JsonOption = False) -> None:
    """List the keys: how they begin, who has them, what they may do. Never the keys, nor their hashes.

    Example: tryon keys list s3://shop/keys.json
    """
    from tryon.show_keys import list_shown

    list_shown(uri, as_json=as_json)


@keys_app.command("revoke")
def revoke(
    uri: FileArgument, key: Annotated[str, typer.Argument(metavar="KEY", help="Its id, or how it begins.")]
) -> None:
    """End a key. Running services see it within 10 s.

    Example: tryon keys revoke keys.json 0f3a5c7e9b12
    """
    from tryon.show_keys import revoked_shown

    revoked_shown(uri, key)
