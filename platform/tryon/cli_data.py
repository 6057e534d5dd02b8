"""The verbs of `tryon data`. Heavy imports happen inside the verbs, so that help answers at once."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

data_app = typer.Typer(help="Make data sets: simulate samples, annotate photos.", no_args_is_help=True)

ActorsOption = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option("--actors", min=0, help="Parallel actors, one CPU each; 0 runs here without Ray. Default: all CPUs."),
]


@data_app.command("synth")
def data_synth(
    out: Annotated[str, typer.Option(help="URI of the data set to write: a folder or s3://bucket/prefix.")],
    num: Annotated[int, typer.Option(help="Samples.")],
    size: Annotated[str, typer.Option(help="HEIGHTxWIDTH in px.")] = "256x192",
    seed: Annotated[int, typer.Option(help="Same seed, same bytes.")] = 0,
    actors: ActorsOption = None,
) -> None:
    """Draw try-on samples with the simulator: photos and the truth (flow, parse, pose, masks).

    Example: tryon data synth --out data/sim --num 1000 --size 256x192 --seed 1
    """
    from tryon.config import parse_config, parse_size
    from tryon.data.synth import SynthConfig, synth_job
    from tryon.show import run_job_shown

    config = parse_config(SynthConfig, {"num": num, "size": parse_size(size), "seed": seed}, "synth")
    run_job_shown(synth_job(config), out, "simulate", actors)


@data_app.command("annotate")
def data_annotate(
    source: Annotated[str, typer.Argument(metavar="IN", help="Folder of person photos, VITON-HD folder, or data set.")],
    out: Annotated[str, typer.Option(help="URI of the data set to write.")],
    size: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="HEIGHTxWIDTH in px to letterbox to. Default: each photo's own size."),
    ] = None,
    actors: ActorsOption = None,
) -> None:
    """Add what a data set lacks: pose, person mask, parse, garment mask, agnostic image and mask.

    Photos that cannot be used go to a quarantine table with the reason. A killed run, started again, goes on.

    Example: tryon data annotate photos/ --out data/people --size 512x384
    """
    from tryon.config import parse_config, parse_size
    from tryon.data.annotate import AnnotateConfig, annotate_job
    from tryon.data.sources.base import open_source
    from tryon.show import run_job_shown

    config = parse_config(AnnotateConfig, {"size": parse_size(size) if size else None}, "annotate")
    run_job_shown(annotate_job(open_source(source, "person"), config, source), out, "annotate", actors)


@data_app.command("sheet")
def data_sheet(
    data: Annotated[str, typer.Argument(help="Annotated data set.")],
    out: Annotated[str, typer.Option(help="JPEG to write.")],
    num: Annotated[int, typer.Option(min=1, max=2000, help="Samples, spread evenly over the data set.")] = 48,
) -> None:
    """Draw a contact sheet: photo with pose, parse, agnostic image, garment with mask.

    Example: tryon data sheet data/people --out out/people.jpg
    """
    from tryon.data.sheet import write_sheet

    typer.echo(f"{out}: {write_sheet(data, out, num=num)} samples")
