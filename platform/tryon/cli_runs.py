"""The verbs of `tryon runs`: training runs, looked at. Heavy imports happen inside, so that help answers at once."""

from __future__ import annotations

from typing import Annotated

import typer

runs_app = typer.Typer(help="Training runs: how far they came, how good they are, what differs.", no_args_is_help=True)

UrisArgument = Annotated[
    list[str], typer.Argument(metavar="URI...", help="Bundles, folders with runs at any depth, or runs' own folders.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]


@runs_app.command("list")
def runs_list(uris: UrisArgument, as_json: JsonOption = False) -> None:
    """List the runs of a bundle or below a folder: state, step, loss, the figure checkpoints are kept by, speed.

    Example: tryon runs list bundles/mine
    """
    from tryon.show_runs import list_shown

    list_shown(uris, as_json=as_json)


@runs_app.command("show")
def runs_show(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's folder, or a bundle with one run.")],
    lines: Annotated[int, typer.Option(min=0, max=10_000, help="Of its lines, the last ones.")] = 5,
    as_json: JsonOption = False,
) -> None:
    """Show one run: config, what it is built on, last lines, best figures, where pictures and checkpoints are.

    Example: tryon runs show bundles/mine-runs/gmm-58664c1ba5
    """
    from tryon.show_runs import run_shown

    run_shown(run, lines, as_json=as_json)


@runs_app.command("compare")
def runs_compare(
    uris: UrisArgument,
    out: Annotated[str, typer.Option(help="HTML page to write.")],
) -> None:
    """Write a page of several runs: curves, best figures, pictures side by side, and what differs in their configs.

    Example: tryon runs compare bundles/mine bundles/other --out out/runs.html
    """
    from tryon.show_runs import compare_shown

    compare_shown(uris, out)
