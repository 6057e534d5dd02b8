"""The verbs of `tryon data` that look at data sets. Heavy imports happen inside them, so that help answers at once."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from tryon.cli_data import ActorsOption, ConfigOption, DataArgument, SetOption, data_app

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]


@data_app.command("info")
def data_info(data: DataArgument, as_json: JsonOption = False) -> None:
    """Say what a data set holds: counts, fields, sizes, licence, parents, how it was made.

    Example: tryon data info data/people
    """
    from tryon.show_data import info_shown

    info_shown(data, as_json=as_json)


@data_app.command("validate")
def data_validate(
    data: DataArgument,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    set_: SetOption = None,
    actors: ActorsOption = None,
) -> None:
    """Check every layer against every other, and files against the manifest. Exit code 1 if something is wrong.

    Example: tryon data validate data/people --set min_covered=0.98
    """
    from tryon.config import parse_config
    from tryon.data.look.checks import ValidateConfig
    from tryon.options import read_options
    from tryon.show_data import validate_shown

    checks = parse_config(ValidateConfig, read_options(config, set_ or []), "validate")
    if not validate_shown(data, checks, as_json=as_json, num_actors=actors).ok:
        raise typer.Exit(1)


@data_app.command("report")
def data_report(
    data: DataArgument,
    out: Annotated[str, typer.Option(help="HTML page to write.")],
    samples: Annotated[int, typer.Option(min=0, max=400, help="Samples in the grid, spread evenly.")] = 24,
    actors: ActorsOption = None,
) -> None:
    """Write a page of counts, histograms, rejected samples with their reasons, and pictures of the layers.

    Example: tryon data report data/people --out out/people.html
    """
    from tryon.data.look.report import ReportConfig
    from tryon.show_data import report_shown

    report_shown(data, out, ReportConfig(num_samples=samples), num_actors=actors)


@data_app.command("diff")
def data_diff(
    first: Annotated[str, typer.Argument(metavar="A", help="URI of a data set.")],
    second: Annotated[str, typer.Argument(metavar="B", help="URI of another.")],
    as_json: JsonOption = False,
    actors: ActorsOption = None,
) -> None:
    """Compare two data sets: samples added, removed and changed, and by how much. Exit code 1 if they differ.

    Example: tryon data diff data/people data/people-schp
    """
    from tryon.show_data import diff_shown

    if not diff_shown(first, second, as_json=as_json, num_actors=actors).equal:
        raise typer.Exit(1)


@data_app.command("export")
def data_export(
    data: DataArgument,
    out: Annotated[str, typer.Option(help="URI of the folder to write.")],
    layout: Annotated[str, typer.Option(help="viton-hd (HR-VITON's loaders read it too) or folder.")] = "viton-hd",
    size: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="HEIGHTxWIDTH in px to letterbox to. Default: each sample's own; photos untouched."),
    ] = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    actors: ActorsOption = None,
) -> None:
    """Write a data set as a folder that other projects' loaders read.

    Example: tryon data export data/people --out zalando-like --layout viton-hd
    """
    from tryon.config import parse_config, parse_size
    from tryon.data.export.layout import ExportConfig
    from tryon.options import read_options
    from tryon.show_data import export_shown

    options = {**read_options(config, set_ or []), **({"size": parse_size(size)} if size else {})}
    export_shown(data, out, layout, parse_config(ExportConfig, options, "export"), num_actors=actors)


@data_app.command("sheet")
def data_sheet(
    data: Annotated[str, typer.Argument(help="Annotated data set.")],
    out: Annotated[str, typer.Option(help="JPEG to write.")],
    num: Annotated[int, typer.Option(min=1, max=2000, help="Samples, spread evenly over the data set.")] = 48,
) -> None:
    """Draw a contact sheet: photo with pose, parse, agnostic image, garment with mask.

    Example: tryon data sheet data/people --out out/people.jpg
    """
    from tryon.data.look.sheet import write_sheet

    typer.echo(f"{out}: {write_sheet(data, out, num=num)} samples")


@data_app.command("gallery")
def data_gallery(
    out: Annotated[str, typer.Option(help="HTML page to write.")],
    num: Annotated[int, typer.Option(min=1, max=2000, help="Samples.")] = 24,
    size: Annotated[str, typer.Option(help="HEIGHTxWIDTH of the pictures in px.")] = "512x384",
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same page.")] = 0,
) -> None:
    """Draw a page that shows what the simulator draws, with the truth it knows of each sample.

    Example: tryon data gallery --out out/gallery.html
    """
    from tryon.config import parse_size
    from tryon.data.gallery import write_gallery

    typer.echo(f"{out}: {write_gallery(out, num, parse_size(size), seed)} samples")
