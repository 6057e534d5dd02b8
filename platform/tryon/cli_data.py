"""The verbs of `tryon data`. Heavy imports happen inside the verbs, so that help answers at once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

data_app = typer.Typer(help="Make data sets: simulate samples, annotate photos.", no_args_is_help=True)

ActorsOption = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option("--actors", min=0, help="Parallel actors, one CPU each; 0 runs here without Ray. Default: all CPUs."),
]

ConfigOption = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--config", help="YAML file of options."),
]
SetOption = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option(
        "--set", metavar="KEY=VALUE", help="One option, over the file's; dots go into nested ones."
    ),
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
    source: Annotated[
        str,
        typer.Argument(
            metavar="IN", help="Photos, VITON-HD or DressCode folder, manifest, crawl, data set."
        ),
    ],
    out: Annotated[str, typer.Option(help="URI of the data set to write.")],
    size: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="HEIGHTxWIDTH in px to letterbox to. Default: each photo's own size."),
    ] = None,
    photos: Annotated[
        str, typer.Option(help="What a plain folder's photos show: person, garment, or auto (each is looked at).")
    ] = "auto",
    parser: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="geometric (needs no weights), segformer or schp. Default: geometric."),
    ] = None,
    parser_weights: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Weights of segformer (folder, s3:// or hub id) or schp (.pth, path or s3://)."),
    ] = None,
    layers: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Layers to add, e.g. pose,parse,agnostic. Default: all."),
    ] = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    actors: ActorsOption = None,
) -> None:
    """Add what a data set lacks: pose, masks, parse, dense map, agnostic image, quality scores, hashes.

    Photos that cannot be used, or are too poor, go to a quarantine table with the reason. A killed run, started
    again, goes on. Thresholds: --set quality.max_people=2; --set quality=null turns nothing away.

    Example: tryon data annotate photos/ --out data/people --size 512x384
    """
    from tryon.config import parse_choice, parse_config, parse_size
    from tryon.data.annotate import AnnotateConfig, annotate_job
    from tryon.data.sources.base import Photos, open_source
    from tryon.options import read_options
    from tryon.show import run_job_shown

    options = read_options(config, set_ or [])
    told = {"size": parse_size(size) if size else None, "parser": parser, "parser_weights": parser_weights}
    told["layers"] = layers.split(",") if layers else None
    options |= {name: value for name, value in told.items() if value is not None}
    annotate = parse_config(AnnotateConfig, options, "annotate")
    opened = open_source(source, parse_choice(photos, Photos, "--photos"))
    run_job_shown(annotate_job(opened, annotate, source), out, "annotate", actors)


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
