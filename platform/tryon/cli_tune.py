"""The verb `tryon tune`. Heavy imports happen inside, so that help answers at once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer


def tune(
    recipe: Annotated[str, typer.Argument(help="What to tune; see `tryon train --help`.")],
    space: Annotated[
        Path, typer.Option(help="YAML file of what is varied and how the search goes, e.g. spaces/gmm.yaml.")
    ],
    data: Annotated[str, typer.Option(help="URI of an annotated data set; trials are compared on what it holds out.")],
    out: Annotated[str, typer.Option(help="URI of the bundle that the best trial becomes.")],
    bundle: Annotated[
        Optional[str],  # noqa: UP045 - typer reads it at run time
        typer.Option(help="Bundle that frozen networks come from. Default: the one at --out."),
    ] = None,
    config: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="YAML file of training options that all trials share, over the space file's `set`."),
    ] = None,
    set_: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="One option of all trials. num_workers=0, the default here, trains a trial in the process that Ray "
            "Tune gives it; 1 or more starts Ray Train in it, 13 to 16 s a trial, for trials of several GPUs.",
        ),
    ] = None,
    num_trials: Annotated[Optional[int], typer.Option(help="Configs to try.")] = None,  # noqa: UP045
    scheduler: Annotated[Optional[str], typer.Option(help="asha, pbt or none.")] = None,  # noqa: UP045
    search: Annotated[Optional[str], typer.Option(help="random or optuna.")] = None,  # noqa: UP045
    max_concurrent: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="Trials at a time. Default: one a GPU, else one a CPU."),
    ] = None,
    dashboard: Annotated[
        bool, typer.Option(help="Start Ray's dashboard; without it a search takes 1 GB less memory.")
    ] = True,
) -> None:
    """Search for a training config with Ray Tune; the best trial becomes a bundle. A search that was cut off goes on.

    Trials, a page (parallel coordinates, learning curves) and the best config for `tryon train --config` are
    left in OUT-tune.

    Example: tryon tune gmm --space spaces/gmm.yaml --data data/train --out bundles/tuned
    """
    from tryon.show_tune import tune_shown

    tune_shown(
        recipe, space, data, out, config=config, fixed=set_ or [], bundle=bundle, dashboard=dashboard,
        num_trials=num_trials, scheduler=scheduler, search=search, max_concurrent=max_concurrent,
    )  # fmt: skip
