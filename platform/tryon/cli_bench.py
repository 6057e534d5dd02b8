"""The verbs of `tryon bench`: what this machine does, measured. Heavy imports happen inside, so that help is quick."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from tryon.cli_data import ActorsOption, ConfigOption, SetOption

OutOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(help="JSON file to write."),
]
TriesOnOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(help="Bundle that tries on. Default: $TRYON_BUNDLE, else the one that comes with tryon."),
]
ThreadsOption = Annotated[int, typer.Option(min=0, max=1024, help="That compute; 0: a thread a core.")]
RepeatsOption = Annotated[int, typer.Option(min=1, max=1000, help="Of each; medians count.")]
RunsOption = Annotated[str, typer.Option(help="What runs the networks: auto, eager, compile, onnx or int8.")]

bench_app = typer.Typer(
    help="Measure: what stages take, what distributed training and serving cost, what solvers save.",
    no_args_is_help=True,
)


@bench_app.command("train")
def bench_train(
    recipe: Annotated[str, typer.Option(help="Recipe whose loop is measured, with its default network.")] = "gmm",
    data: Annotated[
        Optional[str],  # noqa: UP045 - typer reads it at run time
        typer.Option(help="URI of an annotated data set. Default: one that is simulated and kept for the next time."),
    ] = None,
    bundle: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Bundle with the frozen networks that the recipe builds on."),
    ] = None,
    steps: Annotated[int, typer.Option(min=5, max=100_000, help="Measured in each run, after warm-up.")] = 40,
    repeats: Annotated[int, typer.Option(min=1, max=100, help="Of each kind of run; medians count.")] = 5,
    size: Annotated[str, typer.Option(help="HEIGHTxWIDTH px.")] = "256x192",
    batch_size: Annotated[int, typer.Option(min=2, max=4096, help="Samples a step, over all workers.")] = 8,
    threads: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(min=2, max=256, help="That one worker computes with, and two workers share. Default: all."),
    ] = None,
    out: OutOption = None,
    check: Annotated[bool, typer.Option("--check", help="Exit code 1 where a figure misses what is asked.")] = False,
) -> None:
    """Compare the plain loop, Ray Train, Ray Train on streamed shards, and two workers.

    Example: tryon bench train --out out/bench.json --check
    """
    from tryon.config import parse_size
    from tryon.show_bench import bench_shown

    options = {"recipe": recipe, "steps": steps, "repeats": repeats, "size": parse_size(size), "batch_size": batch_size}
    passed = bench_shown({**options, **({"threads": threads} if threads else {})}, data, bundle, out)
    if check and not passed:
        raise typer.Exit(1)


@bench_app.command("pipeline")
def bench_pipeline(
    bundle: TriesOnOption = None,
    sizes: Annotated[
        str, typer.Option(help="HEIGHTxWIDTH px of the photos, with commas between.")
    ] = "512x384,1024x768",
    batches: Annotated[str, typer.Option(help="Photos at a time, with commas between.")] = "1,8",
    repeats: RepeatsOption = 5,
    threads: ThreadsOption = 0,
    backend: RunsOption = "auto",
    out: OutOption = None,
) -> None:
    """Time each stage of a try-on in this process, beside the least that it could take on this machine.

    Example: tryon bench pipeline --bundle bundles/mine --out out/bench-pipeline.json
    """
    from tryon.models.bundle import default_bundle
    from tryon.show_bench import pipeline_shown

    told = {"sizes": sizes, "batches": batches, "repeats": repeats, "threads": threads, "backend": backend}
    pipeline_shown({"bundle": bundle or default_bundle(), **told}, out)


@bench_app.command("annotate")
def bench_annotate(
    sizes: Annotated[
        str, typer.Option(help="HEIGHTxWIDTH px of the photos, with commas between.")
    ] = "512x384,1024x768",
    batches: Annotated[str, typer.Option(help="Pairs of photos at a time, with commas between.")] = "1,8",
    repeats: RepeatsOption = 5,
    threads: ThreadsOption = 1,
    out: OutOption = None,
) -> None:
    """Time each stage of a data set's annotation: pose, parse, masks, agnostic person, of a person and a garment photo.

    Example: tryon bench annotate --sizes 1024x768 --batches 8
    """
    from tryon.show_bench import pipeline_shown

    told = {"sizes": sizes, "batches": batches, "repeats": repeats, "threads": threads}
    pipeline_shown({"work": "annotate", **told}, out)


@bench_app.command("catalogue")
def bench_catalogue(
    bundle: TriesOnOption = None,
    size: Annotated[str, typer.Option(help="HEIGHTxWIDTH px of the photos.")] = "1024x768",
    num: Annotated[int, typer.Option(min=2, max=10_000, help="Try-ons of each kind.")] = 100,
    batch: Annotated[int, typer.Option(min=1, max=256, help="Try-ons that go through the stages together.")] = 8,
    repeats: RepeatsOption = 5,
    threads: ThreadsOption = 0,
    backend: RunsOption = "auto",
    out: OutOption = None,
) -> None:
    """Time many garments on one person, and one garment on many persons, beside as many try-ons of strangers.

    Example: tryon bench catalogue --num 20 --repeats 3
    """
    from tryon.config import parse_size
    from tryon.models.bundle import default_bundle
    from tryon.show_bench import catalogue_shown

    told = {"size": parse_size(size), "num": num, "batch": batch, "repeats": repeats, "threads": threads}
    catalogue_shown({"bundle": bundle or default_bundle(), "backend": backend, **told}, out)


@bench_app.command("scale")
def bench_scale(
    rows: Annotated[str, typer.Option(help="Rows of each data set, with commas between.")] = "1000,10000",
    works: Annotated[
        str, typer.Option(help="Of annotate, train, tryon, with commas between.")
    ] = "annotate,train,tryon",
    size: Annotated[str, typer.Option(help="HEIGHTxWIDTH px of the thumbnails.")] = "128x96",
    actors: ActorsOption = None,
    bundle: TriesOnOption = None,
    out: OutOption = None,
) -> None:
    """Measure what a row costs and what memory is held as data sets grow: annotation, a run that reads them, try-on.

    Example: tryon bench scale --rows 1000,100000 --works annotate,train
    """
    from tryon.config import parse_size
    from tryon.models.bundle import default_bundle
    from tryon.show_bench import scale_shown

    told = {"rows": rows, "works": works, "size": parse_size(size), "bundle": bundle or default_bundle()}
    scale_shown({**told, "actors": actors}, out)


@bench_app.command("compare")
def bench_compare(
    a: Annotated[str, typer.Argument(metavar="A", help="JSON file that a bench wrote.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Another, of the same bench.")],
) -> None:
    """Hold two runs of a bench side by side: before and after a change, or two machines.

    Example: tryon bench compare out/before.json out/after.json
    """
    from tryon.show_bench import compare_shown

    compare_shown(a, b)


@bench_app.command("solvers")
def bench_solvers(
    bundle: Annotated[str, typer.Option(help="Bundle whose synthesis is a diffusion network.")],
    data: Annotated[str, typer.Option(help="URI of an annotated data set; its first samples are taken.")],
    num: Annotated[int, typer.Option(min=1, max=4096, help="Samples.")] = 16,
    seeds: Annotated[int, typer.Option(min=1, max=64, help="Noises that each is sampled from.")] = 1,
    out: OutOption = None,
) -> None:
    """Hold a diffusion network's fast solvers against DDIM with 200 steps: nearness to it and to the photo, and time.

    Example: tryon bench solvers --bundle bundles/mine --data data/test
    """
    from tryon.show_bench import solvers_shown

    solvers_shown(bundle, data, num, seeds, out)


@bench_app.command("serve")
def bench_serve(
    bundle: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Bundle that is served. Default: $TRYON_BUNDLE, else the one that comes with tryon."),
    ] = None,
    size: Annotated[str, typer.Option(help="HEIGHTxWIDTH px of the photos, which are simulated.")] = "1024x768",
    requests: Annotated[
        int, typer.Option(min=2, max=10_000, help="Of a leg with one client; with more clients three times as many.")
    ] = 12,
    clients: Annotated[int, typer.Option(min=2, max=256, help="Side by side, in the legs under load.")] = 8,
    repeats: Annotated[
        int, typer.Option(min=0, max=100, help="Of each leg; medians count. 0: only what --kills and --overload ask.")
    ] = 5,
    kills: Annotated[
        float, typer.Option(min=0, help="Then so many seconds of load while a replica is killed every 10 s.")
    ] = 0.0,
    overload: Annotated[float, typer.Option(min=0, help="Then so many seconds at five times its capacity.")] = 0.0,
    scale: Annotated[bool, typer.Option("--scale", help="Then from no replica to two, and to none.")] = False,
    out: OutOption = None,
    check: Annotated[bool, typer.Option("--check", help="Exit code 1 where a figure misses what is asked.")] = False,
) -> None:
    """Compare the service in several shapes with the pipeline without it, and with the same pipeline behind FastAPI and
    LitServe (where installed: pip install litserve).

    Example: tryon bench serve --kills 300 --overload 20 --out out/bench-serve.json --check
    """
    from tryon.config import parse_size
    from tryon.models.bundle import default_bundle
    from tryon.show_bench import serve_shown

    told = {"size": parse_size(size), "requests": requests, "clients": clients, "repeats": repeats}
    told |= {"kills_s": kills, "overload_s": overload, "scale": scale}
    passed = serve_shown({"bundle": bundle or default_bundle(), **told}, out)
    if check and not passed:
        raise typer.Exit(1)


@bench_app.command("day")
def bench_day(
    targets: Annotated[
        str, typer.Option(help="target_ongoing_requests of the policy, with commas between.")
    ] = "0.5,0.75,1,2",
    least: Annotated[str, typer.Option(help="min_replicas of the policy, with commas between.")] = "1,8",
    late: Annotated[
        float, typer.Option(min=0, max=1, help="Share of requests that may be refused or late in the policy chosen.")
    ] = 0.001,
    config: ConfigOption = None,
    set_: SetOption = None,
    out: OutOption = None,
) -> None:
    """Simulate a day's traffic against autoscaling policies: latency, requests lost, GPU hours of each.

    Nothing is served: a replica's time for a request is an option, and so is all else that a cluster has.

    Example: tryon bench day --set peak_per_s=50 --set service_s=0.05 --set node_start_s=240
    """
    from tryon.options import read_options
    from tryon.show_day import day_shown

    day_shown(read_options(config, set_ or []), targets.split(","), least.split(","), late, out)


@bench_app.command("video")
def bench_video(
    bundle: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Bundle whose warp is measured. Default: $TRYON_BUNDLE, else the one that comes with tryon."),
    ] = None,
    walks: Annotated[int, typer.Option(min=1, max=1000, help="Simulated persons.")] = 4,
    frames: Annotated[int, typer.Option(min=3, max=100_000, help="Of each walk, at 25 a second.")] = 40,
    size: Annotated[str, typer.Option(help="HEIGHTxWIDTH px.")] = "256x192",
    every: Annotated[int, typer.Option(min=1, max=25, help="The warp is predicted for each so many-th frame.")] = 2,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same walks.")] = 0,
    out: OutOption = None,
) -> None:
    """Measure how much the warp of a film flickers, frame by frame and smoothed, on simulated walks.

    Example: tryon bench video --walks 8
    """
    from tryon.config import parse_size
    from tryon.show_video import bench_video_shown

    told = {"walks": walks, "frames": frames, "size": parse_size(size), "every": every, "seed": seed}
    bench_video_shown({**told, **({"bundle": bundle} if bundle else {})}, out)
