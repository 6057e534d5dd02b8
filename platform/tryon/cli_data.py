"""The verbs of `tryon data` that make data sets. Heavy imports happen inside them, so that help answers at once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

data_app = typer.Typer(
    help="Data sets: from raw photos to clean, annotated shards, and looking at them.", no_args_is_help=True
)

BundleOption = Annotated[
    Optional[str],  # noqa: UP045 - typer reads it at run time
    typer.Option(
        "--bundle",
        help="Bundle URI, or REGISTRY/NAME@production. Default: $TRYON_BUNDLE, else the one that comes with tryon.",
    ),
]
ActorsOption = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option("--actors", min=0, help="Parallel actors, one CPU each; 0 runs here without Ray. Default: all CPUs."),
]

DataArgument = Annotated[str, typer.Argument(metavar="DATA", help="URI of an annotated data set.")]
OutOption = Annotated[str, typer.Option("--out", help="URI of the data set to write.")]
ConfigOption = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--config", help="YAML file of options."),
]
SetOption = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option("--set", metavar="KEY=VALUE", help="One option, over the file's; dots go into nested ones."),
]


@data_app.command("synth")
def data_synth(
    out: Annotated[str, typer.Option(help="URI of the data set to write: a folder or s3://bucket/prefix.")],
    num: Annotated[int, typer.Option(help="Samples.")],
    size: Annotated[str, typer.Option(help="HEIGHTxWIDTH in px.")] = "256x192",
    seed: Annotated[int, typer.Option(help="Same seed, same bytes.")] = 0,
    categories: Annotated[
        str, typer.Option(help="Of the garments that are tried on, with commas between.")
    ] = "upper,lower,dress",
    config: ConfigOption = None,
    set_: SetOption = None,
    actors: ActorsOption = None,
) -> None:
    """Draw try-on samples with the simulator: photos and the truth (flow, parse, pose, dense map, masks).

    Its knobs are options too: --set jackets=0.5 --set busy=1. `tryon data gallery` shows what it draws.

    Example: tryon data synth --out data/sim --num 1000 --size 256x192 --seed 1
    """
    from tryon.config import parse_config, parse_size
    from tryon.data.synth import SynthConfig, synth_job
    from tryon.options import read_options
    from tryon.show import run_job_shown

    simulator = {"categories": categories.split(","), **read_options(config, set_ or [])}
    told = {"num": num, "size": parse_size(size), "seed": seed, "simulator": simulator}
    run_job_shown(synth_job(parse_config(SynthConfig, told, "synth")), out, "simulate", actors)


@data_app.command("annotate")
def data_annotate(
    source: Annotated[
        str,
        typer.Argument(metavar="IN", help="Photos, VITON-HD or DressCode folder, manifest, crawl, data set."),
    ],
    out: Annotated[str, typer.Option(help="URI of the data set to write.")],
    size: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="HEIGHTxWIDTH in px to letterbox to. Default: each photo's own size."),
    ] = None,
    photos: Annotated[
        str, typer.Option(help="What a plain folder's photos show: person, garment, or auto (each is looked at).")
    ] = "auto",
    pairing: Annotated[
        str, typer.Option(help="Of VITON-HD and DressCode folders: paired, unpaired, or all (also what no list names).")
    ] = "paired",
    category: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Of all garments of a plain folder: upper, lower or dress. Default: each is looked at."),
    ] = None,
    parser: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="geometric (needs no weights), segformer, schp or segment. Default: geometric."),
    ] = None,
    parser_weights: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Weights of segformer (folder, s3:// or hub id), schp (.pth) or segment (bundle)."),
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
    from tryon.config import parse_size
    from tryon.options import read_options
    from tryon.show_data import annotate_shown

    told = {
        "size": parse_size(size) if size else None,
        "layers": layers.split(",") if layers else None,
        "parser": parser,
        "parser_weights": parser_weights,
    }
    options = {**read_options(config, set_ or []), **{key: value for key, value in told.items() if value is not None}}
    annotate_shown(source, out, options, photos=photos, pairing=pairing, category=category, num_actors=actors)


@data_app.command("tryon")
def data_tryon(
    pairs: Annotated[
        str,
        typer.Argument(
            metavar="PAIRS",
            help="Table (Parquet, CSV, JSON lines) with person_url, garment_url; id and category if known.",
        ),
    ],
    out: Annotated[str, typer.Option(help="URI of the data set to write: one result image a row.")],
    bundle: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Bundle URI. Default: $TRYON_BUNDLE, else the one that comes with tryon."),
    ] = None,
    mask: Annotated[
        bool, typer.Option("--mask", help="Also write the agnostic mask: where pixels were generated.")
    ] = False,
    set_: SetOption = None,
    actors: ActorsOption = None,
) -> None:
    """Try on every pair of a table, with Ray Data: work of a catalogue's size, without a service.

    Pairs that cannot be used go to a quarantine table with the reason. A killed run, started again, goes on. A row
    without a category gets the one that its garment's outline shows. --set steps=20 --set seed=1: of a network that
    samples.

    Example: tryon data tryon pairs.parquet --bundle bundles/mine --out data/looks
    """
    from tryon.options import read_options
    from tryon.show_data import batch_tryon_shown

    batch_tryon_shown(pairs, out, bundle, mask=mask, sampling=read_options(None, set_ or []), num_actors=actors)


@data_app.command("crawl")
def data_crawl(
    start: Annotated[list[str], typer.Argument(metavar="URL...", help="Start pages or sitemaps of shops.")],
    out: Annotated[str, typer.Option(help="URI of the folder for photos and their manifest.")],
    max_images: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(min=1, help="Photos asked for. Default: 100,000."),
    ] = None,
    delay: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(min=0, help="Seconds between two requests to a host. Default: 1; robots.txt may ask for more."),
    ] = None,
    contact: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Your address or URL, told to the hosts in the User-Agent."),
    ] = None,
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:
    """Collect product photos with their metadata from shops that allow it; robots.txt is obeyed.

    A crawl that was cut off goes on. `tryon data annotate` reads what it wrote. See that you may use the photos.

    Example: tryon data crawl https://shop.example/sitemap.xml --out data/shop --contact me@example.org
    """
    from tryon.config import parse_config
    from tryon.data.crawl.config import CrawlConfig
    from tryon.options import read_options
    from tryon.show_data import crawl_shown

    options = {**read_options(config, set_ or []), "start": start}
    fetch = {"delay_s": delay, "contact": contact}
    options["fetch"] = {**options.get("fetch", {}), **{k: v for k, v in fetch.items() if v is not None}}
    options |= {"max_images": max_images} if max_images else {}
    crawl_shown(parse_config(CrawlConfig, options, "crawl"), out)


@data_app.command("split")
def data_split(
    data: DataArgument,
    val: Annotated[float, typer.Option(min=0, max=1, help="Share for validation.")] = 0.1,
    test: Annotated[float, typer.Option(min=0, max=1, help="Share for testing.")] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="Another seed, another split.")] = 0,
    config: ConfigOption = None,
    set_: SetOption = None,
    actors: ActorsOption = None,
) -> None:
    """Find duplicates, split into train, val and test, and list paired and unpaired samples.

    No person, garment or photo is on two sides: rows are linked by person_id, garment_id and looks. The lists lie
    beside the shards; training and export take them up.

    Example: tryon data split data/people --val 0.1 --test 0.1
    """
    from tryon.config import parse_config
    from tryon.data.curate.splits import SplitConfig
    from tryon.options import read_options
    from tryon.show_data import split_shown

    told = {"val_fraction": val, "test_fraction": test, "seed": seed}
    options = {**told, **read_options(config, set_ or [])}
    split_shown(data, parse_config(SplitConfig, options, "split"), num_actors=actors)


@data_app.command("augment")
def data_augment(
    data: DataArgument,
    out: OutOption,
    variants: Annotated[int, typer.Option(min=1, max=32, help="Made of each sample, beside itself.")] = 6,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same bytes.")] = 0,
    config: ConfigOption = None,
    set_: SetOption = None,
    actors: ActorsOption = None,
) -> None:
    """Write variants of each sample whose layers agree: mirrored, moved, cropped, in other light.

    Example: tryon data augment data/train --out data/train-6x --variants 6 --set jpeg.probability=0
    """
    from tryon.config import parse_config
    from tryon.data.augment import augment_job
    from tryon.data.augment.config import AugmentConfig
    from tryon.options import read_options
    from tryon.show import run_job_shown

    options = {"variants": variants, "seed": seed, **read_options(config, set_ or [])}
    run_job_shown(augment_job(data, parse_config(AugmentConfig, options, "augment")), out, "augment", actors)


@data_app.command("downsample")
def data_downsample(
    data: DataArgument,
    out: OutOption,
    num: Annotated[Optional[int], typer.Option(min=1, help="Samples. Default: all.")] = None,  # noqa: UP045
    size: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="HEIGHTxWIDTH in px all layers are brought to. Default: theirs."),
    ] = None,
    stratify: Annotated[
        str, typer.Option(help="By category: none, proportional (the parent's shares) or equal (as many of each).")
    ] = "none",
    seed: Annotated[int, typer.Option(min=0, help="Another seed, another choice.")] = 0,
    actors: ActorsOption = None,
) -> None:
    """Take a part of a data set, or smaller pictures, for development. A larger --num contains a smaller one.

    Example: tryon data downsample data/train --out data/dev --num 500 --size 256x192
    """
    from tryon.config import parse_config, parse_size
    from tryon.data.downsample import DownsampleConfig, downsample_job
    from tryon.show import run_job_shown

    told = {"num": num, "size": parse_size(size) if size else None, "stratify": stratify, "seed": seed}
    run_job_shown(downsample_job(data, parse_config(DownsampleConfig, told, "downsample")), out, "downsample", actors)


@data_app.command("unwarp")
def data_unwarp(
    data: DataArgument,
    out: OutOption,
    variants: Annotated[int, typer.Option(min=1, max=32, help="Garment photos of each person.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same bytes.")] = 0,
    config: ConfigOption = None,
    set_: SetOption = None,
    actors: ActorsOption = None,
) -> None:
    """Make pairs of photos of people alone: what each wears, cut out and un-warped at random, is the garment photo.

    For training without garment photos; `tryon train joint` goes on from a bundle with them.

    Example: tryon data unwarp data/people --out data/pairs --variants 2
    """
    from tryon.config import parse_config
    from tryon.data.unwarp import UnwarpConfig, unwarp_job
    from tryon.options import read_options
    from tryon.show import run_job_shown

    options = {"variants": variants, "seed": seed, **read_options(config, set_ or [])}
    run_job_shown(unwarp_job(data, parse_config(UnwarpConfig, options, "unwarp")), out, "unwarp", actors)


@data_app.command("triplets")
def data_triplets(
    data: DataArgument,
    out: OutOption,
    bundle: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Bundle whose try-ons and reconstructions are used. Default: only faults made on purpose."),
    ] = None,
    per_sample: Annotated[int, typer.Option(min=1, max=16, help="Triplets of each sample.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same bytes.")] = 0,
    config: ConfigOption = None,
    set_: SetOption = None,
    actors: ActorsOption = None,
) -> None:
    """Make (garment, person, generated) triplets for training SCM, generated by a bundle or by a fault.

    Example: tryon data triplets data/train --out data/triplets --bundle bundles/mine
    """
    from tryon.config import parse_config
    from tryon.data.triplets.job import TripletsConfig, triplets_job
    from tryon.options import read_options
    from tryon.show import run_job_shown

    options = {"bundle": bundle, "per_sample": per_sample, "seed": seed, **read_options(config, set_ or [])}
    run_job_shown(triplets_job(data, parse_config(TripletsConfig, options, "triplets")), out, "triplets", actors)
